"""When memory runs out: which errors say so, how the limit moves, and that no text depends on it."""

import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import decode_job

from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.messages import BeamSearch
from stream_server.engine.fake import FakeTranscriber, numbered_speech
from stream_server.engine.memory import (
    RISE_AFTER,
    BatchLimit,
    OutOfMemory,
    ThriftyTranscriber,
    is_accelerator_error,
    is_out_of_memory,
)


def cpu_allocator_error() -> RuntimeError:
    """What torch says of more memory than there is."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    ("error", "memory", "accelerator"),
    [
        (MemoryError(), True, False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True, False),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, True),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), False, True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False, True),
        (torch.AcceleratorError("CUDA error: out of memory"), True, True),
        (RuntimeError("shape mismatch"), False, False),
        (ValueError("out of memory"), False, False),
    ],
)
def test_errors_are_told_apart(error: Exception, memory: bool, accelerator: bool) -> None:
    assert (is_out_of_memory(error), is_accelerator_error(error)) == (memory, accelerator)


def test_torch_really_says_so_on_a_cpu() -> None:
    assert is_out_of_memory(cpu_allocator_error())


def test_the_limit_falls_by_half_and_rises_by_one_after_full_batches_only() -> None:
    limit = BatchLimit(8)
    limit.exceeded(8)
    assert limit.now == 4
    for _ in range(10 * RISE_AFTER):
        limit.fits(3)
    assert limit.now == 4
    for _ in range(RISE_AFTER - 1):
        limit.fits(4)
    assert limit.now == 4
    limit.fits(4)
    assert limit.now == 5
    for _ in range(10 * RISE_AFTER):
        limit.fits(limit.now)
    assert limit.now == 8


@given(st.lists(st.integers(1, 8)), st.integers(1, 8))
def test_the_limit_stays_between_one_and_its_ceiling(sizes: list[int], ceiling: int) -> None:
    limit = BatchLimit(ceiling)
    for i, size in enumerate(sizes):
        (limit.exceeded if i % 3 else limit.fits)(min(size, limit.now))
        assert 1 <= limit.now <= ceiling


class Cramped(FakeTranscriber):
    """Has room for some jobs at once."""

    def __init__(self, *room: int) -> None:
        super().__init__()
        self.room = list(room)
        self.sizes: list[int] = []

    def transcribe(self, batch: Batch) -> list[DecodeResult]:
        self.sizes.append(len(batch.jobs))
        room = self.room.pop(0) if len(self.room) > 1 else self.room[0]
        if len(batch.jobs) > room:
            raise MemoryError
        return super().transcribe(batch)


def jobs(n_jobs: int) -> tuple[DecodeJob, ...]:
    return tuple(decode_job(numbered_speech([n]).tobytes(), segment=n) for n in range(n_jobs))


def texts(results: Sequence[DecodeResult]) -> list[str]:
    return [result.text for result in results]


@given(st.integers(1, 20), st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_every_job_is_answered_once_in_order_whatever_fits(n_jobs: int, room: list[int]) -> None:
    thrifty = ThriftyTranscriber(Cramped(*room), 20, lambda: None)
    assert texts(thrifty.transcribe(Batch(jobs(n_jobs)))) == [str(n) for n in range(n_jobs)]


def test_the_batch_is_halved_until_it_fits_and_the_next_is_no_larger() -> None:
    cramped = Cramped(3)
    thrifty = ThriftyTranscriber(cramped, 8, lambda: None)
    thrifty.transcribe(Batch(jobs(8)))
    thrifty.transcribe(Batch(jobs(8)))
    assert cramped.sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert (thrifty.limit.now, thrifty.n_out_of_memory) == (2, 2)


def test_what_is_halved_are_rows_and_a_beam_search_takes_several() -> None:
    rows: list[int] = []

    class Narrow(FakeTranscriber):
        def transcribe(self, batch: Batch) -> list[DecodeResult]:
            rows.append(batch.n_rows)
            if batch.n_rows > 6:
                raise MemoryError
            return super().transcribe(batch)

    searching = tuple(replace(job, beam=BeamSearch(5)) for job in jobs(2))
    thrifty = ThriftyTranscriber(Narrow(), 10, lambda: None)
    assert texts(thrifty.transcribe(Batch((*searching, *jobs(3)[2:])))) == ["0", "1", "2"]
    assert rows == [10, 5, 5, 1]
    assert thrifty.limit.now == 5


def test_memory_is_given_back_when_nothing_holds_it_any_more() -> None:
    class Tensors:
        """What a pass leaves in its frames."""

    held: list[weakref.ref[Tensors]] = []

    class Full(FakeTranscriber):
        def transcribe(self, batch: Batch) -> list[DecodeResult]:
            if len(batch.jobs) > 1:
                tensors = Tensors()
                held.append(weakref.ref(tensors))
                raise MemoryError
            return super().transcribe(batch)

    seen: list[tuple[object, object]] = []
    thrifty = ThriftyTranscriber(Full(), 2, lambda: seen.append((held[-1](), sys.exc_info()[1])))
    thrifty.transcribe(Batch(jobs(2)))
    assert seen == [(None, None)]


def test_one_window_gets_a_second_chance_and_no_third() -> None:
    assert texts(ThriftyTranscriber(Cramped(0, 1), 4, lambda: None).transcribe(Batch(jobs(2)))) == ["0", "1"]
    with pytest.raises(OutOfMemory, match="512 samples"):
        ThriftyTranscriber(Cramped(0), 4, lambda: None).transcribe(Batch(jobs(1)))


def test_other_errors_go_through() -> None:
    class Broken(FakeTranscriber):
        def transcribe(self, batch: Batch) -> list[DecodeResult]:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        ThriftyTranscriber(Broken(), 4, lambda: None).transcribe(Batch(jobs(1)))
