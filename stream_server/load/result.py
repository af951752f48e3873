"""The figures of one run; pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stream_server.client.latency import percentile
from stream_server.dialects.schema import TraceObject
from stream_server.evaluation.counts import count_errors, pool
from stream_server.evaluation.flicker import Flicker
from stream_server.evaluation.result import Percentiles, percentiles
from stream_server.load.messages import ClientResult
from stream_server.load.usage import Usage

FINAL_P95_S_MAX = 1.0
"""A server carries so many sessions when 95 of 100 finals come this soon after the end of speech."""
CLIENT_LAG_S_MAX = 0.05
"""A client later than this, at p99, adds so much to the latencies that it shows."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run measured."""

    sessions: int
    """How many clients were started."""
    measured_s: float
    """How long all of them were live."""
    is_interrupted: bool
    finished: int
    refused: dict[str, int]
    """How many clients were not let in, by the server's code."""
    refusals: dict[str, str]
    """What one of them was told, by the same code."""
    failed: dict[str, int]
    """How many streams ended by an error, by its code."""
    final: Percentiles | None
    """End of speech in the audio to its last final."""
    settled: Percentiles | None
    """End of speech to the moment since which the words of its finals were shown."""
    partial: Percentiles | None
    """End of a word to where it is first shown; without word times the age of a partial's newest audio."""
    partial_is_by_word: bool
    hangover: Percentiles | None
    """From the end of speech in the audio until the server had read the last frame that its detector heard as
    speech: the detector's hangover, and the client's chunk. With the hops it makes up the final latency."""
    hops: dict[str, Percentiles]
    """Where the time of finals went: the names of ``TraceObject``; empty when the server did not tell."""
    flicker: float | None
    wer: float | None
    utterances: int
    uncaptioned: int
    lost: int
    doubled: int
    server: Usage | None
    """None when its process is not known."""
    client: Usage | None
    client_lag_p99_s: float | None

    @property
    def is_carried(self) -> bool:
        """Whether the server carried so many sessions: nobody turned away, nothing lost, finals in time."""
        whole = not (self.refused or self.failed or self.lost or self.doubled or self.is_interrupted)
        return whole and self.final is not None and self.final.p95_s <= FINAL_P95_S_MAX

    @property
    def is_client_slow(self) -> bool:
        """Whether the clients, not the server, may have been what was measured."""
        return self.client_lag_p99_s is not None and self.client_lag_p99_s > CLIENT_LAG_S_MAX


def summarise_run(
    results: Sequence[ClientResult],
    *,
    sessions: int,
    measured_s: float,
    is_interrupted: bool,
    server: Usage | None,
    client: Usage | None,
    loop_lags_s: Sequence[float],
    normalise: Callable[[str], str],
) -> RunResult:
    """Pool what all clients saw: every word and every latency weighs the same.

    Args:
        results: Of the clients that ran.
        sessions: How many clients were started.
        measured_s: How long all of them were live.
        is_interrupted: Whether the run was stopped before its end.
        server: What the server's processes used.
        client: What the clients' processes used.
        loop_lags_s: How late the clients' own loops were.
        normalise: Of text, before words are compared.
    """
    by_word = [latency for one in results for latency in one.word_latencies_s]
    by_age = [latency for one in results for latency in one.ages_s]
    changed, words = sum(one.words_changed for one in results), sum(one.words_final for one in results)
    return RunResult(
        sessions=sessions,
        measured_s=measured_s,
        is_interrupted=is_interrupted,
        finished=sum(one.refused is None and one.failed is None and one.sent_s > 0 for one in results),
        refused=dict(Counter(one.refused for one in results if one.refused)),
        refusals={one.refused: one.refusal for one in results if one.refused},
        failed=dict(Counter(one.failed for one in results if one.failed)),
        final=percentiles([latency for one in results for latency in one.final_latencies_s]),
        settled=percentiles([latency for one in results for latency in one.settled_latencies_s]),
        partial=percentiles(by_word or by_age),
        partial_is_by_word=bool(by_word),
        hangover=percentiles([one_s for one in results for one_s in one.hangovers_s]),
        hops=_by_hop([trace for one in results for trace in one.hops]),
        flicker=Flicker(changed, words).rate,
        wer=_error_rate(results, normalise),
        utterances=sum(one.utterances for one in results),
        uncaptioned=sum(one.uncaptioned for one in results),
        lost=sum(one.lost for one in results),
        doubled=sum(one.doubled for one in results),
        server=server,
        client=client,
        client_lag_p99_s=percentile(loop_lags_s, 99) if loop_lags_s else None,
    )


def _by_hop(traces: Sequence[TraceObject]) -> dict[str, Percentiles]:
    found = {
        name: percentiles([getattr(trace, name) for trace in traces])
        for name in TraceObject.__struct_fields__
    }
    return {name: spread for name, spread in found.items() if spread is not None}


def _error_rate(results: Sequence[ClientResult], normalise: Callable[[str], str]) -> float | None:
    """Of the streams that were not ended by an error, whose text is whole."""
    pairs = [(normalise(one.reference), normalise(one.hypothesis)) for one in results if one.failed is None]
    return pool(count_errors(wanted, found) for wanted, found in pairs if wanted.strip()).wer
