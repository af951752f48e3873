"""What is asked and shown of one session's open segment.

Rules:

1. A partial is asked for whenever the segment has grown by ``partial_frames``.
2. Each carries the tokens of the hypothesis before it as a draft, which spares the engine work.
3. Unless the client wants tentative words, only what is stable is shown, and nothing until that has grown.
4. A hypothesis that the guard took away shows nothing: what is shown stays until the next.
"""

from stream_server.core.captions import SegmentCaption
from stream_server.core.jobs import DecodeResult
from stream_server.core.messages import Start
from stream_server.core.settings import SessionSettings


class Partials:
    """The partials of the open segment.

    Args:
        start: What the client asked for.
        settings: Of the server.
    """

    def __init__(self, start: Start, settings: SessionSettings) -> None:
        self._start = start
        self._settings = settings
        self._asked_frame = 0
        self.begin_segment()

    def begin_segment(self) -> None:
        """Another segment is open, or none yet."""
        self._caption = SegmentCaption(self._settings.held_words)
        self._n_shown = 0
        self.draft: tuple[int, ...] = ()
        """Tokens of the last hypothesis."""

    @property
    def revision(self) -> int:
        """Of the last partial; 0 before the first."""
        return self._caption.revision

    def are_due(self, start_frame: int, end_frame: int) -> bool:
        """Whether the open segment, these frames, has grown enough for another one."""
        grown = end_frame - max(self._asked_frame, start_frame)
        return self._start.partials and grown >= self._settings.partial_frames

    def note_asked(self, end_frame: int) -> None:
        """One was asked for that reaches so far."""
        self._asked_frame = end_frame

    def take(self, result: DecodeResult) -> tuple[str, int] | None:
        """Take the next hypothesis.

        Returns:
            The text to show and how many of its leading code points are stable; None if that is nothing new.
        """
        if result.dropped is not None and not result.text:
            return None  # invented text, see ``engine.guard``
        self.draft = result.tokens
        text, stable = self._caption.update(result.text)
        if self._start.tentative:
            return text, stable
        if stable == self._n_shown:
            return None
        self._n_shown = stable
        return text[:stable], stable
