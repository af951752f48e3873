"""Who sends what, and when; pure.

Every client sends the recordings in an order of its own, with pauses between them, and begins at another
moment, so that clients do not speak in step. Recordings begin at whole frames (512 samples) of the
stream. A client sends until the time of the measurement is over, and then to the end of what is being
said, so that what was said can be compared with what was understood.
"""

from collections.abc import Iterator, Sequence
from random import Random

import msgspec

from stream_server.client.latency import Utterance
from stream_server.evaluation.word_latency import SpokenWord

SAMPLE_RATE_HZ = 16_000
FRAME_S = 512 / SAMPLE_RATE_HZ
LEAD_S_MAX = 2.0
"""Of silence before a client's first recording."""
OVERTIME_S_MAX = 10.0
"""An utterance that would last longer beyond the end of the measurement is cut off and not compared."""
TAIL_S = 0.7
"""Sent after the last utterance: longer than the silence that ends one."""


class Clip(msgspec.Struct, frozen=True):
    """A recording: where its samples lie in the file of all samples, and what is said in it."""

    first_sample: int
    n_samples: int
    said: tuple[Utterance, ...]
    """Everything that is said; one utterance as long as the recording where the reference has no times."""
    is_timed: bool
    """Whether the ends of utterances are known."""
    words: tuple[SpokenWord, ...]

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.n_samples / SAMPLE_RATE_HZ


class Placed(msgspec.Struct, frozen=True):
    """A clip in a client's stream."""

    clip: int
    start_sample: int


class ClientPlan(msgspec.Struct, frozen=True):
    """What one client does."""

    number: int
    connect_s: float
    """Seconds after the beginning of the run."""
    placed: tuple[Placed, ...]
    n_samples: int
    """Length of its stream."""


class Script(msgspec.Struct, frozen=True):
    """What is said in one client's stream, in its own time."""

    said: tuple[Utterance, ...]
    timed: tuple[Utterance, ...]
    """Those whose end is known."""
    words: tuple[SpokenWord, ...]


def make_plans(
    clips: Sequence[Clip], n_clients: int, *, ramp_s: float, measure_s: float, gap_s: float, seed: int
) -> tuple[ClientPlan, ...]:
    """Plan a run.

    Args:
        clips: At least one.
        n_clients: How many clients.
        ramp_s: They connect one after the other, evenly over this time.
        measure_s: After the ramp, all of them are live for this time.
        gap_s: Pause between recordings.
        seed: The same seed gives the same plan.
    """
    plans = []
    for number in range(n_clients):
        connect_s = ramp_s * number / n_clients
        placed = tuple(
            _place(clips, ramp_s + measure_s - connect_s, gap_s, Random(f"{seed}-{number}"))  # noqa: S311  no secret
        )
        n_samples = _stream_samples(clips, placed, ramp_s + measure_s - connect_s)
        plans.append(ClientPlan(number, connect_s, placed, n_samples))
    return tuple(plans)


def _place(clips: Sequence[Clip], length_s: float, gap_s: float, random: Random) -> Iterator[Placed]:
    """Recordings until the stream is full; each comes once before any comes again."""
    at_s = random.uniform(0, min(LEAD_S_MAX, length_s / 2))
    while True:
        order = list(range(len(clips)))
        random.shuffle(order)
        for clip in order:
            if at_s >= length_s:
                return
            start_sample = round(at_s / FRAME_S) * 512
            yield Placed(clip, start_sample)
            at_s = start_sample / SAMPLE_RATE_HZ + clips[clip].duration_s + gap_s


def _stream_samples(clips: Sequence[Clip], placed: Sequence[Placed], length_s: float) -> int:
    """To the end of what is being said at ``length_s``, if that comes soon."""
    end_s = length_s
    for said in script_of(clips, placed).said:
        if said.start_s < length_s < said.end_s <= length_s + OVERTIME_S_MAX:
            end_s = said.end_s + TAIL_S
    return round(end_s * SAMPLE_RATE_HZ)


def script_of(clips: Sequence[Clip], placed: Sequence[Placed]) -> Script:
    """What a stream of these recordings says."""
    said: list[Utterance] = []
    timed: list[Utterance] = []
    words: list[SpokenWord] = []
    for one in placed:
        clip, by_s = clips[one.clip], one.start_sample / SAMPLE_RATE_HZ
        moved = [Utterance(it.start_s + by_s, it.end_s + by_s, it.text) for it in clip.said]
        said += moved
        timed += moved if clip.is_timed else []
        words += [SpokenWord(it.text, it.start_s + by_s, it.end_s + by_s) for it in clip.words]
    return Script(tuple(said), tuple(timed), tuple(words))


def share_out(plans: Sequence[ClientPlan], n_workers: int) -> list[tuple[ClientPlan, ...]]:
    """Clients for each worker process, dealt out like cards, so that each has early and late ones."""
    return [tuple(plans[i::n_workers]) for i in range(n_workers)]
