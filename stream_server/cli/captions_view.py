"""Captions in a terminal, as plain lines, or as JSON; the same events in, three ways to look at them."""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stream_server.client import (
    Event,
    FinalEvent,
    FinishedEvent,
    LagEvent,
    PartialEvent,
    Revisions,
    SpeechStartedEvent,
    UtteranceEvent,
)

REVISED = "↻ "
"""Before the text of an utterance that was read once more and says something else than its finals."""
PARTIAL_LINE_S = 1.0
"""Plain output shows a partial again only after so much more audio: a log is no place for flicker."""


class CaptionsView(Protocol):
    """What shows a stream's events; used as a context manager around the stream."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the finals, take everything else away."""
        ...

    def show(self, event: Event) -> None:
        """Show one event, or nothing when it is none that a reader cares for."""
        ...


class QuietView:
    """A view that holds nothing and, unless it is told how, shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: Event) -> None:
        """Show nothing."""


class TerminalView:
    """Finals scroll up line by line; below them the open segment changes in place.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        # No refresh thread: the picture changes when an event comes, and only then.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._revisions = Revisions()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, exc, trace)

    def show(self, event: Event) -> None:
        """Put finals above the live line and everything open on it."""
        match event:
            case FinalEvent():
                self._revisions.note(event)
                # Cleared first: printing draws the live line again, below what it prints.
                self._live.update(Text(), refresh=True)
                if event.text.strip():
                    self._console.print(final_row(event))
            case UtteranceEvent() if self._revisions.changes(event):
                # Above what is open, which stays: more may have been said meanwhile.
                self._console.print(utterance_row(event))
            case PartialEvent():
                self._live.update(partial_row(event), refresh=True)
            case SpeechStartedEvent():
                self._live.update(
                    timed_row(f"[{clock_time(event.at)} →   …   ]", Text("…", "dim")), refresh=True
                )
            case LagEvent():
                note = f"decoding is {event.behind:.0f} s behind; nothing is lost, captions come later"
                self._live.update(Text(note, "yellow"), refresh=True)


class LinesView(QuietView):
    """One line for each final, for files and pipes.

    Args:
        console: Where to.
        partials: Also show partials, about one for each second of speech.
    """

    def __init__(self, console: Console, *, partials: bool) -> None:
        self._console = console
        self._partials = partials
        self._next_partial_s = 0.0
        self._revisions = Revisions()

    def show(self, event: Event) -> None:
        """Print finals that say something, utterances that change them, and now and then a partial."""
        match event:
            case FinalEvent(text=text):
                self._revisions.note(event)
                if text.strip():
                    self._print(f"{span(event.start, event.end)} {printable(text.strip())}")
            case UtteranceEvent(text=text) if self._revisions.changes(event):
                self._print(f"{span(event.start, event.end)} {REVISED}{printable(text.strip())}")
            case PartialEvent(text=text) if self._partials and event.end >= self._next_partial_s:
                self._next_partial_s = event.end + PARTIAL_LINE_S
                self._print(f"… {printable(text.strip())}")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class TranscriptView(QuietView):
    """The whole text at the end, and nothing before.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, event: Event) -> None:
        """Print the transcript, a line for each utterance."""
        if isinstance(event, FinishedEvent) and event.transcript:
            for line in event.transcript.text.splitlines():
                self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


class JsonView(QuietView):
    """One JSON object a line: the event as the server sent it, and the file it belongs to.

    Args:
        write: Takes one line without its end.
        file: Name to put into each line.
        partials: Also write partials.
    """

    def __init__(self, write: Callable[[str], None], file: str, *, partials: bool) -> None:
        self._write = write
        self._file = file
        self._partials = partials

    def show(self, event: Event) -> None:
        """Write the event."""
        if isinstance(event, PartialEvent) and not self._partials:
            return
        fields = {"file": self._file, **msgspec.to_builtins(event)}
        self._write(msgspec.json.encode(fields).decode())


class SpeechSeen:
    """Passes events on and remembers whether any final said something."""

    def __init__(self, view: CaptionsView) -> None:
        self._view = view
        self.has_text = False

    def show(self, event: Event) -> None:
        """Show the event."""
        if isinstance(event, FinalEvent) and event.text.strip():
            self.has_text = True
        self._view.show(event)


def final_row(event: FinalEvent) -> RenderableType:
    """A final: its time, then its text."""
    return timed_row(span(event.start, event.end), Text(printable(event.text.strip())))


def utterance_row(event: UtteranceEvent) -> RenderableType:
    """An utterance that was read once more: its time, and its text with a mark."""
    text = Text.assemble((REVISED, "cyan"), printable(event.text.strip()))
    return timed_row(span(event.start, event.end), text)


def partial_row(event: PartialEvent) -> RenderableType:
    """A partial: what will not change as finals look, the rest dim."""
    text = Text(printable(event.text))
    text.stylize("dim italic", event.stable)
    return timed_row(span(event.start, event.end), text)


def timed_row(when: str, text: Text) -> Table:
    """A time, and a text that wraps beside it."""
    # A grid, so that a long text wraps beside its time and not below it.
    row = Table.grid(padding=(0, 2))
    row.add_column(no_wrap=True, style="cyan")
    row.add_column()
    row.add_row(Text(when), text)
    return row


def span(start_s: float, end_s: float) -> str:
    """``[00:01.2 → 00:03.8]``."""
    return f"[{clock_time(start_s)} → {clock_time(end_s)}]"


def clock_time(seconds: float) -> str:
    """``MM:SS.s``, with hours in front where there are any."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{minutes:02}:{tenths // 10:02}.{tenths % 10}"
    return f"{hours}:{shown}" if hours else shown


def printable(text: str) -> str:
    """Text that cannot move a terminal's cursor; as many code points as before, for ``stable``."""
    return "".join(character if character.isprintable() else " " for character in text)
