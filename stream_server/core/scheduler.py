"""Which jobs form the next batch.

Rules, each a test:

1. Finals before partials before second looks: a batch holds finals while any wait, looks only while nothing
   else does. So no final ever waits for a partial beside it in the batch, and looks are what a loaded
   engine leaves out.
2. The oldest job leads. The batch is filled with jobs of the leader's tier and bucket, because windows of
   similar lengths share the passes of one model, and short ones would be filled up too far to share those
   of long ones. Since the oldest always leads, neither tier nor bucket waits longer than the jobs before it.
3. Fair over sessions: the oldest job of every session comes before the second of any.
4. A session has at most one partial waiting. A newer one replaces it in place, and a final of a
   segment removes the partials of that segment and those before it.
5. No final is shed: ``submit`` refuses it when ``finals_max`` wait, and the caller offers it again later.
6. ``withdraw`` removes whatever a session has waiting.
7. Jobs that were under way when the engine died come back by ``restore``, before all others of their
   kind. Until one of its jobs has come back decoded, such a job's segment is *isolated*: its jobs are
   decoded alone, so that a window that kills the engine takes nobody along a second time.
8. No batch waits for company: ``next_batch`` gives what there is.
9. A batch holds ``batch_max`` rows. A job that takes several, by beam search, leaves room for fewer
   others. It goes alone if it takes more than there are, and no smaller one behind it goes first.
10. An early final is a partial by these rules, and goes before those that are not early. No batch holds both.
11. A session has at most one second look waiting; another one replaces it. A batch holds so few of them that
    it is no longer than one full of segments, since a final that comes meanwhile waits for it.
12. For the same reason partials that are not early fill a batch by half, unless a full one takes the engine
    less than ``PARTIALS_S``.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from stream_server.core.jobs import Batch, DecodeJob, n_fitting
from stream_server.core.messages import SessionId, Tier
from stream_server.errors import Overloaded

Bucket = Callable[[DecodeJob], int]
"""Tells which jobs of a tier are decoded together."""
LOOK_COST = 6
"""Windows of 30 s against those of 5 s: what a second look costs at most, in segments."""
PARTIALS_S = 0.1
"""A reading in a pause has about a quarter of a second to come back before the pause is over."""


def one_bucket(job: DecodeJob) -> int:
    """All jobs share a pass: for models that read windows of one length."""
    return 0


class Scheduler:
    """The queue before the engine.

    Args:
        batch_max: Most rows in a batch; a job takes one, in beam search one for each of its beams.
        finals_max: Most finals waiting.
        bucket: Jobs of one tier with equal values are decoded together.
    """

    def __init__(self, batch_max: int, finals_max: int, bucket: Bucket = one_bucket) -> None:
        self._batch_max = batch_max
        self._limits: dict[Tier, int] = {}
        self._finals_max = finals_max
        self._bucket = bucket
        self._finals: list[DecodeJob] = []
        self._partials: OrderedDict[SessionId, DecodeJob] = OrderedDict()
        self._looks: OrderedDict[SessionId, DecodeJob] = OrderedDict()
        self._isolated: set[tuple[SessionId, int]] = set()
        self._partial_s: dict[Tier, float] = {}
        """What a row of the last batch of partials took."""
        self.n_superseded = 0
        """Partials that a newer partial or a final made pointless before they were decoded."""

    def __len__(self) -> int:
        return len(self._finals) + len(self._partials) + len(self._looks)

    def batch_max(self, tier: Tier) -> int:
        """Most jobs of a tier in a batch."""
        return self._limits.get(tier, self._batch_max)

    def limit(self, tier: Tier, batch_max: int) -> None:
        """Change that: the engine lowers it while memory is short for the tier's model."""
        self._limits[tier] = batch_max

    def note_time(self, jobs: Sequence[DecodeJob], seconds: float) -> None:
        """A batch of these was decoded in this time."""
        if not (jobs[0].final or jobs[0].early):
            self._partial_s[jobs[0].tier] = seconds / len(jobs)

    @property
    def finals(self) -> Sequence[DecodeJob]:
        """The finals that wait, oldest first."""
        return self._finals

    def submit(self, job: DecodeJob) -> None:
        """Queue a job.

        Raises:
            Overloaded: A final, while ``finals_max`` of them wait.
        """
        if job.is_look:
            self._looks[job.session] = job
            return
        if not job.final:
            self.n_superseded += job.session in self._partials
            self._partials[job.session] = job
            return
        if len(self._finals) >= self._finals_max:
            raise Overloaded(f"{self._finals_max} finals are waiting to be decoded; offer it again later")
        waiting = self._partials.get(job.session)
        if waiting is not None and waiting.segment <= job.segment:
            del self._partials[job.session]
            self.n_superseded += 1
        self._finals.append(job)

    def abandon(self, look: DecodeJob) -> None:
        """Forget a second look, if it waits."""
        waiting = self._looks.get(look.session)
        if waiting is not None and waiting.segment == look.segment:
            del self._looks[look.session]

    def withdraw(self, session: SessionId) -> None:
        """Forget everything a session has waiting."""
        self._partials.pop(session, None)
        self._looks.pop(session, None)
        self._finals = [job for job in self._finals if job.session != session]
        self._isolated = {key for key in self._isolated if key[0] != session}

    def restore(self, jobs: Sequence[DecodeJob]) -> None:
        """Queue jobs of a batch that was lost, first and in their order, and isolate their segments.

        The limit of finals does not hold for them: they were let in before. A partial that has been made
        pointless meanwhile is dropped.
        """
        self._isolated.update((job.session, job.segment) for job in jobs)
        self._finals[:0] = [job for job in jobs if job.final and not job.is_look]
        for look in reversed([job for job in jobs if job.is_look]):
            if self._looks.setdefault(look.session, look) is look:
                self._looks.move_to_end(look.session, last=False)
        for job in reversed([job for job in jobs if not job.final]):
            if self._is_superseded(job):
                self.n_superseded += 1
            else:
                self._partials[job.session] = job
                self._partials.move_to_end(job.session, last=False)

    def acquit(self, jobs: Sequence[DecodeJob]) -> None:
        """These jobs were decoded: their segments are isolated no longer."""
        self._isolated.difference_update((job.session, job.segment) for job in jobs)

    def _is_superseded(self, partial: DecodeJob) -> bool:
        has_newer = partial.session in self._partials
        return has_newer or any(
            final.session == partial.session and final.segment >= partial.segment for final in self._finals
        )

    def next_batch(self) -> Batch | None:
        """Take the jobs to decode next; None when nothing waits."""
        if self._finals:
            chosen = self._choose(self._finals)
            taken = set(map(id, chosen))
            self._finals = [job for job in self._finals if id(job) not in taken]
            return Batch(tuple(chosen))
        if self._partials:
            waiting = list(self._partials.values())
            early = [job for job in waiting if job.early]
            chosen = self._choose(early or waiting, 1 if early else self._partial_cost(waiting[0].tier))
            for job in chosen:
                del self._partials[job.session]
            return Batch(tuple(chosen))
        if self._looks:
            chosen = self._choose(list(self._looks.values()), LOOK_COST)
            for job in chosen:
                del self._looks[job.session]
            return Batch(tuple(chosen))
        return None

    def _partial_cost(self, tier: Tier) -> int:
        """Of a partial that is not early, in segments."""
        return 1 if self._partial_s.get(tier, PARTIALS_S) * self.batch_max(tier) < PARTIALS_S else 2

    def _choose(self, waiting: Sequence[DecodeJob], cost: int = 1) -> list[DecodeJob]:
        """The leader and those that go with it.

        Args:
            waiting: Oldest first, not empty.
            cost: Of one of them, in segments.
        """
        if self._is_isolated(waiting[0]):
            return [waiting[0]]
        tier, bucket = waiting[0].tier, self._bucket(waiting[0])
        first: list[DecodeJob] = []
        further: list[DecodeJob] = []
        seen: set[SessionId] = set()
        for job in waiting:
            if job.tier == tier and self._bucket(job) == bucket and not self._is_isolated(job):
                (further if job.session in seen else first).append(job)
                seen.add(job.session)
        chosen = first + further
        return chosen[: n_fitting(chosen, max(1, self.batch_max(tier) // cost))]

    def _is_isolated(self, job: DecodeJob) -> bool:
        return (job.session, job.segment) in self._isolated
