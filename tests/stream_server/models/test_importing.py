"""From a checkpoint to an installed model: the same numbers, or a sentence that says what to do."""

import hashlib
import json
import os
import pickle
import resource
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import checkpoints
import models
import pytest
import torch
import whisper
from safetensors.torch import load_file, save_file
from whisper.model import ModelDimensions, Whisper

from stream_server.engine.manifest import embedded_model, read_manifest, verify_files
from stream_server.engine.model import facts_of, load_whisper
from stream_server.errors import ModelError
from stream_server.models.alignment import heads_of
from stream_server.models.importing import Wish, import_model, narrow, write_weights
from stream_server.models.store import ModelStore

CPU = torch.device("cpu")
SMALL = models.shape(64, 2, n_layer=1)


def still(what: str, n_done: int, n_total: int) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state" / "models")


@pytest.fixture(scope="module")
def small() -> Whisper:
    return checkpoints.halve(models.random_whisper(SMALL))


def take(source: Path, store: ModelStore, **wish: Any) -> Path:
    return import_model(source, store, Wish(**wish), progress=still)


def refusal(source: Path, store: ModelStore, **wish: Any) -> str:
    with pytest.raises(ModelError) as caught:
        take(source, store, **wish)
    assert contents(store) == []
    return str(caught.value)


def contents(store: ModelStore) -> list[str]:
    if not store.folder.exists():
        return []
    return sorted(path.name for path in store.folder.iterdir() if path.name != ".lock")


def load(folder: Path) -> Whisper:
    return load_whisper(folder, read_manifest(folder), CPU)


# ---------------------------------------------------------------- the same numbers


@pytest.mark.parametrize(
    "dims",
    [
        pytest.param(models.tiny(), id="tiny"),
        pytest.param(ModelDimensions(80, 1500, 512, 8, 1, 51_864, 448, 512, 8, 1), id="base.en, cut"),
        pytest.param(models.large_v3(n_layer=1, n_head=4), id="large-v3, cut"),
    ],
)
def test_both_layouts_give_whispers_own_logits(dims: ModelDimensions, tmp_path: Path) -> None:
    model = models.random_whisper(dims)
    file = checkpoints.write_openai(tmp_path / "mine.pt", model)
    reference = Whisper(dims)
    reference.load_state_dict(torch.load(file, weights_only=True)["model_state_dict"])
    theirs = checkpoints.write_huggingface(tmp_path / "theirs", checkpoints.halve(model))
    store = ModelStore(tmp_path / "models")
    folders = [take(file, store), take(theirs, store)]
    # What transformers keeps as float32 holds OpenAI's float16 numbers: the same file comes of it.
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 1
    mel = torch.randn(1, dims.n_mels, 3_000, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([[50_257, 11, 400]])
    with torch.inference_mode():
        assert torch.equal(load(folders[0])(mel, tokens), reference.eval()(mel, tokens))


def test_what_float16_cannot_hold_keeps_its_type() -> None:
    exact = torch.tensor([1.0, -0.0, 2.0**-24, 65_504.0])
    assert narrow(exact).dtype == torch.float16
    assert torch.signbit(narrow(exact)).tolist() == [False, True, False, False]
    for inexact in (torch.tensor([0.1]), torch.tensor([65_536.0]), torch.tensor([2.0**-25])):
        assert torch.equal(narrow(inexact), inexact)
        assert narrow(inexact).dtype == torch.float32


def test_a_float32_checkpoint_is_kept_to_the_bit(tmp_path: Path, store: ModelStore) -> None:
    model = models.random_whisper(SMALL)
    folder = take(checkpoints.write_openai(tmp_path / "mine.pt", model, torch.float32), store)
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor.float(), model.state_dict()[name])


# ---------------------------------------------------------------- what the manifest says


def test_the_manifest_says_what_it_is_and_where_from(
    tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    file = checkpoints.write_openai(tmp_path / "mine.pt", small)
    folder = take(file, store, version="2.1", audio_context="fit", licence="Apache-2.0")
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert (manifest.id, manifest.version, manifest.audio_context) == ("mine", "2.1", "fit")
    assert (manifest.licence, manifest.multilingual, manifest.language) == ("Apache-2.0", True, None)
    assert (manifest.n_languages, len(facts_of(manifest).languages)) == (99, 99)
    assert manifest.alignment_heads is None
    assert manifest.source is not None
    assert (manifest.source.format, manifest.source.file) == ("openai", "mine.pt")
    assert manifest.source.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert not manifest.source.official


def test_an_english_model_is_english(tmp_path: Path, store: ModelStore) -> None:
    model = models.random_whisper(models.shape(64, 2, n_layer=1, n_vocab=models.ENGLISH_VOCAB))
    manifest = read_manifest(take(checkpoints.write_openai(tmp_path / "mine.pt", model), store))
    assert (manifest.multilingual, manifest.language, manifest.n_languages) == (False, "en", 1)


def test_openais_own_file_is_known_by_its_checksum(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = checkpoints.write_openai(tmp_path / "download.pt", models.random_whisper(models.tiny()))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(whisper._MODELS, "tiny", f"https://host.example/{sha256}/tiny.pt")
    folder = take(file, store)
    manifest = read_manifest(folder)
    assert (folder.name, manifest.id, manifest.licence) == ("tiny", "tiny", "MIT")
    assert manifest.source is not None
    assert manifest.source.official
    assert manifest.alignment_heads == whisper._ALIGNMENT_HEADS["tiny"].decode()
    assert (2, 2) in [tuple(pair) for pair in load(folder).alignment_heads.indices().T.tolist()]


@pytest.mark.parametrize("wish", [{}, {"name": "tiny"}])
def test_a_file_that_passes_for_openais_is_refused(
    tmp_path: Path, store: ModelStore, small: Whisper, wish: dict[str, str]
) -> None:
    file = checkpoints.write_openai(tmp_path / "tiny.pt", small)
    said = refusal(file, store, **wish)
    assert said.startswith(f"{file} is not OpenAI's tiny: its sha256 is ")
    assert said.endswith("set another --name")
    assert take(file, store, name="tiny-of-ours").name == "tiny-of-ours"


def test_alignment_heads_of_hugging_faces_configuration_are_kept(
    tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    folder = checkpoints.write_huggingface(tmp_path / "theirs", small, heads=[[0, 1]])
    installed = take(folder / "model.safetensors", store)
    manifest = read_manifest(installed)
    assert installed.name == "theirs"
    assert manifest.alignment_heads is not None
    assert heads_of(manifest.alignment_heads, manifest.dims) == [(0, 1)]
    assert manifest.source is not None
    assert manifest.source.format == "huggingface"


def test_files_may_be_links_as_in_hugging_faces_cache(
    tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    blobs = checkpoints.write_huggingface(tmp_path / "blobs", small)
    snapshot = tmp_path / "theirs"
    snapshot.mkdir()
    for number, name in enumerate(("model.safetensors", "config.json")):
        (blobs / name).rename(blobs / str(number))
        (snapshot / name).symlink_to(blobs / str(number))
    assert take(snapshot / "model.safetensors", store).name == "theirs"


def test_an_output_layer_that_repeats_the_embedding_is_left_out(
    tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    embedding = small.decoder.token_embedding.weight
    same = checkpoints.write_huggingface(
        tmp_path / "same", small, tensors={"proj_out.weight": embedding.clone()}
    )
    take(same, store)
    other = checkpoints.write_huggingface(
        tmp_path / "other", small, tensors={"proj_out.weight": embedding + 1}
    )
    with pytest.raises(ModelError, match=r"proj_out differs from embed_tokens"):
        take(other, store)


def test_an_installed_model_is_carried_to_another_machine(tmp_path: Path, store: ModelStore) -> None:
    folder = take(embedded_model(), store, name="copy")
    assert read_manifest(folder) == read_manifest(embedded_model())
    elsewhere = ModelStore(tmp_path / "elsewhere")
    assert read_manifest(take(folder, elsewhere)) == read_manifest(embedded_model())
    with pytest.raises(ModelError, match=r"manifest.json that says its version"):
        take(folder, elsewhere, version="2")
    with pytest.raises(ModelError, match=r"copy is installed in version 0, and 0 is not newer"):
        take(folder, elsewhere)


# ---------------------------------------------------------------- wrong files


class Code:
    def __reduce__(self) -> Any:
        return os.system, ("touch never",)


def wrong_file(kind: str, path: Path, small: Whisper) -> None:
    whole = checkpoints.write_openai(path, small).read_bytes()
    good: dict[str, Any] = torch.load(path, weights_only=True)
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "page":
            path.write_bytes(b"\n<!DOCTYPE html><title>Sign in</title>")
        case "lfs":
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
        case "ggml":
            path.write_bytes(b"lmgg" + bytes(100))
        case "safetensors":
            save_file({"a": torch.zeros(1)}, path)
        case "text":
            path.write_bytes(b"hello")
        case "old":
            torch.save(good, path, _use_new_zipfile_serialization=False)
        case "truncated":
            path.write_bytes(whole[:-1000])
        case "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("readme.txt", "hello")
        case "script":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which people still have
                torch.jit.script(torch.nn.Linear(1, 1)).save(path)  # type: ignore[no-untyped-call]  torch has no types for it
        case "code":
            torch.save({"dims": Code()}, path)
        case "list":
            torch.save([1, 2], path)
        case "weights alone":
            torch.save(good["model_state_dict"], path)
        case "no tensors":
            torch.save({**good, "model_state_dict": {"encoder.conv1.weight": 3}}, path)
        case "dims":
            torch.save({**good, "dims": {**good["dims"], "n_mels": 40}}, path)
        case "huge":
            torch.save({**good, "dims": {**good["dims"], "n_text_layer": 10**9}}, path)
        case "other dims":
            torch.save({**good, "dims": {**good["dims"], "n_text_layer": 2}}, path)
        case "int8":
            weights = {name: tensor.to(torch.int8) for name, tensor in good["model_state_dict"].items()}
            torch.save({**good, "model_state_dict": weights}, path)
        case "nan":
            good["model_state_dict"]["decoder.ln.bias"][0] = float("nan")
            torch.save(good, path)
        case _:
            raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("empty", "is empty; copy it again"),
        ("page", "is a web page, not a checkpoint"),
        ("lfs", "run `git lfs pull`"),
        ("ggml", "is a whisper.cpp model"),
        ("safetensors", "is a safetensors file"),
        ("text", "is not a checkpoint of openai-whisper"),
        ("old", "or an old one; give the original"),
        ("truncated", "is cut short, damaged"),
        ("zip", "or a zip file of another kind"),
        ("script", "is cut short, damaged, or a zip file of another kind"),
        ("code", "holds more than weights, which could be code"),
        ("list", "has no dims and model_state_dict"),
        ("weights alone", "give the folder with model.safetensors and config.json"),
        ("no tensors", "model_state_dict is not tensors by name"),
        ("dims", "n_mels must be 80 or 128, not 40"),
        ("huge", "n_text_layer must be at most 128"),
        ("other dims", "decoder.blocks.1.attn.query.weight is missing"),
        ("int8", "quantised weights cannot be imported"),
        ("nan", "decoder.ln.bias holds values that are not numbers"),
    ],
)
def test_a_wrong_file_is_refused_with_what_to_do(
    kind: str, what: str, tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    path = tmp_path / "mine.pt"
    wrong_file(kind, path, small)
    said = refusal(path, store)
    assert said.startswith(str(path))
    assert what in said
    assert "\n" not in said


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, store: ModelStore) -> None:
    marker = tmp_path / "run"

    class Touch:
        def __reduce__(self) -> Any:
            return marker.touch, ()

    path = tmp_path / "mine.pt"
    torch.save({"dims": Touch()}, path, pickle_module=pickle)
    refusal(path, store)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("missing", "there", "what"),
    [
        ("config.json", "", "config.json is missing"),
        ("model.safetensors", "model.safetensors.index.json", 'max_shard_size="20GB"'),
        ("model.safetensors", "pytorch_model.bin", "but pytorch_model.bin; convert it"),
        ("model.safetensors", "adapter_model.safetensors", "merge it into its base model"),
        ("model.safetensors", "model.bin", "faster-whisper's converted format"),
        ("model.safetensors", "", "has no model.safetensors; give the original"),
    ],
)
def test_a_folder_that_lacks_a_file_is_told_what_to_do(
    missing: str, there: str, what: str, tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    folder = checkpoints.write_huggingface(tmp_path / "theirs", small)
    (folder / missing).unlink()
    if there:
        (folder / there).write_bytes(b"{}")
    assert what in refusal(folder, store)


def test_one_of_several_parts_is_not_taken_for_the_whole(tmp_path: Path, store: ModelStore) -> None:
    part = tmp_path / "model-00001-of-00002.safetensors"
    save_file({"a": torch.zeros(1)}, part)
    assert "must be named model.safetensors" in refusal(part, store)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert "max_shard_size" in refusal(part, store)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"vocab_size": 51_872}, "n_vocab must be 51864 or 51865 or 51866, not 51872"),
        ({"model_type": "wav2vec2"}, "model_type is wav2vec2, not whisper"),
        ({"decoder_layers": 2}, "its tensors are not those of its dimensions: decoder.blocks.1"),
        ({"d_model": "64"}, "Expected `int`"),
    ],
)
def test_a_configuration_that_is_not_the_weights_is_named(
    changed: dict[str, Any], what: str, tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    assert what in refusal(checkpoints.write_huggingface(tmp_path / "theirs", small, **changed), store)


def test_damaged_files_of_hugging_face_are_named(tmp_path: Path, store: ModelStore, small: Whisper) -> None:
    folder = checkpoints.write_huggingface(tmp_path / "theirs", small, heads=[[7, 0]])
    assert "generation_config.json: alignment_heads: there is no head 0 in layer 7" in refusal(folder, store)
    (folder / "generation_config.json").write_text("{")
    assert "generation_config.json: alignment_heads" in refusal(folder, store)
    (folder / "generation_config.json").unlink()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert "or cut short; copy it again" in refusal(folder, store)
    (folder / "config.json").write_bytes(b" " * (5 << 20))
    assert "is larger than 4 MB" in refusal(folder, store)


def test_hugging_faces_folder_cannot_have_an_official_name(
    tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    folder = checkpoints.write_huggingface(tmp_path / "base.en", small)
    assert "set another --name, such as base.en-hf" in refusal(folder, store)


def test_a_model_folder_is_checked_before_it_is_copied(tmp_path: Path, store: ModelStore) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(embedded_model(), folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"x")
    assert "truncated or altered" in refusal(folder, store)


def test_a_source_that_does_not_exist_is_named(tmp_path: Path, store: ModelStore) -> None:
    assert refusal(tmp_path / "gone.pt", store).startswith(f"{tmp_path / 'gone.pt'} does not exist")


# ---------------------------------------------------------------- all or nothing


def test_an_interrupt_at_any_step_leaves_nothing_or_the_version_before(
    tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    file = checkpoints.write_openai(tmp_path / "mine.pt", small)
    steps: list[str] = []
    import_model(file, store, Wish(version="1"), progress=lambda what, n_done, n_total: steps.append(what))
    assert set(steps) == {"checking the file", "converting", "writing", "checking what was written"}
    for step in range(len(steps)):
        left = iter(range(step))

        def interrupt(what: str, n_done: int, n_total: int) -> None:
            if next(left, None) is None:  # noqa: B023 - called in this turn only
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            import_model(file, store, Wish(version="2"), progress=interrupt)
        assert contents(store) == ["mine"]
        assert read_manifest(store.find("mine")).version == "1"


def test_a_gate_that_refuses_keeps_the_model_out(tmp_path: Path, store: ModelStore, small: Whisper) -> None:
    seen: list[str] = []

    def refuse(folder: Path) -> None:
        seen.append(read_manifest(folder).id)
        raise ModelError("not good enough")

    file = checkpoints.write_openai(tmp_path / "mine.pt", small)
    with pytest.raises(ModelError, match="not good enough"):
        import_model(file, store, Wish(), progress=still, gate=refuse)
    assert (seen, contents(store)) == (["mine"], [])


def test_what_the_disk_refuses_is_named(tmp_path: Path) -> None:
    # The limit on a file's size fails a write as a full disk does, with another number.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        with pytest.raises(ModelError, match=r"cannot be written, and nothing was installed: .*too large"):
            write_weights({"a": torch.zeros(10_000)}, tmp_path / "model.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_older_version_is_refused_before_the_weights_are_read(
    tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    file = checkpoints.write_openai(tmp_path / "mine.pt", small)
    take(file, store, version="2")
    with pytest.raises(ModelError, match="mine is installed in version 2, and 1 is not newer"):
        take(file, store)
    take(file, store, allow_downgrade=True)
    assert json.loads((store.find("mine") / "manifest.json").read_text())["version"] == "1"


@pytest.mark.parametrize(
    ("wish", "what"),
    [
        ({"version": "two"}, "version must be numbers with dots between them, such as 1.2, not 'two'"),
        ({"audio_context": "half"}, "the audio context is full or fit, not half"),
        ({"name": "../up"}, "cannot be a model's name"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_named(
    wish: dict[str, str], what: str, tmp_path: Path, store: ModelStore, small: Whisper
) -> None:
    assert what in refusal(checkpoints.write_openai(tmp_path / "mine.pt", small), store, **wish)
