"""Speech detection for all sessions at once, against one call per session, in the same run.

For each number of sessions it takes a tick as the stage does, ``VadStage``'s own work included: a frame of
each session handed in, stacked, scored in one call, given back. Beside it, in turns, the same frames in
one call per session, as servers do whose detector keeps the state of one stream. One torch thread; both
are timed by the thread's own processor time, so that other load on the machine stretches neither much.
A core has 32 ms for a tick, hence sessions per core. Last, one stream whose frames come several at a time, as
those of a file do. Run: ``python -m benchmarks.vad``.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from stream_server.cli.machine import cpu_name
from stream_server.core.messages import SessionId
from stream_server.vad_stage import Scores, VadStage
from vad.audio import int16_to_float32
from vad.framing import Framer
from vad.model import SileroVad
from vad.states import VadStates

FRAME_S = 0.032
SIZES = (1, 4, 16, 64, 128, 256, 512)
SINGLES = 32
"""Calls of one session that a turn times; their cost does not depend on how many follow."""
RUNS = (1, 3, 32)
"""Frames of one stream at once: 3 are what a chunk of 100 ms brings, 32 the most of a tick."""
SPEECH_FROM = 40
"""A frame of the dialogue in its first sentence; before it the detector may rest."""
AIM_SESSIONS = 700
AIM_RATIO = 10.0


def speech_frames(n_streams: int, n_frames: int) -> NDArray[np.int16]:
    """int16 (n_frames, n_streams, 512): the included dialogue, each stream from another place."""
    path = resources.files("stream_server") / "assets" / "recordings" / "dialogue.flac"
    frames = Framer().push(soundfile.read(str(path), dtype="int16")[0])
    index = (np.arange(n_frames)[:, None] + 37 * np.arange(n_streams)[None, :]) % len(frames)
    return frames[index]


class Together:
    """Ticks of the stage, driven without its thread."""

    def __init__(self, network: SileroVad, frames: NDArray[np.int16]) -> None:
        self._posted: list[Scores] = []
        self._stage = VadStage(network, self._posted.append, lambda: None)
        self._sessions = [SessionId(f"{i:032x}") for i in range(frames.shape[1])]
        self._frames = frames
        self._n_ticks = 0

    def __call__(self) -> None:
        """One tick."""
        for session, frame in zip(
            self._sessions, self._frames[self._n_ticks % len(self._frames)], strict=True
        ):
            self._stage.submit(session, frame[None])
        self._stage.tick()
        self._n_ticks += 1
        scores = self._posted.pop()
        assert len(scores) == len(self._sessions)


class OneByOne:
    """One call for each session."""

    def __init__(self, network: SileroVad, frames: NDArray[np.int16]) -> None:
        self._network = network
        self._frames = int16_to_float32(frames[:, : min(SINGLES, frames.shape[1])])
        self.n_sessions = self._frames.shape[1]
        self._states = VadStates()
        self._slots = [np.array([self._states.open()], dtype=np.intp) for _ in range(self.n_sessions)]
        self._n_ticks = 0

    def __call__(self) -> None:
        """One tick."""
        row = self._frames[self._n_ticks % len(self._frames)]
        for slot, frame in zip(self._slots, row, strict=True):
            self._network.score(frame[None], slot, self._states)
        self._n_ticks += 1


class Run:
    """The next frames of one stream, in one call."""

    def __init__(self, network: SileroVad, frames: NDArray[np.int16]) -> None:
        self._network = network
        self._frames = int16_to_float32(frames[:, 0])
        self._states = VadStates()
        self._slots = np.full(len(frames), self._states.open(), dtype=np.intp)

    def __call__(self) -> None:
        """One call."""
        self._network.score(self._frames, self._slots, self._states)


def timed_s(step: Callable[[], None]) -> float:
    """Processor time of this thread."""
    began_s = time.thread_time()
    step()
    return time.thread_time() - began_s


def largest_difference(network: SileroVad, frames: NDArray[np.int16]) -> float:
    """Between scores of all streams together and of each alone, over the first streams."""
    n_streams = min(16, frames.shape[1])
    states = VadStates()
    slots = np.array([states.open() for _ in range(frames.shape[1])], dtype=np.intp)
    together = np.stack([network.score(int16_to_float32(row), slots, states) for row in frames])
    alone = np.stack([network.score_stream(int16_to_float32(frames[:, i])) for i in range(n_streams)], axis=1)
    return float(np.abs(together[:, :n_streams] - alone).max())


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ticks", type=int, default=60, help="ticks of each size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = SileroVad()
    network.warm_up()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {cpu_name()}, torch {torch.__version__}, 1 thread, median of ticks")
    print("sessions   us a frame   sessions a core   one call each, us   ratio   largest difference")
    for size in SIZES:
        frames = speech_frames(size, options.ticks)
        together, single = Together(network, frames), OneByOne(network, frames)
        for step in (together, single):
            for _ in range(3):
                step()
        batch_s: list[float] = []
        single_s: list[float] = []
        for _ in range(options.ticks):
            batch_s.append(timed_s(together) / size)
            single_s.append(timed_s(single) / single.n_sessions)
        batch, one = statistics.median(batch_s), statistics.median(single_s)
        difference = largest_difference(network, frames[:40])
        print(
            f"{size:8}{1e6 * batch:13.1f}{FRAME_S / batch:18.0f}{1e6 * one:20.1f}{one / batch:8.1f}"
            f"{difference:21.1e}"
        )
        if size == 256:
            is_reached = FRAME_S / batch >= AIM_SESSIONS and one / batch >= AIM_RATIO
            verdict = "reached" if is_reached else "NOT reached"
            print(f"         aim at 256: {AIM_SESSIONS} sessions a core, {AIM_RATIO:g} times: {verdict}")
    print("one stream, frames a call   us a frame   times real time")
    runs = [(n, Run(network, speech_frames(1, SPEECH_FROM + n)[SPEECH_FROM:])) for n in RUNS]
    run_s: dict[int, list[float]] = {n: [] for n in RUNS}
    for _ in range(3 + options.ticks):
        for n, run in runs:
            run_s[n].append(timed_s(run) / n)
    for n, samples in run_s.items():
        each = statistics.median(samples[3:])
        print(f"{n:26}{1e6 * each:13.1f}{FRAME_S / each:18.0f}")


if __name__ == "__main__":
    main()
