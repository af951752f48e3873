"""What one client saw, as figures; pure."""

from collections.abc import Sequence

import msgspec

from stream_server.client.latency import (
    Arrival,
    Utterance,
    closing_finals,
    final_latencies_s,
    partial_latencies_s,
    without_final,
)
from stream_server.dialects.schema import FinalEvent, TraceObject
from stream_server.evaluation.flicker import measure_flicker, shown_texts
from stream_server.evaluation.heard import Heard
from stream_server.evaluation.settled import settled_finals
from stream_server.evaluation.word_latency import word_latencies_s
from stream_server.load.messages import ClientResult
from stream_server.load.plan import Script

OVERLAP_S = 0.001
"""Times on the wire are rounded to a millisecond."""


def score_client(
    number: int,
    script: Script,
    heard: Heard,
    *,
    sent_s: float,
    counted_s: tuple[float, float],
    failed: str | None,
) -> ClientResult:
    """Compare what was said with what came back; times are those of the client's stream.

    Args:
        number: Of the client.
        script: What its whole stream says.
        heard: What came back.
        sent_s: How much of the stream was sent: what lies behind it was never said.
        counted_s: Latencies of what ends between these two times count.
        failed: The code of the error that ended the stream, None after ``finished``.
    """
    timed = [said for said in script.timed if said.end_s <= sent_s]
    words = [word for word in script.words if word.end_s <= sent_s]
    first_s, last_s = counted_s
    counted = [one for one in timed if first_s <= one.end_s < last_s]
    said, hypothesis = _comparable(script.said, heard.finals, sent_s)
    flicker = measure_flicker(
        shown_texts([one.event for one in heard.partials], [one.event for one in heard.finals])
    )
    shown = word_latencies_s(words, [*heard.partials, *heard.finals])
    return ClientResult(
        number=number,
        failed=failed,
        sent_s=sent_s,
        final_latencies_s=tuple(final_latencies_s(counted, heard.finals)),
        settled_latencies_s=tuple(final_latencies_s(counted, settled_finals(heard.partials, heard.finals))),
        word_latencies_s=tuple(
            latency
            for word, latency in zip(words, shown, strict=True)
            if latency is not None and first_s <= word.end_s < last_s
        ),
        ages_s=tuple(
            partial_latencies_s([one for one in heard.partials if first_s <= one.event.end < last_s])
        ),
        hangovers_s=tuple(
            last.at_s - said_one.end_s - sum(msgspec.structs.astuple(last.event.trace))
            for said_one, last in closing_finals(counted, heard.finals)
            if isinstance(last.event.trace, TraceObject)
        ),
        hops=tuple(
            one.event.trace
            for one in heard.finals
            if first_s <= one.event.end < last_s and isinstance(one.event.trace, TraceObject)
        ),
        words_changed=flicker.changed,
        words_final=flicker.final_words,
        reference=" ".join(one.text for one in said),
        hypothesis=hypothesis,
        utterances=len(timed),
        uncaptioned=len(without_final(timed, heard.finals)),
        lost=0
        if heard.n_segments is None
        else heard.n_segments - len({f.event.segment for f in heard.finals}),
        doubled=_doubled(heard.finals),
    )


def _comparable(
    said: Sequence[Utterance], finals: Sequence[Arrival[FinalEvent]], sent_s: float
) -> tuple[list[Utterance], str]:
    """The utterances sent whole, and the text of the finals before the first that was not."""
    whole = [one for one in said if one.end_s <= sent_s]
    border_s = min((one.start_s for one in said if one.end_s > sent_s), default=float("inf"))
    texts = [f.event.text.strip() for f in finals if (f.event.start + f.event.end) / 2 < border_s]
    return whole, " ".join(texts)


def _doubled(finals: Sequence[Arrival[FinalEvent]]) -> int:
    n_doubled, end_s, seen = 0, 0.0, set[int]()
    for one in finals:
        event = one.event
        n_doubled += event.segment in seen or event.start < end_s - OVERLAP_S
        seen.add(event.segment)
        end_s = max(end_s, event.end)
    return n_doubled
