from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.hops import Budget, FrameTimes, Hops, budget_of
from stream_server.dialects.schema import TraceObject
from stream_server.ops.metrics import HOPS, Metrics

times_s = st.floats(1, 1e6)


def test_each_hop_is_the_time_between_two_stages() -> None:
    hops = Hops(10.0, 10.25, 10.5, 11.0, 11.5, 13.5)
    assert budget_of(hops, 13.75) == Budget(0.25, 0.25, 0.5, 0.5, 2.0, 0.25)


def test_a_stage_that_was_not_passed_took_no_time() -> None:
    assert budget_of(Hops(received_s=1.0, submitted_s=3.0), 4.0) == Budget(0.0, 2.0, 0.0, 0.0, 0.0, 1.0)


@given(st.builds(Hops, *[times_s] * 6), times_s)
def test_no_hop_is_negative_and_all_together_are_the_whole_time(hops: Hops, sent_s: float) -> None:
    parts = asdict(budget_of(hops, sent_s)).values()
    assert all(part >= 0 for part in parts)
    latest_s = max(sent_s, *asdict(hops).values())
    assert sum(parts) == pytest.approx(latest_s - hops.received_s)


def test_protocol_and_metrics_know_the_same_hops() -> None:
    names = tuple(field.name for field in fields(Budget))
    assert names == HOPS == TraceObject.__struct_fields__


def test_each_hop_has_a_histogram() -> None:
    metrics = Metrics()
    metrics.observe_hops("final", asdict(Budget(0.3, 0.02, 0.0, 0.0, 0.04, 0.001)))
    text = metrics.exposition().decode()
    assert 'stt_hop_seconds_sum{hop="pause",kind="final"} 0.3' in text
    assert 'stt_hop_seconds_bucket{hop="decode",kind="final",le="0.05"} 1.0' in text
    assert 'stt_hop_seconds_count{hop="decode",kind="partial"} 0.0' in text


def test_frames_keep_their_times_until_they_are_forgotten() -> None:
    frames = FrameTimes()
    frames.append(3, 1.0)
    frames.append(0, 2.0)
    frames.append(2, 3.0)
    assert [frames.at(i) for i in range(5)] == [1.0, 1.0, 1.0, 3.0, 3.0]
    frames.forget_before(2)
    frames.forget_before(1)
    assert (frames.at(2), frames.at(4), len(frames)) == (1.0, 3.0, 3)
    for frame in (1, 5):
        with pytest.raises(AssertionError):
            frames.at(frame)
