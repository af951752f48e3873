"""What second looks change, as a client sees it."""

from hypothesis import given
from hypothesis import strategies as st

from stream_server.client import FinalEvent, Revisions, UtteranceEvent, revised
from stream_server.client.revisions import SEGMENTS_MAX


def final(segment: int, text: str) -> FinalEvent:
    return FinalEvent(
        seq=1,
        event=1,
        segment=segment,
        start=float(segment),
        end=segment + 1.0,
        text=text,
        language="en",
        utterance_end=False,
    )


def utterance(first: int, last: int, text: str, language: str = "en") -> UtteranceEvent:
    return UtteranceEvent(
        seq=1,
        event=1,
        first_segment=first,
        last_segment=last,
        start=float(first),
        end=last + 1.0,
        text=text,
        language=language,
    )


def test_an_utterance_that_says_what_its_finals_said_changes_nothing() -> None:
    revisions = Revisions()
    for segment, text in enumerate(["Good ", "", " morning."]):
        revisions.note(final(segment, text))
    assert not revisions.changes(utterance(0, 2, "Good morning."))
    assert revisions.changes(utterance(0, 2, "Good morning!"))
    assert revisions.changes(utterance(0, 2, "Good morning.", language="ja"))


def test_only_so_many_finals_are_remembered() -> None:
    revisions = Revisions()
    for segment in range(SEGMENTS_MAX + 1):
        revisions.note(final(segment, "a"))
    assert not revisions.changes(utterance(1, 2, "a a"))
    assert revisions.changes(utterance(0, 1, "a a"))


def test_the_past_has_each_utterance_once_with_its_better_text() -> None:
    past = [final(0, "a"), final(1, "b"), final(2, "c"), utterance(1, 2, "B C"), final(3, "d")]
    told = revised(past)
    assert [(one.segment, one.text, one.end) for one in told if isinstance(one, FinalEvent)] == [
        (0, "a", 1.0),
        (1, "B C", 3.0),
        (3, "d", 4.0),
    ]
    assert len(told) == 3


@given(st.integers(0, 8), st.lists(st.tuples(st.integers(0, 8), st.integers(1, 3)), max_size=3))
def test_no_final_is_lost_that_no_utterance_covers(n_finals: int, looks: list[tuple[int, int]]) -> None:
    events: list[FinalEvent | UtteranceEvent] = [final(segment, f"f{segment}") for segment in range(n_finals)]
    events += [utterance(first, first + more, f"u{first}") for first, more in looks]
    covered = {segment for first, more in looks for segment in range(first, first + more + 1)}
    told = revised(events)
    assert all(isinstance(one, FinalEvent) for one in told)
    texts = {one.text for one in told if isinstance(one, FinalEvent)}
    assert {f"f{segment}" for segment in range(n_finals) if segment not in covered} <= texts
