"""The engine on a CUDA device says what ``whisper.decode`` says there.

Tolerances are those of ``parity.DEVICE`` and ``parity.HALF``: the same products are added up in other orders
for other shapes. Rows that leave whisper's tokens may do so only where its two best lie nearer than that.
"""

import dataclasses
from collections.abc import Iterator
from importlib import resources

import models
import pytest
import soundfile
import torch
from models import decode_job
from parity import DEVICE, HALF, MIXED, RICH, make_case, rows_near, sounds
from whisper.model import Whisper

from stream_server.core.jobs import Batch
from stream_server.core.messages import BeamSearch
from stream_server.engine.accelerator import LAG_STEPS, LateFlags, Recording, lower_precision, upload
from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.manifest import embedded_model
from stream_server.engine.rows import DecodeOptions
from stream_server.engine.transcriber import WhisperTranscriber

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.model,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

CUDA = torch.device("cuda")
OPTIONS = [*MIXED, *RICH]
ROWS_NEAR_MAX = 2


@pytest.fixture(scope="module", autouse=True)
def whole_products() -> Iterator[None]:
    """TensorFloat-32 has ten bits, which would hide what is compared."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def model() -> Whisper:
    return models.random_whisper(models.tiny(n_layer=2), seed=3).to(CUDA)


@pytest.mark.parametrize("chooses_on_device", [True, False], ids=["device", "host"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_rows_of_all_kinds_say_what_whisper_says(
    model: Whisper, dtype: torch.dtype, chooses_on_device: bool
) -> None:
    case = make_case(model, sounds(16, 24_000).to(CUDA, dtype), OPTIONS)
    if dtype != torch.float32:
        lower_precision(model, dtype)
    decoder = BatchDecoder(model, None, chooses_on_device=chooses_on_device)
    tolerances = DEVICE if dtype == torch.float32 else HALF
    case = dataclasses.replace(case, decoder=decoder, tolerances=tolerances)
    # Twice: the second time, steps are replayed that were recorded in the first.
    for rows in (range(16), range(16), range(3), [15, 0, 7, 7, 3]):
        assert rows_near(case, rows, case.decode(rows)) <= ROWS_NEAR_MAX


def test_beam_search_says_what_whisper_says(model: Whisper) -> None:
    options = [dataclasses.replace(row, beam=BeamSearch(5)) for row in MIXED]
    case = make_case(model, sounds(8, 24_000).to(CUDA), options)
    case = dataclasses.replace(case, tolerances=DEVICE)
    assert rows_near(case, range(8), case.decode(range(8))) <= ROWS_NEAR_MAX


def test_sampling_is_repeatable(model: Whisper) -> None:
    decoder = BatchDecoder(model, None)
    options = [DecodeOptions("en", "transcribe", 12, temperature=0.4, seed=i) for i in range(5)]
    mels = sounds(5, 24_000).to(CUDA)
    first = [row.tokens for row in decoder.decode(mels, options)]
    assert first == [row.tokens for row in decoder.decode(mels, options)]
    assert len(set(first)) == 5


def test_a_recording_advances_its_state_by_one_step_a_call() -> None:
    counter = torch.zeros(1, device=CUDA)
    recording = Recording(lambda: counter.add_(1), [counter], CUDA)
    assert counter.item() == 0
    for n_steps in range(1, 4):
        recording()
        assert counter.item() == n_steps


def test_flags_come_late_and_in_order() -> None:
    flags = LateFlags(2, CUDA)
    seen = [
        flags.after_step(torch.tensor([step % 2 == 0, True], device=CUDA)) for step in range(LAG_STEPS + 3)
    ]
    assert seen[:LAG_STEPS] == [None] * LAG_STEPS
    assert seen[LAG_STEPS:] == [[True, True], [False, True], [True, True]]


def test_samples_arrive_as_they_are_on_a_cpu() -> None:
    windows = [b"\x01\x80" * 300, b"\xff\x7f" * 20, b""]
    assert torch.equal(upload(windows, 256, CUDA).cpu(), upload(windows, 256, torch.device("cpu")))


def test_the_embedded_model_reads_on_a_gpu_what_it_reads_on_a_cpu() -> None:
    folder = resources.files("stream_server") / "assets" / "recordings"
    jobs = tuple(
        decode_job(soundfile.read(str(folder / f"{n:02}.flac"), dtype="int16")[0].tobytes(), segment=n)
        for n in range(1, 7)
    )
    texts = {
        device: [one.text for one in WhisperTranscriber(embedded_model(), device).transcribe(Batch(jobs))]
        for device in ("cpu", "cuda")
    }
    assert texts["cuda"] == texts["cpu"]
    assert all(texts["cpu"])
