from dataclasses import replace

from stream_server.load.messages import ClientResult
from stream_server.load.result import CLIENT_LAG_S_MAX, FINAL_P95_S_MAX, RunResult, summarise_run


def summary(
    *results: ClientResult, lags_s: tuple[float, ...] = (), is_interrupted: bool = False
) -> RunResult:
    return summarise_run(
        results,
        sessions=len(results),
        measured_s=10.0,
        is_interrupted=is_interrupted,
        server=None,
        client=None,
        loop_lags_s=lags_s,
        normalise=str.lower,
    )


GOOD = ClientResult(
    0,
    sent_s=10.0,
    final_latencies_s=(0.5, 0.6),
    word_latencies_s=(0.3,),
    ages_s=(0.1,),
    words_changed=1,
    words_final=4,
    reference="A b c d",
    hypothesis="a b x d",
    utterances=2,
)


def with_(**changes: object) -> ClientResult:
    values = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__}
    return ClientResult(**{**values, **changes})


def test_clients_are_pooled() -> None:
    found = summary(GOOD, with_(final_latencies_s=(0.7,), hypothesis="a b c d"))
    assert found.final is not None
    assert (found.final.n, found.final.p50_s, found.final.p95_s) == (3, 0.6, 0.7)
    assert found.wer == 1 / 8
    assert found.flicker == 2 / 8
    assert (found.finished, found.utterances, found.is_carried) == (2, 4, True)


def test_partials_are_counted_by_word_where_word_times_are_known() -> None:
    assert summary(GOOD).partial_is_by_word
    by_age = summary(with_(word_latencies_s=()))
    assert not by_age.partial_is_by_word
    assert by_age.partial is not None
    assert by_age.partial.p50_s == 0.1


def test_a_run_is_carried_only_whole_and_in_time() -> None:
    assert summary(GOOD).is_carried
    in_time = with_(final_latencies_s=(FINAL_P95_S_MAX,))
    assert summary(in_time).is_carried
    assert not summary(with_(final_latencies_s=(FINAL_P95_S_MAX + 0.001,))).is_carried
    assert not summary(GOOD, ClientResult(1, refused="overloaded", refusal="full")).is_carried
    assert not summary(GOOD, with_(failed="engine_failed")).is_carried
    assert not summary(with_(lost=1)).is_carried
    assert not summary(with_(doubled=1)).is_carried
    assert not summary(with_(final_latencies_s=())).is_carried
    assert not summary(GOOD, is_interrupted=True).is_carried


def test_a_stream_that_failed_has_no_part_in_the_error_rate_and_a_refused_one_is_named() -> None:
    found = summary(with_(failed="slow_reader", hypothesis=""), ClientResult(1, refused="x", refusal="no"))
    assert found.wer is None
    assert found.failed == {"slow_reader": 1}
    assert (found.refused, found.refusals, found.finished) == ({"x": 1}, {"x": "no"}, 0)


def test_a_late_client_is_told() -> None:
    assert not summary(GOOD, lags_s=(CLIENT_LAG_S_MAX,) * 100).is_client_slow
    assert not summary(GOOD, lags_s=(0.0,) * 99 + (1.0,)).is_client_slow
    assert summary(GOOD, lags_s=(0.0,) * 98 + (1.0,) * 2).is_client_slow
    assert not replace(summary(GOOD), client_lag_p99_s=None).is_client_slow
