"""Keeps text that nobody said out of transcripts. Pure: numbers and text in, a verdict out.

Whisper invents text where there is little speech, and loops where it is unsure (Koenecke et al. 2024,
"Careless Whisper": about 1 % of segments, more with long pauses). No rule alone is enough, and a rule
that looks at the text alone would take a spoken "thank you" away. The rules, cheap to dear:

1. *No speech*: the model holds the window for silence and is unsure of its text. Dropped at once. So it is,
   however sure it is of its text, where a model's manifest draws a line for that: whisper's own probability
   of no speech says little, that of a model trained on sounds without speech says nearly all.
2. *Phrase*, *prompt*: the text is one that Whisper is known to invent, or repeats the text before it, and
   the evidence for it is weak. Dropped at once. With good evidence it stays.
3. *Repetition*, *compression*, *rate*, *length*: the text runs in a loop, or is more than can be said
   in the time. Decoded again at the next temperature.
4. *Log-probability*: the model is unsure of its text. Decoded again; if no temperature does better, the
   best attempt is kept down to a floor, and below it dropped.

If every attempt loops, the first one is cut after the first turn of its loop, if one can be seen, and
dropped if not. Only finals are decoded again. Partials are not judged by log-probability: they end in the
middle of a word more often than not, which costs more than any noise does (``demo-en``, 2026-11-21: the
median of cut recordings is -1.4, that of noises -2.1, that of finals -0.5).
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

import msgspec

from stream_server.core.jobs import GuardRule
from stream_server.core.words import TOKEN

TEMPERATURES = (0.0, 0.2, 0.4)
"""At which a final is decoded, until an attempt is kept; higher ones say little that is true."""
LOOP_WORDS_MAX = 6
LOOP_TURNS = 4
"""So many turns of the same 2 to 6 words are a loop."""
LOOP_TURNS_OF_ONE = 8
"""Of a single word: "zero zero zero zero" is said."""
RATE_BASE_CHARS = 20
"""Added to what may be said in the time: a window may begin and end inside words."""

_PHRASES = """
thank you | thank you very much | thank you so much | thanks | thanks for watching | thank you for watching
thanks for listening | thank you for listening | thanks for watching and i'll see you in the next video
i'll see you in the next video | see you next time | please subscribe | please subscribe to my channel
like and subscribe | don't forget to subscribe | bye | bye bye | you | the end | music | applause
subtitles by the amara.org community | transcription by castingwords
untertitel der amara.org-community | untertitelung des zdf 2020 | untertitel im auftrag des zdf für funk 2017
vielen dank | vielen dank fürs zuschauen | danke fürs zuschauen | bis zum nächsten mal | tschüss
sous-titres réalisés par la communauté d'amara.org | sous-titrage société radio-canada | merci
merci d'avoir regardé cette vidéo | subtítulos realizados por la comunidad de amara.org | gracias
gracias por ver el video | legendas pela comunidade amara.org | obrigado | obrigado por assistir
sottotitoli creati dalla comunità amara.org | grazie | grazie per la visione
napisy stworzone przez społeczność amara.org | dziękuję | dziękuję za uwagę
ondertiteld door de amara.org-gemeenschap | bedankt voor het kijken
продолжение следует | спасибо за просмотр | субтитры сделал dimatorzok
ご視聴ありがとうございました | ありがとうございました | 시청해주셔서 감사합니다
谢谢观看 | 謝謝觀看 | 字幕由amara.org社区提供
"""
"""What Whisper is widely reported to write over silence and noise: thanks, farewells, subtitle credits."""


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the rules draw their lines, per model: log-probabilities depend on how a model was trained."""

    compression_ratio_max: float = 2.4
    """Of the text by zlib, as in whisper."""
    logprob_min: float = -1.0
    """Mean log-probability of a token below which a final is decoded again, as in whisper."""
    logprob_floor: float = -2.0
    """Below which a final is dropped if no temperature did better; whisper keeps all."""
    no_speech_max: float = 0.6
    """Probability of no speech above which text below ``logprob_min`` is dropped, as in whisper."""
    sure_no_speech: float = 1.0
    """Above this, text is dropped whatever its log-probability; 1 for never, as in whisper."""
    weak_no_speech: float = 0.4
    """Above this the evidence for a known phrase is weak."""
    weak_logprob: float = -0.7
    """Below this the evidence for a known phrase is weak."""
    chars_per_s_max: float = 28.0
    """Fast speech is about 20 characters a second."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.logprob_floor <= self.logprob_min <= 0:
            raise ValueError("logprob_min must be at most 0 and logprob_floor at most logprob_min")
        for name in ("no_speech_max", "sure_no_speech", "weak_no_speech"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1")
        if not (self.compression_ratio_max > 1 and self.chars_per_s_max > 0 and self.weak_logprob <= 0):
            raise ValueError(
                "compression_ratio_max must be above 1, chars_per_s_max above 0, weak_logprob at most 0"
            )


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the guard looks at: one decoding of one window."""

    text: str
    avg_logprob: float
    no_speech_prob: float
    audio_s: float
    """Length of the window without its padding, seconds."""
    is_whole: bool
    """It ended by itself, not at the limit of tokens."""
    prompt: str = ""
    """The text before, as the model was given it."""


class Outcome(Enum):
    """What is to be done with an attempt."""

    KEEP = auto()
    RETRY = auto()
    """Decode again, at the next temperature."""
    DROP = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one attempt."""

    outcome: Outcome
    rule: GuardRule | None = None
    """The rule that was broken; None if it is kept."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of a window's attempts."""

    index: int
    """The attempt chosen."""
    text: str
    """Of that attempt, or its beginning, or nothing."""
    dropped: GuardRule | None
    """The rule by which text was taken away, all of it or the turns of a loop."""


_KEPT = Verdict(Outcome.KEEP)
_UNSURE = (GuardRule.LOGPROB, GuardRule.LENGTH)


def judge(attempt: Attempt, limits: Thresholds) -> Verdict:
    """Judge one attempt at a final."""
    if not attempt.text:
        return _KEPT
    # Written so that a log-probability that is not a number counts as the lowest.
    is_unsure = not attempt.avg_logprob >= limits.logprob_min
    is_silent = is_unsure and attempt.no_speech_prob > limits.no_speech_max
    if is_silent or attempt.no_speech_prob > limits.sure_no_speech:
        return Verdict(Outcome.DROP, GuardRule.NO_SPEECH)
    if _has_weak_evidence(attempt, limits):
        if _is_known_phrase(attempt.text):
            return Verdict(Outcome.DROP, GuardRule.PHRASE)
        if _repeats_prompt(attempt):
            return Verdict(Outcome.DROP, GuardRule.PROMPT)
    rule = _loop_rule(attempt, limits)
    if rule is None and is_unsure:
        rule = GuardRule.LOGPROB
    return _KEPT if rule is None else Verdict(Outcome.RETRY, rule)


def settle(attempts: Sequence[Attempt], verdicts: Sequence[Verdict], limits: Thresholds) -> Settled:
    """Choose among a final's attempts; all but the last are to be retried, the last may be."""
    last = len(attempts) - 1
    match verdicts[last].outcome:
        case Outcome.KEEP:
            return Settled(last, attempts[last].text, None)
        case Outcome.DROP:
            return Settled(last, "", verdicts[last].rule)
    unsure = [i for i, verdict in enumerate(verdicts) if verdict.rule in _UNSURE]
    if not unsure:
        return _cut(attempts[0], verdicts[0], limits)
    best = max(unsure, key=lambda i: attempts[i].avg_logprob)
    if attempts[best].avg_logprob >= limits.logprob_floor:
        return Settled(best, attempts[best].text, None)
    return Settled(best, "", GuardRule.LOGPROB)


def settle_partial(attempt: Attempt, limits: Thresholds) -> Settled:
    """What becomes of a partial: what loops is cut, what is dropped from a final is dropped here."""
    verdict = judge(attempt, limits)
    if verdict.outcome is Outcome.DROP:
        return Settled(0, "", verdict.rule)
    if verdict.outcome is Outcome.KEEP or verdict.rule in _UNSURE:
        return Settled(0, attempt.text, None)
    return _cut(attempt, verdict, limits)


def _cut(attempt: Attempt, verdict: Verdict, limits: Thresholds) -> Settled:
    """The text up to the end of the first turn of its loop, if that is more likely to have been said."""
    loop_end = _first_turn_end(attempt.text)
    text = "" if loop_end is None else attempt.text[:loop_end]
    if judge(replace(attempt, text=text, is_whole=True), limits).rule not in (None, *_UNSURE):
        text = ""
    return Settled(0, text, verdict.rule)


def _loop_rule(attempt: Attempt, limits: Thresholds) -> GuardRule | None:
    text = attempt.text
    if _first_turn_end(text) is not None:
        return GuardRule.REPETITION
    encoded = text.encode()
    if len(encoded) / len(zlib.compress(encoded)) > limits.compression_ratio_max:
        return GuardRule.COMPRESSION
    if len(text) > RATE_BASE_CHARS + limits.chars_per_s_max * attempt.audio_s:
        return GuardRule.RATE
    return None if attempt.is_whole else GuardRule.LENGTH


def _has_weak_evidence(attempt: Attempt, limits: Thresholds) -> bool:
    return not (
        attempt.avg_logprob >= limits.weak_logprob and attempt.no_speech_prob <= limits.weak_no_speech
    )


def _first_turn_end(text: str) -> int | None:
    """Where in the text the first turn of a loop ends; None if there is no loop."""
    matches = [match for match in TOKEN.finditer(text) if match.group()[0].isalnum()]
    words = [match.group().casefold() for match in matches]
    for start in range(len(words)):
        for n_words in range(1, LOOP_WORDS_MAX + 1):
            n_turns = LOOP_TURNS_OF_ONE if n_words == 1 else LOOP_TURNS
            end = start + n_words * n_turns
            # A run is a loop if each word is the one ``n_words`` before it.
            if end <= len(words) and words[start : end - n_words] == words[start + n_words : end]:
                return matches[start + n_words - 1].end()
    return None


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in TOKEN.findall(text) if word[0].isalnum())


_KNOWN_PHRASES = frozenset(_words(phrase) for phrase in re.split(r"[|\n]", _PHRASES)) - {()}
_SENTENCE_END = re.compile(r"[.!?。！？…]+(?:\s|$)")


def _is_known_phrase(text: str) -> bool:
    """Whether the text, or every sentence of it, is a known phrase."""
    if _words(text) in _KNOWN_PHRASES:
        return True
    sentences = [words for words in map(_words, _SENTENCE_END.split(text)) if words]
    return bool(sentences) and all(words in _KNOWN_PHRASES for words in sentences)


def _repeats_prompt(attempt: Attempt) -> bool:
    said, before = _words(attempt.text), _words(attempt.prompt)
    return bool(said) and before[-len(said) :] == said
