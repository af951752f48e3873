"""What was measured on each recording, and the sums over all or over a group; pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from stream_server.client.latency import percentile
from stream_server.evaluation.counts import Counts, pool
from stream_server.evaluation.flicker import Flicker

NO_GROUP = "(none)"
"""Group of recordings that lack the field."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """What only streaming shows."""

    partials_s: tuple[float, ...]
    """Latency of each partial, see ``client.latency``."""
    finals_s: tuple[float, ...]
    """Latency of the final of each utterance whose end the reference tells."""
    flicker: Flicker
    words_s: tuple[float, ...] = ()
    """Latency of each word that was shown and whose end the reference tells, see ``word_latency``."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One recording."""

    file: str
    groups: dict[str, str]
    """Field of the manifest → the recording's value, for each field to group by."""
    reference: str
    hypothesis: str
    counts: Counts
    audio_s: float
    spent_s: float
    """Offline: cutting and decoding. Streamed: from the first sample to ``finished``."""
    streamed: Streamed | None = None
    speech: bool = True
    """Whether anybody speaks."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of some latencies, nearest rank."""

    n: int
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one recording, of a group, or of all."""

    name: str
    n_files: int
    counts: Counts
    audio_s: float
    spent_s: float
    partial: Percentiles | None
    final: Percentiles | None
    flicker: Flicker
    word: Percentiles | None = None
    n_silent: int = 0
    """Recordings in which nobody speaks."""

    @property
    def real_time_factor(self) -> float | None:
        """Seconds spent per second of audio."""
        return self.spent_s / self.audio_s if self.audio_s else None


def percentiles(latencies_s: Sequence[float]) -> Percentiles | None:
    """None when there is nothing to measure."""
    if not latencies_s:
        return None
    p50_s, p95_s, p99_s = (percentile(latencies_s, percent) for percent in (50, 95, 99))
    return Percentiles(len(latencies_s), p50_s, p95_s, p99_s)


def summarise(name: str, measured: Sequence[Measured]) -> Summary:
    """Pool recordings: each word, each second and each latency weighs the same."""
    streamed = [one.streamed for one in measured if one.streamed is not None]
    return Summary(
        name=name,
        n_files=len(measured),
        counts=pool(one.counts for one in measured),
        audio_s=sum(one.audio_s for one in measured),
        spent_s=sum(one.spent_s for one in measured),
        partial=percentiles([latency for one in streamed for latency in one.partials_s]),
        final=percentiles([latency for one in streamed for latency in one.finals_s]),
        flicker=sum((one.flicker for one in streamed), Flicker()),
        word=percentiles([latency for one in streamed for latency in one.words_s]),
        n_silent=sum(not one.speech for one in measured),
    )


def per_file(measured: Sequence[Measured]) -> list[Summary]:
    """The figures of each recording."""
    return [summarise(one.file, [one]) for one in measured]


def per_group(measured: Sequence[Measured], field: str) -> list[Summary]:
    """The figures of each group by a field, sorted by name."""
    groups: dict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        groups[one.groups[field]].append(one)
    return [summarise(name, groups[name]) for name in sorted(groups)]
