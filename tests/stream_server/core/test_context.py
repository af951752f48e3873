"""The text before as the prompt of the next final: what is in it, where it ends."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import pytest
from driver import READING_ON, SETTINGS, START, World
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.core.actions import Action, Submit
from stream_server.core.context import GAP_S, PROMPT_CHARS, Context
from stream_server.core.hops import Hops
from stream_server.core.jobs import PROMPT_CHARS_MAX, DecodeJob, DecodeResult, GuardRule
from stream_server.core.messages import Final, Finish, ServerEvent, SessionId, Task
from stream_server.engine.fake import numbered_speech, silence

RATE = 16_000


def job(segment: int, start_s: float = 0.0) -> DecodeJob:
    """A window of a second."""
    return DecodeJob(
        session=SessionId("s"),
        segment=segment,
        revision=0,
        final=True,
        start=round(start_s * RATE),
        pcm=bytes(2 * RATE),
        language=None,
        task=Task.TRANSCRIBE,
        tier="live",
        hops=Hops(),
    )


def prompts(
    *said: str | DecodeResult, starts_s: list[float] | None = None, language: str = "en"
) -> list[str]:
    """The prompts of finals that say this, one after the other, and of one more."""
    context = Context()
    found = []
    for i, text in enumerate([*said, ""]):
        [offered] = context.offer(job(i, starts_s[i] if starts_s else float(i)))
        found.append(offered.prompt)
        if isinstance(text, DecodeResult):
            result = dataclasses.replace(text, segment=i, start=offered.start, end=offered.start + RATE)
        else:
            result = offered.answered(text=text, language=language, now_s=0.0)
        assert context.take(result) == []
    return found


def doubtful(said: str, **why: object) -> DecodeResult:
    result = job(0).answered(text=said, language="en", now_s=0.0)
    return dataclasses.replace(result, **why)  # type: ignore[arg-type]  # fields by name


def test_the_prompt_is_what_the_finals_before_say() -> None:
    assert prompts("Good morning.", "We begin", "now.") == [
        "",
        "Good morning.",
        "Good morning. We begin",
        "Good morning. We begin now.",
    ]


def test_scripts_without_spaces_get_none() -> None:
    assert prompts("今日は", "いい天気", language="ja") == ["", "今日は", "今日はいい天気"]


def test_an_empty_final_leaves_the_context_as_it_is() -> None:
    assert prompts("one", "", "two") == ["", "one", "one", "one two"]


@pytest.mark.parametrize(("gap_s", "prompt"), [(GAP_S, "one"), (GAP_S + 0.001, "")])
def test_a_long_silence_ends_the_context(gap_s: float, prompt: str) -> None:
    assert prompts("one", starts_s=[0.0, 1.0 + gap_s])[1] == prompt


@pytest.mark.parametrize(
    "why",
    [
        {"retried": (GuardRule.LOGPROB,), "temperature": 0.2},
        {"dropped": GuardRule.REPETITION},
        {"dropped": GuardRule.PROMPT, "text": ""},
    ],
)
def test_a_final_that_the_guard_doubted_is_in_no_prompt_and_ends_the_context(
    why: dict[str, object],
) -> None:
    assert prompts("one", doubtful("two", **why), "three") == ["", "one", "", "three"]


def test_a_final_that_says_the_same_as_the_one_before_ends_the_context() -> None:
    assert prompts("one", "Yes, I do.", "yes I do", "two") == ["", "one", "one Yes, I do.", "", "two"]


def test_another_language_begins_another_context() -> None:
    german = dataclasses.replace(doubtful("Guten Tag."), language="de")
    assert prompts("Good morning.", german, "Hello.") == ["", "Good morning.", "Guten Tag.", "Hello."]


@given(st.lists(st.lists(st.text("ab", min_size=1, max_size=60), max_size=9), max_size=9))
def test_a_prompt_is_as_many_whole_words_from_the_end_as_there_is_room_for(bodies: list[list[str]]) -> None:
    texts = [" ".join([f"w{i}", *body]) for i, body in enumerate(bodies)]
    for n_finals, prompt in enumerate(prompts(*texts)):
        words = " ".join(texts[:n_finals]).split()
        n_kept = len(prompt.split())
        assert prompt == " ".join(words[len(words) - n_kept :])
        assert len(prompt) <= PROMPT_CHARS <= PROMPT_CHARS_MAX
        if n_kept < len(words):
            assert len(" ".join(words[len(words) - n_kept - 1 :])) > PROMPT_CHARS


def test_the_edge_of_a_prompt() -> None:
    exact = "x" * (PROMPT_CHARS - 2)
    assert prompts(exact, "y")[2] == f"{exact} y"
    assert prompts(exact + "x", "y")[2] == "y"
    assert prompts("w " + exact, "y")[2] == f"{exact} y"
    assert prompts("x" * (PROMPT_CHARS + 1))[1] == "x" * PROMPT_CHARS


def test_a_final_waits_for_the_one_before_it() -> None:
    context = Context()
    [first] = context.offer(job(0))
    assert context.offer(job(1, 1.0)) == []
    assert context.offer(job(2, 2.0)) == []
    [second] = context.take(first.answered(text="one", language="en", now_s=0.0))
    assert (second.segment, second.prompt) == (1, "one")
    [third] = context.take(second.answered(text="two", language="en", now_s=0.0))
    assert (third.segment, third.prompt) == (2, "one two")


# ---------------------------------------------------------------- in a session


class Listener(World):
    """Notes with which prompts finals are asked for, and that there is one at a time."""

    def __init__(self) -> None:
        super().__init__(READING_ON)
        self.prompts: list[str] = []

    def take(self, actions: Sequence[Action]) -> list[ServerEvent]:
        for action in actions:
            if isinstance(action, Submit) and action.job.final:
                assert action.job.segment == len(self.prompts)
                assert not any(waiting.final for waiting in self.jobs), "one after the other"
                self.prompts.append(action.job.prompt)
        return super().take(actions)


def heard(step: Callable[[World], object]) -> Listener:
    """A long talk that was heard; after each piece, VAD and engine get as far as ``step`` lets them."""
    world = Listener()
    world.start()
    for first in range(0, 600, 50):
        world.send(numbered_speech(range(first, first + 50)))
        world.send(silence(30 if first % 150 else 8))
        step(world)
    world.receive(Finish())
    world.settle()
    return world


@functools.cache
def heard_at_once() -> Listener:
    """Everything is answered as soon as it is asked."""
    return heard(World.settle)


@settings(max_examples=12)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 2)), min_size=12, max_size=12))
def test_prompts_depend_on_the_audio_and_not_on_when_stages_answer(pace: list[tuple[int, int]]) -> None:
    turns = iter(pace)

    def at_this_pace(world: World) -> None:
        n_frames, n_jobs = next(turns)
        world.score(n_frames)
        for _ in range(min(n_jobs, len(world.jobs))):
            world.decode()

    quick, slow = heard_at_once(), heard(at_this_pace)
    assert slow.of(Final) == quick.of(Final)
    assert slow.prompts == quick.prompts
    texts = [final.text for final in quick.of(Final)]
    assert quick.prompts[0] == ""
    assert all(" ".join(texts[: i + 1]).endswith(f" {prompt}") for i, prompt in enumerate(quick.prompts[1:]))
    assert all(quick.prompts[1:])


def test_a_client_may_do_without() -> None:
    world = World(READING_ON).start(dataclasses.replace(START, context=False))
    world.send(numbered_speech(range(400)))
    world.score()
    assert sum(waiting.final for waiting in world.jobs) > 1
    assert not any(waiting.prompt for waiting in world.jobs)


def test_a_model_that_was_not_trained_for_it_and_a_server_that_does_not_want_it_give_none() -> None:
    for server in (
        dataclasses.replace(READING_ON, context=False),
        dataclasses.replace(READING_ON, tiers=SETTINGS.tiers),
    ):
        world = World(server).start()
        world.send(numbered_speech(range(400)))
        world.score()
        assert sum(waiting.final for waiting in world.jobs) > 1
        assert not any(waiting.prompt for waiting in world.jobs)
