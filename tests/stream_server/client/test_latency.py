import pytest

from stream_server.client import FinalEvent, PartialEvent
from stream_server.client.latency import (
    Arrival,
    Spread,
    Utterance,
    covers,
    final_latencies_s,
    match_finals,
    partial_latencies_s,
    percentile,
    spread,
    without_final,
)

A = Utterance(1.0, 3.0, "one two")
B = Utterance(4.0, 6.0, "three four")


def final(start: float, end: float, at_s: float = 0.0, text: str = "words") -> Arrival[FinalEvent]:
    event = FinalEvent(
        seq=1, event=1, segment=0, start=start, end=end, text=text, language=None, utterance_end=True
    )
    return Arrival(event, at_s)


def partial(end: float, at_s: float) -> Arrival[PartialEvent]:
    return Arrival(PartialEvent(seq=1, segment=0, revision=0, start=0.0, end=end, text="", stable=0), at_s)


@pytest.mark.parametrize(
    ("start", "end", "is_covering"),
    [
        (0.8, 3.2, True),
        (2.9, 3.6, True),
        (2.91, 3.6, False),
        (3.0, 4.0, False),
        (2.9, 3.05, True),  # short: half of it is enough
        (0.0, 10.0, True),
        (5.0, 6.0, False),
    ],
)
def test_a_final_covers_an_utterance_when_they_share_speech(
    start: float, end: float, is_covering: bool
) -> None:
    assert covers(final(start, end).event, A) is is_covering


@pytest.mark.parametrize(
    ("finals", "latencies_s"),
    [
        pytest.param([], [], id="none"),
        pytest.param([final(0.8, 3.2, 3.5), final(3.8, 6.2, 6.9)], [0.5, 0.9], id="one-each"),
        pytest.param([final(0.8, 2.2, 2.4), final(2.2, 3.2, 3.7)], [0.7], id="cut-in-two-the-last-counts"),
        pytest.param([final(0.8, 6.2, 6.5)], [0.5], id="joined-counts-for-the-later"),
        pytest.param([final(0.8, 3.2, 3.5, text="")], [0.5], id="empty-text-closes-too"),
        pytest.param([final(7.0, 8.0, 8.1)], [], id="of-nothing-said"),
    ],
)
def test_final_latency_is_from_the_end_of_speech_to_the_last_final_of_it(
    finals: list[Arrival[FinalEvent]], latencies_s: list[float]
) -> None:
    assert final_latencies_s([A, B], finals) == pytest.approx(latencies_s)


def test_finals_are_matched_to_every_utterance_that_they_cover() -> None:
    first, both = final(0.8, 2.2), final(2.2, 6.2)
    assert match_finals([A, B], [first, both]) == [[first, both], [both]]


def test_an_utterance_whose_finals_are_empty_has_no_final() -> None:
    assert without_final([A, B], [final(0.8, 3.2, text=" "), final(3.8, 6.2)]) == [A]


def test_partial_latency_is_the_age_of_the_newest_audio_in_it() -> None:
    assert partial_latencies_s([partial(1.0, 1.25), partial(1.5, 2.0)]) == [0.25, 0.5]


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0], 50, 3.0),
        ([1.0, 2.0], 50, 1.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 75, 3.0),
        (list(range(1, 21)), 95, 19),
        (list(range(1, 22)), 95, 20),
        (list(range(1, 10)), 95, 9),
        ([1.0, 2.0], 100, 2.0),
    ],
)
def test_percentiles_are_values_that_occurred(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_percentiles_of_nothing_are_refused(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile needs"):
        percentile(values, percent)


def test_a_spread_of_nothing_is_none() -> None:
    assert spread([]) is None
    assert spread([0.2, 0.1, 0.9]) == Spread(3, 0.2, 0.9)
