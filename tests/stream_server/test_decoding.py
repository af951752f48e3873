"""Which folders the tiers of a configuration name."""

from pathlib import Path

import pytest

from stream_server.config import EngineSection, TiersSection
from stream_server.core.messages import Tier
from stream_server.decoding import find_tiers
from stream_server.engine.manifest import embedded_model
from stream_server.errors import ModelError


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with two models."""
    for name in ("small", "large"):
        (tmp_path / "models" / name).mkdir(parents=True)
    return tmp_path


def find(state: Path, **keys: object) -> dict[Tier, Path | None]:
    return find_tiers(EngineSection(**keys), state)  # type: ignore[arg-type]


def test_without_a_name_there_is_the_embedded_model(state: Path) -> None:
    assert find(state) == {Tier.LIVE: embedded_model()}


def test_model_is_the_short_form_of_the_live_tier(state: Path) -> None:
    small = state / "models" / "small"
    assert find(state, model="small") == find(state, tiers=TiersSection(live="small")) == {Tier.LIVE: small}


def test_every_tier_has_its_folder(state: Path) -> None:
    tiers = TiersSection(live="small", fallback="demo-en", files="large")
    assert find(state, tiers=tiers) == {
        Tier.LIVE: state / "models" / "small",
        Tier.FALLBACK: embedded_model(),
        Tier.FILES: state / "models" / "large",
    }


def test_files_that_the_live_model_reads_need_no_second_copy_of_it(state: Path) -> None:
    assert list(find(state, tiers=TiersSection(live="small", files="small"))) == [Tier.LIVE]


def test_a_model_cannot_stand_in_for_itself(state: Path) -> None:
    with pytest.raises(ModelError, match="the same model"):
        find(state, tiers=TiersSection(live="small", fallback=str(state / "models" / "small")))


def test_a_tier_whose_model_is_not_there_is_told(state: Path) -> None:
    with pytest.raises(ModelError, match="there is no model folder gone"):
        find(state, tiers=TiersSection(files="gone"))


def test_the_fake_engine_has_the_tiers_that_are_named(state: Path) -> None:
    tiers = TiersSection(fallback="anything")
    assert find(state, fake=True, tiers=tiers) == {Tier.LIVE: None, Tier.FALLBACK: None}
