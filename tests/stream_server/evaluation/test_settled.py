from hypothesis import given
from hypothesis import strategies as st

from stream_server.client import FinalEvent, PartialEvent
from stream_server.client.latency import Arrival
from stream_server.evaluation.settled import settled_finals


def final(segment: int, text: str, at_s: float) -> Arrival[FinalEvent]:
    event = FinalEvent(
        seq=1, event=1, segment=segment, start=0.0, end=1.0, text=text, language=None, utterance_end=True
    )
    return Arrival(event, at_s)


def partial(segment: int, text: str, at_s: float) -> Arrival[PartialEvent]:
    event = PartialEvent(seq=1, segment=segment, revision=1, start=0.0, end=1.0, text=text, stable=0)
    return Arrival(event, at_s)


def settled_s(partials: list[Arrival[PartialEvent]], finals: list[Arrival[FinalEvent]]) -> list[float]:
    return [one.at_s for one in settled_finals(partials, finals)]


def test_a_final_is_settled_since_its_words_were_shown_without_a_break() -> None:
    partials = [
        partial(0, "the cat sat", 1.0),
        partial(0, "the cap sat", 1.5),
        partial(0, "The cat,", 1.8),
        partial(0, "the cat sat", 2.0),
        partial(0, "the cat sat on", 2.5),
    ]
    assert settled_s(partials, [final(0, "The cat sat.", 3.0)]) == [2.0]
    assert settled_s(partials, [final(0, "The mat sat.", 3.0)]) == [3.0]
    assert settled_s([], [final(0, "The cat sat.", 3.0)]) == [3.0]


def test_words_that_become_final_piece_by_piece_are_settled_since_the_first_text_with_all_of_them() -> None:
    partials = [partial(0, "one two three four", 1.0), partial(1, "three four", 2.0), partial(2, "four", 3.0)]
    finals = [final(0, "one two", 1.9), final(1, "three", 2.9), final(2, "for", 3.9)]
    assert settled_s(partials, finals) == [1.0, 1.0, 3.9]


def test_a_partial_of_later_audio_while_a_final_is_still_to_come_tells_nothing() -> None:
    partials = [partial(0, "one", 1.0), partial(1, "two", 2.0)]
    assert settled_s(partials, [final(0, "one", 2.5), final(1, "two", 3.0)]) == [1.0, 2.0]


@given(
    texts=st.lists(st.lists(st.sampled_from("ab"), max_size=3).map(" ".join), max_size=5),
    shown=st.lists(st.lists(st.sampled_from("ab"), max_size=4).map(" ".join), max_size=8),
)
def test_nothing_settles_after_its_final_or_before_the_first_partial(
    texts: list[str], shown: list[str]
) -> None:
    finals = [final(i, text, 10.0 + i) for i, text in enumerate(texts)]
    partials = [partial(0, text, 9.0 + i) for i, text in enumerate(shown)]
    for one, found in zip(finals, settled_finals(partials, finals), strict=True):
        assert min(9.0, one.at_s) <= found.at_s <= one.at_s
        assert found.event is one.event
