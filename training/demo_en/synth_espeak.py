"""espeak-ng through its C library: audio, phones and word times in one call.

The library keeps one global state, so there is one speaker per process.
"""

from __future__ import annotations

import ctypes as c
from typing import Any

import numpy as np
import soxr

from .config import SAMPLE_RATE_HZ
from .reading import MissingSynthesiser, Reading, fill_gaps

ACCENTS = ("gmw/en-US", "gmw/en", "gmw/en-GB-x-rp", "gmw/en-US-nyc", "gmw/en-GB-scotland", "gmw/en-029")
ACCENT_SHARES = (0.50, 0.20, 0.13, 0.07, 0.05, 0.05)
VARIANTS = (
    "", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "Andy", "Annie", "Alex",
    "Andrea", "Gene", "Michael", "Mike", "Mario", "Lee", "Hugo", "Jacky", "Alicia", "Denis", "adam", "anika",
    "antonio", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "linda", "max", "michel",
    "miguel", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis",
    "victor", "klatt2", "klatt4",
)  # fmt: skip

# espeak-ng's speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 0x0001
_INITIALIZE_DONT_EXIT = 0x8000
_EVENT_WORD, _EVENT_PHONEME = 1, 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_CHARS_UTF8 = 1
_PAUSES = frozenset({"", "_", "_:", "_!", "__", "_|", "|"})


class _Id(c.Union):
    _fields_ = (("number", c.c_int), ("name", c.c_char_p), ("string", c.c_char * 8))


class _Event(c.Structure):
    _fields_ = (
        ("type", c.c_int), ("unique_identifier", c.c_uint), ("text_position", c.c_int), ("length", c.c_int),
        ("audio_position", c.c_int), ("sample", c.c_int), ("user_data", c.c_void_p), ("id", _Id),
    )  # fmt: skip


_Callback = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.POINTER(_Event))


class Espeak:
    """The library, initialised; ``read`` may be called from one thread only."""

    def __init__(self) -> None:
        try:
            self._library = c.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise MissingSynthesiser("espeak-ng is missing: apt install libespeak-ng1") from error
        options = _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_DONT_EXIT
        self._rate_hz = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, None, options)
        self._samples: list[np.ndarray] = []
        self._events: list[tuple[int, int, int, str]] = []
        self._callback = _Callback(self._collect)  # the library keeps only a pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def read(self, words: list[str], voice: str, rate: int, pitch: int, pitch_range: int) -> Reading:
        """Read words aloud. ``rate`` in words a minute, pitch and range 0–99 (50 is usual)."""
        self._samples.clear()
        self._events.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        text = " ".join(words).encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        samples = soxr.resample(np.concatenate(self._samples), self._rate_hz, SAMPLE_RATE_HZ)
        return self._reading(words, samples)

    def _collect(self, wave: Any, n: int, events: Any) -> int:
        if wave and n > 0:
            self._samples.append(np.ctypeslib.as_array(wave, (n,)).copy())
        k = 0
        while events[k].type:
            event = events[k]
            name = event.id.string.decode() if event.type == _EVENT_PHONEME else ""
            self._events.append((event.type, event.text_position, event.audio_position, name))
            k += 1
        return 0

    def _reading(self, words: list[str], samples: np.ndarray) -> Reading:
        """Turn events, which carry starts, into phones with ends and words with both."""
        length_ms = len(samples) * 1000 // SAMPLE_RATE_HZ
        starts = [(name, at) for kind, _, at, name in self._events if kind == _EVENT_PHONEME]
        ends = [at for _, at in starts[1:]] + [length_ms]
        phones = [
            ("espeak:_" if n in _PAUSES else f"espeak:{n}", e) for (n, _), e in zip(starts, ends, strict=True)
        ]
        return Reading(samples, phones, self._word_times(words, starts, ends))

    def _word_times(
        self, words: list[str], starts: list[tuple[str, int]], ends: list[int]
    ) -> list[tuple[int, int]]:
        events = [(position, at) for kind, position, at, _ in self._events if kind == _EVENT_WORD]
        position, spans = 1, []
        for word in words:
            mine = [at for p, at in events if position <= p < position + len(word)]
            spans.append(self._span(mine[0], events, starts, ends) if mine else None)
            position += len(word) + 1
        return fill_gaps(spans)

    @staticmethod
    def _span(
        begin: int, events: list[tuple[int, int]], starts: list[tuple[str, int]], ends: list[int]
    ) -> tuple[int, int]:
        """Return the word that begins at ``begin`` ms: up to the next word, without the pause between."""
        limit = min((at for _, at in events if at > begin), default=ends[-1])
        heard = [
            e for (n, at), e in zip(starts, ends, strict=True) if begin <= at < limit and n not in _PAUSES
        ]
        return begin, min(heard[-1] if heard else limit, limit)
