"""``stream-server transcribe``: recordings through a running server, captions out."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from certs.tls import TlsConfigError
from stream_server.cli.audio_files import Recording, RecordingError, open_recording
from stream_server.cli.beam_options import (
    BeamSizeOption,
    LengthPenaltyOption,
    PatienceOption,
    beam_object,
    chosen_beam,
)
from stream_server.cli.captions_view import (
    CaptionsView,
    JsonView,
    LinesView,
    SpeechSeen,
    TerminalView,
    TranscriptView,
)
from stream_server.cli.client_files import (
    CaOption,
    CertOption,
    CertsOption,
    KeyOption,
    NoCertificate,
    client_tls,
    trusting_tls,
)
from stream_server.cli.hops_view import HopsView
from stream_server.client import (
    ClientError,
    ConnectFailed,
    ConnectionState,
    Event,
    FinalEvent,
    FinishedEvent,
    Pace,
    PartialEvent,
    connect,
)
from stream_server.client import transcribe as transcribe_stream
from stream_server.client.pacing import Sleep
from stream_server.core.messages import BeamSearch
from stream_server.state_folder import state_dir

DEFAULT_URL = "wss://localhost:8443/v1/stream"
CHUNK_S = 0.1
"""Real time goes in chunks of this size."""
FAST_CHUNK_S = 1.0
PROGRESS_S_MIN = 20.0
"""Shorter recordings are done before a bar could be read."""
WAIT_S_MAX = 60.0
TRIES_MAX = 5
"""A server that asks to come back later is asked again so often, and waited for so long each time."""

_EMPTY_FILE = "{} does not hold one token; have one made with `stream-server token`"
_CONNECTION_NOTES = {
    ConnectionState.LOST: "the connection is lost; trying to go on",
    ConnectionState.RESUMED: "connected again; nothing was lost",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for all files of one call."""

    url: str
    tls: ssl.SSLContext
    language: str | None = None
    is_fast: bool = False
    partials: bool = True
    is_json: bool = False
    trace: bool = False
    room: str | None = None
    speaker: str | None = None
    token_file: Path | None = None
    beam: BeamSearch | None = None
    revise: bool = False
    transcript: bool = False


class TokenFileError(ConnectFailed):
    """Raised when there is no token in the file that was named for it."""


def transcribe(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="WAV, FLAC or OGG, any rate, any number of channels.", show_default=False
        ),
    ],
    url: Annotated[str, typer.Option(help="The server's stream.")] = DEFAULT_URL,
    certs: CertsOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as the server decodes, with its model for files.")
    ] = False,
    language: Annotated[
        str | None, typer.Option(help="Such as en or de. [default: the model decides]", show_default=False)
    ] = None,
    room: Annotated[
        str | None,
        typer.Option(help="Publish the captions in this room, such as board-301.", show_default=False),
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option(help="Name shown in the room. [default: the certificate's]", show_default=False),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with a writer token, shown in place of a certificate; read for each connection.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each event.")] = False,
    partials: Annotated[
        bool | None,
        typer.Option(
            "--partials/--no-partials",
            help="Show text while it is still changing. [default: in a terminal, unless --fast]",
            show_default=False,
        ),
    ] = None,
    revise: Annotated[
        bool,
        typer.Option("--revise", help="Have utterances of several segments read once more; ↻ marks changes."),
    ] = False,
    transcript: Annotated[
        bool, typer.Option("--transcript", help="Only the whole text, at the end: a line an utterance.")
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Show where the time of each final went, hop by hop.")
    ] = False,
    beam_size: BeamSizeOption = None,
    patience: PatienceOption = None,
    length_penalty: LengthPenaltyOption = None,
) -> None:
    """Transcribe recordings with a running server.

    Files go one after the other. One that cannot be transcribed is named, and the others go on; the
    exit code is 1 then. A recording without speech gives no captions and is no error.
    """
    out, errors = Console(highlight=False), Console(stderr=True, highlight=False, soft_wrap=True)
    beam = chosen_beam(beam_size, patience, length_penalty)
    if partials is None:
        partials = out.is_terminal and not (fast or as_json or trace or transcript)
    try:
        folder = certs or state_dir(None) / "certs"
        tls = client_tls(folder, ca, cert, key) if token_file is None else trusting_tls(folder, ca)
        settings = Settings(
            url=url,
            tls=tls,
            language=language,
            is_fast=fast,
            partials=partials,
            is_json=as_json,
            trace=trace,
            room=room,
            speaker=speaker,
            token_file=token_file,
            beam=beam,
            revise=revise,
            transcript=transcript,
        )
        is_clean = asyncio.run(transcribe_files(files, settings, out, errors))
    except (NoCertificate, TlsConfigError) as exc:
        _print_error(errors, exc)
        raise typer.Exit(1) from exc
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(0 if is_clean else 1)


async def transcribe_files(
    files: Sequence[Path],
    settings: Settings,
    out: Console,
    errors: Console,
    *,
    sleep: Sleep = asyncio.sleep,
) -> bool:
    """Transcribe one file after the other.

    Args:
        files: In this order.
        settings: For all of them.
        out: Takes the captions.
        errors: Takes everything else.
        sleep: As ``asyncio.sleep``.

    Returns:
        Whether every file was transcribed.
    """
    n_failed = 0
    for path in files:
        if len(files) > 1 and not settings.is_json:
            out.print(f"{path}", style="bold", markup=False, soft_wrap=True)
        try:
            recording = open_recording(path)
            await _transcribe_patiently(recording, settings, out, errors, sleep)
        except RecordingError as exc:
            _print_error(errors, exc)
            n_failed += 1
        except ClientError as exc:
            _print_error(errors, f"{path}: {exc}")
            n_failed += 1
    return n_failed == 0


async def read_token(file: Path) -> str:
    """The token in a file, as `stream-server token` prints it.

    Raises:
        TokenFileError: There is none.
    """
    try:
        token = (await asyncio.to_thread(file.read_text, encoding="ascii")).strip()
    except OSError as exc:
        raise TokenFileError(f"{file} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise TokenFileError(_EMPTY_FILE.format(file)) from exc
    if not token or any(character.isspace() for character in token):
        raise TokenFileError(_EMPTY_FILE.format(file))
    return token


def _print_error(errors: Console, message: object) -> None:
    errors.print("error:", style="red", end=" ")
    errors.print(str(message), markup=False)


async def _transcribe_patiently(
    recording: Recording, settings: Settings, out: Console, errors: Console, sleep: Sleep
) -> None:
    """Come back when the server says so: it limits how often one certificate may connect."""
    for n_tried in range(1, TRIES_MAX + 1):
        try:
            await _transcribe_once(recording, settings, out, errors, sleep)
            return
        except ConnectFailed as exc:
            if exc.retry_after_s is None or exc.retry_after_s > WAIT_S_MAX or n_tried == TRIES_MAX:
                raise
            errors.print(f"{recording.path}: {exc}; waiting", style="dim", markup=False)
            await sleep(exc.retry_after_s)


async def _transcribe_once(
    recording: Recording, settings: Settings, out: Console, errors: Console, sleep: Sleep
) -> None:
    opened = connect(
        settings.url,
        tls=settings.tls,
        sample_rate=recording.sample_rate_hz,
        channels=recording.channels,
        language=settings.language,
        # Without partials the room's readers would have none either.
        partials=settings.partials or settings.room is not None,
        trace=settings.trace,
        room=settings.room,
        speaker=settings.speaker,
        token=None if settings.token_file is None else partial(read_token, settings.token_file),
        beam=beam_object(settings.beam),
        # Readers of a room wait for captions, whatever the pace.
        tier="files" if settings.is_fast and settings.room is None else "live",
        revise=settings.revise,
        transcript=settings.transcript,
        on_connection=lambda state: errors.print(
            f"{recording.path}: {_CONNECTION_NOTES[state]}", style="dim", markup=False
        ),
    )
    hops = HopsView(errors) if settings.trace and not settings.is_json else None
    async with opened as stream:
        with _view(recording, settings, out) as view, _progress(recording, settings, out, errors) as advance:
            seen = SpeechSeen(view)
            async for event in transcribe_stream(stream, _chunks(recording, settings, sleep)):
                seen.show(event)
                if hops is not None:
                    hops.show(event)
                advance(event)
    if hops is not None:
        hops.summarise()
    if not seen.has_text and not settings.is_json:
        errors.print(f"{recording.path}: no speech found", style="yellow", markup=False)


def _chunks(recording: Recording, settings: Settings, sleep: Sleep) -> AsyncIterator[bytes] | Iterator[bytes]:
    if settings.is_fast:
        return recording.blocks(FAST_CHUNK_S)
    return Pace(recording.bytes_per_s, sleep=sleep).paced(recording.blocks(CHUNK_S))


def _view(recording: Recording, settings: Settings, out: Console) -> CaptionsView:
    if settings.is_json:
        return JsonView(typer.echo, str(recording.path), partials=settings.partials)
    if settings.transcript:
        return TranscriptView(out)
    if out.is_terminal and settings.partials:
        return TerminalView(out)
    return LinesView(out, partials=settings.partials)


@contextmanager
def _progress(
    recording: Recording, settings: Settings, out: Console, errors: Console
) -> Iterator[Callable[[Event], None]]:
    """A bar for long recordings, whose end is where the captions have come to.

    What was sent would be the wrong measure: much of it may still wait in the network's buffers.
    """
    is_long = recording.duration_s >= PROGRESS_S_MIN
    if not (settings.is_fast and is_long and errors.is_terminal and not settings.partials):
        yield lambda event: None
        return
    # Two consoles cannot share one screen: where captions go to the same terminal, the bar joins them.
    with _bar(out if out.is_terminal else errors) as progress:
        task = progress.add_task(recording.path.name, total=recording.duration_s)
        yield lambda event: _advance(progress, task, event, recording.duration_s)


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def _advance(progress: Progress, task: TaskID, event: Event, duration_s: float) -> None:
    match event:
        case FinalEvent() | PartialEvent():
            progress.update(task, completed=min(event.end, duration_s))
        case FinishedEvent():
            progress.update(task, completed=duration_s)
