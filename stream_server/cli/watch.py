"""``stream-server watch``: a room's captions in the terminal, for as long as one likes."""

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Protocol

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from certs.tls import TlsConfigError
from stream_server.cli.captions_view import REVISED, printable, timed_row
from stream_server.cli.client_files import (
    CaOption,
    CertOption,
    CertsOption,
    KeyOption,
    NoCertificate,
    client_tls,
)
from stream_server.client import (
    ClientError,
    Gap,
    JoinedEvent,
    Revisions,
    RoomEvent,
    RoomFinalEvent,
    RoomPartialEvent,
    RoomReader,
    RoomUtteranceEvent,
    SourceJoinedEvent,
    SourceLeftEvent,
    revised,
)
from stream_server.core.room_messages import ROOM_RULE, is_room_name
from stream_server.state_folder import state_dir

DEFAULT_URL = "wss://localhost:8443"


class RoomView(Protocol):
    """What shows a room's events."""

    def show(self, event: RoomEvent) -> None:
        """Show one event, or nothing when it is none that a reader cares for."""


class TerminalRoomView:
    """Finals scroll up line by line; below them each speaker's open segment changes in place.

    Args:
        console: A terminal.
        live: On that console.
    """

    def __init__(self, console: Console, live: Live) -> None:
        self._lines = LinesRoomView(console)
        self._live = live
        self._open: dict[str, RoomPartialEvent] = {}
        self._speakers: dict[str, str] = {}

    def show(self, event: RoomEvent) -> None:
        """Put finals above the live lines and everything open on them."""
        match event:
            case JoinedEvent():
                self._open.clear()
                self._speakers = {source.source: source.speaker for source in event.sources}
            case RoomPartialEvent():
                self._open[event.source] = event
            case SourceJoinedEvent():
                self._speakers[event.source] = event.speaker
            case RoomFinalEvent() | SourceLeftEvent():
                self._open.pop(event.source, None)
        # Cleared first: printing draws the live lines again, below what it prints.
        self._live.update(Text(), refresh=True)
        self._lines.show(event)
        self._live.update(Group(*map(self._open_row, self._open.values())), refresh=True)

    def _open_row(self, event: RoomPartialEvent) -> RenderableType:
        text = Text(printable(event.text))
        text.stylize("dim italic", event.stable)
        speaker = self._speakers.get(event.source, event.source)
        return timed_row("   …    ", Text.assemble((f"{printable(speaker)}: ", "bold"), text))


class LinesRoomView:
    """One line for each final and for each source that comes or goes.

    What was said before is held until all of it has come, and then shown with the text of its second looks.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._past: list[RoomEvent] = []
        self._past_until = 0
        """The last event of the past that comes."""
        self._revisions = Revisions()

    def show(self, event: RoomEvent) -> None:
        """Print what is final, or hold it back."""
        if isinstance(event, JoinedEvent):
            self._show_past()
            self._past_until = event.last if event.first <= event.last else 0
            return
        number = getattr(event, "event", None)
        if number is None or number > self._past_until:
            self._show_one(event)
            return
        self._past.append(event)
        if number == self._past_until:
            self._show_past()

    def _show_past(self) -> None:
        past, self._past = self._past, []
        for event in revised(past):
            self._show_one(event)

    def _show_one(self, event: RoomEvent) -> None:
        match event:
            case RoomFinalEvent(text=text):
                self._revisions.note(event)
                if text.strip():
                    self._say(event, Text(printable(text.strip())))
            case RoomUtteranceEvent(text=text) if self._revisions.changes(event):
                self._say(event, Text(f"{REVISED}{printable(text.strip())}"))
            case SourceJoinedEvent():
                self._print(event.time, Text(f"{printable(event.speaker)} has come", "dim"))
            case SourceLeftEvent():
                self._print(event.time, Text(f"{printable(event.speaker)} has left", "dim"))
            case Gap():
                self._console.print(Text("… some captions are missing here …", "yellow"))

    def _say(self, event: RoomFinalEvent | RoomUtteranceEvent, said: Text) -> None:
        self._print(event.time, Text.assemble((f"{printable(event.speaker)}: ", "bold"), said))

    def _print(self, unix_s: float, text: Text) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(unix_s))
        if self._console.is_terminal:
            self._console.print(timed_row(clock, text))
        else:
            self._console.print(f"{clock} {text.plain}", markup=False, highlight=False, soft_wrap=True)


class JsonRoomView:
    """One JSON object a line: the event as the server sent it."""

    def show(self, event: RoomEvent) -> None:
        """Write the event; a gap stands in the ``joined`` that follows it."""
        if not isinstance(event, Gap):
            typer.echo(msgspec.json.encode(event).decode())


def watch(
    room: Annotated[str, typer.Argument(help="Room to read, such as board-301.", show_default=False)],
    url: Annotated[str, typer.Option(help="The server.")] = DEFAULT_URL,
    certs: CertsOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    recent: Annotated[
        int | None,
        typer.Option(
            help="Earlier events to begin with. [default: all that are kept]", show_default=False, min=0
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each event.")] = False,
) -> None:
    """Show what is said in a room, until Ctrl-C.

    What was said before is shown first. A lost connection is taken up again where it broke off.
    """
    out, errors = Console(highlight=False), Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if not is_room_name(room):
            raise typer.BadParameter(f"{ROOM_RULE}.")
        tls = client_tls(certs or state_dir(None) / "certs", ca, cert, key)
        reader = RoomReader(f"{url.rstrip('/')}/v1/rooms/{room}", tls=tls, recent=recent)
        asyncio.run(_watch(reader, out, as_json=as_json))
    except (NoCertificate, TlsConfigError, ClientError) as exc:
        errors.print("error:", style="red", end=" ")
        errors.print(str(exc), markup=False)
        raise typer.Exit(1) from exc
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


async def _watch(reader: RoomReader, out: Console, *, as_json: bool) -> None:
    # No refresh thread: the picture changes when an event comes, and only then.
    live = Live(console=out, auto_refresh=False, transient=True)
    is_drawn = out.is_terminal and not as_json
    holder: AbstractContextManager[object] = live if is_drawn else nullcontext()
    view: RoomView = LinesRoomView(out)
    if as_json:
        view = JsonRoomView()
    elif is_drawn:
        view = TerminalRoomView(out, live)
    async with reader:
        with holder:
            async for event in reader:
                view.show(event)
