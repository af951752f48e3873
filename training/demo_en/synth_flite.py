"""flite through its C library: audio, phones and word times from the utterance's relations."""

from __future__ import annotations

import ctypes as c
from typing import Any

import numpy as np

from .reading import MissingSynthesiser, Reading, fill_gaps

VOICES = ("slt", "rms", "awb", "kal16")
VOICE_SHARES = (0.32, 0.26, 0.24, 0.18)
USUAL_PITCH_HZ = {"slt": 170.0, "rms": 105.0, "awb": 130.0, "kal16": 105.0}
_TOKEN_OF_SEGMENT = b"R:SylStructure.parent.parent.R:Token.parent.name"


class _Wave(c.Structure):
    _fields_ = (
        ("type", c.c_char_p), ("sample_rate", c.c_int), ("num_samples", c.c_int), ("num_channels", c.c_int),
        ("samples", c.POINTER(c.c_short)),
    )  # fmt: skip


class Flite:
    """The library with its four voices; ``read`` may be called from one thread only."""

    def __init__(self) -> None:
        try:
            self._library = c.CDLL("libflite.so.1", mode=c.RTLD_GLOBAL)
            for name in ("libflite_cmulex.so.1", "libflite_usenglish.so.1"):
                c.CDLL(name, mode=c.RTLD_GLOBAL)
            self._library.flite_init()
            self._voices = {name: self._register(name) for name in VOICES}
        except OSError as error:
            raise MissingSynthesiser("flite is missing: apt install flite") from error
        self._declare()

    def read(self, words: list[str], voice: str, stretch: float, pitch_hz: float) -> Reading:
        """Read words aloud; ``stretch`` above 1 is slower."""
        pointer = self._voices[voice]
        features = c.c_void_p.from_address(pointer + c.sizeof(c.c_void_p))  # cst_voice: name, features
        self._set_float(features, b"duration_stretch", stretch)
        self._set_float(features, b"int_f0_target_mean", pitch_hz)
        utterance = self._synth(" ".join(words).encode(), pointer)
        try:
            wave = _Wave.from_address(self._wave(utterance))
            samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
            segments = self._segments(utterance)
        finally:
            self._delete(utterance)
        phones = [(f"arpa:{name}", end) for name, end, _ in segments]
        return Reading(samples, phones, word_times(words, segments))

    def _segments(self, utterance: int) -> list[tuple[str, int, int]]:
        """Return (phone, end in ms, number of its token or -1) for each segment."""
        found, item, tokens, last = [], self._head(self._relation(utterance, b"Segment")), -1, 0
        while item:
            name = self._string(item, b"name").decode()
            token = self._string(item, _TOKEN_OF_SEGMENT)
            if token != b"0":
                address = self._token_address(item)
                tokens, last = (tokens, last) if address == last else (tokens + 1, address)
            found.append((name, round(1000 * self._float(item, b"end")), tokens if token != b"0" else -1))
            item = self._next(item)
        return found

    def _token_address(self, segment: int) -> int:
        """Return the address of the token that a segment belongs to, which tells equal words apart."""
        in_structure = self._item_as(segment, b"SylStructure")
        word = self._parent(self._parent(in_structure))
        return int(self._parent(self._item_as(word, b"Token")) or 0)

    def _register(self, name: str) -> int:
        library = c.CDLL(f"libflite_cmu_us_{name}.so.1", mode=c.RTLD_GLOBAL)
        register = getattr(library, f"register_cmu_us_{name}")
        register.restype, register.argtypes = c.c_void_p, (c.c_char_p,)
        return int(register(None))

    def _declare(self) -> None:
        pointer, text = c.c_void_p, c.c_char_p
        self._synth = self._function("flite_synth_text", pointer, text, pointer)
        self._wave = self._function("utt_wave", pointer, pointer)
        self._delete = self._function("delete_utterance", None, pointer)
        self._relation = self._function("utt_relation", pointer, pointer, text)
        self._head = self._function("relation_head", pointer, pointer)
        self._next = self._function("item_next", pointer, pointer)
        self._parent = self._function("item_parent", pointer, pointer)
        self._item_as = self._function("item_as", pointer, pointer, text)
        self._string = self._function("ffeature_string", text, pointer, text)
        self._float = self._function("ffeature_float", c.c_float, pointer, text)
        self._set_float = self._function("feat_set_float", None, pointer, text, c.c_float)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(self._library, name)
        function.restype, function.argtypes = result, arguments
        return function


def word_times(words: list[str], segments: list[tuple[str, int, int]]) -> list[tuple[int, int]]:
    """Return each word's start and end in ms; flite's tokens are our words, in order."""
    spans: list[tuple[int, int] | None] = [None] * len(words)
    before = 0
    for _, end, token in segments:
        if 0 <= token < len(words):
            start = before if (span := spans[token]) is None else span[0]
            spans[token] = (start, end)
        before = end
    return fill_gaps(spans)
