"""Captions for what can only append: a terminal line, a file, a speech synthesiser, another protocol.

What is stable is given out at once, the rest of a segment with its final. A final may disagree with what
was stable in partials; what was given out stays then, and the text goes on from the same place. So it does
where an utterance was read once more. Words behind the end of a final, where running speech was cut, are what
the next segment begins with.
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
        self._ahead = ""
        """Of the segment to come."""
        self._is_empty = True

    def take(self, event: Event | RoomPartialEvent | RoomFinalEvent) -> str:
        """The text to append after the next event, in the order in which they came; often ``""``."""
        match event:
            case PartialEvent() | RoomPartialEvent():
                return self._grow(event.segment, event.text[: event.stable])
            case FinalEvent() | RoomFinalEvent():
                growth = self._grow(event.segment, event.text)
                self._ahead = "" if event.utterance_end else _behind(self._given, event.text)
                return growth
            case _:
                return ""

    def _grow(self, segment: int, text: str) -> str:
        if segment != self._segment:
            self._segment = segment
            self._given, self._ahead = self._ahead, ""
        growth = _growth(self._given, text)
        if not growth:
            return ""
        separator = "" if self._given or self._is_empty else self._separator
        self._given += growth
        self._is_empty = False
        return separator + growth


def _behind(given: str, text: str) -> str:
    """What was given out behind the end of ``text``, if it begins with that."""
    said = [match for match in TOKEN.finditer(given) if match.group()[0].isalnum()]
    words = [word.casefold() for word in TOKEN.findall(text) if word[0].isalnum()]
    n_words = len(words)
    if [match.group().casefold() for match in said[:n_words]] != words or n_words == len(said):
        return ""
    return given[said[n_words].start() :]


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
