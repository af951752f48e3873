"""From a folder to a model: the published shapes load, and what does not fit is named."""

import base64
import gzip
from pathlib import Path
from typing import Any

import models
import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import LANGUAGES

from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.model import choose_device, facts_of, load_whisper
from stream_server.errors import ModelError

CPU = torch.device("cpu")


def load(folder: Path) -> Whisper:
    return load_whisper(folder, read_manifest(folder), CPU)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_model(
        tmp_path_factory.mktemp("tiny"), models.random_whisper(models.tiny(n_layer=1)), id="tiny"
    )


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy whose weights and manifest a test may change."""
    (tmp_path / "model.safetensors").write_bytes((tiny_folder / "model.safetensors").read_bytes())
    models.write_manifest(tmp_path, models.tiny(n_layer=1))
    return tmp_path


@pytest.mark.parametrize(
    ("dims", "n_languages"),
    [
        pytest.param(models.tiny(n_layer=2), 99, id="tiny"),
        pytest.param(models.tiny(n_layer=1, n_vocab=models.ENGLISH_VOCAB), 1, id="tiny.en"),
        pytest.param(models.base(n_layer=1), 99, id="base"),
        pytest.param(models.large_v3(n_layer=1, n_head=8), 100, id="large-v3"),
    ],
)
def test_a_checkpoint_of_a_published_shape_loads_with_its_weights(
    tmp_path: Path, dims: ModelDimensions, n_languages: int
) -> None:
    model = models.random_whisper(dims).half()  # As published checkpoints are.
    loaded = load(models.write_model(tmp_path, model))
    weights = loaded.state_dict()
    assert loaded.dims == dims
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(torch.equal(tensor.float(), weights[name]) for name, tensor in model.state_dict().items())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    facts = facts_of(read_manifest(tmp_path))
    assert len(facts.languages) == n_languages
    assert facts.can_translate == (n_languages > 1)


def test_a_multilingual_model_reads_the_languages_of_its_vocabulary(tiny_folder: Path) -> None:
    facts = facts_of(read_manifest(tiny_folder))
    assert facts.name == "tiny"
    assert facts.languages == frozenset(LANGUAGES) - {"yue"}


def test_the_embedded_model_reads_english_and_does_not_translate() -> None:
    facts = facts_of(read_manifest(embedded_model()))
    assert (facts.name, facts.languages, facts.can_translate) == ("demo-en", frozenset({"en"}), False)


def test_a_model_of_one_language_reads_the_one_that_its_manifest_names(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"unread")
    models.write_manifest(tmp_path, models.tiny(n_vocab=models.ENGLISH_VOCAB), language="de")
    assert facts_of(read_manifest(tmp_path)).languages == frozenset({"de"})


def test_what_whisper_computes_and_does_not_save_is_there(tiny_folder: Path) -> None:
    loaded, made = load(tiny_folder), Whisper(models.tiny(n_layer=1))
    assert torch.equal(loaded.decoder.mask, made.decoder.mask)
    assert torch.equal(loaded.alignment_heads.to_dense(), made.alignment_heads.to_dense())
    tensors = [*loaded.parameters(), *loaded.buffers()]
    assert not any(tensor.is_meta for tensor in tensors)


def test_loading_draws_no_random_numbers_and_reads_the_weights_once(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_path = Path.open

    def watched(path: Path, *args: Any, **kwargs: Any) -> Any:
        opened.append(path.name)
        return open_path(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", watched)
    before = torch.get_rng_state()
    load(tiny_folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert opened.count("model.safetensors") == 1


# ---------------------------------------------------------------- alignment heads


def heads_dump(*heads: bool) -> str:
    return base64.b85encode(gzip.compress(np.array(heads).tobytes())).decode()


def test_alignment_heads_of_the_manifest_are_kept(folder: Path) -> None:
    heads = (False, True, False, False, True, False)
    models.write_manifest(folder, models.tiny(n_layer=1), alignment_heads=heads_dump(*heads))
    assert load(folder).alignment_heads.to_dense().tolist() == [list(heads)]


@pytest.mark.parametrize(
    "dump",
    [
        pytest.param('"', id="not base85"),
        pytest.param("é", id="not ASCII"),
        pytest.param(base64.b85encode(b"hello").decode(), id="not gzip"),
        pytest.param(base64.b85encode(gzip.compress(b"\1" * 6)[:-9]).decode(), id="cut short"),
        pytest.param(heads_dump(True, False), id="other heads"),
    ],
)
def test_alignment_heads_that_do_not_fit_are_named(folder: Path, dump: str) -> None:
    models.write_manifest(folder, models.tiny(n_layer=1), alignment_heads=dump)
    with pytest.raises(ModelError, match=r"manifest\.json: alignment_heads is not .* set it to null"):
        load(folder)


# ---------------------------------------------------------------- weights that are not what they should be


def test_weights_are_checked_before_they_are_parsed(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(b"altered")
    with pytest.raises(ModelError, match=r"model\.safetensors is truncated or altered"):
        load(folder)


@pytest.mark.parametrize("content", [b"\x80\x02}q\x00.", b"GGUF" * 10, b"\xff" * 64])
def test_a_file_that_is_not_safetensors_is_named_although_its_checksum_is_right(
    folder: Path, content: bytes
) -> None:
    (folder / "model.safetensors").write_bytes(content)
    models.write_manifest(folder, models.tiny(n_layer=1))
    with pytest.raises(ModelError, match=r"model\.safetensors is not a safetensors file"):
        load(folder)


@pytest.mark.parametrize(
    ("dims", "what"),
    [
        pytest.param(models.base(n_layer=1), "size mismatch", id="wider"),
        pytest.param(models.tiny(n_layer=2), "Missing key", id="deeper"),
        pytest.param(models.large_v3(n_layer=1, n_head=6), "size mismatch", id="more mels"),
    ],
)
def test_tensors_that_do_not_fit_the_dimensions_are_named(
    folder: Path, dims: ModelDimensions, what: str
) -> None:
    models.write_manifest(folder, dims)
    with pytest.raises(ModelError, match=rf"model\.safetensors does not fit .*: {what}") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), -float("inf")])
def test_weights_that_are_not_finite_are_named(folder: Path, number: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["decoder.ln.bias"][3] = number
    save_file(weights, folder / "model.safetensors")
    models.write_manifest(folder, models.tiny(n_layer=1))
    with pytest.raises(ModelError, match=r"decoder\.ln\.bias holds numbers that are not finite"):
        load(folder)


def test_a_tensor_too_many_is_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "decoder.extra": torch.zeros(1)}, folder / "model.safetensors")
    models.write_manifest(folder, models.tiny(n_layer=1))
    with pytest.raises(ModelError, match="Unexpected key"):
        load(folder)


# ---------------------------------------------------------------- devices


def test_the_device_is_the_one_asked_for() -> None:
    assert choose_device("cpu") == CPU


def test_auto_takes_cuda_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_where_there_is_none_is_an_error_that_says_what_to_set() -> None:
    with pytest.raises(ModelError, match=r"engine\.device is cuda, .* set it to auto or cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["tpu", "", "cuda:9", "meta"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="must be auto, cpu or cuda"):
        choose_device(name)


@pytest.mark.parametrize("prompts", [True, False])
def test_facts_say_whether_the_model_reads_on_from_the_text_before(prompts: bool) -> None:
    manifest = msgspec.structs.replace(read_manifest(embedded_model()), prompts=prompts)
    assert facts_of(manifest).reads_prompts == prompts


def test_facts_say_that_words_can_be_timed_where_the_manifest_names_alignment_heads() -> None:
    manifest = read_manifest(embedded_model())
    untimed = msgspec.structs.replace(manifest, alignment_heads=None)
    timed = msgspec.structs.replace(manifest, alignment_heads="ABzY8")
    assert [facts_of(known).can_time_words for known in (untimed, timed)] == [False, True]
