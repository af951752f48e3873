"""What is different on an accelerator, as far as a CPU can run it; ``test_gpu.py`` has the rest."""

import dataclasses

import models
import numpy as np
import pytest
import torch
from parity import HALF, MIXED, make_case, rows_near, sounds

from stream_server.engine.accelerator import LateFlags, Recording, lower_precision, upload
from stream_server.engine.decoder import BatchDecoder

CPU = torch.device("cpu")


def test_samples_are_cut_padded_and_scaled_exactly() -> None:
    samples = np.array([-32768, -1, 0, 1, 32767], dtype="<i2")
    up = upload([samples.tobytes(), samples[:2].tobytes(), b""], 4, CPU)
    assert up.dtype == torch.float32
    assert up.tolist() == [[-1.0, -1 / 32768, 0.0, 1 / 32768], [-1.0, -1 / 32768, 0.0, 0.0], [0.0] * 4]


def test_a_recording_takes_a_step_with_each_call_and_none_before() -> None:
    counter = torch.zeros(1)
    recording = Recording(lambda: counter.add_(1), [counter], CPU)
    assert counter.item() == 0
    recording()
    recording()
    assert counter.item() == 2


def test_on_a_cpu_flags_are_read_at_once() -> None:
    flags = torch.tensor([False, True])
    assert LateFlags(2, CPU).after_step(flags) == [False, True]


@pytest.mark.model
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_smaller_weights_compute_what_whispers_own_do_in_that_precision(dtype: torch.dtype) -> None:
    model = models.random_whisper(models.shape(64, 2, n_layer=2), seed=0)
    mel = sounds(2, 8_000).to(dtype)
    whole = BatchDecoder(model, None).encode(mel)
    lower_precision(model, dtype)
    assert model.encoder.conv1.weight.dtype == model.decoder.blocks[0].mlp[0].weight.dtype == dtype
    assert model.encoder.ln_post.weight.dtype == model.decoder.token_embedding.weight.dtype == torch.float32
    assert torch.equal(BatchDecoder(model, None).encode(mel), whole)


@pytest.mark.model
@pytest.mark.parametrize("chooses_on_device", [False, True], ids=["host", "device"])
def test_in_half_precision_whisper_is_followed_within_its_rounding(chooses_on_device: bool) -> None:
    model = models.random_whisper(models.shape(64, 2, n_layer=2), seed=0)
    case = make_case(model, sounds(8, 24_000).half(), MIXED)
    lower_precision(model, torch.float16)
    decoder = BatchDecoder(model, None, chooses_on_device=chooses_on_device)
    case = dataclasses.replace(case, decoder=decoder, tolerances=HALF)
    assert rows_near(case, range(8), case.decode(range(8))) <= 2
