"""The final of an open segment, read before its pause is long enough to be sure of it.

Rules:

1. It is asked for once the segment's post-roll is complete: what follows until the pause is long enough is
   silence that no window holds. So the window is that of the final, unless speech goes on.
2. It is asked for only if it can be read just as the final would be: with context, only when the finals
   before it have left. So the text is that of a final which was asked for at the end of the pause.
3. To the engine's queue it is a partial that goes before others, and what it says is shown as one. So it
   costs little where speech goes on, and while finals wait, which is overload, it is left out.
4. When the pause is long enough, what it said is the final at once. If it is being decoded then, it becomes
   the final as it comes back (``core.supervisor``); if it waits still, the final takes its place.
"""

from stream_server.core.jobs import DecodeJob, DecodeResult


class EarlyFinal:
    """What one session has read ahead of its next final."""

    def __init__(self) -> None:
        self._job: DecodeJob | None = None
        self._result: DecodeResult | None = None

    def is_asked(self, segment: int, end: int) -> bool:
        """Whether it was asked for already, for a segment that ends at this sample."""
        job = self._job
        return job is not None and (job.segment, job.end) == (segment, end)

    def ask(self, job: DecodeJob) -> None:
        """It is asked for; what was read before is forgotten."""
        self._job, self._result = job, None

    def take(self, result: DecodeResult) -> None:
        """It has come back, or one that was asked for earlier in the segment."""
        if self.is_asked(result.segment, result.end):
            self._result = result

    def settle(self, final: DecodeJob) -> DecodeResult | None:
        """The pause is long enough; returns the result of the final if it is known already."""
        job, result = self._job, self._result
        self._job = self._result = None
        if job is None or result is None or not job.foretells(final):
            return None
        return final.adopt(result)
