"""What an operator is told of the engine."""

from dataclasses import replace

import models

from stream_server.core.hops import Hops
from stream_server.core.jobs import GuardRule
from stream_server.core.orders import Results
from stream_server.engine.ledger import tell
from stream_server.ops.metrics import Metrics


def test_rules_of_the_guard_and_the_engines_time_are_counted_by_kind() -> None:
    metrics = Metrics()
    final, partial = models.decode_job(b"\0\0"), models.decode_job(b"\0\0", final=False)
    look = replace(final, segment=1, n_segments=2, hops=Hops(started_s=2.0))
    retried = (GuardRule.RATE, GuardRule.RATE)
    kept = final.answered(text="kept", language="en", now_s=0.0, retried=retried)
    taken = final.answered(text="", language="en", now_s=0.0, dropped=GuardRule.PHRASE)
    tell(Results([kept, taken]), metrics)
    tell(Results([partial.answered(text="", language="en", now_s=0.0, dropped=GuardRule.PHRASE)]), metrics)
    tell(Results([look.answered(text="", language="en", now_s=2.5, dropped=GuardRule.RATE)]), metrics)
    text = metrics.exposition().decode()
    assert 'stt_guard_retried_total{rule="rate"} 2.0' in text
    assert 'stt_guard_dropped_total{kind="final",rule="phrase"} 1.0' in text
    assert 'stt_guard_dropped_total{kind="partial",rule="phrase"} 1.0' in text
    assert 'stt_guard_dropped_total{kind="look",rule="rate"} 1.0' in text
    assert 'stt_engine_busy_seconds_total{kind="look"} 0.5' in text
    assert "stt_look_decode_seconds_count 1.0" in text
    assert "stt_final_decode_seconds_count 2.0" in text
    assert "kept" not in text


def test_early_jobs_are_counted_apart_and_what_they_became_as_finals_that_did_not_wait() -> None:
    metrics = Metrics()
    job = models.decode_job(b"\0\0", final=False)
    early = replace(job, early=True, hops=Hops(submitted_s=1.0, batched_s=1.5, started_s=2.0))
    read = early.answered(text="said", language="en", now_s=2.5)
    final = replace(job, final=True, hops=Hops(submitted_s=3.0))
    tell(Results([read, final.adopt(read)]), metrics)
    text = metrics.exposition().decode()
    assert 'stt_engine_busy_seconds_total{kind="early"} 0.5' in text
    assert "stt_partial_decode_seconds_sum 1.5" in text
    assert "stt_final_decode_seconds_sum 0.0" in text
    assert "stt_final_decode_seconds_count 1.0" in text
    assert "stt_queue_wait_seconds_sum 0.5" in text
