"""The text of a whole stream."""

from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.messages import Final, Transcript, Utterance
from stream_server.core.stitched import OMITTED, Stitched


def final(segment: int, text: str, *, ends: bool = True, language: str | None = "en") -> Final:
    return Final(segment, segment * 100, segment * 100 + 100, text, language, ends)


def utterance(first: int, last: int, text: str) -> Utterance:
    return Utterance(first, last, first * 100, last * 100 + 100, text, "en")


def stitched(*finals: Final, chars_max: int = 1_000) -> Stitched:
    made = Stitched(chars_max)
    for one in finals:
        made.add(one)
    return made


def test_a_stream_without_a_final_says_nothing() -> None:
    assert Stitched().transcript == Transcript("", 0)


def test_each_utterance_has_a_line() -> None:
    made = stitched(final(0, "Good", ends=False), final(1, "morning."), final(2, "Welcome."))
    assert made.transcript == Transcript("Good morning.\nWelcome.", 0)


def test_an_utterance_that_has_not_ended_has_one_too() -> None:
    assert stitched(final(0, "One."), final(1, "Two", ends=False)).transcript.text == "One.\nTwo"


def test_empty_finals_leave_neither_lines_nor_spaces() -> None:
    made = stitched(
        final(0, ""), final(1, "a", ends=False), final(2, " ", ends=False), final(3, "b"), final(4, "")
    )
    assert made.transcript == Transcript("a b", 0)


def test_languages_without_spaces_get_none() -> None:
    made = stitched(final(0, "你好", ends=False, language="zh"), final(1, "世界", language="zh"))
    assert made.transcript.text == "你好世界"


def test_an_utterance_read_again_replaces_its_finals_and_no_other() -> None:
    made = stitched(final(0, "a"), final(1, "b", ends=False), final(2, "c"), final(3, "d"))
    made.revise(utterance(1, 2, "B C"))
    assert made.transcript == Transcript("a\nB C\nd", 0)


def test_a_part_of_an_utterance_read_again_stays_in_its_line() -> None:
    made = stitched(final(0, "a", ends=False), final(1, "b", ends=False), final(2, "c"))
    made.revise(utterance(0, 1, "A B"))
    assert made.transcript.text == "A B c"


def test_what_is_too_long_loses_whole_finals_at_its_beginning_and_says_so() -> None:
    made = stitched(final(0, "a" * 5), final(1, "b" * 5), final(2, "c" * 5), chars_max=12)
    assert made.transcript == Transcript(f"{OMITTED}\nbbbbb\nccccc", 1)


def test_an_utterance_of_which_a_part_was_left_out_stays_as_it_was() -> None:
    made = stitched(final(0, "a" * 5, ends=False), final(1, "b" * 5), final(2, "c" * 5), chars_max=12)
    made.revise(utterance(0, 1, "A B"))
    assert made.transcript == Transcript(f"{OMITTED}\nbbbbb\nccccc", 1)


@given(
    st.lists(st.tuples(st.text("ab ", max_size=8), st.booleans()), max_size=12),
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4), st.text("AB", max_size=30)), max_size=4),
    st.integers(1, 60),
)
def test_it_stays_within_its_bound_and_keeps_the_newest_whole(
    said: list[tuple[str, bool]], looks: list[tuple[int, int, str]], chars_max: int
) -> None:
    made = stitched(*(final(i, text, ends=ends) for i, (text, ends) in enumerate(said)), chars_max=chars_max)
    last = len(said) - 1
    seen: set[int] = set()
    for first, more, text in looks:
        segments = range(first, first + more + 1)
        if segments[-1] <= last and seen.isdisjoint(segments):
            seen.update(segments)
            made.revise(utterance(segments[0], segments[-1], text))
    found = made.transcript
    longest = max([len(text) for text, _ in said] + [len(text) for _, _, text in looks], default=0)
    assert len(found.text) <= max(chars_max, longest + 1) + len(OMITTED) + 1
    assert found.text.startswith(OMITTED) == (found.first_segment > 0)
