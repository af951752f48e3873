"""What second looks change: finals of a stream or a room, beside the utterances that replace their texts."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from stream_server.core.words import word_gap
from stream_server.dialects.room_schema import RoomFinalEvent, RoomUtteranceEvent
from stream_server.dialects.schema import FinalEvent, UtteranceEvent

SEGMENTS_MAX = 256
"""Finals remembered: utterances come within seconds of theirs."""

_Final = FinalEvent | RoomFinalEvent
_Utterance = UtteranceEvent | RoomUtteranceEvent
E = TypeVar("E")


class Revisions:
    """Remembers the finals of a stream or a room for as long as an utterance may replace them."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[str, int], str] = OrderedDict()

    def note(self, final: _Final) -> None:
        """A final has come."""
        self._texts[_source_of(final), final.segment] = final.text.strip()
        if len(self._texts) > SEGMENTS_MAX:
            self._texts.popitem(last=False)

    def changes(self, utterance: _Utterance) -> bool:
        """Whether an utterance says anything else than its finals did."""
        source = _source_of(utterance)
        segments = range(utterance.first_segment, utterance.last_segment + 1)
        texts = [self._texts.get((source, segment), "") for segment in segments]
        return word_gap(utterance.language).join(filter(None, texts)) != utterance.text.strip()


def revised(events: Iterable[E]) -> list[E]:
    """Events of the past as one who comes late wants them: each utterance once, with its better text.

    The first final of an utterance gets the utterance's text and end, its other finals and the event itself
    are left out.
    """
    told: list[E] = []
    for event in events:
        if isinstance(event, UtteranceEvent | RoomUtteranceEvent):
            replaced = [i for i, one in enumerate(told) if _is_of(one, event)]
            for i in replaced[:0:-1]:
                del told[i]
            if replaced:
                final = told[replaced[0]]
                told[replaced[0]] = msgspec.structs.replace(final, text=event.text, end=event.end)  # type: ignore[type-var]  # a final, see _is_of
        else:
            told.append(event)
    return told


def _is_of(event: object, utterance: _Utterance) -> bool:
    return (
        isinstance(event, FinalEvent | RoomFinalEvent)
        and _source_of(event) == _source_of(utterance)
        and utterance.first_segment <= event.segment <= utterance.last_segment
    )


def _source_of(event: _Final | _Utterance) -> str:
    return event.source if isinstance(event, RoomFinalEvent | RoomUtteranceEvent) else ""
