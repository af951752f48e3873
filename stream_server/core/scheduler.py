"""Which jobs form the next batch.

Rules, each a test:

1. Finals before partials: a batch holds finals while any wait, and partials otherwise, so that no
   final ever waits for a partial beside it in the batch.
2. Finals leave in the order in which they came. Fairness over sessions follows from back-pressure: a
   session has few unread seconds, hence few finals, in the queue at a time.
3. A session has at most one partial waiting. A newer one replaces it in place, and a final of a
   segment removes the partials of that segment and those before it.
4. No final is shed: ``submit`` refuses it when ``finals_max`` wait, and the caller tells the client.
5. ``withdraw`` removes whatever a session has waiting.
"""

from collections import OrderedDict, deque

from stream_server.core.jobs import Batch, DecodeJob
from stream_server.core.messages import SessionId
from stream_server.errors import Overloaded


class Scheduler:
    """The queue before the engine.

    Args:
        batch_max: Most jobs in a batch.
        finals_max: Most finals waiting.
    """

    def __init__(self, batch_max: int, finals_max: int) -> None:
        self._batch_max = batch_max
        self._finals_max = finals_max
        self._finals: deque[DecodeJob] = deque()
        self._partials: OrderedDict[SessionId, DecodeJob] = OrderedDict()
        self.n_superseded = 0
        """Partials that a newer partial or a final made pointless before they were decoded."""

    def __len__(self) -> int:
        return len(self._finals) + len(self._partials)

    def submit(self, job: DecodeJob) -> None:
        """Queue a job.

        Raises:
            Overloaded: A final, while ``finals_max`` of them wait.
        """
        if not job.final:
            self.n_superseded += job.session in self._partials
            self._partials[job.session] = job
            return
        if len(self._finals) >= self._finals_max:
            raise Overloaded(f"{self._finals_max} finals are waiting to be decoded; try again later")
        waiting = self._partials.get(job.session)
        if waiting is not None and waiting.segment <= job.segment:
            del self._partials[job.session]
            self.n_superseded += 1
        self._finals.append(job)

    def withdraw(self, session: SessionId) -> None:
        """Forget everything a session has waiting."""
        self._partials.pop(session, None)
        self._finals = deque(job for job in self._finals if job.session != session)

    def next_batch(self) -> Batch | None:
        """Take the jobs to decode next; None when nothing waits."""
        jobs: list[DecodeJob] = []
        while self._finals and len(jobs) < self._batch_max:
            jobs.append(self._finals.popleft())
        while not jobs_are_final(jobs) and self._partials and len(jobs) < self._batch_max:
            jobs.append(self._partials.popitem(last=False)[1])
        return Batch(tuple(jobs)) if jobs else None


def jobs_are_final(jobs: list[DecodeJob]) -> bool:
    """Whether the batch begun holds finals."""
    return bool(jobs) and jobs[0].final
