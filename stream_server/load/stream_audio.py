"""The audio of one client: recordings where the plan has them, faint noise in between."""

from array import array
from collections.abc import Iterator, Sequence
from random import Random

from stream_server.load.plan import SAMPLE_RATE_HZ, Clip, Placed

SAMPLE_BYTES = 2
NOISE_PEAK = 8
"""Of 32,768, as in a quiet room: a server that skips digital silence would seem faster than it is."""


def make_noise() -> bytes:
    """A second of noise, int16 little-endian at 16 kHz; the same each time."""
    random = Random(1)  # noqa: S311  # no secret
    return array("h", [random.randint(-NOISE_PEAK, NOISE_PEAK) for _ in range(SAMPLE_RATE_HZ)]).tobytes()


def stream_chunks(
    clips: Sequence[Clip],
    placed: Sequence[Placed],
    samples: memoryview,
    n_samples: int,
    chunk_samples: int,
) -> Iterator[bytes]:
    """One client's stream in chunks.

    Args:
        clips: All recordings.
        placed: Those of the stream, in order, not overlapping.
        samples: int16 little-endian bytes of all recordings, one after the other.
        n_samples: Length of the stream.
        chunk_samples: Samples in each chunk but the last; at most a second.
    """
    noise = make_noise()
    waiting = list(reversed(placed))
    for start in range(0, n_samples, chunk_samples):
        end = min(start + chunk_samples, n_samples)
        chunk = bytearray(noise[: (end - start) * SAMPLE_BYTES])
        for one in reversed(waiting):
            if one.start_sample >= end:
                break
            _lay(chunk, start, end, clips[one.clip], one.start_sample, samples)
        while waiting and waiting[-1].start_sample + clips[waiting[-1].clip].n_samples <= end:
            waiting.pop()
        yield bytes(chunk)


def _lay(chunk: bytearray, start: int, end: int, clip: Clip, clip_start: int, samples: memoryview) -> None:
    """Copy the part of a recording that falls into [start, end) of the stream."""
    first, last = max(start, clip_start), min(end, clip_start + clip.n_samples)
    if first >= last:
        return
    source = clip.first_sample + first - clip_start
    chunk[(first - start) * SAMPLE_BYTES : (last - start) * SAMPLE_BYTES] = samples[
        source * SAMPLE_BYTES : (source + last - first) * SAMPLE_BYTES
    ]
