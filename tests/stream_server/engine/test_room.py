"""Whether models fit into memory is known before they are loaded, and said with what to do."""

from pathlib import Path

import models
import msgspec
import pytest
from models import random_whisper, write_model

from stream_server.core.messages import Tier
from stream_server.engine import room
from stream_server.engine.manifest import Dimensions, embedded_model, read_manifest
from stream_server.engine.room import (
    Need,
    bytes_wanted,
    check_room,
    host_bytes_available,
    need_of,
    weight_bytes,
)
from stream_server.engine.spec import EngineSpec
from stream_server.engine.transcriber import WhisperTranscriber
from stream_server.errors import ModelError

MB = 1_000_000


def test_the_weights_counted_are_those_that_are_loaded() -> None:
    folder = embedded_model()
    assert weight_bytes(read_manifest(folder).dims) == WhisperTranscriber(folder, "cpu").n_bytes


def test_large_v3_takes_what_its_parameters_take() -> None:
    assert weight_bytes(Dimensions(**vars(models.large_v3()))) == pytest.approx(4 * 1_550e6, rel=0.01)


def test_a_batch_of_full_windows_takes_more_than_one_of_fitted_ones() -> None:
    manifest = read_manifest(embedded_model())
    full, fitted = (
        need_of(
            Path("gone"), msgspec.structs.replace(manifest, audio_context=context), is_cuda=False, n_rows=8
        )
        for context in ("full", "fit")
    )
    assert full.weights == fitted.weights
    assert full.decoding > 2 * fitted.decoding


@pytest.mark.parametrize(("is_cuda", "total"), [(False, 10 + 20 + 7), (True, 10 + 20 + 5)])
def test_one_model_is_read_or_decodes_at_a_time(is_cuda: bool, total: int) -> None:
    needs = [Need(weights=10, reading=7, decoding=5), Need(weights=20, reading=1, decoding=2)]
    assert bytes_wanted(needs, is_cuda=is_cuda) == total


@pytest.fixture
def pair(tmp_path: Path) -> dict[Tier, Path]:
    """Two models for two tiers."""
    small = random_whisper(models.shape(64, 2, n_layer=1))
    return {
        Tier.LIVE: write_model(tmp_path / "live", small, id="small"),
        Tier.FILES: write_model(tmp_path / "files", small, id="large"),
    }


def wanted(folders: dict[Tier, Path]) -> int:
    needs = [need_of(folder, read_manifest(folder), is_cuda=False, n_rows=8) for folder in folders.values()]
    return bytes_wanted(needs, is_cuda=False)


def spec_of(folders: dict[Tier, Path], *, is_beside: bool = False) -> EngineSpec:
    return EngineSpec(folders, "cpu", 1, 8, is_beside=is_beside)


def test_models_that_just_fit_are_let_in(pair: dict[Tier, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "host_bytes_available", lambda: wanted(pair))
    check_room(pair, spec_of(pair))


def test_models_that_do_not_fit_are_named_with_what_to_do(
    pair: dict[Tier, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "host_bytes_available", lambda: wanted(pair) - 1)
    with pytest.raises(ModelError) as error:
        check_room(pair, spec_of(pair))
    message = str(error.value)
    for hint in ("live = small 0.0 GB", "files = large", "are free here", "leave a tier out", "engine.batch"):
        assert hint in message


def test_models_that_are_to_replace_others_can_be_loaded_by_a_restart(
    pair: dict[Tier, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "host_bytes_available", lambda: 0)
    with pytest.raises(ModelError, match="restart the server to load them in their place") as error:
        check_room(pair, spec_of(pair, is_beside=True))
    assert "beside the models in use" in str(error.value)


def test_one_model_that_does_not_fit_has_no_tier_to_leave_out(
    pair: dict[Tier, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "host_bytes_available", lambda: 0)
    with pytest.raises(ModelError, match="take a smaller model") as error:
        check_room({Tier.LIVE: pair[Tier.LIVE]}, spec_of(pair))
    assert "leave a tier out" not in str(error.value)


def machine(folder: Path, groups: dict[str, dict[str, str]], own: str = "/") -> int:
    """What is available on a machine with 100 MB and these control groups."""
    (folder / "meminfo").write_text("MemTotal: 200000 kB\nMemAvailable: 100000 kB\n")
    (folder / "membership").write_text(f"4:memory:/elsewhere\n0::{own}\n")
    for name, files in groups.items():
        (folder / "cgroup" / name).mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / "cgroup" / name / file).write_text(text)
    return host_bytes_available(folder / "meminfo", folder / "membership", folder / "cgroup")


def group(limit: str, used: int, cached: int = 0) -> dict[str, str]:
    stat = f"anon 5\nactive_file {cached}\ninactive_file 0\n"
    return {"memory.max": f"{limit}\n", "memory.current": f"{used}\n", "memory.stat": stat}


@pytest.mark.parametrize(
    ("groups", "own", "available"),
    [
        pytest.param({}, "/", 102_400_000, id="no control group limits it"),
        pytest.param({"": group("max", 5)}, "/", 102_400_000, id="a group without a limit"),
        pytest.param({"": group(str(80 * MB), 30 * MB)}, "/", 50 * MB, id="a container"),
        pytest.param({"": group(str(80 * MB), 70 * MB, 60 * MB)}, "/", 70 * MB, id="a cache is given up"),
        pytest.param({"": group(str(80 * MB), 90 * MB)}, "/", 0, id="over its limit"),
        pytest.param(
            {"a": group(str(40 * MB), 0), "a/b": group("max", 0)},
            "/a/b",
            40 * MB,
            id="a group above limits it",
        ),
    ],
)
def test_memory_is_what_the_machine_and_every_group_allow(
    tmp_path: Path, groups: dict[str, dict[str, str]], own: str, available: int
) -> None:
    assert machine(tmp_path, groups, own) == available
