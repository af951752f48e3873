"""Decodes windows until the guard is content: finals that fail at rising temperatures.

The first attempt is greedy, or a beam search where that was asked for; whisper's fallback is the same.

Only the rows that fail are decoded again, together, over the audio features they have. Where few of a batch
fail, both temperatures are tried at once: what the second says is left unread if the first does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from stream_server.core.jobs import GuardRule
from stream_server.core.words import TOKEN
from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.guard import (
    TEMPERATURES,
    Attempt,
    Outcome,
    Settled,
    Thresholds,
    Verdict,
    judge,
    settle,
    settle_partial,
)
from stream_server.engine.rows import Decoded, DecodeOptions


@dataclass(frozen=True, slots=True)
class Request:
    """What one window is asked for."""

    options: DecodeOptions
    """With temperature 0; the seed is that of the attempts at higher ones."""
    audio_s: float
    prompt: str
    """The text of ``options.prompt``."""
    final: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What is taken for said in one window."""

    decoded: Decoded
    """The attempt chosen, its tokens and text those that were left."""
    temperature: float
    retried: tuple[GuardRule, ...]
    """The rule that each earlier attempt broke."""
    dropped: GuardRule | None


@dataclass(slots=True)
class _Climb:
    """One window's attempts so far."""

    request: Request
    decoded: list[Decoded]
    attempts: list[Attempt]
    verdicts: list[Verdict]

    def add(self, decoded: Decoded, limits: Thresholds) -> None:
        attempt = Attempt(
            text=decoded.text,
            avg_logprob=decoded.avg_logprob,
            no_speech_prob=decoded.no_speech_prob,
            audio_s=self.request.audio_s,
            is_whole=decoded.is_whole,
            prompt=self.request.prompt,
        )
        self.decoded.append(decoded)
        self.attempts.append(attempt)
        self.verdicts.append(judge(attempt, limits))

    @property
    def is_failing(self) -> bool:
        """Whether it is to be read once more."""
        return self.request.final and self.verdicts[-1].outcome is Outcome.RETRY

    def options_at(self, temperature: float) -> DecodeOptions:
        """A further attempt's, with the last one as its draft: most of its tokens are drawn again.

        A language that was detected stays, and what is sampled is not searched for.
        """
        return replace(
            self.request.options,
            language=self.decoded[0].language,
            temperature=temperature,
            draft=self.decoded[-1].tokens,
            beam=None,
        )


class Ladder:
    """A decoder and the guard's lines for its model."""

    def __init__(self, decoder: BatchDecoder, limits: Thresholds) -> None:
        self._decoder = decoder
        self._limits = limits

    def read(
        self, features: Tensor, requests: Sequence[Request], lengths: Sequence[int] | None = None
    ) -> list[Reading]:
        """Read windows from their audio features (B, T, D), see ``BatchDecoder.decode_features``."""
        lengths = [features.shape[1]] * len(requests) if lengths is None else lengths
        climbs = [_Climb(request, [], [], []) for request in requests]
        rows = self._decoder.decode_features(features, [request.options for request in requests], lengths)
        for climb, decoded in zip(climbs, rows, strict=True):
            climb.add(decoded, self._limits)
        left: Sequence[float] = TEMPERATURES[1:]
        while left and (failing := [i for i, climb in enumerate(climbs) if climb.is_failing]):
            # As many temperatures at once as give no larger a batch than that of the first attempt.
            n_at_once = max(1, len(requests) // len(failing))
            tries = [(i, temperature) for temperature in left[:n_at_once] for i in failing]
            left = left[n_at_once:]
            places = [i for i, _ in tries]
            options = [climbs[i].options_at(temperature) for i, temperature in tries]
            rows = self._decoder.decode_features(features[places], options, [lengths[i] for i in places])
            for i, decoded in zip(places, rows, strict=True):
                if climbs[i].is_failing:
                    climbs[i].add(decoded, self._limits)
        return [self._reading(climb) for climb in climbs]

    def _reading(self, climb: _Climb) -> Reading:
        if climb.request.final:
            settled = settle(climb.attempts, climb.verdicts, self._limits)
        else:
            settled = settle_partial(climb.attempts[0], self._limits)
        # An attempt that a later one followed broke a rule.
        retried = tuple(verdict.rule for verdict in climb.verdicts[:-1] if verdict.rule is not None)
        left = self._left(climb.decoded[settled.index], settled)
        return Reading(left, TEMPERATURES[settled.index], retried, settled.dropped)

    def _left(self, decoded: Decoded, settled: Settled) -> Decoded:
        """The attempt without what was taken away."""
        if settled.text == decoded.text:
            return decoded
        n_tokens = 0
        # Nothing less would do: a token may end between two words, or inside a character.
        while len(self._decoder.text_of(decoded.tokens[:n_tokens])) < len(settled.text):
            n_tokens += 1
        return replace(
            decoded,
            tokens=decoded.tokens[:n_tokens],
            text=settled.text,
            word_probabilities=decoded.word_probabilities[: len(TOKEN.findall(settled.text))],
        )
