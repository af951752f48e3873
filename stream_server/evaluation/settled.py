"""Since when the words of a final were shown; pure.

Settled latency of an utterance: as final latency, but from the moment since which every text shown has had
the final's words in their place. A server that tells late that a text is final, which has long been right,
settles early; one that shows nothing before its finals settles with them.
"""

from collections.abc import Sequence

from stream_server.client.latency import Arrival
from stream_server.dialects.schema import FinalEvent, PartialEvent
from stream_server.evaluation.word_latency import plain_word


def settled_finals(
    partials: Sequence[Arrival[PartialEvent]], finals: Sequence[Arrival[FinalEvent]]
) -> list[Arrival[FinalEvent]]:
    """The finals, each at the moment since which its words were shown: its own arrival at latest.

    Args:
        partials: In the order of arrival. Each shows the text from its segment on, which may go on behind
            that segment's final: a server that commits word by word makes each piece a segment.
        finals: In the order of their segments.
    """
    words = {final.event.segment: _plain_words(final.event.text) for final in finals}
    shown = [(partial, _plain_words(partial.event.text)) for partial in partials]
    settled = []
    for final in finals:
        number, at_s = final.event.segment, final.at_s
        for partial, texts in reversed(shown):
            if partial.at_s > final.at_s or partial.event.segment > number:
                continue
            first = sum(len(words.get(i, ())) for i in range(partial.event.segment, number))
            if texts[first : first + len(words[number])] != words[number]:
                break
            at_s = partial.at_s
        settled.append(Arrival(final.event, at_s))
    return settled


def _plain_words(text: str) -> list[str]:
    return [word for word in map(plain_word, text.split()) if word]
