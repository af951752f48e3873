"""The text of a whole stream: finals put together, and replaced where their utterance was read again."""

from collections import deque
from dataclasses import dataclass

from stream_server.core.messages import Final, Transcript, Utterance
from stream_server.core.words import word_gap

CHARS_MAX = 200_000
"""Some four hours of speech. In UTF-8 it stays below 1 MiB, which WebSocket libraries take by default."""
OMITTED = "[…]"
"""The first line of a transcript whose beginning was left out."""


@dataclass(frozen=True, slots=True)
class _Piece:
    first_segment: int
    last_segment: int
    text: str
    language: str | None
    utterance_end: bool


class Stitched:
    """The last ``chars_max`` characters of a stream, by whole finals."""

    def __init__(self, chars_max: int = CHARS_MAX) -> None:
        self._chars_max = chars_max
        self._pieces: deque[_Piece] = deque()
        self._n_chars = 0

    def add(self, final: Final) -> None:
        """The next final has left."""
        self._append(
            _Piece(final.segment, final.segment, final.text.strip(), final.language, final.utterance_end)
        )
        self._trim()

    def revise(self, utterance: Utterance) -> None:
        """Put an utterance in the place of its finals, as far as they are still there."""
        after: list[_Piece] = []
        while self._pieces and self._pieces[-1].last_segment > utterance.last_segment:
            after.append(self._pop())
        replaced: list[_Piece] = []
        while self._pieces and self._pieces[-1].first_segment >= utterance.first_segment:
            replaced.append(self._pop())
        # Where some of its finals have been left out already, its text would be longer than what is shown.
        if replaced and replaced[-1].first_segment == utterance.first_segment:
            first, last = utterance.first_segment, utterance.last_segment
            self._append(
                _Piece(first, last, utterance.text.strip(), utterance.language, replaced[0].utterance_end)
            )
        else:
            after += replaced
        for piece in reversed(after):
            self._append(piece)
        self._trim()

    @property
    def transcript(self) -> Transcript:
        """What there is: a line for each utterance that says anything."""
        first = self._pieces[0].first_segment if self._pieces else 0
        lines = [OMITTED] if first > 0 else []
        line = ""
        for piece in self._pieces:
            line += (word_gap(piece.language) if line and piece.text else "") + piece.text
            if piece.utterance_end:
                lines.append(line)
                line = ""
        lines.append(line)
        return Transcript("\n".join(filter(None, lines)), first)

    def _append(self, piece: _Piece) -> None:
        self._pieces.append(piece)
        self._n_chars += len(piece.text) + 1

    def _pop(self) -> _Piece:
        piece = self._pieces.pop()
        self._n_chars -= len(piece.text) + 1
        return piece

    def _trim(self) -> None:
        while self._n_chars > self._chars_max and len(self._pieces) > 1:
            self._n_chars -= len(self._pieces.popleft().text) + 1
