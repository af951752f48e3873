from prometheus_client.parser import text_string_to_metric_families

from stream_server.ops.metrics import Metrics


def test_every_metric_is_exposed_under_our_prefix_with_a_help_text() -> None:
    families = list(text_string_to_metric_families(Metrics().exposition().decode()))
    assert len(families) >= 10
    for family in families:
        assert family.name.startswith("stt_")
        assert family.documentation


def test_values_appear_in_the_exposition() -> None:
    metrics = Metrics()
    metrics.sessions.inc()
    metrics.sessions_ended.labels(code="1000").inc()
    metrics.final_wait_s.observe(0.25)
    text = metrics.exposition().decode()
    assert "stt_sessions_active 1.0" in text
    assert 'stt_sessions_ended_total{code="1000"} 1.0' in text
    assert 'stt_final_decode_seconds_bucket{le="0.3"} 1.0' in text


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.sessions.inc()
    assert "stt_sessions_active 0.0" in other.exposition().decode()


def test_no_label_can_carry_an_identity() -> None:
    labels = {
        name for family in Metrics().registry.collect() for sample in family.samples for name in sample.labels
    }
    assert labels <= {"code", "reason", "le", "kind", "hop"}
