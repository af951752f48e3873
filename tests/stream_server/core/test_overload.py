"""A whole server under more and more load, on a simulated clock: what degrades, in which order, and that it
comes back. Hub, sessions and scheduler are the product's; the engine has a price for each batch."""

from dataclasses import dataclass, field

from driver import SETTINGS, Client, HubWorld, answer

from stream_server.core.admission import Admission, AdmissionLimits
from stream_server.core.held_jobs import HeldJobs
from stream_server.core.jobs import Batch
from stream_server.core.messages import Audio, Final, Finish, Finished, Lag, Partial
from stream_server.core.scheduler import Scheduler
from stream_server.engine.fake import numbered_speech

N_SESSIONS = 8
FRAME_S = 0.032
BATCH_MAX = 8


@dataclass
class Speaker:
    """Somebody who speaks without a pause, and when the captions came."""

    client: Client
    backlog: list[int] = field(default_factory=list)
    n_said: int = 0
    partials_s: list[float] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    finals: list[tuple[float, float]] = field(default_factory=list)
    """When it came, and how long after the last of it was spoken."""


class Simulation:
    """Eight speakers at real time and an engine whose batch of n jobs takes ``price · (1 + 2 n)`` / 100 s."""

    def __init__(self) -> None:
        self.world = HubWorld(SETTINGS, outbox_wait_s=1e9)
        self.scheduler = Scheduler(BATCH_MAX, finals_max=4)
        self.world.decoder = self.scheduler  # type: ignore[assignment]  all that is asked of it is there
        self.world.hub._jobs = HeldJobs(self.scheduler)
        self.speakers = [Speaker(self.world.open(str(number))) for number in range(N_SESSIONS)]
        self.start_s = self.world.now_s
        self.batch: Batch | None = None
        self.done_s = 0.0
        self.n_frames = 0

    def run(self, seconds: float, price: float, *, speaks: bool = True) -> float:
        """Let time pass; returns when that was over."""
        for _ in range(round(seconds / FRAME_S)):
            self.world.now_s += FRAME_S
            self.n_frames += 1
            for speaker in self.speakers:
                if speaks:
                    speaker.backlog.append(speaker.n_said)
                    speaker.n_said += 1
                self._send(speaker)
            self._decode(price)
            if self.n_frames % 31 == 0:
                self.world.hub.tick(self.world.now_s)
            for speaker in self.speakers:
                self._read(speaker)
        return self.world.now_s

    def _send(self, speaker: Speaker) -> None:
        """A microphone's buffer holds what the socket does not take."""
        client = speaker.client
        while speaker.backlog and client.seat.session.wants_audio:
            client.say(Audio(numbered_speech([speaker.backlog.pop(0)]).tobytes()))
            self.world.score(client.id)

    def _decode(self, price: float) -> None:
        now_s = self.world.now_s
        while self.batch is None or self.done_s <= now_s:
            if self.batch is not None:
                results = [answer(job, self.done_s) for job in self.batch.jobs]
                self.batch = None
                for result in results:
                    self.world.hub.receive_result(result, now_s)
            self.batch = self.scheduler.next_batch()
            if self.batch is None:
                return
            self.done_s = now_s + price * (1 + 2 * len(self.batch.jobs)) / 100

    def _read(self, speaker: Speaker) -> None:
        now_s = self.world.now_s
        while (numbered := speaker.client.seat.outbox.pop()) is not None:
            speaker.client.seen.append(numbered)
            match numbered.event:
                case Partial():
                    speaker.partials_s.append(now_s)
                case Lag():
                    speaker.lags_s.append(now_s)
                case Final(end=end):
                    speaker.finals.append((now_s, now_s - self.start_s - end / 16_000))

    def partials_per_s(self, start_s: float, end_s: float) -> float:
        """Of one speaker, on average."""
        times = [at for speaker in self.speakers for at in speaker.partials_s if start_s < at <= end_s]
        return len(times) / (end_s - start_s) / N_SESSIONS

    def n_lags(self, start_s: float, end_s: float) -> int:
        return sum(start_s < at <= end_s for speaker in self.speakers for at in speaker.lags_s)

    def slowest_final_s(self, start_s: float, end_s: float) -> float:
        return max(late for s in self.speakers for at, late in s.finals if start_s < at <= end_s)


def test_partials_stretch_then_stop_then_clients_wait_and_all_of_it_comes_back() -> None:
    simulation = Simulation()
    begun = simulation.start_s
    light = simulation.run(30, price=0.5)
    busy = simulation.run(30, price=8)
    full = simulation.run(60, price=13)
    over = simulation.run(40, price=40)
    settled = simulation.run(60, price=0.5)
    end = simulation.run(30, price=0.5)

    # Partials come less often, and finals a batch later.
    assert simulation.partials_per_s(begun, light) > 1.5
    assert 0.2 < simulation.partials_per_s(light, busy) < 0.9 * simulation.partials_per_s(begun, light)
    assert simulation.slowest_final_s(begun, light) < 0.5
    assert simulation.slowest_final_s(light, busy) < 4
    assert simulation.n_lags(begun, full) == 0
    # Then hardly any partial comes, and finals still do; nobody is told anything.
    assert simulation.partials_per_s(busy, full) < 0.5 * simulation.partials_per_s(light, busy)
    assert simulation.slowest_final_s(busy, full) < 6
    # Then finals are more than the engine can do: clients are told and held back.
    assert simulation.n_lags(full, over) > 0
    assert simulation.partials_per_s(full + 20, over) < 0.05
    # And when the load is gone, it is as it was.
    assert simulation.n_lags(settled, end) == 0
    assert simulation.slowest_final_s(settled, end) < 0.5
    assert simulation.partials_per_s(settled, end) > 1.5

    for speaker in simulation.speakers:
        speaker.client.say(Finish())
    simulation.run(10, price=0.5, speaks=False)
    for speaker in simulation.speakers:
        assert isinstance(speaker.client.events[-1], Finished)
        assert speaker.client.numbers == list(range(speaker.n_said))


def test_a_full_server_sends_further_clients_away_until_somebody_leaves() -> None:
    admission = Admission(AdmissionLimits(sessions_max=N_SESSIONS, sessions_per_identity=N_SESSIONS))
    for _ in range(N_SESSIONS):
        assert admission.admit("all", 0.0) is None
    refused = admission.admit("late", 0.0)
    assert refused is not None
    assert (refused.status, refused.retry_after_s) == (503, 10)
    admission.release("all")
    assert admission.admit("late", 10.0) is None
