"""``stream-server demo``: the whole path on this machine, from certificates to captions, in a minute."""

import asyncio
import json
import signal
import ssl
import sys
import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from itertools import islice
from pathlib import Path
from shutil import which
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from certs.authority import AuthorityError
from certs.store import Store, StoreError
from certs.tls import TlsConfigError, client_context, explain_refusal
from stream_server.cli.audio_files import Recording, open_recording
from stream_server.cli.captions_view import CaptionsView, LinesView, TerminalView
from stream_server.cli.demo_certs import client_files, ensure_certs
from stream_server.cli.demo_report import Report, make_report, report_table, word_error_rate
from stream_server.cli.demo_server import HOST, ServerFailed, free_port, running, wait_until_healthy
from stream_server.cli.model_rules import ConfigOption, with_model_rules
from stream_server.client import CaptionStream, ClientError, Pace, connect, transcribe
from stream_server.client.latency import Utterance
from stream_server.client.pacing import Clock, Sleep
from stream_server.dialects.schema import PATH
from stream_server.engine.manifest import find_model
from stream_server.errors import ConfigError, ModelError
from stream_server.evaluation.heard import Heard
from stream_server.state_folder import state_dir

CHUNK_S = 0.1
FAST_S = 18.0
"""Of the audio that is streamed again: enough for a figure, and soon over."""
START_S = 120.0
"""For the server to load its models, also on a slow machine."""
CONFIG = """\
# Written by stream-server demo, so that no other configuration changes what it shows; of the operator's the
# rules for models count, if it is not the embedded model.
[limits]
connects_per_minute = 1000

[audit]
# Its own, so that it runs beside `make serve`.
folder = {audit}
"""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The included recording and what is said in it."""

    recording: Recording
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demo keeps its things, and how its server is started."""

    folder: Path
    model: Path | None = None
    rules: Path | None = None
    """Configuration with the rules for models; None: where ``serve`` finds it."""

    @property
    def store(self) -> Store:
        """Its certificates."""
        return Store(self.folder / "certs")

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "server.log"

    def command(self, port: int) -> list[str]:
        """The command line of the server."""
        config = self.folder / "demo.toml"
        command = [sys.executable, "-m", "stream_server", "serve", "--state-dir", str(self.folder)]
        command += ["--config", str(config), "--host", HOST, "--port", str(port)]
        return [*command, "--model", str(self.model)] if self.model else command


EXPECTED = (
    AuthorityError,
    ClientError,
    ConfigError,
    ModelError,
    OSError,
    ServerFailed,
    StoreError,
    TlsConfigError,
)
"""What ends the command with one line and no traceback."""


def demo(
    state_dir_option: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            help="Folder for certificates and log. [default: demo/ in the state folder]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of an installed model, or a folder with manifest.json and model.safetensors. "
            "[default: the embedded demo-en]",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    certificates_only: Annotated[
        bool, typer.Option("--certificates-only", help="Make the certificates, or keep valid ones, and stop.")
    ] = False,
) -> None:
    """Show live captions of an included dialogue, and how late and how good they are.

    Makes throw-away certificates, starts a server of its own, streams 34 s of audio to it over mutual
    TLS at real time, and stops everything. Exit code 1 when the server fails or a caption is missing.
    """
    # Not the state folder itself: what is made here is for play, and should admit nobody to a real server.
    folder = (state_dir_option or state_dir(None) / "demo").absolute()
    console = Console(highlight=False)
    try:
        place = Place(folder, find_model(model, state_dir(None)) if model else None, config)
        if certificates_only:
            _prepare(place, console)
            return
        report = _run(place, console)
    except KeyboardInterrupt:
        console.print("\nstopped", style="dim")
        raise typer.Exit(130) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    except EXPECTED as exc:
        _print_error(explain_refusal(exc) or str(exc))
        raise typer.Exit(1) from exc
    if not report.is_success:
        _print_missing(report)
        raise typer.Exit(1)


def _print_error(message: str) -> None:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print("error:", style="red", end=" ")
    errors.print(message, markup=False)


def _print_missing(report: Report) -> None:
    for said in report.missing:
        _print_error(f"no caption for what was said at {said.start_s:.1f} s: {said.text}")


def _run(place: Place, console: Console) -> Report:
    tls = _prepare(place, console)
    resource = files("stream_server") / "assets" / "recordings"
    with as_file(resource) as recordings:
        return asyncio.run(_serve_and_show(place, tls, load_dialogue(recordings), console))


def _prepare(place: Place, console: Console) -> ssl.SSLContext:
    place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = CONFIG.format(audit=json.dumps(str(place.folder / "demo-audit")))
    text = with_model_rules(own, place.model, place.rules)
    (place.folder / "demo.toml").write_text(text, encoding="utf-8")
    made = ensure_certs(place.store)
    what = "throw-away authority, one server, one client" if made else "those of an earlier run"
    _done(console, "Certificates", what, _shown(place.store.folder))
    return client_context(place.store.ca_cert, *client_files(place.store))


def _done(console: Console, step: str, what: str, where: object) -> None:
    console.print(f"[green]✓[/] [bold]{step:<14}[/]{what}  [dim]{where}[/]", soft_wrap=True)


def load_dialogue(recordings: Path) -> Dialogue:
    """Read the dialogue's reference, and look at its audio.

    Args:
        recordings: Folder with ``manifest.json``.
    """
    manifest = msgspec.json.decode((recordings / "manifest.json").read_bytes())["dialogue"]
    utterances = tuple(Utterance(said["start"], said["end"], said["text"]) for said in manifest["utterances"])
    return Dialogue(open_recording(recordings / manifest["file"]), utterances)


async def _serve_and_show(place: Place, tls: ssl.SSLContext, dialogue: Dialogue, console: Console) -> Report:
    _cancel_on_signals()
    port = free_port()
    url = f"wss://{HOST}:{port}{PATH}"
    began_s = time.monotonic()
    async with running(place.command(port), place.log) as process:
        with console.status("starting the server"):
            await wait_until_healthy(process, port, tls, place.log, START_S)
        ready_s = time.monotonic() - began_s
        _done(console, "Server", f"{url}, TLS 1.3, both sides certified", f"ready after {ready_s:.1f} s")
        heard = await _show_live(url, tls, dialogue, console)
        with console.status("part of it once more, as fast as it goes"):
            fast_factor = await measure_fast_factor(url, tls, dialogue.recording)
        with console.status("counting words"):
            report = await asyncio.to_thread(
                make_report, dialogue.utterances, heard, fast_factor, word_error_rate
            )
    console.print(report_table(report))
    if report.is_success:
        _print_next(console, place)
    return report


def _cancel_on_signals() -> None:
    """End as Ctrl-C does, so that the server is stopped, when a supervisor or a closed terminal says so."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _show_live(url: str, tls: ssl.SSLContext, dialogue: Dialogue, console: Console) -> Heard:
    view = TerminalView(console) if console.is_terminal else LinesView(console, partials=True)
    seconds = dialogue.recording.duration_s
    async with connect(url, tls=tls, sample_rate=dialogue.recording.sample_rate_hz) as stream:
        _done(console, "Streaming", f"{seconds:.0f} s of dialogue, live", f"model {stream.started.model}")
        console.print()
        heard = await stream_live(stream, dialogue.recording, view)
    console.print()
    return heard


async def stream_live(
    stream: CaptionStream,
    recording: Recording,
    view: CaptionsView,
    *,
    clock: Clock = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> Heard:
    """Send a recording as a microphone would and show what comes back.

    Args:
        stream: Open, for the recording's rate and channels.
        recording: What to send, in chunks of 100 ms.
        view: Shows each event.
        clock: Monotonic seconds.
        sleep: As ``asyncio.sleep``.
    """
    heard = Heard()
    pace = Pace(recording.bytes_per_s, clock=clock, sleep=sleep)
    with view:
        async for event in transcribe(stream, pace.paced(recording.blocks(CHUNK_S))):
            heard.note(event, pace.elapsed_s)
            view.show(event)
    return heard


async def measure_fast_factor(
    url: str, tls: ssl.SSLContext, recording: Recording, *, clock: Clock = time.monotonic
) -> float:
    """Seconds from the first chunk to ``finished``, per second of audio, without waiting in between.

    The first ``FAST_S`` of the same work as live, except for partials, which nobody could read at that
    speed.
    """
    opened = connect(
        url, tls=tls, sample_rate=recording.sample_rate_hz, channels=recording.channels, partials=False
    )
    chunks = islice(recording.blocks(CHUNK_S), round(FAST_S / CHUNK_S))
    async with opened as stream:
        began_s = clock()
        async for _ in transcribe(stream, chunks):
            continue
        return (clock() - began_s) / min(FAST_S, recording.duration_s)


def _print_next(console: Console, place: Place) -> None:
    program, folder = _program(), _shown(place.folder)
    serve = "make serve" if folder == Path(".demo") else f"{program} serve --state-dir {folder}"
    steps = {
        serve: "the same server, staying up",
        f"{program} transcribe FILE --certs {folder / 'certs'}": "your recordings through it",
        f"{program} demo --model NAME": "this with a model of yours",
    }
    width = max(len(command) for command in steps)
    console.print("\n[bold]Next[/]")
    for command, meaning in steps.items():
        console.print(f"  [cyan]{command:<{width}}[/]  [dim]{meaning}[/]", soft_wrap=True)
    if place.model is None:
        console.print(
            "\nThe embedded model is small and made for synthetic English voices: for people's speech,"
            " install a real one with `stream-server models import FILE.pt`.",
            style="dim",
        )


def _program() -> str:
    """How to type this program: its name, or where it is when it is not on the path."""
    name = "stream-server"
    beside = Path(sys.executable).with_name(name)
    return name if which(name) or not beside.exists() else str(_shown(beside))


def _shown(path: Path) -> Path:
    """A path as short as it can be typed from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
