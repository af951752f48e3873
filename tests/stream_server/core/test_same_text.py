"""The same speech, however it is sent, gives the same text and never costs more than its limits.

Speech is a melody, whose notes outlive telephone codes and resamplers; VAD and engine are a listener that
writes them down. What it writes of the plain case is what it must write of all others.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import pytest
from driver import SETTINGS
from numpy.typing import NDArray

from stream_server.audio.decoder import AudioFormat, Encoding
from stream_server.audio.g711 import ALAW_TO_INT16, MULAW_TO_INT16
from stream_server.core.actions import Action, Score, Send, Submit
from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import Audio, Final, Finish, Finished, SessionId, Start
from stream_server.core.session import Session
from vad.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ

NOTES_HZ = (500.0, 750.0, 1_000.0, 1_250.0, 1_500.0, 1_750.0, 2_000.0, 2_250.0)
NOTE_FRAMES = 8
REST_FRAMES = 30
LOUD = 0.05
"""Of full scale: a frame below is silence."""
MELODIES = ("ABCDEFGH", "HFDB", "ACEGACEGACEG", "BA")
"""Utterances of 0.5 to 3 s, no note twice in a row."""
PLAIN = AudioFormat()


def played(rate_hz: int, melodies: Sequence[str] = MELODIES) -> NDArray[np.float64]:
    """Melodies with rests between them, at any rate: float64 (n,)."""
    frame = FRAME_SAMPLES * rate_hz // SAMPLE_RATE_HZ
    parts = [np.zeros(REST_FRAMES * frame)]
    for melody in melodies:
        for note in melody:
            t = np.arange(NOTE_FRAMES * frame) / rate_hz
            parts.append(0.5 * np.sin(2 * np.pi * NOTES_HZ["ABCDEFGH".index(note)] * t))
        parts.append(np.zeros(REST_FRAMES * frame))
    return np.concatenate(parts)


def notes_in(samples: NDArray[np.int16]) -> str:
    """What is heard in whole frames, int16 (n,)."""
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES) / 32_768
    spectra = np.abs(np.fft.rfft(frames, axis=1))
    heard = spectra.argmax(axis=1) * SAMPLE_RATE_HZ / FRAME_SAMPLES
    nearest = np.abs(heard[:, None] - np.array(NOTES_HZ)).argmin(axis=1)
    is_loud = np.abs(frames).mean(axis=1) >= LOUD
    written = [" ABCDEFGH"[1 + note] if loud else "" for note, loud in zip(nearest, is_loud, strict=True)]
    return "".join(note for note, _ in groupby(written))


class Listener:
    """A session with a VAD and an engine that are told how often to answer, and what waits at most."""

    def __init__(self, audio: AudioFormat) -> None:
        self.session = Session(SessionId("s"), SETTINGS, 0.0)
        self.now_s = 0.0
        self.finals: list[str] = []
        self.is_finished = False
        self.held_s_max = 0.0
        """Most audio that the session ever kept."""
        self.n_unread = 0
        """How often the server would have left the socket unread."""
        self._frames: list[NDArray[np.int16]] = []
        self._jobs: list[DecodeJob] = []
        self._take(self.session.receive(Start(audio), 0.0))

    def hear(self, data: bytes) -> None:
        """The client sends bytes, in one message, if the server reads them."""
        if not self.session.wants_audio:
            self.n_unread += 1
            self.answer()
        self._take(self.session.receive(Audio(data), self.now_s))

    def answer(self) -> None:
        """VAD and engine do what waits for them."""
        while self._frames or self._jobs:
            if self._frames:
                frames, self._frames = np.concatenate(self._frames), []
                loud = np.abs(frames.astype(np.float64)).mean(axis=1) >= LOUD * 32_768
                self._take(self.session.receive_scores(loud.astype(float).tolist(), self.now_s))
            if self._jobs:
                job = self._jobs.pop(0)
                text = notes_in(np.frombuffer(bytes(job.pcm), dtype="<i2"))
                result = job.answered(text=text, language="en", now_s=self.now_s)
                self._take(self.session.receive_result(result, self.now_s))

    def finish(self) -> list[str]:
        """The client has sent everything; returns what was said."""
        self._take(self.session.receive(Finish(), self.now_s))
        self.answer()
        assert self.is_finished
        return self.finals

    def _take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Score(frames):
                    self._frames.append(frames)
                case Submit(job):
                    # A newer partial takes the place of one that waits, as in the scheduler.
                    self._jobs = [one for one in self._jobs if one.final]
                    self._jobs.append(job)
                case Send(numbered) if isinstance(numbered.event, Final):
                    self.finals.append(numbered.event.text)
                case Send(numbered):
                    self.is_finished |= isinstance(numbered.event, Finished)
                case _:
                    continue
        if self.session._transcription is not None:
            audio = self.session._transcription._windows.audio
            self.held_s_max = max(self.held_s_max, (audio.end - audio.start) / SAMPLE_RATE_HZ)


def in_chunks(data: bytes, n_bytes: int) -> Iterator[bytes]:
    return (data[at : at + n_bytes] for at in range(0, len(data), n_bytes))


def as_int16(samples: NDArray[np.float64]) -> bytes:
    return np.rint(samples * 32_767).astype("<i2").tobytes()


def coded(samples: NDArray[np.float64], table: NDArray[np.int16]) -> bytes:
    """G.711: for each sample the code of the nearest value."""
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.float64)
    middles = (values[1:] + values[:-1]) / 2
    return order[np.searchsorted(middles, samples * 32_767)].astype(np.uint8).tobytes()


def stereo_float(samples: NDArray[np.float64]) -> bytes:
    """Two channels, louder and softer, whose mean is the melody."""
    return np.stack([1.2 * samples, 0.8 * samples], axis=1).astype("<f4").tobytes()


def test_the_plain_case_says_every_note_once() -> None:
    listener = Listener(PLAIN)
    for chunk in in_chunks(as_int16(played(16_000)), 3_200):
        listener.hear(chunk)
        listener.answer()
    assert listener.finish() == list(MELODIES)
    assert listener.held_s_max < 6


def test_bytes_one_by_one_say_the_same() -> None:
    listener = Listener(PLAIN)
    for i, byte in enumerate(as_int16(played(16_000, ["BA"]))):
        listener.hear(bytes([byte]))
        if i % 1_024 == 0:
            listener.answer()
    assert listener.finish() == ["BA"]
    assert listener.held_s_max < 2


FLOAT = AudioFormat(Encoding.PCM_F32LE, 48_000, 2)
MULAW, ALAW = AudioFormat(Encoding.MULAW, 8_000), AudioFormat(Encoding.ALAW, 8_000)


@pytest.mark.parametrize(
    ("audio", "data", "n_bytes"),
    [
        pytest.param(PLAIN, as_int16(played(16_000)), 10 * 32_000, id="10 s at once"),
        pytest.param(FLOAT, stereo_float(played(48_000)), 4_801, id="48 kHz stereo float"),
        pytest.param(MULAW, coded(played(8_000), MULAW_TO_INT16), 160, id="mu-law"),
        pytest.param(ALAW, coded(played(8_000), ALAW_TO_INT16), 160, id="A-law"),
    ],
)
def test_the_same_speech_in_another_form_says_the_same(audio: AudioFormat, data: bytes, n_bytes: int) -> None:
    listener = Listener(audio)
    for chunk in in_chunks(data, n_bytes):
        listener.hear(chunk)
        listener.answer()
    assert listener.finish() == list(MELODIES)
    assert listener.held_s_max < 6 + n_bytes / (audio.bytes_per_frame * audio.sample_rate_hz)


def test_ten_seconds_at_once_after_ten_seconds_are_not_read_before_the_engine_has_caught_up() -> None:
    """``limits.ahead_s``: what is sent beyond it stays in the socket, and nothing of it is lost."""
    listener, data = Listener(PLAIN), as_int16(np.tile(played(16_000), 6))
    for chunk in in_chunks(data, 65_536):
        listener.hear(chunk)  # Answers only when the session wants no more.
    assert listener.finish() == [*MELODIES] * 6
    assert listener.n_unread > 2
    # What waits, the message that was one too many, and a segment that is open.
    assert listener.held_s_max < SETTINGS.limits.ahead_s + 65_536 / 32_000 + 5.5


@pytest.mark.parametrize("level", [pytest.param(0, id="digital"), pytest.param(8, id="faint noise")])
def test_an_hour_of_silence_before_speech_costs_nothing_and_changes_nothing(level: int) -> None:
    listener = Listener(PLAIN)
    noise = np.random.default_rng(1).integers(-level, level + 1, 10 * SAMPLE_RATE_HZ).astype("<i2").tobytes()
    for _ in range(360):
        listener.now_s += 10
        listener.hear(noise)
        listener.answer()
    assert listener.finals == []
    assert listener.held_s_max < 10 + 0.3  # The pre-roll, and less than a frame.
    for chunk in in_chunks(as_int16(played(16_000)), 3_200):
        listener.hear(chunk)
        listener.answer()
    assert listener.finish() == list(MELODIES)
