"""Windows that fail the guard are decoded again at rising temperatures, each by random numbers of its own."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import models
import numpy as np
import pytest
import torch
from parity import sounds
from torch import Tensor

from stream_server.core.jobs import GuardRule
from stream_server.core.messages import BeamSearch
from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.guard import Thresholds
from stream_server.engine.ladder import Ladder, Reading, Request
from stream_server.engine.rows import Decoded, DecodeOptions
from stream_server.engine.rules import Place, choose

pytestmark = pytest.mark.model

NEVER = Thresholds(logprob_min=0.0, logprob_floor=-100.0, chars_per_s_max=1e9, compression_ratio_max=1e9)
"""No text of random weights is this likely: every window is decoded at each temperature."""
ALWAYS = Thresholds(logprob_min=-100.0, logprob_floor=-100.0, chars_per_s_max=1e9, compression_ratio_max=1e9)


@pytest.fixture(scope="module")
def decoder() -> BatchDecoder:
    model = models.random_whisper(models.tiny(n_layer=2), seed=0)
    models.tokenizer_of(model)
    return BatchDecoder(model, None)


@pytest.fixture(scope="module")
def features(decoder: BatchDecoder) -> Tensor:
    return decoder.encode(sounds(6, 48_000))


def request(seed: int = 0, *, final: bool = True, language: str | None = "de") -> Request:
    options = DecodeOptions(language, "transcribe", 12, seed=seed, draft=(5, 6))
    return Request(options, audio_s=3.0, prompt="", final=final)


class Watched(BatchDecoder):
    """Has another decoder's model, tells what it was asked for and what it said, and may alter that."""

    def __init__(
        self,
        decoder: BatchDecoder,
        alter: Callable[[Decoded, DecodeOptions], Decoded] = lambda row, _: row,
    ) -> None:
        super().__init__(decoder._model, None)
        self._alter = alter
        self.asked: list[list[DecodeOptions]] = []
        self.rows: list[Decoded] = []

    @property
    def temperatures(self) -> list[list[float]]:
        return [[row.temperature for row in options] for options in self.asked]

    def decode_features(
        self, features: Tensor, options: Sequence[DecodeOptions], lengths: Sequence[int] | None = None
    ) -> list[Decoded]:
        rows = super().decode_features(features, options, lengths)
        rows = [self._alter(row, asked) for row, asked in zip(rows, options, strict=True)]
        self.asked.append(list(options))
        self.rows += rows
        return rows


def said(reading: Reading) -> tuple[object, ...]:
    # Not the log-probability, whose last digits depend on the batch.
    return reading.decoded.tokens, reading.temperature, reading.retried, reading.dropped


def test_a_window_that_passes_is_decoded_once(decoder: BatchDecoder, features: Tensor) -> None:
    readings = Ladder(decoder, ALWAYS).read(features, [request()] * 6)
    plain = decoder.decode_features(features, [request().options] * 6)
    # Rows that end at the limit of tokens are tried again.
    whole = [i for i, row in enumerate(plain) if row.is_whole]
    assert whole
    for i in whole:
        assert readings[i] == Reading(plain[i], 0.0, (), None)


def test_a_window_that_fails_is_decoded_at_each_temperature(decoder: BatchDecoder, features: Tensor) -> None:
    (reading,) = Ladder(decoder, NEVER).read(features[:1], [request()])
    attempts = [
        decoder.decode_features(features[:1], [dataclasses.replace(request().options, temperature=t)])[0]
        for t in (0.0, 0.2, 0.4)
    ]
    assert len(reading.retried) == 2
    best = max(attempts, key=lambda attempt: attempt.avg_logprob)
    assert reading.decoded.tokens == best.tokens


def test_each_attempt_is_the_next_ones_draft(decoder: BatchDecoder, features: Tensor) -> None:
    watched = Watched(decoder)
    Ladder(watched, NEVER).read(features[:1], [request()])
    drafts = [options[0].draft for options in watched.asked]
    assert drafts == [request().options.draft, *(row.tokens for row in watched.rows[:2])]


def test_a_window_that_fails_in_beam_search_is_sampled(decoder: BatchDecoder, features: Tensor) -> None:
    watched = Watched(decoder)
    options = dataclasses.replace(request().options, beam=BeamSearch(3))
    searching = dataclasses.replace(request(), options=options)
    Ladder(watched, NEVER).read(features[:1], [searching])
    asked = [(row.beam, row.temperature) for rows in watched.asked for row in rows]
    assert asked == [(BeamSearch(3), 0.0), (None, 0.2), (None, 0.4)]


def test_a_partial_is_never_decoded_again(decoder: BatchDecoder, features: Tensor) -> None:
    readings = Ladder(decoder, NEVER).read(features, [request(final=False)] * 6)
    assert {(reading.temperature, reading.retried) for reading in readings} == {(0.0, ())}


def test_only_the_rows_that_fail_are_decoded_again(decoder: BatchDecoder, features: Tensor) -> None:
    watched = Watched(decoder)
    Ladder(watched, NEVER).read(features, [request(final=i % 2 == 0) for i in range(6)])
    assert watched.temperatures == [[0.0] * 6, [0.2] * 3 + [0.4] * 3]


def test_no_batch_of_attempts_is_larger_than_the_first(decoder: BatchDecoder, features: Tensor) -> None:
    watched = Watched(decoder)
    ladder = Ladder(watched, NEVER)
    at_once = ladder.read(features, [request(final=i < 3) for i in range(6)])
    assert watched.temperatures == [[0.0] * 6, [0.2] * 3 + [0.4] * 3]
    watched.asked.clear()
    one_by_one = ladder.read(features[:4], [request(final=i < 3) for i in range(4)])
    assert watched.temperatures == [[0.0] * 4, [0.2] * 3, [0.4] * 3]
    assert list(map(said, at_once[:3])) == list(map(said, one_by_one[:3]))


def test_what_a_later_attempt_says_is_left_unread_if_an_earlier_one_is_kept(
    decoder: BatchDecoder, features: Tensor
) -> None:
    def alter(row: Decoded, asked: DecodeOptions) -> Decoded:
        avg_logprob = {0.0: -3.0, 0.2: -0.5, 0.4: -0.1}[asked.temperature]
        return dataclasses.replace(row, avg_logprob=avg_logprob, is_whole=True)

    watched = Watched(decoder, alter)
    ladder = Ladder(watched, Thresholds(chars_per_s_max=1e9, compression_ratio_max=1e9))
    (first, _) = ladder.read(features[:2], [request(), request(final=False)])
    assert watched.temperatures == [[0.0, 0.0], [0.2, 0.4]]
    assert (first.temperature, first.retried, first.dropped) == (0.2, (GuardRule.LOGPROB,), None)


def test_a_retry_does_not_depend_on_its_neighbours(decoder: BatchDecoder, features: Tensor) -> None:
    ladder = Ladder(decoder, NEVER)
    requests = [request(seed, language=[None, "fr"][seed % 2]) for seed in range(6)]
    together = ladder.read(features, requests)
    backwards = ladder.read(features.flip(0), requests[::-1])[::-1]
    alone = [ladder.read(features[i : i + 1], [requests[i]])[0] for i in range(6)]
    assert list(map(said, together)) == list(map(said, backwards)) == list(map(said, alone))


def sampled(decoder: BatchDecoder, features: Tensor, seed: int, temperature: float) -> tuple[int, ...]:
    options = dataclasses.replace(request(seed).options, temperature=temperature)
    return decoder.decode_features(features[:1], [options])[0].tokens


def test_a_seed_gives_one_text_and_seeds_give_several(decoder: BatchDecoder, features: Tensor) -> None:
    texts = [sampled(decoder, features, seed, 1.0) for seed in range(4)]
    assert texts == [sampled(decoder, features, seed, 1.0) for seed in range(4)]
    assert len(set(texts)) == 4


def test_close_to_nought_sampling_is_greedy(decoder: BatchDecoder, features: Tensor) -> None:
    (greedy,) = decoder.decode_features(features[:1], [request().options])
    assert sampled(decoder, features, 7, 1e-4) == greedy.tokens


def test_text_that_the_guard_cuts_keeps_the_tokens_of_what_is_left() -> None:
    decoder = BatchDecoder(models.random_whisper(models.tiny(n_layer=1), seed=0), None)
    looping = decoder.tokens_of("Go on." + " We will see, we will see." * 3)

    def alter(row: Decoded, _: DecodeOptions) -> Decoded:
        return dataclasses.replace(row, tokens=looping, text=decoder.text_of(looping), is_whole=True)

    ladder = Ladder(Watched(decoder, alter), ALWAYS)
    (reading,) = ladder.read(decoder.encode(sounds(1, 48_000)), [request()])
    assert reading.dropped is GuardRule.REPETITION
    assert reading.retried == (GuardRule.REPETITION,) * 2
    assert reading.decoded.text == "Go on. We will see"
    assert decoder.text_of(reading.decoded.tokens) == reading.decoded.text


# ---------------------------------------------------------------- the distribution


@pytest.mark.parametrize("temperature", [0.2, 0.4, 1.0])
def test_tokens_are_drawn_from_whispers_distribution(temperature: float) -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 2
    logits[::7] = -torch.inf
    n_draws = 20_000
    # Chances at regular distances: each token comes as often as its probability says, up to one.
    chances = (np.arange(n_draws) + 0.5) / n_draws
    places = [Place(False, None, temperature, float(chance)) for chance in chances]
    counts = Counter(choose(logits.expand(n_draws, -1), places).tolist())
    expected = torch.distributions.Categorical(logits=logits / temperature).probs
    for token in range(50):
        assert abs(counts[token] - n_draws * float(expected[token])) <= 1.01
    assert not any(counts[token] for token in range(0, 50, 7))


@pytest.mark.parametrize("chance", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_the_distribution_are_allowed_tokens(chance: float) -> None:
    logits = torch.tensor([[-torch.inf, -torch.inf, 1.0, 0.5, -torch.inf, -torch.inf]])
    assert int(choose(logits, [Place(False, None, 0.4, chance)])) in (2, 3)


def test_greedy_rows_beside_sampled_ones_take_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0]] * 3)
    places = [Place(False, None), Place(False, None, 1.0, 0.999), Place(False, None)]
    assert choose(logits, places).tolist() == [1, 2, 1]
