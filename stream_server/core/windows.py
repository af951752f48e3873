"""The audio of one session, and the windows of it that are decoded: which samples, by which model, how."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream_server.core.audio_window import AudioWindow
from stream_server.core.hops import FrameTimes, Hops
from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import SessionId, Start
from stream_server.core.second_look import Span
from stream_server.core.settings import SessionSettings
from vad.audio import FRAME_SAMPLES
from vad.events import SegmentClosed
from vad.framing import Framer


class Windows:
    """What was received of one session, and the jobs that read it.

    Args:
        session: Whose it is.
        start: What the client asked for, which the model can do.
        settings: Of the server.
        now_s: Monotonic seconds, as in every method.
    """

    def __init__(self, session: SessionId, start: Start, settings: SessionSettings, now_s: float) -> None:
        self._session = session
        self._start = start
        self._tiers = settings.tiers
        self._framer = Framer()
        self._frame_times = FrameTimes()
        self.audio = AudioWindow()
        """What may still be decoded."""
        self.tier = self._tiers.asked(start)
        """The model that reads the open utterance."""
        self.heard_s = now_s
        """When the message came that decides what is asked for next."""

    @property
    def n_frames(self) -> int:
        """Frames given out to score."""
        return self._framer.n_frames

    def append(self, samples: NDArray[np.int16], now_s: float) -> NDArray[np.int16]:
        """Take the stream's next samples, int16 (n,); returns the frames to score, int16 (k, 512)."""
        self.audio.append(samples)
        return self._timed(self._framer.push(samples), now_s)

    def end_audio(self, now_s: float) -> NDArray[np.int16]:
        """No more samples come; returns the last frame to score, padded."""
        return self._timed(self._framer.finish(), now_s)

    def _timed(self, frames: NDArray[np.int16], now_s: float) -> NDArray[np.int16]:
        self._frame_times.append(len(frames), now_s)
        return frames

    def hear(self, frame: int) -> None:
        """The scores have come to this frame: what it was received with decides."""
        self.heard_s = self._frame_times.at(frame)

    def forget_before(self, frame: int, look_from: int | None) -> None:
        """Forget what no segment from ``frame`` on needs, nor a second look from that sample on."""
        position = frame * FRAME_SAMPLES
        self.audio.forget_before(position if look_from is None else min(position, look_from))
        self._frame_times.forget_before(frame)

    def bounds(self, start_frame: int, end_frame: int) -> tuple[int, int]:
        """Frames to samples; the last frame of a stream may be padded beyond what was received."""
        return start_frame * FRAME_SAMPLES, min(end_frame * FRAME_SAMPLES, self.audio.end)

    # ------------------------------------------------------------ jobs

    def partial(
        self, segment: int, start: int, end: int, now_s: float, *, revision: int, draft: tuple[int, ...]
    ) -> DecodeJob:
        """The job for a partial of these samples."""
        received_s = self._frame_times.at((end - 1) // FRAME_SAMPLES)
        return DecodeJob(
            session=self._session,
            segment=segment,
            revision=revision,
            final=False,
            start=start,
            pcm=self.audio.read(start, end),
            language=self._start.language,
            task=self._start.task,
            tier=self.tier,
            hops=Hops(received_s, self.heard_s, now_s),
            draft=draft,
            generation=self._tiers.generation,
        )

    def final(
        self,
        segment: SegmentClosed,
        start: int,
        now_s: float,
        *,
        revision: int,
        draft: tuple[int, ...],
        needs_times: bool,
    ) -> DecodeJob:
        """The job for the final of a segment, from that sample on.

        What costs several rows or another pass is for finals alone: what a partial says is soon replaced.
        """
        _, end = self.bounds(segment.start_frame, segment.end_frame)
        job = self.partial(segment.segment, start, end, now_s, revision=revision, draft=draft)
        received_s = self._frame_times.at(segment.last_speech_frame)
        return replace(
            job,
            final=True,
            hops=replace(job.hops, received_s=received_s),
            word_times=needs_times or self._start.words,
            beam=self._start.beam,
        )

    def look(self, span: Span, final: DecodeJob) -> DecodeJob:
        """The job for a second look at segments, given that for the final of the last."""
        return replace(
            final,
            segment=span.last,
            revision=0,
            start=span.start,
            pcm=self.audio.read(span.start, span.end),
            draft=(),
            word_times=self._start.words,
            n_segments=span.n_segments,
        )

    # ------------------------------------------------------------ models

    def choose_model(self) -> bool:
        """An utterance begins; returns whether the model that reads it can tell when words were said."""
        self.tier = self._tiers.choose(self._start)
        return self._tiers.facts[self.tier].can_time_words

    def stand_in(self, result: DecodeResult) -> str | None:
        """The name of the model that read this if it is not the one that the client was told of."""
        asked = self._tiers.asked(self._start)
        return None if result.tier is asked else self._tiers.facts[result.tier].name
