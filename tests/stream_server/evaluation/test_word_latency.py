import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.client import FinalEvent, PartialEvent
from stream_server.client.latency import Arrival, Utterance
from stream_server.evaluation.word_latency import END_S_MAX, word_latencies_s

WORDS = [Utterance(0.5, 1.0, "good"), Utterance(1.0, 1.5, "day"), Utterance(3.0, 3.4, "Anna")]


def partial(at_s: float, start: float, end: float, text: str = "x") -> Arrival[PartialEvent]:
    return Arrival(
        PartialEvent(seq=1, segment=0, revision=0, start=start, end=end, text=text, stable=0), at_s
    )


def final(at_s: float, start: float, end: float, text: str = "x") -> Arrival[FinalEvent]:
    event = FinalEvent(
        seq=1, event=1, segment=0, start=start, end=end, text=text, language=None, utterance_end=True
    )
    return Arrival(event, at_s)


def test_a_word_is_shown_by_the_first_caption_that_has_heard_its_end() -> None:
    partials = [partial(1.2, 0.4, 0.8), partial(1.4, 0.4, 1.1), partial(1.8, 0.4, 1.4)]
    assert word_latencies_s(WORDS, partials, [final(2.2, 0.4, 1.9)]) == pytest.approx([0.4, 0.3])


def test_a_caption_may_end_a_little_before_the_word_but_must_begin_before_its_end() -> None:
    at_edge = partial(1.3, 0.4, 1.0 - END_S_MAX)
    assert word_latencies_s(WORDS[:1], [at_edge], []) == pytest.approx([0.3])
    assert word_latencies_s(WORDS[:1], [partial(1.3, 0.4, 0.89)], []) == []
    assert word_latencies_s(WORDS[:1], [], [final(4.0, 1.0, 2.0)]) == []


def test_a_caption_without_text_shows_nothing() -> None:
    assert word_latencies_s(WORDS, [partial(1.2, 0.0, 9.0, " ")], [final(5.0, 0.0, 9.0, "")]) == []


@given(st.permutations(range(4)))
def test_the_order_of_arrivals_in_the_lists_does_not_matter(order: list[int]) -> None:
    arrivals = [partial(1.1 + k, 0.0, 1.0 + k) for k in range(4)]
    shuffled = [arrivals[k] for k in order]
    assert word_latencies_s(WORDS, shuffled, []) == word_latencies_s(WORDS, arrivals, [])
