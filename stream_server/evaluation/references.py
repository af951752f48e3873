"""Reads a list of recordings and what is said in them; pure, the command reads the file.

The format is that of the manifests in ``stream_server/assets/recordings``: ``recordings``, each with
``file`` and ``text`` and maybe ``voice``, ``condition``, ``words``, ``speech_end``, ``utterances`` or further
fields to group by, and maybe one ``dialogue`` with ``file`` and ``utterances``. A recording in which nobody
speaks says so: ``"speech": false`` instead of a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stream_server.client.latency import Utterance
from stream_server.evaluation.word_latency import SpokenWord

SAY_SO = 'where nobody speaks, write `"speech": false`'


class ManifestError(Exception):
    """Raised when a manifest cannot be read; one line with the file and the key."""


class Word(msgspec.Struct, frozen=True):
    """One word of a reference; further fields are ignored."""

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    word: str | None = None


class Said(msgspec.Struct, frozen=True):
    """One utterance of a recording with several."""

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    text: str
    words: list[Word] | None = None


class RecordingEntry(msgspec.Struct, frozen=True):
    """One recording as the manifest has it."""

    file: str
    text: str | None = None
    words: list[Word] | None = None
    speech_end: float | None = None
    """Seconds."""
    utterances: list[Said] | None = None
    speech: bool = True
    """False where nobody speaks, and so nothing may be read."""


class DialogueEntry(msgspec.Struct, frozen=True):
    """The dialogue as the manifest has it."""

    file: str
    utterances: list[Said] | None = None


class _Listed(msgspec.Struct, frozen=True):
    recordings: list[RecordingEntry] | None = None
    dialogue: DialogueEntry | None = None


class _Raw(msgspec.Struct, frozen=True):
    recordings: list[dict[str, object]] | None = None
    dialogue: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A recording and what is said in it."""

    file: str
    """As the manifest names it."""
    path: Path
    text: str
    timed: tuple[Utterance, ...]
    """Utterances whose times are known; empty when the manifest has none."""
    fields: dict[str, str]
    """The simple fields of the manifest, to group by."""
    words: tuple[SpokenWord, ...] = ()
    """Words whose times are known; empty when the manifest has none."""
    speech: bool = True
    """Whether anybody speaks; if not, ``text`` is empty and every word that is read was invented."""


@dataclass(frozen=True, slots=True)
class References:
    """What can be evaluated, and one line for each recording that cannot."""

    usable: tuple[Reference, ...]
    problems: tuple[str, ...]


def parse_manifest(data: bytes, path: Path) -> References:
    """Read a manifest.

    Args:
        data: JSON.
        path: Where it lies; its recordings are named relative to its folder.

    Raises:
        ManifestError: Not JSON, a key is missing or of the wrong type, or nothing is listed.
    """
    try:
        listed = msgspec.json.decode(data, type=_Listed)
        raw = msgspec.json.decode(data, type=_Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ManifestError(f"{path}: not a list of recordings: {exc}") from exc
    if listed.recordings is None and listed.dialogue is None:
        raise ManifestError(f"{path}: not a list of recordings: it has neither `recordings` nor `dialogue`")
    found: list[Reference | str] = [
        _recording(entry, path.parent, fields)
        for entry, fields in zip(listed.recordings or [], raw.recordings or [], strict=True)
    ]
    if listed.dialogue is not None:
        found.append(_dialogue(listed.dialogue, path.parent, raw.dialogue or {}))
    if not found:
        raise ManifestError(f"{path}: `recordings` is empty, there is nothing to evaluate")
    usable = tuple(item for item in found if isinstance(item, Reference))
    return References(usable, tuple(item for item in found if isinstance(item, str)))


def _recording(entry: RecordingEntry, folder: Path, raw: dict[str, object]) -> Reference | str:
    path = folder / entry.file
    if not entry.speech:
        if (entry.text or "").strip() or entry.words or entry.utterances:
            return f"{path}: the manifest says that nobody speaks, `speech` is false, and yet what is said"
        return Reference(entry.file, path, "", (), _simple(raw), speech=False)
    if entry.text is None:
        return f"{path}: the manifest has no reference for it, `text` is missing; {SAY_SO}"
    if not entry.text.strip():
        return f"{path}: its reference is empty, `text` has no words; {SAY_SO}"
    words = _spoken(entry.words)
    return Reference(entry.file, path, entry.text, _timed(entry, entry.text), _simple(raw), words)


def _timed(entry: RecordingEntry, text: str) -> tuple[Utterance, ...]:
    if entry.utterances:
        return _utterances(entry.utterances)
    words = entry.words or []
    end_s = entry.speech_end if entry.speech_end is not None else words[-1].end if words else None
    if end_s is None:
        return ()
    return (Utterance(words[0].start if words else 0.0, end_s, text),)


def _dialogue(entry: DialogueEntry, folder: Path, raw: dict[str, object]) -> Reference | str:
    path = folder / entry.file
    if entry.utterances is None:
        return f"{path}: the manifest has no reference for it, `dialogue.utterances` is missing"
    text = " ".join(said.text.strip() for said in entry.utterances)
    if not text.strip():
        return f"{path}: its reference is empty, `dialogue.utterances` has no words"
    words = tuple(word for said in entry.utterances for word in _spoken(said.words))
    return Reference(entry.file, path, text, _utterances(entry.utterances), _simple(raw), words)


def _spoken(words: list[Word] | None) -> tuple[SpokenWord, ...]:
    return tuple(SpokenWord(one.word, one.start, one.end) for one in words or [] if one.word)


def _utterances(listed: Sequence[Said]) -> tuple[Utterance, ...]:
    return tuple(Utterance(said.start, said.end, said.text) for said in listed)


def _simple(raw: dict[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in raw.items() if isinstance(value, str | int | float | bool)}
