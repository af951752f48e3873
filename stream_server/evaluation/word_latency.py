"""How long a word takes to the screen; pure, times as in ``client.latency``.

The latency of a word is the arrival of the first caption, partial or final, that has heard it to its end,
minus that end. It asks when a reader can know what was said, not whether the model understood it.
"""

from collections.abc import Sequence

from stream_server.client.latency import Arrival, Utterance
from stream_server.dialects.schema import FinalEvent, PartialEvent

END_S_MAX = 0.1
"""A caption may end this much before a word does: sounds fade, and where they end is a matter of taste."""


def word_latencies_s(
    words: Sequence[Utterance],
    partials: Sequence[Arrival[PartialEvent]],
    finals: Sequence[Arrival[FinalEvent]],
) -> list[float]:
    """Latency of each word that a caption with text covers, in the order of the words."""
    shown = [(one.at_s, one.event) for one in partials] + [(one.at_s, one.event) for one in finals]
    captions = sorted((at_s, event.start, event.end) for at_s, event in shown if event.text.strip())
    found = (_first(word, captions) for word in words)
    return [at_s - word.end_s for word, at_s in zip(words, found, strict=True) if at_s is not None]


def _first(word: Utterance, captions: Sequence[tuple[float, float, float]]) -> float | None:
    reached = (
        at_s for at_s, start_s, end_s in captions if start_s < word.end_s and word.end_s - END_S_MAX <= end_s
    )
    return next(reached, None)
