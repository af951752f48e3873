"""When the engine's worker is started, asked, checked, killed, started again and given up.

The supervisor owns the queue and the life of one worker process, and touches neither process nor clock:
it is told what happened and answers with orders for its owner. Rules, each a test:

1. One thing at a time is under way in the worker: loading, a check, or a batch. A free worker and a
   waiting job never meet: no batch waits for company.
2. A worker that has loaded gets no job before each of its models has answered the *canary*, a window whose
   answer is known. A model's first answer ever is what all later ones, of any worker, must equal; another
   one ends the worker.
3. A worker without work is checked by a canary every ``heartbeat_s``, its models in turn, one with work a
   sixth as often; a slow model less often, so that checks take at most 5 % of an idle and 1 % of a busy
   worker's time.
4. Whatever is under way has a time limit; a worker that exceeds it is killed. The limit of a batch grows
   with the number of its jobs and the time that its model's canary took.
5. When a worker dies, the jobs of its batch are queued again, but for those of sessions that left. The
   results of a batch come all together or not at all, so none is lost and none comes twice.
6. These jobs are then decoded alone (``Scheduler.restore``). A segment whose jobs were alone in two deaths
   is convicted: its final is reported as undecodable, and its partials are dropped.
7. The next worker is started after a pause that doubles with each death of the last ``restarts_within_s``.
8. A final that an early job under way foretells is not queued: that job is the final from then on.
9. The supervisor gives up, once and for good, when a worker dies before any was ready, after more than
   ``restarts`` deaths in ``restarts_within_s``, or when a killed worker does not go away.
"""

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import assert_never

from stream_server.core.jobs import Batch, DecodeJob, DecodeResult
from stream_server.core.messages import SessionId, Tier
from stream_server.core.orders import (
    Death,
    Decode,
    GaveUp,
    KillWorker,
    Order,
    Restarting,
    Results,
    StartWorker,
    Undecodable,
)
from stream_server.core.scheduler import Scheduler

BUSY_FACTOR = 6
"""A worker with work proves by its results that it lives, not that they are right."""
IDLE_CHECKS_MAX = 20
BUSY_CHECKS_MAX = 100
"""Canaries that fit in the time between two: the share of the checks is the inverse."""
CANARIES_PER_ROW = 10
"""A job may take this many times as long as the canary: its text can be longer, and a final may be decoded
at several temperatures."""
PAUSE_S = 0.25
PAUSE_S_MAX = 10.0
"""Before a restart: the first of a row, and the longest."""
GOING_S = 10.0
"""How long a killed process may stay: one that hangs in a driver's call does not go at all."""
CONVICTED = 2
"""Deaths of a job alone that are no accident."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker may take, and how often it may die."""

    hang_s: float = 30.0
    """A batch or a check may take this long and ``CANARIES_PER_ROW`` canaries for each row."""
    load_s: float = 300.0
    """From the start of the process to its first answer."""
    heartbeat_s: float = 10.0
    restarts: int = 5
    restarts_within_s: float = 300.0


class _Phase(Enum):
    """What the worker does."""

    ABSENT = auto()
    """Not started, or dead and soon started again."""
    LOADING = auto()
    CHECKED = auto()
    """The canary is under way."""
    FREE = auto()
    DECODING = auto()
    GOING = auto()
    """Killed, and not yet gone."""
    GIVEN_UP = auto()


class Supervisor:
    """The queue before one worker, and that worker's life.

    Args:
        scheduler: The queue; owned by the supervisor.
        canaries: A window of no session for each loaded model, to be decoded alone.
        patience: Limits.
    """

    def __init__(self, scheduler: Scheduler, canaries: Sequence[DecodeJob], patience: Patience) -> None:
        self._scheduler = scheduler
        self._canaries = deque(canaries)
        """The first is the next to be asked."""
        self._n_unproven = 0
        """Models of this worker that have not answered theirs."""
        self._patience = patience
        self._phase = _Phase.ABSENT
        self._due_s: float | None = None
        self._began_s = 0.0
        self._sent: tuple[DecodeJob, ...] = ()
        self._left: set[SessionId] = set()
        self._known_answers: dict[Tier, tuple[str, tuple[int, ...]]] = {}
        self._is_proven = False
        self._has_been_ready = False
        self._checked_s = 0.0
        self._cause: Death | None = None
        self._deaths_s: deque[float] = deque()
        self._deaths_alone: Counter[tuple[SessionId, int]] = Counter()
        self.canary_s: dict[Tier, float] = {}
        """How long the last canary of each model took."""
        self.alive_s = 0.0
        """When the worker last answered."""

    @property
    def is_ready(self) -> bool:
        """Whether a worker takes jobs."""
        return self._is_proven and self._phase in (_Phase.CHECKED, _Phase.FREE, _Phase.DECODING)

    @property
    def due_s(self) -> float | None:
        """When ``tick`` is to be called next; None while only an event can bring something."""
        return self._due_s

    def longest_wait_s(self, tiers: Collection[Tier], now_s: float) -> float:
        """For how long the oldest final of these tiers has had no text; 0 if all have theirs."""
        finals = [*self._scheduler.finals, *(job for job in self._sent if job.final)]
        return max((now_s - job.hops.submitted_s for job in finals if job.tier in tiers), default=0.0)

    # ------------------------------------------------------------ what sessions want

    def submit(self, job: DecodeJob, now_s: float) -> list[Order]:
        """Queue a job.

        Raises:
            Overloaded: See ``Scheduler.submit``.
        """
        if self._is_convicted(job):
            return self._dismiss(job)
        if any(early.foretells(job) for early in self._sent):
            self._sent = tuple(job if early.foretells(job) else early for early in self._sent)
            return []
        self._scheduler.submit(job)
        return self._continue(now_s)

    def withdraw(self, session: SessionId) -> None:
        """Forget a session: its jobs are not queued again. One under way still comes back."""
        self._scheduler.withdraw(session)
        self._left.update(job.session for job in self._sent if job.session == session)
        for key in [key for key in self._deaths_alone if key[0] == session]:
            del self._deaths_alone[key]

    # ------------------------------------------------------------ what the worker did

    def start(self, now_s: float) -> list[Order]:
        """Start the first worker."""
        assert self._phase is _Phase.ABSENT
        return self._start(now_s)

    def ready(self, batch_max: Mapping[Tier, int], now_s: float) -> list[Order]:
        """The worker has loaded and is warm; it can take so many jobs of each tier at once."""
        if self._phase is _Phase.GOING:
            return []
        assert self._phase is _Phase.LOADING
        for tier, n_jobs in batch_max.items():
            self._scheduler.limit(tier, n_jobs)
        self._n_unproven = len(self._canaries)
        # The first answers are part of the start: nothing is known yet of the time they take.
        return self._check(now_s, self._due_s)

    def forget(self, tier: Tier) -> None:
        """The worker that was just started has another model: its first answer becomes the known one."""
        self._known_answers.pop(tier, None)

    def answered(self, results: Sequence[DecodeResult], batch_max: int, now_s: float) -> list[Order]:
        """The worker answered; from here on it takes ``batch_max`` jobs of the same tier at once."""
        self.alive_s = now_s
        tier = self._sent[0].tier if self._sent else self._canaries[0].tier
        self._scheduler.limit(tier, batch_max)
        jobs, self._sent = self._sent, ()
        if self._phase is _Phase.CHECKED:
            return self._judge(results[0], now_s)
        if not jobs:
            return []  # A canary of a worker that was killed meanwhile.
        self._scheduler.acquit(jobs)
        self._scheduler.note_time(jobs, now_s - jobs[0].hops.batched_s)
        for job in jobs:
            self._deaths_alone.pop(_segment_of(job), None)
        results = [
            job.adopt(result) if job.final and not result.final else result
            for job, result in zip(jobs, results, strict=True)
        ]
        if self._phase is _Phase.GOING:
            return [Results(results)]
        self._free(now_s)
        # The worker first: it need not wait for the sessions to take their texts.
        return [*self._continue(now_s), Results(results)]

    def ended(self, death: Death, exit_code: int | None, now_s: float) -> list[Order]:
        """The worker's process is gone.

        Args:
            death: What its exit code says; a cause that is known better wins.
            exit_code: As ``multiprocessing`` gives it, for the log.
            now_s: Monotonic seconds, as everywhere.
        """
        if self._phase is _Phase.GIVEN_UP:
            return []
        death = self._cause or death
        jobs = [job for job in self._sent if job.session not in self._left]
        if len(self._sent) == 1:
            self._deaths_alone.update(_segment_of(job) for job in jobs)
        self._sent = ()
        convicted = [job for job in jobs if self._is_convicted(job)]
        again = [job for job in jobs if not self._is_convicted(job)]
        self._scheduler.restore(again)
        orders = [order for job in convicted for order in self._dismiss(job)]
        return orders + self._recover(death, exit_code, len(again), now_s)

    def tick(self, now_s: float) -> list[Order]:
        """Look at the clock; called when ``due_s`` has come, harmless earlier."""
        if self._due_s is None or now_s < self._due_s:
            return []
        match self._phase:
            case _Phase.ABSENT:
                return self._start(now_s)
            case _Phase.LOADING | _Phase.CHECKED | _Phase.DECODING:
                return self._kill(Death.HUNG, now_s)
            case _Phase.FREE:
                return self._continue(now_s)
            case _Phase.GOING:
                return self._give_up(Death.STUCK, None)
            case _Phase.GIVEN_UP:
                return []
            case _:
                assert_never(self._phase)

    # ------------------------------------------------------------ a living worker

    def _start(self, now_s: float) -> list[Order]:
        self._cause = None
        self._is_proven = False
        self._begin(_Phase.LOADING, now_s + self._patience.load_s)
        return [StartWorker()]

    def _begin(self, phase: _Phase, due_s: float | None) -> None:
        self._phase = phase
        self._due_s = due_s

    def _continue(self, now_s: float) -> list[Order]:
        """Give a free worker something to do, if there is anything."""
        if self._phase is not _Phase.FREE:
            return []
        if now_s >= self._check_due_s(is_busy=len(self._scheduler) > 0):
            return self._check(now_s, None)
        orders: list[Order] = []
        while (batch := self._scheduler.next_batch()) is not None:
            # The final of a segment whose partial was convicted while the final waited.
            if not self._is_convicted(batch.jobs[0]):
                return [*orders, self._decode(batch, now_s)]
            orders += self._dismiss(batch.jobs[0])
        return orders

    def _decode(self, batch: Batch, now_s: float) -> Order:
        hops = [replace(job.hops, batched_s=now_s) for job in batch.jobs]
        jobs = tuple(replace(job, hops=hop) for job, hop in zip(batch.jobs, hops, strict=True))
        self._sent = jobs
        self._left.clear()
        batch = Batch(jobs)
        self._begin(_Phase.DECODING, now_s + self._limit_s(jobs[0].tier, batch.n_rows))
        return Decode(batch)

    def _check(self, now_s: float, due_s: float | None) -> list[Order]:
        self._began_s = now_s
        canary = self._canaries[0]
        self._begin(_Phase.CHECKED, now_s + self._limit_s(canary.tier, 1) if due_s is None else due_s)
        return [Decode(Batch((canary,)))]

    def _judge(self, result: DecodeResult, now_s: float) -> list[Order]:
        """Compare the canary's answer with the one that is known."""
        tier, answer = self._canaries[0].tier, (result.text, result.tokens)
        if answer != self._known_answers.setdefault(tier, answer):
            return self._kill(Death.WRONG_ANSWER, now_s)
        self._checked_s = now_s
        self.canary_s[tier] = now_s - self._began_s
        self._canaries.rotate(-1)
        self._n_unproven = max(0, self._n_unproven - 1)
        if self._n_unproven:
            return self._check(now_s, self._due_s)
        self._is_proven = self._has_been_ready = True
        self._free(now_s)
        return self._continue(now_s)

    def _free(self, now_s: float) -> None:
        self._begin(_Phase.FREE, None)
        self._due_s = self._check_due_s(is_busy=False)

    def _check_due_s(self, *, is_busy: bool) -> float:
        heartbeat_s, slowest_s = self._patience.heartbeat_s, max(self.canary_s.values())
        if is_busy:
            return self._checked_s + max(BUSY_FACTOR * heartbeat_s, BUSY_CHECKS_MAX * slowest_s)
        return self.alive_s + max(heartbeat_s, IDLE_CHECKS_MAX * slowest_s)

    def _limit_s(self, tier: Tier, n_rows: int) -> float:
        return self._patience.hang_s + CANARIES_PER_ROW * self.canary_s.get(tier, 0.0) * n_rows

    # ------------------------------------------------------------ a dying worker

    def _kill(self, cause: Death, now_s: float) -> list[Order]:
        self._cause = cause
        self._begin(_Phase.GOING, now_s + GOING_S)
        return [KillWorker()]

    def _recover(self, death: Death, exit_code: int | None, n_jobs: int, now_s: float) -> list[Order]:
        self._deaths_s.append(now_s)
        while self._deaths_s[0] < now_s - self._patience.restarts_within_s:
            self._deaths_s.popleft()
        n_deaths = len(self._deaths_s)
        if not self._has_been_ready or n_deaths > self._patience.restarts:
            return self._give_up(death, exit_code)
        pause_s = min(PAUSE_S * 2 ** min(n_deaths - 1, 10), PAUSE_S_MAX)
        self._begin(_Phase.ABSENT, now_s + pause_s)
        return [Restarting(death, exit_code, n_jobs, pause_s)]

    def _give_up(self, death: Death, exit_code: int | None) -> list[Order]:
        self._begin(_Phase.GIVEN_UP, None)
        return [GaveUp(death, exit_code)]

    def _is_convicted(self, job: DecodeJob) -> bool:
        return self._deaths_alone[_segment_of(job)] >= CONVICTED

    def _dismiss(self, job: DecodeJob) -> list[Order]:
        """A job of a convicted segment: its final is the segment's last."""
        if not job.final:
            return []
        self._scheduler.acquit([job])
        del self._deaths_alone[_segment_of(job)]
        return [Undecodable(job)]


def _segment_of(job: DecodeJob) -> tuple[SessionId, int]:
    return job.session, job.segment
