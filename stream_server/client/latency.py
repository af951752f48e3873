"""How late captions come: pure arithmetic on arrivals.

All times are seconds since the first sample of the audio was spoken (or sent, see ``Pace``), so an
arrival minus a position in the audio is a delay.

- **Final latency** of an utterance: arrival of the last final that covers it, minus its end in the
  reference. A final that reaches over several utterances counts for the last of them: the others
  did not end where it ended.
- **Partial latency**: arrival minus the partial's ``end``, which is how old the newest audio in the
  text is when it is shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from stream_server.dialects.schema import FinalEvent, PartialEvent

OVERLAP_S_MIN = 0.1
"""A final covers an utterance if they share this much (or half of the shorter of the two): the
silence kept around segments may reach a little into a neighbour."""

E = TypeVar("E", FinalEvent, PartialEvent)


@dataclass(frozen=True, slots=True)
class Utterance:
    """What was said, and when; the reference."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Arrival(Generic[E]):
    """An event and when it came."""

    event: E
    at_s: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of some delays."""

    n: int
    p50_s: float
    p95_s: float


def covers(final: FinalEvent, utterance: Utterance) -> bool:
    """Whether the final contains speech of the utterance, judged by time alone."""
    shared_s = min(final.end, utterance.end_s) - max(final.start, utterance.start_s)
    shorter_s = min(final.end - final.start, utterance.end_s - utterance.start_s)
    return shared_s > 0 and shared_s >= min(OVERLAP_S_MIN, shorter_s / 2)


def match_finals(
    utterances: Sequence[Utterance], finals: Sequence[Arrival[FinalEvent]]
) -> list[list[Arrival[FinalEvent]]]:
    """For each utterance the finals that cover it, in the order of arrival; maybe none."""
    return [[final for final in finals if covers(final.event, said)] for said in utterances]


def without_final(utterances: Sequence[Utterance], finals: Sequence[Arrival[FinalEvent]]) -> list[Utterance]:
    """The utterances that no final with text covers."""
    worded = [final for final in finals if final.event.text.strip()]
    matched = match_finals(utterances, worded)
    return [said for said, found in zip(utterances, matched, strict=True) if not found]


def closing_finals(
    utterances: Sequence[Utterance], finals: Sequence[Arrival[FinalEvent]]
) -> list[tuple[Utterance, Arrival[FinalEvent]]]:
    """Each utterance that has a final, in their order, with the last one, to which its latency lasts."""
    closing: dict[int, tuple[Utterance, Arrival[FinalEvent]]] = {}
    for said, found in zip(utterances, match_finals(utterances, finals), strict=True):
        if found:
            last = max(found, key=lambda final: final.at_s)
            closing[id(last)] = (said, last)
    return list(closing.values())


def final_latencies_s(utterances: Sequence[Utterance], finals: Sequence[Arrival[FinalEvent]]) -> list[float]:
    """Final latency of each utterance that has one, in the order of the utterances."""
    return [last.at_s - said.end_s for said, last in closing_finals(utterances, finals)]


def partial_latencies_s(partials: Sequence[Arrival[PartialEvent]]) -> list[float]:
    """Partial latency of each partial."""
    return [partial.at_s - partial.event.end for partial in partials]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of all values do not exceed (nearest rank).

    Nearest rank gives a delay that did happen, also for few values; nothing is interpolated.

    Args:
        values: At least one.
        percent: Above 0, at most 100.

    Raises:
        ValueError: No values, or a percentage out of range.
    """
    if not values or not 0 < percent <= 100:
        raise ValueError("a percentile needs values, and a percentage above 0 and at most 100")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def spread(delays_s: Sequence[float]) -> Spread | None:
    """Median and 95th percentile; None when there is nothing to measure."""
    if not delays_s:
        return None
    return Spread(len(delays_s), percentile(delays_s, 50), percentile(delays_s, 95))
