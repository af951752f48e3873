"""Each rule at its line, and what is spoken stays."""

import dataclasses
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.jobs import GuardRule
from stream_server.engine.guard import (
    Attempt,
    Outcome,
    Thresholds,
    Verdict,
    judge,
    settle,
    settle_partial,
)

LIMITS = Thresholds()
GOOD = Attempt(
    text="We need to check the password before Tuesday.",
    avg_logprob=-0.3,
    no_speech_prob=0.01,
    audio_s=3.0,
    is_whole=True,
)
KEEP, RETRY, DROP = Outcome


def changed(**fields: object) -> Attempt:
    return dataclasses.replace(GOOD, **fields)  # type: ignore[arg-type]  of any field


FAST = (
    "the quick brown fox jumps over a lazy dog while five boxing wizards "
    "vex judge Blumquartz with zany hype and many pickles"
)
"""Over 105 characters, which is too much for 3 s."""
LOOP = "we should go and " * 5
MAYBE = "the same kind of words in other orders, words of other kinds in the same order, " * 3
"""Compresses well and does not loop within six words."""


@pytest.mark.parametrize(
    ("attempt", "outcome", "rule"),
    [
        pytest.param(GOOD, KEEP, None, id="ok"),
        pytest.param(changed(text=""), KEEP, None, id="ok/nothing said"),
        pytest.param(changed(text="", avg_logprob=-9.0, no_speech_prob=1.0), KEEP, None, id="ok/silence"),
        pytest.param(changed(avg_logprob=-1.0), KEEP, None, id="ok/logprob at the line"),
        pytest.param(changed(avg_logprob=-1.001), RETRY, "logprob", id="fail/logprob"),
        pytest.param(changed(avg_logprob=math.nan), RETRY, "logprob", id="fail/logprob not a number"),
        pytest.param(changed(no_speech_prob=0.99), KEEP, None, id="ok/no speech but sure of its text"),
        pytest.param(
            changed(no_speech_prob=0.6, avg_logprob=-1.1), RETRY, "logprob", id="ok/no speech at the line"
        ),
        pytest.param(
            changed(no_speech_prob=0.61, avg_logprob=-1.1), DROP, "no_speech", id="fail/no speech and unsure"
        ),
        pytest.param(changed(is_whole=False), RETRY, "length", id="fail/at the limit of tokens"),
        pytest.param(changed(text=FAST[:104]), KEEP, None, id="ok/as fast as can be"),
        pytest.param(changed(text=FAST[:105]), RETRY, "rate", id="fail/rate"),
        pytest.param(changed(text=LOOP), RETRY, "repetition", id="fail/loop of four words"),
        pytest.param(changed(text=LOOP[: 3 * 17]), KEEP, None, id="ok/three turns"),
        pytest.param(changed(text="No, no, no, no, no, no, no!"), KEEP, None, id="ok/seven times no"),
        pytest.param(
            changed(text="No, no, no, no, no, no, no, no"), RETRY, "repetition", id="fail/eight times"
        ),
        pytest.param(changed(text="谢谢" * 4), RETRY, "repetition", id="fail/loop without spaces"),
        pytest.param(changed(text=MAYBE, audio_s=30.0), RETRY, "compression", id="fail/compression"),
    ],
)
def test_each_rule_at_its_line(attempt: Attempt, outcome: Outcome, rule: str | None) -> None:
    assert judge(attempt, LIMITS) == Verdict(outcome, rule and GuardRule(rule))


@pytest.mark.parametrize(
    "text",
    [
        "Thank you.",
        " thank you",
        "Thanks for watching!",
        "Thank you. Bye.",
        "THANK YOU VERY MUCH.",
        "Vielen Dank.",
        "Untertitel der Amara.org-Community",
        "Napisy stworzone przez społeczność Amara.org",
        "ご視聴ありがとうございました",
    ],
)
def test_a_known_phrase_stays_if_the_evidence_is_good_and_goes_if_it_is_weak(text: str) -> None:
    spoken = changed(text=text, avg_logprob=-0.7, no_speech_prob=0.4)
    assert judge(spoken, LIMITS).outcome is KEEP
    for weak in (
        dataclasses.replace(spoken, avg_logprob=-0.71),
        dataclasses.replace(spoken, no_speech_prob=0.41),
    ):
        assert judge(weak, LIMITS) == Verdict(DROP, GuardRule.PHRASE)


def test_a_phrase_inside_a_sentence_is_not_the_phrase() -> None:
    for text in ("Thank you for the report.", "Thank you. The meeting is over.", "I said thank you"):
        assert judge(changed(text=text, avg_logprob=-0.9), LIMITS).outcome is KEEP


def test_text_that_repeats_the_text_before_goes_if_the_evidence_is_weak() -> None:
    prompt = "So. We need to check the password before Tuesday."
    assert judge(changed(prompt=prompt), LIMITS).outcome is KEEP
    assert judge(changed(prompt=prompt, avg_logprob=-0.8), LIMITS) == Verdict(DROP, GuardRule.PROMPT)
    assert judge(changed(prompt="The password.", avg_logprob=-0.8), LIMITS).outcome is KEEP
    assert judge(changed(text="...", prompt="...", avg_logprob=-0.8), LIMITS).outcome is KEEP


# ---------------------------------------------------------------- what becomes of the attempts


def settled(*attempts: Attempt) -> tuple[int, str, GuardRule | None]:
    result = settle(attempts, [judge(attempt, LIMITS) for attempt in attempts], LIMITS)
    return result.index, result.text, result.dropped


def test_the_first_attempt_that_is_kept_is_taken() -> None:
    assert settled(GOOD) == (0, GOOD.text, None)
    assert settled(changed(text=LOOP), GOOD) == (1, GOOD.text, None)


def test_text_that_stays_uncertain_is_the_likeliest_attempt_down_to_a_floor() -> None:
    sad = [changed(text=name, avg_logprob=p) for name, p in (("one", -1.9), ("two", -1.2), ("three", -1.5))]
    assert settled(*sad) == (1, "two", None)
    assert settled(changed(avg_logprob=-2.0)) == (0, GOOD.text, None)
    assert settled(changed(avg_logprob=-2.01)) == (0, "", GuardRule.LOGPROB)
    assert settled(changed(avg_logprob=math.nan)) == (0, "", GuardRule.LOGPROB)


def test_an_uncertain_attempt_is_preferred_to_a_loop() -> None:
    assert settled(changed(text=LOOP), changed(avg_logprob=-1.5), changed(text=LOOP)) == (1, GOOD.text, None)


def test_a_loop_in_every_attempt_is_cut_after_its_first_turn() -> None:
    looping = changed(text="Well, " + LOOP)
    assert settled(looping, looping, looping) == (0, "Well, we should go and", GuardRule.REPETITION)


def test_a_loop_whose_turn_is_a_known_phrase_with_weak_evidence_leaves_nothing() -> None:
    looping = changed(text="Thank you. " * 6, avg_logprob=-0.9)
    assert settle_partial(looping, LIMITS).text == ""
    spoken = changed(text="Thank you. " * 6)
    assert settle_partial(spoken, LIMITS).text == "Thank you"


def test_more_than_can_be_said_leaves_nothing() -> None:
    assert settled(changed(text=MAYBE, audio_s=30.0)) == (0, "", GuardRule.COMPRESSION)


def test_a_text_at_the_limit_of_tokens_is_kept_if_no_rule_but_that_is_broken() -> None:
    assert settled(changed(is_whole=False)) == (0, GOOD.text, None)


@pytest.mark.parametrize(
    ("attempt", "text", "rule"),
    [
        pytest.param(GOOD, GOOD.text, None, id="kept"),
        pytest.param(changed(avg_logprob=-5.0), GOOD.text, None, id="unsure of half a word"),
        pytest.param(changed(is_whole=False), GOOD.text, None, id="at the limit of tokens"),
        pytest.param(changed(text=LOOP), "we should go and", "repetition", id="loop"),
        pytest.param(changed(avg_logprob=-1.5, no_speech_prob=0.9), "", "no_speech", id="no speech"),
        pytest.param(changed(text="Thank you.", avg_logprob=-0.9), "", "phrase", id="phrase"),
    ],
)
def test_what_is_shown_of_a_partial(attempt: Attempt, text: str, rule: str | None) -> None:
    result = settle_partial(attempt, LIMITS)
    assert (result.text, result.dropped) == (text, rule)


probabilities = st.floats(0, 1)
attempts = st.builds(
    Attempt,
    text=st.text(max_size=60) | st.lists(st.sampled_from(["so", "we", "go"]), max_size=40).map(" ".join),
    avg_logprob=st.floats(-8, 0) | st.just(math.nan),
    no_speech_prob=probabilities,
    audio_s=st.floats(0.01, 30),
    is_whole=st.booleans(),
    prompt=st.text(max_size=20),
)


@given(attempts)
def test_what_is_left_is_the_beginning_of_an_attempt_and_loops_no_more(attempt: Attempt) -> None:
    for result in (settle([attempt], [judge(attempt, LIMITS)], LIMITS), settle_partial(attempt, LIMITS)):
        assert attempt.text.startswith(result.text)
        left = judge(dataclasses.replace(attempt, text=result.text, avg_logprob=0.0), LIMITS)
        assert left.rule in (None, GuardRule.LENGTH)
        assert (result.text == attempt.text) == (result.dropped is None) or not attempt.text


@pytest.mark.parametrize(
    ("no_speech_prob", "outcome", "rule"),
    [
        pytest.param(0.25, KEEP, None, id="ok/at the line"),
        pytest.param(0.26, DROP, "no_speech", id="fail/above"),
    ],
)
def test_a_model_that_knows_silence_is_believed_however_sure_of_its_text(
    no_speech_prob: float, outcome: Outcome, rule: str | None
) -> None:
    verdict = judge(changed(no_speech_prob=no_speech_prob), Thresholds(sure_no_speech=0.25))
    assert (verdict.outcome, verdict.rule) == (outcome, rule)


@pytest.mark.parametrize(
    "fields",
    [
        {"logprob_min": 0.1},
        {"sure_no_speech": -0.1},
        {"logprob_floor": -0.5},
        {"no_speech_max": 1.1},
        {"compression_ratio_max": 1},
        {"x": 1},
    ],
)
def test_thresholds_that_make_no_sense_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields, Thresholds)
