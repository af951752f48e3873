"""Captions for what can only append: a terminal line, a file, a speech synthesiser, another protocol.

What is stable is given out at once, the rest of a segment with its final. A final may disagree with what
was stable in partials; what was given out stays then, and the text goes on from the same place. So it does
where an utterance was read once more.
"""

from difflib import SequenceMatcher

from stream_server.client.stream import Event
from stream_server.core.words import TOKEN
from stream_server.dialects.room_schema import RoomFinalEvent, RoomPartialEvent
from stream_server.dialects.schema import FinalEvent, PartialEvent


class AppendOnly:
    """Turns the captions of one stream, or of one source of a room, into text that is never taken back.

    Args:
        separator: Put between segments; ``""`` suits languages written without spaces.
    """

    def __init__(self, separator: str = " ") -> None:
        self._separator = separator
        self._segment = -1
        self._given = ""
        self._is_empty = True

    def take(self, event: Event | RoomPartialEvent | RoomFinalEvent) -> str:
        """The text to append after the next event, in the order in which they came; often ``""``."""
        match event:
            case PartialEvent() | RoomPartialEvent():
                return self._grow(event.segment, event.text[: event.stable])
            case FinalEvent() | RoomFinalEvent():
                return self._grow(event.segment, event.text)
            case _:
                return ""

    def _grow(self, segment: int, text: str) -> str:
        if segment != self._segment:
            self._segment = segment
            self._given = ""
        growth = _growth(self._given, text)
        if not growth:
            return ""
        separator = "" if self._given or self._is_empty else self._separator
        self._given += growth
        self._is_empty = False
        return separator + growth


def _growth(given: str, text: str) -> str:
    """What ``text`` says after the place that ``given`` has reached."""
    if text.startswith(given):
        return text[len(given) :]
    said, wanted = TOKEN.findall(given), list(TOKEN.finditer(text))
    words = [match.group().casefold() for match in wanted]
    matcher = SequenceMatcher(None, [word.casefold() for word in said], words, autojunk=False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size]
    last = blocks[-1] if blocks else None
    n_reached, n_matched = (last.b + last.size, last.a + last.size) if last else (0, 0)
    # Words that the text does not have stand for as many that it has.
    n_reached += len(said) - n_matched
    return text[wanted[n_reached - 1].end() :] if 0 < n_reached < len(wanted) else ""
