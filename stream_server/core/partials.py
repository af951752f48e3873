"""What is asked and shown of one session's open segment.

Rules:

1. A partial is asked for whenever the segment has grown by ``partial_frames``.
2. Each carries the tokens of the hypothesis before it as a draft, which spares the engine work.
3. Unless the client wants tentative words, only what is stable is shown, and nothing until that has grown.
4. Behind a cut, what was shown of the segment before and its final does not say is shown at once.
5. A hypothesis that the guard took away shows nothing: what is shown stays until the next.
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
        self._before = self._caption = self._new_caption()
        self._n_shown = 0
        self.draft: tuple[int, ...] = ()
        """Tokens of the last hypothesis."""
        self.heard_until = 0
        """Where the window of the last hypothesis ended, of this segment or the one before, samples."""

    def begin_segment(self) -> None:
        """A segment has closed; what comes is of the next."""
        self._before, self._caption = self._caption, self._new_caption()
        self._n_shown = 0
        self.draft = ()

    def go_on_behind(self, said: str) -> tuple[str, int] | None:
        """The final of the segment before has left, and the open one was cut from it.

        Args:
            said: The final's text.

        Returns:
            As ``take``: what was shown behind the end of that text.
        """
        if self._caption.revision or not said:
            return None
        self._caption = self._before.behind(said)
        return self._news() if self._caption.revision else None

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
        self.heard_until = result.end
        self._caption.update(result.text, result.word_probabilities)
        return self._news()

    def _new_caption(self) -> SegmentCaption:
        return SegmentCaption(self._settings.sure_word, self._settings.enough_hypotheses)

    def _news(self) -> tuple[str, int] | None:
        text, stable = self._caption.shown
        if self._start.tentative:
            return text, stable
        if stable == self._n_shown:
            return None
        self._n_shown = stable
        return text[:stable], stable
