"""Text that is never taken back: what is stable at once, the rest with the final."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.client import AppendOnly, FinalEvent, PartialEvent, RoomFinalEvent, RoomPartialEvent
from stream_server.core.captions import SegmentCaption
from stream_server.dialects.schema import LagEvent


def partial(segment: int, text: str, stable: int, revision: int = 1) -> PartialEvent:
    return PartialEvent(
        seq=1, segment=segment, revision=revision, start=0.0, end=1.0, text=text, stable=stable
    )


def final(segment: int, text: str, *, utterance_end: bool = True) -> FinalEvent:
    return FinalEvent(
        seq=1,
        event=1,
        segment=segment,
        start=0.0,
        end=1.0,
        text=text,
        language="en",
        utterance_end=utterance_end,
    )


def test_stable_text_comes_at_once_and_the_rest_with_the_final() -> None:
    view = AppendOnly()
    events = [
        partial(0, "Good", 0),
        partial(0, "Good morning", 4),
        LagEvent(seq=2, behind=3.0),
        partial(0, "Good morning, every", 12),
        final(0, "Good morning, everyone."),
        partial(1, "Welcome to", 7),
        final(1, "Welcome to us."),
    ]
    assert [view.take(event) for event in events] == [
        "",
        "Good",
        "",
        " morning",
        ", everyone.",
        " Welcome",
        " to us.",
    ]


def test_words_behind_a_cut_are_not_given_out_again_with_the_next_segment() -> None:
    view = AppendOnly()
    events = [
        partial(0, "The quick, brown fox", 20),
        final(0, "The quick", utterance_end=False),
        partial(1, "Brown fox jumps", 9),
        final(1, "brown fox jumps over.", utterance_end=False),
        final(2, "So be it."),
    ]
    said = ["The quick, brown fox", "", "", " jumps over.", " So be it."]
    assert [view.take(event) for event in events] == said


def test_a_final_that_reads_otherwise_leaves_nothing_for_the_next_segment() -> None:
    view = AppendOnly()
    events = [
        partial(0, "The quick brown", 15),
        final(0, "A slow", utterance_end=False),
        final(1, "Brown fox."),
    ]
    assert [view.take(event) for event in events] == ["The quick brown", "", " Brown fox."]


def test_an_empty_final_and_one_without_partials() -> None:
    view = AppendOnly()
    assert [view.take(final(i, text)) for i, text in enumerate(["", "One.", "", "Two."])] == [
        "",
        "One.",
        "",
        " Two.",
    ]


def test_languages_without_spaces_have_no_separator() -> None:
    view = AppendOnly(separator="")
    said = ["今日は", "いい天気"]
    assert [view.take(final(i, text)) for i, text in enumerate(said)] == said


@pytest.mark.parametrize(
    ("given", "text", "growth"),
    [
        ("I scream", "Ice cream is good.", " is good."),
        ("we meat", "we meet on Monday", " on Monday"),
        ("we meet", "so then we meet on Monday", " on Monday"),
        ("good morning", "Good morning, all.", ", all."),
        ("one two three", "one two", ""),
        ("one", "", ""),
        ("one two three", "four", ""),
    ],
)
def test_a_final_that_disagrees_goes_on_from_the_same_place(given: str, text: str, growth: str) -> None:
    view = AppendOnly()
    view.take(partial(0, given, len(given)))
    assert view.take(final(0, text)) == growth


def test_a_source_of_a_room_has_the_same_view() -> None:
    view = AppendOnly()
    shown = RoomPartialEvent(
        source="s", segment=0, revision=1, start=0.0, end=1.0, text="Good morning", stable=4
    )
    said = RoomFinalEvent(
        event=1,
        source="s",
        speaker="Anna",
        segment=0,
        start=0.0,
        end=1.0,
        text="Good morning.",
        language="en",
        utterance_end=True,
        time=0.0,
    )
    assert [view.take(shown), view.take(said)] == ["Good", " morning."]


HYPOTHESES = st.lists(st.lists(st.sampled_from(["a", "b", "c,", "d."]), max_size=6).map(" ".join), min_size=1)


@given(st.lists(HYPOTHESES, max_size=4))
def test_what_was_given_out_begins_with_all_that_was_stable_and_ends_as_finals_that_agree(
    segments: list[list[str]],
) -> None:
    view = AppendOnly(separator="|")
    written = ""
    for segment, hypotheses in enumerate(segments):
        caption = SegmentCaption()
        before, stable_text = written, ""
        for hypothesis in hypotheses:
            text, stable = caption.update(hypothesis)
            written += view.take(partial(segment, text, stable, caption.revision))
            stable_text = text[:stable]
            assert written[len(before) :].lstrip("|") == stable_text
        written += view.take(final(segment, hypotheses[-1]))
        of_segment = written[len(before) :].lstrip("|")
        assert of_segment.startswith(stable_text)
        if hypotheses[-1].startswith(stable_text):
            assert of_segment == hypotheses[-1]
