"""What the engine reports, for the operator: log lines and metrics."""

import logging
from collections.abc import Sequence

from stream_server.core.jobs import DecodeResult
from stream_server.core.orders import GaveUp, Report, Restarting, Results, Undecodable
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics

_log = logging.getLogger(__name__)


def tell(report: Report, metrics: Metrics) -> None:
    """Log and count what became of a batch, of a window, or of the engine's process."""
    match report:
        case Results(results):
            _count_batch(results, metrics)
        case Undecodable(job):
            _log.error("window_undecodable", extra=fields(session=job.session, segment=job.segment))
            metrics.engine_undecodable.inc()
        case Restarting(death, exit_code, n_jobs, pause_s):
            told = fields(reason=death.value, exit_code=exit_code, jobs_again=n_jobs, pause_s=pause_s)
            _log.error("engine_restarting", extra=told)
            metrics.engine_restarts.labels(reason=death.value).inc()
        case GaveUp(death, exit_code):
            _log.error("engine_given_up", extra=fields(reason=death.value, exit_code=exit_code))


def _count_batch(results: Sequence[DecodeResult], metrics: Metrics) -> None:
    """Count what came of one batch; its jobs are of one kind, early ones that became finals among them."""
    begun_s = min(result.hops.started_s for result in results)
    busy = "early" if results[0].early else _kind(results[0])
    metrics.engine_busy_s.labels(busy).inc(max(result.hops.decoded_s for result in results) - begun_s)
    for result in results:
        kind, hops = _kind(result), result.hops
        metrics.wait_s[kind].observe(max(0.0, hops.decoded_s - hops.submitted_s))
        # A final may have been asked for when its early job was being decoded.
        metrics.queue_wait_s.observe(max(0.0, hops.batched_s - hops.submitted_s))
        for rule in result.retried:
            metrics.guard_retried.labels(rule).inc()
        if result.dropped is not None:
            metrics.guard_dropped.labels(result.dropped, kind).inc()


def _kind(result: DecodeResult) -> str:
    return "look" if result.is_look else "final" if result.final else "partial"
