"""The engine's benchmark: its arithmetic, and that it runs and tells."""

import json
from pathlib import Path

import models
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from whisper.model import ModelDimensions, Whisper, disable_sdpa

from benchmarks import engine
from benchmarks.arithmetic import decoder_flops, encoder_flops
from benchmarks.engine_subjects import random_model

DIMS = [models.shape(64, 2, n_layer=2), ModelDimensions(128, 1500, 128, 2, 3, 51_866, 448, 128, 2, 1)]


@pytest.mark.parametrize("dims", DIMS)
def test_the_encoders_operations_are_those_that_torch_counts(dims: ModelDimensions) -> None:
    model = Whisper(dims)
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), disable_sdpa():
        model.encoder(torch.zeros(1, dims.n_mels, 3_000))
    assert encoder_flops(dims, 1_500) == counter.get_total_flops()


@pytest.mark.parametrize("dims", DIMS)
def test_the_decoders_operations_are_those_that_torch_counts(dims: ModelDimensions) -> None:
    model = Whisper(dims)
    n_fed, n_positions = 7, 150
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), disable_sdpa():
        model.decoder(torch.zeros(1, n_fed, dtype=torch.long), torch.zeros(1, n_positions, dims.n_text_state))
    # Without a cache every place sees all others, those after it masked.
    unseen = dims.n_text_layer * 2 * 2 * dims.n_text_state * n_fed * (n_fed - 1) // 2
    assert decoder_flops(dims, n_positions, 0, n_fed + 1) == pytest.approx(
        counter.get_total_flops() - unseen + 2 * dims.n_text_state * dims.n_vocab
    )


def test_random_shapes_are_those_that_are_published() -> None:
    for name, published in (("tiny", models.tiny()), ("base", models.base())):
        assert random_model(name).dims == published


@pytest.mark.model
@pytest.mark.slow
def test_it_measures_and_saves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RESULTS", tmp_path)
    words = "--shapes demo-en --batches 2 --contexts fit --sequential 1 --repeats 1 --save"
    engine.main([*words.split(), "--without-faster-whisper"])
    shown = capsys.readouterr().out
    assert "demo-en, ours, fit: " in shown
    assert "left out by --without-faster-whisper" in shown
    (result,) = tmp_path.glob("engine-cpu-*.json")
    lines = {(line["way"], line["context"]): line for line in json.loads(result.read_text())["lines"]}
    assert lines[engine.SEQUENTIAL, "full"]["times_sequential"] == 1
    for way in (engine.OURS, engine.DRAFT, engine.BATCHED):
        assert lines[way, "fit"]["tokens_agree"] == 1
        assert lines[way, "fit"]["times_sequential"] > 1
