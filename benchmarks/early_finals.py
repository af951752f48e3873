"""What reading finals early gains and costs, on a simulated clock: the same figures on any machine.

Clients send the recordings at real time as those of ``stream-server bench`` do, in chunks of 0.1 s. Detector
(Silero), sessions, queue and supervisor are the product's; the engine has a price for each batch instead of a
model: one for the batch, one for each window, and one for each twelfth final, as if the guard had it decoded
again. The defaults were chosen so that without early finals the hops are those that ``bench`` has measured
(``benchmarks/results/2026-11-21-limit.md``).

Compared are servers that count a pause from the last speech frame, or from where speech faded; that keep more
or less of the silence; and that read finals early, or do not. *final* and the hops are milliseconds at p50
and p95; *finals*, *early* and *partials* are what was decoded; *too early* is the share of early finals
behind which speech went on; *busy* that of the time in which the engine decodes.

Run: ``python -m benchmarks.early_finals [--sessions N …] [MANIFEST]``.
"""

import argparse
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from stream_server.audio.decoder import AudioFormat
from stream_server.cli.bench_material import write_material
from stream_server.client.latency import Arrival, closing_finals, percentile
from stream_server.config import SegmentsSection
from stream_server.core.actions import Submit
from stream_server.core.hops import Budget, Hops, budget_of
from stream_server.core.jobs import Batch, DecodeJob
from stream_server.core.messages import Final, Limits, SessionId, Start, Task, Tier
from stream_server.core.orders import Decode, Order, Results
from stream_server.core.scheduler import Scheduler
from stream_server.core.settings import ModelFacts, SessionSettings, Tiers
from stream_server.core.supervisor import Patience, Supervisor
from stream_server.core.transcription import Step, Transcription
from stream_server.dialects.schema import FinalEvent
from stream_server.engine.manifest import embedded_model
from stream_server.engine.threads import set_torch_threads
from stream_server.evaluation.references import parse_manifest
from stream_server.load.plan import SAMPLE_RATE_HZ, ClientPlan, Clip, make_plans, script_of
from stream_server.load.stream_audio import stream_chunks
from vad.audio import FRAME_SAMPLES, int16_to_float32
from vad.model import SileroVad
from vad.states import VadStates

HELDOUT = embedded_model().parent / "recordings" / "heldout" / "manifest.json"
SERVER = SegmentsSection().segmenter()
HOPS = ("pause", "vad", "queue", "decode")
RAMP_S = 15.0
CHUNK_SAMPLES = 1_600
TICK_S = 0.032
SCORE_S = 0.005
"""What the detector takes for a tick."""
BATCH_ROWS = 8
AGAIN_EVERY = 12
FACTS = ModelFacts("simulated", frozenset({"en"}), can_translate=False, can_time_words=True)
CANARY = DecodeJob(
    session=SessionId("canary"),
    segment=0,
    revision=1,
    final=False,
    start=0,
    pcm=bytes(2),
    language=None,
    task=Task.TRANSCRIBE,
    tier=Tier.LIVE,
    hops=Hops(),
)

Samples = NDArray[np.int16]


class Prices:
    """What the engine takes.

    Args:
        batch_ms: For each batch.
        window_ms: For each window in it.
        again_ms: More, for each twelfth final.
    """

    def __init__(self, batch_ms: float, window_ms: float, again_ms: float) -> None:
        self._batch_ms = batch_ms
        self._window_ms = window_ms
        self._again_ms = again_ms

    def seconds(self, batch: Batch) -> float:
        """Of one batch."""
        is_again = any(job.segment % AGAIN_EVERY == 0 for job in batch.jobs if job.final or job.early)
        total_ms = self._batch_ms + self._window_ms * batch.n_rows + self._again_ms * is_again
        return total_ms / 1000


class Client:
    """One stream, and what came back."""

    def __init__(self, plan: ClientPlan, settings: SessionSettings, scores: Sequence[float]) -> None:
        self.plan = plan
        session = SessionId(str(plan.number))
        self.stream = Transcription(session, Start(AudioFormat()), settings, plan.connect_s)
        self.finals: list[Arrival[FinalEvent]] = []
        self.budgets: list[tuple[float, Budget]] = []
        self._scores = scores
        self._n_scored = 0
        self._n_waiting = 0

    def hear(self, chunk: Samples, now_s: float) -> None:
        """Its next chunk has come."""
        self._n_waiting += len(self.stream.append(chunk, now_s))

    def score(self, now_s: float) -> list[Step]:
        """The detector has scored what had come."""
        first, self._n_scored = self._n_scored, self._n_scored + self._n_waiting
        self._n_waiting = 0
        return self.stream.push_scores(self._scores[first : self._n_scored], now_s)

    def note(self, final: Final, now_s: float) -> None:
        """A final has left."""
        at_s = now_s - self.plan.connect_s
        event = FinalEvent(
            seq=0,
            event=0,
            segment=final.segment,
            start=final.start / SAMPLE_RATE_HZ,
            end=final.end / SAMPLE_RATE_HZ,
            text=final.text,
            language=None,
            utterance_end=final.utterance_end,
        )
        self.finals.append(Arrival(event, at_s))
        assert final.hops is not None
        self.budgets.append((at_s, budget_of(final.hops, now_s)))


class Simulation:
    """A server and its clients.

    Args:
        clients: Before their first sample.
        audio: What each sends.
        prices: Of the engine.
    """

    def __init__(self, clients: Sequence[Client], audio: Sequence[Samples], prices: Prices) -> None:
        self.n_decoded: Counter[str] = Counter()
        self.busy_s = 0.0
        self._clients = clients
        self._audio = audio
        self._prices = prices
        self._supervisor = Supervisor(Scheduler(BATCH_ROWS, 10_000), [CANARY], Patience(heartbeat_s=1e6))
        self._due: list[tuple[float, int, object]] = []
        self._order = count()
        self._now_s = 0.0

    def run(self) -> float:
        """To the end of the last stream; returns when that was."""
        self._obey(self._supervisor.start(0.0))
        self._obey(self._supervisor.ready({Tier.LIVE: BATCH_ROWS}, 0.0))
        for number, client in enumerate(self._clients):
            for end in range(CHUNK_SAMPLES, client.plan.n_samples, CHUNK_SAMPLES):
                self._at(client.plan.connect_s + end / SAMPLE_RATE_HZ, (number, end))
        end_s = max(at_s for at_s, _, _ in self._due)
        for tick in range(round(end_s / TICK_S)):
            self._at(tick * TICK_S + SCORE_S, "tick")
        while self._due:
            self._now_s, _, what = heapq.heappop(self._due)
            self._happen(what)
        return end_s

    def _at(self, at_s: float, what: object) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), what))

    def _happen(self, what: object) -> None:
        match what:
            case (int(number), int(end)):
                self._clients[number].hear(self._audio[number][end - CHUNK_SAMPLES : end], self._now_s)
            case "tick":
                for client in self._clients:
                    self._take(client, client.score(self._now_s))
            case Batch():
                results = [job.answered(text="", language=None, now_s=self._now_s) for job in what.jobs]
                self._obey(self._supervisor.answered(results, BATCH_ROWS, self._now_s))

    def _take(self, client: Client, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Submit):
                self._obey(self._supervisor.submit(step.job, self._now_s))
            elif isinstance(step, Final):
                client.note(step, self._now_s)

    def _obey(self, orders: Sequence[Order]) -> None:
        for order in orders:
            match order:
                case Decode(batch):
                    self._decode(batch)
                case Results(results):
                    for result in results:
                        client = self._clients[int(result.session)]
                        self._take(client, client.stream.take(result, self._now_s))
                case _:
                    continue

    def _decode(self, batch: Batch) -> None:
        seconds = self._prices.seconds(batch)
        if batch.jobs != (CANARY,):
            self.busy_s += seconds
            kinds = ("early" if job.early else "final" if job.final else "partial" for job in batch.jobs)
            self.n_decoded.update(kinds)
        jobs = tuple(replace(job, hops=replace(job.hops, started_s=self._now_s)) for job in batch.jobs)
        self._at(self._now_s + seconds, Batch(jobs))


def load(manifest: Path, folder: Path) -> tuple[tuple[Clip, ...], memoryview]:
    """The recordings and their samples."""
    material, _ = write_material(
        parse_manifest(manifest.read_bytes(), manifest).usable, folder / "samples.pcm"
    )
    return material.clips, memoryview(material.samples.read_bytes())


def streams(plans: Sequence[ClientPlan], clips: Sequence[Clip], samples: memoryview) -> Iterator[Samples]:
    """What each client sends, int16 (n,), whole frames."""
    for plan in plans:
        chunks = stream_chunks(clips, plan.placed, samples, plan.n_samples, CHUNK_SAMPLES)
        audio = np.frombuffer(b"".join(chunks), dtype="<i2")
        yield audio[: len(audio) // FRAME_SAMPLES * FRAME_SAMPLES]


def score(audio: Sequence[Samples]) -> list[list[float]]:
    """Speech probabilities of each stream, frame by frame."""
    network, states = SileroVad(), VadStates()
    slots = np.array([states.open() for _ in audio], dtype=np.intp)
    n_frames = [len(one) // FRAME_SAMPLES for one in audio]
    scores: list[list[float]] = [[] for _ in audio]
    for frame in range(max(n_frames)):
        live = [i for i, n in enumerate(n_frames) if frame < n]
        span = slice(frame * FRAME_SAMPLES, (frame + 1) * FRAME_SAMPLES)
        rows = int16_to_float32(np.stack([audio[i][span] for i in live]))
        for i, probability in zip(live, network.score(rows, slots[live], states), strict=True):
            scores[i].append(float(probability))
    return scores


def _ms(seconds: Sequence[float]) -> str:
    return f"{1000 * percentile(seconds, 50):4.0f} {1000 * percentile(seconds, 95):4.0f}"


def _row(simulation: Simulation, clients: Sequence[Client], clips: Sequence[Clip], ran_s: float) -> str:
    latencies_s: list[float] = []
    budgets: list[Budget] = []
    for client in clients:
        from_s = RAMP_S - client.plan.connect_s
        timed = [said for said in script_of(clips, client.plan.placed).timed if said.end_s >= from_s]
        timed = [said for said in timed if said.end_s < client.plan.n_samples / SAMPLE_RATE_HZ - 1.0]
        latencies_s += [last.at_s - said.end_s for said, last in closing_finals(timed, client.finals)]
        budgets += [budget for at_s, budget in client.budgets if at_s >= from_s]
    hops = " ".join(f"{_ms([asdict(one)[name] for one in budgets]):>10}" for name in HOPS)
    decoded = simulation.n_decoded
    n_finals = sum(len(client.finals) for client in clients)
    n_early = decoded["early"]
    too_early = max(0.0, (n_early + decoded["final"] - n_finals) / n_early) if n_early else 0.0
    counts = " ".join(f"{decoded[kind]:>8}" for kind in ("final", "early", "partial"))
    return f"{_ms(latencies_s):>10} {hops} {counts} {too_early:>9.0%} {simulation.busy_s / ran_s:>6.0%}"


@dataclass(frozen=True, slots=True)
class Variant:
    """What is compared."""

    fade_ms: float
    post_roll_ms: float
    is_early: bool

    def settings(self) -> SessionSettings:
        """Of a server that does so."""
        return SessionSettings(
            tiers=Tiers({Tier.LIVE: FACTS}),
            limits=Limits(message_bytes=65_536, idle_s=60.0, ahead_s=60.0),
            segmenter=replace(SERVER, fade_ms=self.fade_ms, post_roll_ms=self.post_roll_ms),
            early_finals=self.is_early,
        )


VARIANTS = (
    Variant(0, 192, is_early=False),
    Variant(0, 192, is_early=True),
    Variant(SERVER.fade_ms, 192, is_early=True),
    Variant(SERVER.fade_ms, SERVER.post_roll_ms, is_early=True),
)


def compare(
    clips: Sequence[Clip], samples: memoryview, n_sessions: int, seconds: float, prices: Prices
) -> Iterator[str]:
    """One line for each variant, all of which hear the same."""
    plans = make_plans(clips, n_sessions, ramp_s=RAMP_S, measure_s=seconds, gap_s=1.0, seed=1)
    audio = list(streams(plans, clips, samples))
    scores = score(audio)
    for variant in VARIANTS:
        settings = variant.settings()
        clients = [Client(plan, settings, own) for plan, own in zip(plans, scores, strict=True)]
        simulation = Simulation(clients, audio, prices)
        row = _row(simulation, clients, clips, simulation.run())
        name = "yes" if variant.is_early else "no"
        yield f"{n_sessions:>8} {variant.fade_ms:>4g} {variant.post_roll_ms:>9g} {name:>5} {row}"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[8, 64, 80], help="clients at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured, with all clients live")
    parser.add_argument("--batch-ms", type=float, default=15.0, help="the engine's price of a batch")
    parser.add_argument("--window-ms", type=float, default=14.5, help="of each window in it")
    parser.add_argument("--again-ms", type=float, default=100.0, help="of a final that is decoded again")
    parser.add_argument("manifest", type=Path, nargs="?", default=HELDOUT, help="with word times")
    asked = parser.parse_args()
    set_torch_threads(1)
    prices = Prices(asked.batch_ms, asked.window_ms, asked.again_ms)
    hops = " ".join(f"{name:>10}" for name in ("final, ms", *HOPS))
    counts = "   finals    early partials too early   busy"
    print(f"sessions fade post-roll early {hops}{counts}")
    with TemporaryDirectory() as folder:
        clips, samples = load(asked.manifest, Path(folder))
        for n_sessions in asked.sessions:
            for line in compare(clips, samples, n_sessions, asked.seconds, prices):
                print(line, flush=True)


if __name__ == "__main__":
    main()
