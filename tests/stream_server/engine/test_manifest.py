"""A model's folder before its weights are parsed: every mistake is named with its file."""

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_server.engine import manifest as manifest_module
from stream_server.engine.manifest import (
    Manifest,
    embedded_model,
    find_model,
    read_manifest,
    read_verified,
    verify_files,
    version_key,
)
from stream_server.errors import ModelError

DIMS = {
    "n_mels": 80,
    "n_audio_ctx": 1500,
    "n_audio_state": 384,
    "n_audio_head": 6,
    "n_audio_layer": 4,
    "n_vocab": 51_865,
    "n_text_ctx": 448,
    "n_text_state": 384,
    "n_text_head": 6,
    "n_text_layer": 4,
}
WEIGHTS = b"not parsed here"


def good() -> dict[str, Any]:
    files = {"model.safetensors": {"sha256": hashlib.sha256(WEIGHTS).hexdigest()}}
    return {"id": "some", "dims": dict(DIMS), "multilingual": True, "files": files}


def folder_with(folder: Path, manifest: object, weights: bytes | None = WEIGHTS) -> Path:
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(text)
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        verify_files(folder, read_manifest(folder))
    return str(caught.value)


def test_the_embedded_model_is_complete_and_unaltered() -> None:
    manifest = read_manifest(embedded_model())
    verify_files(embedded_model(), manifest)
    assert (manifest.id, manifest.language, manifest.audio_context) == ("demo-en", "en", "fit")


def test_fields_that_are_for_people_are_skipped_and_the_rest_has_defaults(tmp_path: Path) -> None:
    manifest = read_manifest(folder_with(tmp_path, good() | {"note": "mine", "measured": {"wer": 0.1}}))
    assert (manifest.audio_context, manifest.context_tail_s) == ("full", 0.0)
    assert manifest.language is None
    assert manifest.alignment_heads is None


def test_reading_a_manifest_imports_neither_torch_nor_whisper() -> None:
    program = (
        "import sys, stream_server.engine.manifest as m; m.read_manifest(m.embedded_model()); "
        "print([name for name in ('torch', 'whisper') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_that_is_not_there_is_named_with_what_it_should_hold(tmp_path: Path) -> None:
    message = refusal(tmp_path / "gone")
    assert message.startswith(f"{tmp_path / 'gone'} is not a folder")
    assert "manifest.json and model.safetensors" in message


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt"
    path.write_bytes(b"x")
    assert refusal(path).startswith(f"{path} is not a folder; --model takes a folder")


def test_a_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path / 'manifest.json'} does not exist; --model takes")


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    assert refusal(tmp_path) == f"{tmp_path / 'manifest.json'} cannot be read: Is a directory"


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in good().items() if name != key}


def with_dims(**dims: object) -> dict[str, Any]:
    return good() | {"dims": DIMS | dims}


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        pytest.param(b"", "truncated", id="empty"),
        pytest.param(b'{"id": ', "truncated", id="cut short"),
        pytest.param(b"id: demo", "malformed", id="not JSON"),
        pytest.param(b'{"id": "\xff"}', "utf-8", id="not UTF-8"),
        pytest.param([], "Expected `object`", id="a list"),
        pytest.param(without("id"), "`id`", id="no id"),
        pytest.param(without("dims"), "`dims`", id="no dims"),
        pytest.param(without("multilingual"), "`multilingual`", id="no multilingual"),
        pytest.param(without("files"), "`files`", id="no files"),
        pytest.param(good() | {"multilingual": "yes"}, r"\$\.multilingual", id="a word for a boolean"),
        pytest.param(good() | {"audio_context": "half"}, "full or fit", id="unknown context"),
        pytest.param(good() | {"context_tail_s": -0.1}, "between 0 and 5", id="negative tail"),
        pytest.param(good() | {"context_tail_s": 6}, "between 0 and 5", id="long tail"),
        pytest.param(good() | {"guard": {"logprob_min": 1}}, "logprob_min must be at most 0", id="guard"),
        pytest.param(good() | {"guard": {"logprob": -1}}, "unknown field `logprob`", id="unknown rule"),
        pytest.param(good() | {"files": {}}, "files must name model.safetensors", id="no weights named"),
        pytest.param(good() | {"files": {"model.safetensors": {}}}, "`sha256`", id="no checksum"),
        pytest.param(good() | {"multilingual": False}, "n_vocab 51865 and multilingual", id="vocabulary"),
        pytest.param(with_dims(n_vocab=51_864), "n_vocab 51864 and multilingual", id="English vocabulary"),
        pytest.param(with_dims(n_vocab=1_000), "n_vocab must be 51864 or", id="small vocabulary"),
        pytest.param(with_dims(n_vocab=51_867), "n_vocab must be 51864 or", id="large vocabulary"),
        pytest.param(with_dims(n_mels="80"), r"\$\.dims\.n_mels", id="a string for a number"),
        pytest.param(with_dims(n_mels=40), "n_mels must be 80 or 128, not 40", id="mels"),
        pytest.param(with_dims(n_audio_ctx=750), "n_audio_ctx must be 1500", id="short context"),
        pytest.param(with_dims(n_text_ctx=4), "n_text_ctx must be 448", id="short text"),
        pytest.param(with_dims(n_audio_head=5), "split among 5 heads", id="encoder's heads"),
        pytest.param(with_dims(n_text_head=7), "split among 7 heads", id="decoder's heads"),
        pytest.param(with_dims(n_text_state=512), "n_text_state must be 384", id="two widths"),
        pytest.param(with_dims(n_audio_head=0), "n_audio_head must be at least 1", id="no heads"),
        pytest.param(with_dims(n_text_layer=-1), "n_text_layer must be at least 1", id="negative depth"),
        pytest.param(with_dims(n_audio_layer=129), "n_audio_layer must be at most 128", id="deep encoder"),
        pytest.param(with_dims(n_text_layer=10**9), "n_text_layer must be at most 128", id="deep decoder"),
        pytest.param(
            with_dims(n_audio_state=12_288, n_text_state=12_288), "n_audio_state must be at most", id="wide"
        ),
        pytest.param(good() | {"version": "1.x"}, "numbers with dots between them", id="version"),
        pytest.param(good() | {"version": ""}, "numbers with dots between them", id="empty version"),
        pytest.param(with_dims(n_colours=3), "n_colours", id="unknown dimension"),
    ],
)
def test_a_manifest_that_says_nonsense_is_named_with_the_field(
    tmp_path: Path, manifest: object, what: str
) -> None:
    folder = folder_with(tmp_path, manifest)
    with pytest.raises(ModelError, match=what) as caught:
        read_manifest(folder)
    assert str(caught.value).startswith(f"{folder / 'manifest.json'} is not a model manifest: ")


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "sub/weights", ".", "", "./model.safetensors", "a\0b"]
)
def test_a_manifest_may_name_files_of_its_own_folder_only(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    manifest = good()
    manifest["files"][name] = manifest["files"]["model.safetensors"]
    message = refusal(folder_with(folder, manifest))
    assert message.startswith(f"{folder / 'manifest.json'} names {name!r}")
    assert "must lie in the folder" in message


def test_a_folder_in_place_of_the_weights_is_named(tmp_path: Path) -> None:
    folder_with(tmp_path, good(), weights=None)
    (tmp_path / "model.safetensors").mkdir()
    assert refusal(tmp_path) == f"{tmp_path / 'model.safetensors'} cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        pytest.param(None, "is missing", id="missing"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(WEIGHTS[:-1], "is truncated or altered", id="truncated"),
        pytest.param(WEIGHTS[:-1] + b"x", "is truncated or altered", id="altered"),
        pytest.param(WEIGHTS + b"x", "is truncated or altered", id="longer"),
    ],
)
def test_weights_other_than_the_manifests_are_named_with_what_to_do(
    tmp_path: Path, weights: bytes | None, what: str
) -> None:
    message = refusal(folder_with(tmp_path, good(), weights))
    assert message.startswith(f"{tmp_path / 'model.safetensors'} {what}")
    assert message.endswith("copy the model's folder again")


def test_the_message_about_altered_weights_holds_both_checksums(tmp_path: Path) -> None:
    message = refusal(folder_with(tmp_path, good(), b"altered"))
    assert hashlib.sha256(WEIGHTS).hexdigest() in message
    assert hashlib.sha256(b"altered").hexdigest() in message


def test_every_file_of_the_manifest_is_checked(tmp_path: Path) -> None:
    manifest = good()
    manifest["files"]["vocabulary.json"] = {"sha256": "0" * 64}
    assert "vocabulary.json is missing" in refusal(folder_with(tmp_path, manifest))


@pytest.mark.parametrize("size", [1, 63, 64, 65, 640, 641])
def test_what_is_read_is_what_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(manifest_module, "_HASH_BLOCK_BYTES", 64)
    weights = random.Random(size).randbytes(size)
    entry = {"sha256": hashlib.sha256(weights).hexdigest()}
    folder = folder_with(tmp_path, good() | {"files": {"model.safetensors": entry}}, weights)
    manifest = read_manifest(folder)
    assert read_verified(folder, manifest, "model.safetensors").view == weights
    for place in {0, size // 2, size - 1}:
        altered = bytearray(weights)
        altered[place] ^= 1
        (folder / "model.safetensors").write_bytes(altered)
        with pytest.raises(ModelError, match="truncated or altered"):
            read_verified(folder, manifest, "model.safetensors")


def test_a_manifest_is_a_value() -> None:
    manifest = read_manifest(embedded_model())
    assert manifest == read_manifest(embedded_model())
    with pytest.raises(AttributeError):
        manifest.id = "other"  # type: ignore[misc]  it is frozen
    assert isinstance(manifest, Manifest)


# ---------------------------------------------------------------- finding a folder


def test_without_a_wish_the_embedded_model_is_taken(tmp_path: Path) -> None:
    assert find_model(None, tmp_path) == embedded_model()


def test_a_path_is_taken_before_a_name_in_the_state_folder(tmp_path: Path) -> None:
    for folder in (tmp_path / "mine", tmp_path / "state" / "models" / "small"):
        folder.mkdir(parents=True)
    assert find_model(str(tmp_path / "mine"), tmp_path / "state") == tmp_path / "mine"
    assert find_model("small", tmp_path / "state") == tmp_path / "state" / "models" / "small"


def test_the_embedded_model_has_a_name_too(tmp_path: Path) -> None:
    assert find_model("demo-en", tmp_path) == embedded_model()


def test_a_model_that_is_nowhere_is_an_error_that_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model folder small, nor ") as caught:
        find_model("small", tmp_path)
    assert str(tmp_path / "models" / "small") in str(caught.value)
    assert "stream-server models list" in str(caught.value)


# ---------------------------------------------------------------- versions


def test_versions_compare_by_their_numbers() -> None:
    ordered = ["0", "0.1", "0.9", "0.10", "1", "1.0.1", "2", "10", "2026.11.21"]
    assert sorted(reversed(ordered), key=version_key) == ordered
    assert version_key("1") == version_key("1.0") == version_key("1.0.0.0")


@pytest.mark.parametrize("version", ["", "v1", "1.", ".1", "1.2.3.4.5", "1-2", "-1", "1" * 10, "١", "1\n"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="must be numbers with dots"):
        version_key(version)


def test_a_model_knows_how_many_languages_it_has() -> None:
    assert read_manifest(embedded_model()).n_languages == 1
    for n_vocab, n_languages in ((51_865, 99), (51_866, 100)):
        text = json.dumps(with_dims(n_vocab=n_vocab))
        assert msgspec.json.decode(text, type=Manifest).n_languages == n_languages


def test_reading_is_counted_over_all_files(tmp_path: Path) -> None:
    manifest = good()
    manifest["files"]["more"] = manifest["files"]["model.safetensors"]
    (folder_with(tmp_path, manifest) / "more").write_bytes(WEIGHTS)
    counted: list[int] = []
    verify_files(tmp_path, read_manifest(tmp_path), counted.append)
    assert counted == [len(WEIGHTS), 2 * len(WEIGHTS)]
