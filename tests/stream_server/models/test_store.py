"""The folder of installed models."""

import subprocess
import sys
from pathlib import Path

import models
import pytest

from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.errors import ModelError
from stream_server.models.store import ModelStore


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def fill(folder: Path, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    models.write_manifest(folder, models.tiny(), version=version)


def install(store: ModelStore, name: str, version: str = "1") -> Path:
    with store.changing(), store.staging() as staged:
        fill(staged, version)
        return store.install(staged, name)


def contents(store: ModelStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir() if path.name != ".lock")


def test_before_the_first_there_is_the_embedded_one_only(store: ModelStore) -> None:
    assert store.names() == []
    assert store.find("demo-en") == embedded_model()
    with pytest.raises(ModelError, match=r"no model small is installed in .*; there is: demo-en"):
        store.find("small")


def test_a_model_is_installed_replaced_and_removed(store: ModelStore) -> None:
    assert install(store, "small") == store.folder / "small"
    assert install(store, "small", "2") == store.folder / "small"
    assert read_manifest(store.find("small")).version == "2"
    assert contents(store) == store.names() == ["small"]
    with store.changing():
        store.remove("small")
    assert contents(store) == []


def test_what_raises_while_staging_leaves_nothing(store: ModelStore) -> None:
    def break_off() -> None:
        with store.changing(), store.staging() as staged:
            (staged / "half").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert contents(store) == []


@pytest.mark.parametrize("name", ["", ".hidden", "../x", "a/b", "a b", "-x", "é", "x" * 65, "a\n"])
def test_names_that_could_lead_elsewhere_are_refused(store: ModelStore, name: str) -> None:
    with pytest.raises(ModelError, match="cannot be a model's name"):
        store.check_place(name, "1", allow_downgrade=True)


@pytest.mark.parametrize("name", ["a", "large-v3", "tiny.en", "My_Model-2", "x" * 64])
def test_ordinary_names_are_taken(store: ModelStore, name: str) -> None:
    store.check_place(name, "1", allow_downgrade=False)


@pytest.mark.parametrize(
    ("installed", "version", "is_newer"),
    [
        ("1", "2", True),
        ("1.9", "1.10", True),
        ("0", "0.0.1", True),
        ("1", "1", False),
        ("1.0", "1", False),
        ("2", "1.9.9", False),
    ],
)
def test_an_older_version_needs_to_be_allowed(
    store: ModelStore, installed: str, version: str, is_newer: bool
) -> None:
    install(store, "small", installed)
    store.check_place("small", version, allow_downgrade=True)
    if is_newer:
        store.check_place("small", version, allow_downgrade=False)
    else:
        with pytest.raises(
            ModelError, match=f"version {installed}, and {version} is not newer.*--allow-down"
        ):
            store.check_place("small", version, allow_downgrade=False)


def test_a_model_whose_manifest_is_damaged_may_be_replaced(store: ModelStore) -> None:
    (install(store, "small", "9") / "manifest.json").write_text("{")
    store.check_place("small", "1", allow_downgrade=False)


def test_the_embedded_model_is_neither_replaced_nor_removed(store: ModelStore) -> None:
    with pytest.raises(ModelError, match="name of the embedded model"):
        store.check_place("demo-en", "9", allow_downgrade=True)
    with pytest.raises(ModelError, match="cannot be removed"), store.changing():
        store.remove("demo-en")
    assert (embedded_model() / "manifest.json").exists()


def test_two_commands_do_not_change_it_at_once(store: ModelStore) -> None:
    program = (
        "import sys; from pathlib import Path; from stream_server.models.store import ModelStore\n"
        "with ModelStore(Path(sys.argv[1])).changing(): print('changing')"
    )
    command = [sys.executable, "-c", program, str(store.folder)]
    with store.changing():
        other = subprocess.run(command, capture_output=True, text=True)
    assert "another command is changing" in other.stderr
    after = subprocess.run(command, capture_output=True, text=True)
    assert after.stdout == "changing\n"


def test_what_a_killed_command_left_is_cleared_and_a_model_set_aside_comes_back(store: ModelStore) -> None:
    for name in ("kept", "both"):
        install(store, name)
    (store.folder / "kept").rename(store.folder / ".replaced-kept")
    for leftover in (".staged-abc", ".replaced-both", ".removed-gone"):
        fill(store.folder / leftover, "1")
    assert store.names() == ["both"]
    with store.changing():
        pass
    assert contents(store) == store.names() == ["both", "kept"]


def test_a_full_disk_is_named_before_anything_is_written(store: ModelStore) -> None:
    with store.changing():
        store.check_room(1)
        with pytest.raises(ModelError, match=r"GB left and 1152921504\.6 GB are needed"):
            store.check_room(1 << 60)
