import pytest

from stream_server.client import FinalEvent, PartialEvent
from stream_server.client.latency import Arrival
from stream_server.evaluation.word_latency import SpokenWord, word_latencies_s


def words(*texts: str) -> list[SpokenWord]:
    """One word a second, half a second long."""
    return [SpokenWord(text, float(i), i + 0.5) for i, text in enumerate(texts)]


def partial(text: str, end: float, at_s: float, start: float = 0.0) -> Arrival[PartialEvent]:
    event = PartialEvent(seq=1, segment=0, revision=1, start=start, end=end, text=text, stable=0)
    return Arrival(event, at_s)


def final(text: str, end: float, at_s: float) -> Arrival[FinalEvent]:
    event = FinalEvent(
        seq=1, event=1, segment=0, start=0.0, end=end, text=text, language="en", utterance_end=True
    )
    return Arrival(event, at_s)


@pytest.mark.parametrize(
    ("said", "shown", "expected"),
    [
        pytest.param(("a", "b"), [final("a b", 2, 2.5)], [2.0, 1.0], id="at the final"),
        pytest.param(
            ("a", "b"), [partial("a", 1, 1.2), final("a b", 2, 2.5)], [0.7, 1.0], id="first is what counts"
        ),
        pytest.param(("A", "b!"), [final("a, B.", 2, 2.0)], [1.5, 0.5], id="case and punctuation"),
        pytest.param(("a", "b"), [final("a x", 2, 2.5)], [2.0, None], id="never shown"),
        pytest.param(
            ("the", "b", "the"), [partial("the", 1, 1.0), final("the b the", 3, 3.0)], [0.5, 1.5, 0.5],
            id="a later word of the same text waits for its own",
        ),
        pytest.param(
            ("a", "b", "a"), [partial("a", 3, 3.0, start=2.0)], [None, None, 0.5], id="only its own time"
        ),
        pytest.param(
            ("a", "b"), [final("a b", 2, 2.5), partial("a", 1, 1.2)], [0.7, 1.0], id="in any order"
        ),
        pytest.param(("a",), [partial("a", 0.3, 0.4)], [-0.1], id="read before it was over"),
        pytest.param((), [final("a", 1, 1.0)], [], id="nothing said"),
    ],
)  # fmt: skip
def test_a_word_counts_from_its_end_to_where_it_is_first_shown(
    said: tuple[str, ...],
    shown: list[Arrival[PartialEvent] | Arrival[FinalEvent]],
    expected: list[float | None],
) -> None:
    assert word_latencies_s(words(*said), shown) == [
        one if one is None else pytest.approx(one) for one in expected
    ]
