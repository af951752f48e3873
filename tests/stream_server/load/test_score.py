from msgspec.structs import replace

from stream_server.client import FinalEvent, FinishedEvent, PartialEvent
from stream_server.client.latency import Utterance
from stream_server.dialects.schema import TraceObject
from stream_server.evaluation.heard import Heard
from stream_server.evaluation.word_latency import SpokenWord
from stream_server.load.messages import ClientResult
from stream_server.load.plan import Script
from stream_server.load.score import score_client

SAID = (Utterance(1.0, 2.0, "One two."), Utterance(4.0, 5.0, "Three four."))
WORDS = tuple(
    SpokenWord(text, at_s, at_s + 0.5)
    for text, at_s in (("One", 1.0), ("two.", 1.5), ("Three", 4.0), ("four.", 4.5))
)
SCRIPT = Script(SAID, SAID, WORDS)


def final(segment: int, start: float, end: float, text: str) -> FinalEvent:
    return FinalEvent(
        seq=1, event=1, segment=segment, start=start, end=end, text=text, language="en", utterance_end=True
    )


def partial(segment: int, start: float, end: float, text: str) -> PartialEvent:
    return PartialEvent(seq=1, segment=segment, revision=1, start=start, end=end, text=text, stable=0)


def heard(*finals: FinalEvent, segments: int | None = None) -> Heard:
    everything = Heard()
    everything.note(partial(0, 0.8, 1.6, "Won"), 1.7)
    everything.note(partial(0, 0.8, 1.9, "One"), 2.0)
    for one in finals:
        everything.note(one, one.end + 0.5)
    if segments is not None:
        everything.note(FinishedEvent(seq=9, event=9, audio_seconds=6.0, segments=segments), 6.0)
    return everything


GOOD = (final(0, 0.8, 2.2, "One two."), final(1, 3.8, 5.2, "Three floor."))


def score(it: Heard, sent_s: float = 6.0, counted_s: tuple[float, float] = (0.0, 6.0)) -> ClientResult:
    return score_client(3, SCRIPT, it, sent_s=sent_s, counted_s=counted_s, failed=None)


def rounded(values: tuple[float, ...]) -> list[float]:
    return [round(value, 3) for value in values]


def test_a_whole_stream_gives_latencies_text_and_flicker() -> None:
    found = score(heard(*GOOD, segments=2))
    assert rounded(found.final_latencies_s) == [0.7, 0.7]
    # "One" came with the second partial, "two." and "Three" with finals, "four." never.
    assert rounded(found.word_latencies_s) == [0.5, 0.7, 1.2]
    assert rounded(found.ages_s) == [0.1, 0.1]
    assert (found.words_changed, found.words_final) == (1, 4)
    assert (found.reference, found.hypothesis) == ("One two. Three four.", "One two. Three floor.")
    assert (found.utterances, found.uncaptioned, found.lost, found.doubled) == (2, 0, 0, 0)


def test_what_the_hops_leave_of_the_latency_is_the_hangover() -> None:
    trace = TraceObject(pause=0.4, vad=0.02, queue=0.05, batch=0.01, decode=0.05, send=0.02)
    told = replace(GOOD[0], trace=trace)
    found = score(heard(told, GOOD[1]))
    assert rounded(found.final_latencies_s) == [0.7, 0.7]
    assert rounded(found.hangovers_s) == [0.15], "of the final that tells its hops"


def test_only_what_ends_while_all_are_live_counts_for_latency_and_all_for_text() -> None:
    found = score(heard(*GOOD, segments=2), counted_s=(2.0, 5.0))
    assert rounded(found.final_latencies_s) == [0.7]
    assert rounded(found.word_latencies_s) == [0.7, 1.2]
    assert found.reference == "One two. Three four."


def test_what_was_not_sent_whole_is_not_compared() -> None:
    found = score(heard(GOOD[0], final(1, 3.8, 4.4, "Thr"), segments=2), sent_s=4.4)
    assert (found.reference, found.hypothesis) == ("One two.", "One two.")
    assert (found.utterances, found.uncaptioned) == (1, 0)


def test_lost_and_doubled_finals_and_uncaptioned_utterances_are_counted() -> None:
    assert score(heard(GOOD[0], segments=3)).lost == 2
    assert score(heard(GOOD[0], segments=3)).uncaptioned == 1
    assert score(heard(GOOD[0])).lost == 0, "without finished nobody knows"
    assert score(heard(*GOOD, GOOD[1], segments=2)).doubled == 1
    overlapping = final(2, 5.0, 6.0, "four")
    assert score(heard(*GOOD, overlapping, segments=3)).doubled == 1
