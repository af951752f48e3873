"""Which folders the tiers of a configuration name, and which may take whose place."""

import shutil
from pathlib import Path

import msgspec
import pytest

from stream_server.config import EngineSection, TiersSection
from stream_server.core.messages import Tier
from stream_server.engine.choice import check_versions, choose_models
from stream_server.engine.manifest import embedded_model
from stream_server.errors import ModelError


def put(folder: Path, **fields: object) -> Path:
    """A model folder with the embedded model's manifest, some of its fields changed; without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = msgspec.json.decode((embedded_model() / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest | {"id": folder.name} | fields))
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with two models."""
    for name in ("small", "large"):
        put(tmp_path / "models" / name)
    return tmp_path


def find(state: Path, **keys: object) -> dict[Tier, Path | None]:
    chosen = choose_models(EngineSection(**keys), state, None)  # type: ignore[arg-type]  of any key
    return {tier: model.folder for tier, model in chosen.items()}


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


# ---------------------------------------------------------------- which may take whose place

SMALL = EngineSection(model="small")


def test_a_choice_is_another_when_a_manifest_has_changed_and_only_then(state: Path) -> None:
    before = choose_models(SMALL, state, None)
    assert choose_models(SMALL, state, None) == before
    put(state / "models" / "small", version="2")
    assert choose_models(SMALL, state, None) != before


def replaced_by(state: Path, version: str, folder: str = "small", **fields: object) -> None:
    """Check a model against ``small`` in version 2.1."""
    put(state / "models" / "small", version="2.1")
    in_use = choose_models(SMALL, state, None)
    shutil.rmtree(state / "models" / "small")
    put(state / "models" / folder, version=version, **fields)
    check_versions(in_use, choose_models(EngineSection(model=folder), state, None))


@pytest.mark.parametrize("version", ["2.1", "2.1.0", "2.2", "10"])
def test_a_model_is_replaced_by_the_same_in_no_lower_version(state: Path, version: str) -> None:
    replaced_by(state, version)


def test_a_lower_version_is_refused_with_what_to_do(state: Path) -> None:
    with pytest.raises(ModelError, match="small in version 2, older than") as error:
        replaced_by(state, "2")
    assert "allow_downgrade" in str(error.value)


def test_the_same_model_elsewhere_is_the_same_model(state: Path) -> None:
    with pytest.raises(ModelError, match="older than"):
        replaced_by(state, "1", folder="copy", id="small")


def test_another_model_has_versions_of_its_own(state: Path) -> None:
    replaced_by(state, "1", folder="large")


def test_a_tier_that_had_no_model_takes_any_version(state: Path) -> None:
    put(state / "models" / "small", version="2")
    in_use = choose_models(EngineSection(model="large"), state, None)
    with_files = EngineSection(model="large", tiers=TiersSection(files="small"))
    check_versions(in_use, choose_models(with_files, state, None))
