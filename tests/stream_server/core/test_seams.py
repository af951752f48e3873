"""Where running speech was cut, no word is lost or doubled: each rule, and all of it through a session."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise

import pytest
from driver import FACTS, SETTINGS, START, World, check_complete, numbers_in, timed_answer
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.core.finals import FinalQueue, PendingFinal
from stream_server.core.hops import Hops
from stream_server.core.jobs import DecodeJob, DecodeResult
from stream_server.core.messages import Final, Finish, Partial, SessionId, Task, Tier, Word
from stream_server.core.seams import NEAR_SAMPLES, Joins, split
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.engine.fake import numbered_speech, silence
from vad.audio import FRAME_SAMPLES

RATE = 16_000
OVERLAP = 16_000
JITTER = 800
"""50 ms; what a model tells of a word's border is no better."""
SHORTEST, LONGEST = 4_000, 12_000
HEARD_SHARE = 0.6
"""Of a word, below which a window does not tell it from another."""


# ---------------------------------------------------------------- a reader that errs as models do


@dataclasses.dataclass(frozen=True)
class Speech:
    """Words one after the other, each with its true place."""

    words: tuple[Word, ...]

    def read(self, start: int, end: int, jitter: Sequence[int]) -> tuple[Word, ...]:
        """What a model hears in a window: whole words well, and something else of those that are cut.

        Args:
            start: Of the window, samples.
            end: Of the window.
            jitter: Errors of borders, for as many words as there are.
        """
        heard: list[Word] = []
        for i, word in enumerate(self.words):
            first, last = max(start, word.start), min(end, word.end)
            share = (last - first) / (word.end - word.start)
            if share <= 0.2:
                continue
            text = word.text if share == 1 else f"{word.text}ish" if share < HEARD_SHARE else f"a{word.text}"
            errors = (jitter[(2 * i) % len(jitter)], jitter[(2 * i + 1) % len(jitter)])
            at = [
                min(end, max(start, bound + error))
                for bound, error in zip((first, last), errors, strict=True)
            ]
            if heard:
                at[0] = max(at[0], heard[-1].end)
            heard.append(Word(f" {text}" if heard else text, at[0], max(at)))
        return tuple(heard)


@st.composite
def spoken(draw: st.DrawFn) -> Speech:
    """Fluent speech, sometimes with a breath, that may say one word several times in a row."""
    n_words = draw(st.integers(20, 60))
    vocabulary = draw(st.sampled_from([3, 50]))
    at = draw(st.integers(0, LONGEST))
    words = []
    for _ in range(n_words):
        length = draw(st.integers(SHORTEST, LONGEST))
        number = draw(st.integers(1, vocabulary))
        if words and words[-1].text == f"w{number}":
            # Said again at once, a word cannot be told from itself by text, and must be by its time.
            length = max(length, 2 * NEAR_SAMPLES)
        words.append(Word(f"w{number}", at, at + length))
        at += length + draw(st.sampled_from([0, 0, 0, 1_600, 4_800]))
    return Speech(tuple(words))


def joined(windows: Sequence[tuple[int, int]], readings: Sequence[tuple[Word, ...]]) -> list[DecodeResult]:
    """What the finals of an utterance of these windows say."""
    joins = Joins()
    said = []
    for i, ((start, end), heard) in enumerate(zip(windows, readings, strict=True)):
        is_last = i == len(windows) - 1
        pending = PendingFinal(i, start, end, is_last, None if is_last else windows[i + 1][0])
        said.append(joins.join(pending, reading(start, end, heard)))
    return said


def reading(start: int, end: int, words: tuple[Word, ...], text: str | None = None) -> DecodeResult:
    """The result that a job of this window has."""
    job = DecodeJob(
        session=SessionId("s"),
        segment=0,
        revision=0,
        final=True,
        start=start,
        pcm=bytes(2 * (end - start)),
        language=None,
        task=Task.TRANSCRIBE,
        tier=Tier.LIVE,
        hops=Hops(),
    )
    said = "".join(word.text for word in words) if text is None else text
    return job.answered(text=said, language="en", now_s=0.0, words=words)


@settings(deadline=None)
@given(
    spoken(),
    st.lists(st.integers(2 * RATE, 5 * RATE), min_size=20, max_size=20),
    st.lists(st.integers(-JITTER, JITTER), min_size=7, max_size=31),
    st.lists(st.integers(-JITTER, JITTER), min_size=7, max_size=31),
)
def test_no_word_is_lost_or_doubled_at_any_cut(
    speech: Speech, lengths: list[int], left_jitter: list[int], right_jitter: list[int]
) -> None:
    windows = [(0, lengths[0])]
    end = speech.words[-1].end + RATE // 2
    for length in lengths[1:]:
        if windows[-1][1] >= end:
            break
        cut = windows[-1][1]
        windows.append((cut - OVERLAP, cut + length - OVERLAP))
    windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
    jitters = [left_jitter, right_jitter]
    readings = [speech.read(start, end, jitters[i % 2]) for i, (start, end) in enumerate(windows)]
    said = joined(windows, readings)
    heard = [word for one in said for word in one.text.split()]
    assert heard == [word.text for word in speech.words]
    assert said[0].start == windows[0][0]
    assert said[-1].end == windows[-1][1]
    for one, other in pairwise(said):
        assert one.start < one.end == other.start
    for one in said:
        assert "".join(word.text for word in one.words) == one.text == one.text.strip()


# ---------------------------------------------------------------- each rule


def words(*said: tuple[str, float, float]) -> tuple[Word, ...]:
    """Words with times in seconds."""
    return tuple(
        Word(text if i == 0 else f" {text}", round(start * RATE), round(end * RATE))
        for i, (text, start, end) in enumerate(said)
    )


def text_of(said: Sequence[Word]) -> str:
    return "".join(word.text for word in said)


LEFT = words(("so", 3.0, 3.6), ("the", 3.6, 3.9), ("red", 3.9, 4.3), ("fo", 4.3, 4.6))
"""Of a window that ends at 4.6 s, in the middle of a word; the next one begins a second earlier."""


def test_the_seam_is_near_the_middle_of_the_overlap_if_nobody_knows_better() -> None:
    kept, seam = split(LEFT, round(3.6 * RATE), round(4.6 * RATE), "en")
    assert text_of(kept) == "so the"
    assert seam.at == round(3.9 * RATE)
    assert seam.again == " the"


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [
        # The right window will be wrong in one of five: what the left one is surer of, it keeps …
        ((0.9, 0.9, 0.9), "so the red"),
        ((0.1, 0.9, 0.9), "so the red"),
        # … and leaves what it is not, but for a word whose beginning only it has heard.
        ((0.9, 0.7, 0.9), "so the"),
        ((0.1, 0.7, 0.9), "so the"),
        # However sure it is of what may be the beginning of a word.
        ((0.9, 0.9, 1.0), "so the red"),
    ],
)
def test_the_seam_leaves_each_window_the_words_that_it_reads_better(
    probabilities: tuple[float, ...], said: str
) -> None:
    left = [
        LEFT[0],
        *(dataclasses.replace(word, probability=p) for word, p in zip(LEFT[1:], probabilities, strict=True)),
    ]
    kept, _ = split(left, round(3.6 * RATE), round(4.6 * RATE), "en")
    assert text_of(kept) == said


def test_a_word_is_left_to_the_right_window_though_the_next_one_is_sure() -> None:
    left = words(("a", 3.0, 3.3), ("b", 3.3, 3.6), ("c", 3.6, 3.9), ("d", 3.9, 4.2), ("e", 4.2, 4.6))
    sure = [
        dataclasses.replace(word, probability=p)
        for word, p in zip(left, (0.9, 0.9, 0.7, 0.99, 0.9), strict=True)
    ]
    kept, _ = split(sure, 3 * RATE, 5 * RATE, "en")
    # "c" costs a tenth of a word, "d" and "e" gain three.
    assert text_of(kept) == "a b c d e"


@pytest.mark.parametrize(
    ("right", "rest"),
    [
        (words(("the", 3.6, 3.9), ("red", 3.9, 4.3), ("fox", 4.3, 4.8)), "red fox"),
        # Times that are wrong do no harm where both say the same.
        (words(("the", 3.8, 4.1), ("Red,", 4.1, 4.4), ("fox", 4.4, 4.8)), "Red, fox"),
        (words(("red", 3.6, 4.1), ("fox", 4.1, 4.8)), "red fox"),
        # Where they do not, times tell: "a" is before the seam, "rat" behind it.
        (words(("a", 3.6, 3.8), ("rat", 3.9, 4.3), ("ox", 4.3, 4.8)), "rat ox"),
        # What both say lies further behind.
        (words(("th", 3.6, 3.8), ("bad", 3.9, 4.2), ("fo", 4.3, 4.8)), "bad fo"),
        # Heard nothing: what the left window heard stands in.
        ((), "red fo"),
    ],
)
def test_words_behind_the_seam_are_those_of_the_right_window(right: tuple[Word, ...], rest: str) -> None:
    _, seam = split(LEFT, round(3.6 * RATE), round(4.6 * RATE), "en")
    assert text_of(seam.behind(right)) == rest


def test_a_window_without_words_leaves_the_overlap_to_the_next() -> None:
    kept, seam = split((), 3 * RATE, 4 * RATE, None)
    assert (kept, seam.at, seam.again) == ((), 3 * RATE, "")
    right = words(("he", 3.1, 3.4), ("came", 3.4, 4.5))
    assert text_of(seam.behind(right)) == "he came"


def test_a_word_longer_than_the_overlap_is_the_left_window_s() -> None:
    left = words(("a", 1.0, 1.2), ("looong", 2.5, 4.5), ("on", 4.6, 4.6))
    kept, seam = split(left[:2], 3 * RATE, 4 * RATE, "en")
    assert text_of(kept) == "a looong"
    assert seam.at == 4 * RATE
    right = words(("ong", 3.0, 4.4), ("one", 4.5, 4.9))
    assert text_of(seam.behind(right)) == "one"


def test_where_nothing_is_said_in_the_overlap_nothing_is_lost() -> None:
    left = words(("one", 1.0, 1.4))
    kept, seam = split(left, 3 * RATE, 4 * RATE, "en")
    assert (text_of(kept), seam.at) == ("one", 3 * RATE)
    assert text_of(seam.behind(words(("two", 4.1, 4.4)))) == "two"


def test_a_reading_that_is_not_beside_a_cut_is_left_alone() -> None:
    said = reading(0, RATE, ())
    assert Joins().join(PendingFinal(0, 0, RATE, True), said) is said


def test_a_text_without_times_counts_as_one_word() -> None:
    joins = Joins()
    first = joins.join(PendingFinal(0, 0, 4 * RATE, False, 3 * RATE), reading(0, 4 * RATE, (), "all of it"))
    last = joins.join(
        PendingFinal(1, 3 * RATE, 6 * RATE, True), reading(3 * RATE, 6 * RATE, (), "and the rest")
    )
    assert (first.text, last.text) == ("all of it", "and the rest")
    assert first.end == last.start == 4 * RATE


def test_a_partial_behind_a_cut_waits_for_the_seam() -> None:
    joins, finals = Joins(), FinalQueue()
    joins.begin_utterance(is_joined=True)
    assert joins.partial_start(0, finals) == 0
    first = PendingFinal(0, 0, 4 * RATE, False)
    assert joins.needs_times(is_cut=True)
    joins.close(first, is_cut=True, next_start=3 * RATE)
    assert joins.needs_times(is_cut=False)
    finals.append(first)
    assert joins.partial_start(3 * RATE, finals) is None
    finals.resolve(reading(0, 4 * RATE, ()))
    for ready in finals.pop_ready():
        assert isinstance(ready, tuple)
        joins.join(*ready)
    assert joins.partial_start(3 * RATE, finals) == 3 * RATE


# ---------------------------------------------------------------- through a session

JOINED = dataclasses.replace(
    SETTINGS,
    tiers=Tiers({Tier.LIVE: dataclasses.replace(FACTS, can_time_words=True)}),
    segmenter=dataclasses.replace(SETTINGS.segmenter, overlap_ms=1_000),
)
CONTEXT = dataclasses.replace(
    JOINED,
    tiers=Tiers({Tier.LIVE: dataclasses.replace(FACTS, can_time_words=True, reads_prompts=True)}),
)


class Timed(World):
    """A session whose engine tells times."""

    def decode(self, index: int = 0, text: str | None = None) -> list[object]:  # type: ignore[override]
        return [*self.take(self.session.receive_result(timed_answer(self.jobs.pop(index)), self.now_s))]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(1, 30)), min_size=1, max_size=3),
    st.sampled_from([JOINED, CONTEXT]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_through_a_session_every_number_comes_once_in_whatever_order_texts_come(
    turns: list[tuple[int, int]], server: SessionSettings, revise: bool, chance: object
) -> None:
    world = Timed(server).start(dataclasses.replace(START, revise=revise, transcript=True))
    number = 0
    for n_frames, n_silent in turns:
        world.send(numbered_speech(range(number, number + n_frames)))
        world.send(silence(n_silent))
        number += n_frames
        while world.frames:
            world.score(chance.randint(1, 200))  # type: ignore[attr-defined]
            if world.jobs and chance.random() < 0.5:  # type: ignore[attr-defined]
                world.decode(chance.randrange(len(world.jobs)))  # type: ignore[attr-defined]
    world.receive(Finish())
    while world.frames or world.jobs:
        world.score()
        if world.jobs:
            world.decode(chance.randrange(len(world.jobs)))  # type: ignore[attr-defined]
    check_complete(world.events)
    assert world.numbers == list(range(number))
    finished = world.events[-1]
    assert numbers_in(finished.transcript.text) == list(range(number))  # type: ignore[union-attr]
    for partial in world.of(Partial):
        said = numbers_in(partial.text)
        assert said == list(range(said[0], said[0] + len(said)))


def test_a_final_at_a_cut_ends_at_its_seam_and_does_not_wait() -> None:
    world = Timed(JOINED).start(dataclasses.replace(START, partials=False))
    world.send(numbered_speech(range(160)))
    world.score()
    assert len(world.jobs) == 1
    world.decode()
    [final] = world.of(Final)
    assert final.end < 160 * FRAME_SAMPLES
    assert world.numbers == list(range(final.end // FRAME_SAMPLES))


def cut_with_partials(tentative: bool) -> Timed:
    """A session that has cut running speech once, with partials up to then, and awaits its final."""
    server = dataclasses.replace(JOINED, partial_frames=4)
    world = Timed(server).start(dataclasses.replace(START, tentative=tentative))
    world.send(numbered_speech(range(170)))
    while not world.jobs or not world.jobs[-1].final:
        world.score(1)
        if world.jobs and not world.jobs[-1].final:
            world.decode()
    return world


@pytest.mark.parametrize("tentative", [True, False])
def test_words_shown_behind_a_seam_stay_shown(tentative: bool) -> None:
    world = cut_with_partials(tentative)
    shown = numbers_in(world.of(Partial)[-1].text)
    [final, rest] = world.decode()
    assert isinstance(final, Final)
    assert isinstance(rest, Partial)
    assert rest.segment == final.segment + 1
    assert [*numbers_in(final.text), *numbers_in(rest.text)] == shown
    assert final.end == rest.start < rest.end
    world.score()
    world.decode()
    later = world.of(Partial)[-1]
    assert later.revision > rest.revision
    assert later.text.startswith(rest.text[: rest.stable])


def test_words_behind_a_seam_are_not_shown_once_their_segment_has_closed() -> None:
    world = cut_with_partials(tentative=True)
    world.send(silence(30))
    world.score()
    world.jobs = [job for job in world.jobs if job.final]
    [final, *others] = world.decode()
    assert isinstance(final, Final)
    assert others == []


def test_clients_without_partials_are_shown_none_behind_a_seam() -> None:
    world = Timed(JOINED).start(dataclasses.replace(START, partials=False))
    world.send(numbered_speech(range(170)))
    world.score()
    assert [type(event) for event in world.decode()] == [Final]


def test_a_model_that_cannot_time_words_is_given_windows_side_by_side() -> None:
    server = dataclasses.replace(SETTINGS, segmenter=JOINED.segmenter)
    world = World(server).start(dataclasses.replace(START, partials=False))
    world.send(numbered_speech(range(400)))
    world.receive(Finish())
    world.score()
    ends = [job.start + job.n_samples for job in world.jobs]
    assert [job.start for job in world.jobs] == [0, *ends[:-1]]
    assert not any(job.word_times for job in world.jobs)
    world.settle()
    assert world.numbers == list(range(400))


def test_translations_are_not_joined() -> None:
    facts = dataclasses.replace(FACTS, can_time_words=True, can_translate=True)
    server = dataclasses.replace(JOINED, tiers=Tiers({Tier.LIVE: facts}))
    world = World(server).start(dataclasses.replace(START, task=Task.TRANSLATE, partials=False))
    world.send(numbered_speech(range(400)))
    world.score()
    assert not any(job.word_times for job in world.jobs)


def test_the_prompt_ends_where_the_window_begins() -> None:
    world = Timed(CONTEXT).start(dataclasses.replace(START, partials=False))
    world.send(numbered_speech(range(400)))
    world.score()
    world.decode()
    [job] = world.jobs
    assert numbers_in(job.prompt)[-1] == job.start // FRAME_SAMPLES - 1
