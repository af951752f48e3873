"""What ``stream-server models`` shows: rows of the table, details of a model, and how far a command is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from stream_server.engine.manifest import (
    SEALED_NAME,
    Manifest,
    embedded_model,
    is_sealed,
    read_manifest,
    read_manifest_text,
)
from stream_server.errors import ModelError
from stream_server.models.alignment import heads_of
from stream_server.models.shapes import n_parameters
from stream_server.models.store import folder_bytes
from stream_server.sealing.container import SealedFile

COLUMNS = ("name", "version", "parameters", "MB", "languages", "context", "from")


def row_of(name: str, folder: Path) -> tuple[str, ...]:
    """One line of the table of ``COLUMNS``."""
    try:
        manifest = read_manifest(folder)
    except ModelError as exc:
        return (name, "", "", "", "", "", f"damaged: {exc}")
    return (
        name,
        manifest.version,
        f"{n_parameters(manifest.dims) / 1e6:,.1f} M",
        f"{folder_bytes(folder) / 1e6:,.1f}",
        _languages(manifest),
        manifest.audio_context,
        _origin(folder, manifest),
    )


def details_of(name: str, folder: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """All that is known of a model, as keys and values."""
    dims = manifest.dims
    yield "name", name if name == manifest.id else f"{name}, made as {manifest.id}"
    yield "version", manifest.version
    yield "folder", str(folder)
    yield "parameters", f"{n_parameters(dims) / 1e6:,.1f} M"
    yield (
        "encoder",
        f"{dims.n_audio_layer} layers, {dims.n_audio_head} heads, width {dims.n_audio_state}, "
        f"{dims.n_mels} mel bands",
    )
    yield "decoder", f"{dims.n_text_layer} layers, {dims.n_text_head} heads, width {dims.n_text_state}"
    yield "vocabulary", f"{dims.n_vocab} tokens"
    yield "languages", _languages(manifest)
    yield "context", _context(manifest)
    yield "alignment heads", _heads(manifest)
    yield "licence", manifest.licence or "not stated"
    yield "from", _origin(folder, manifest)
    yield "kept", _kept(folder)
    if manifest.source is not None:
        yield "source's sha256", manifest.source.sha256
    for file, entry in manifest.files.items():
        if is_sealed(folder):
            yield file, f"sealed, sha256 {entry.sha256}"
            continue
        path = folder / file
        size = f"{path.stat().st_size / 1e6:,.1f} MB" if path.exists() else "missing"
        yield file, f"{size}, sha256 {entry.sha256}"


def _kept(folder: Path) -> str:
    signed = "signed" if read_manifest_text(folder).signature else "not signed"
    if not is_sealed(folder):
        return f"plain, {signed}"
    with SealedFile(folder / SEALED_NAME) as sealed:
        return f"sealed for keys of the kind {' and '.join(sealed.kinds) or 'unknown'}, {signed}"


def _languages(manifest: Manifest) -> str:
    return f"{manifest.n_languages}" if manifest.multilingual else manifest.language or "en"


def _context(manifest: Manifest) -> str:
    if manifest.audio_context == "full":
        return "full: windows are padded to 30 s"
    return f"fit: windows of their own length and {manifest.context_tail_s:g} s of silence"


def _heads(manifest: Manifest) -> str:
    if manifest.alignment_heads is None:
        return "not known: all of the decoder's upper half"
    try:
        heads = heads_of(manifest.alignment_heads, manifest.dims)
    except ValueError as exc:
        return f"damaged: {exc}"
    return " ".join(f"{layer}.{head}" for layer, head in heads)


def _origin(folder: Path, manifest: Manifest) -> str:
    source = manifest.source
    if source is None:
        return "this program" if folder == embedded_model() else "not stated"
    what = (
        "OpenAI's file" if source.official else {"openai": "checkpoint"}.get(source.format, "Hugging Face's")
    )
    return f"{what} {source.file}" + (f", {source.url}" if source.url else "")


class Bar:
    """Progress on standard error, in a terminal only: a line for each thing that is done."""

    def __init__(self) -> None:
        console = error_console()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, what: str, n_done: int, n_total: int) -> None:
        """Show how far something is."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=n_total)
        self._progress.update(self._tasks[what], completed=n_done, total=n_total)

    def pausing(self, gate: Callable[[Path], None]) -> Callable[[Path], None]:
        """The gate, which shows a bar of its own."""

        def run(folder: Path) -> None:
            self._progress.stop()
            gate(folder)

        return run


def print_table(table: Table) -> None:
    """Print on standard output, for people and for scripts."""
    # When not on a terminal rich would cut the columns at 80 characters, and scripts could not read them.
    console = Console()
    console.print(table) if console.is_terminal else Console(width=400).print(table)


def error_console() -> Console:
    """Standard error, where paths are not broken."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(message: str) -> None:
    """One line that begins with "error:"."""
    errors = error_console()
    errors.print("error:", style="red", end=" ")
    errors.print(message, markup=False)
