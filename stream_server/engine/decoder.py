"""Batched decoding over openai-whisper's modules and weights: greedy, sampled, or by beam search.

What comes out for a row equals ``whisper.decode`` of the same window with that row's options: the
mathematics of each module is whisper's own; the loop, the key-value cache, drafts and the fitted audio
context are ours. A row with a temperature samples from whisper's distribution with random numbers of its
own. Rows of a batch share nothing but their passes.

Shapes: B rows, T audio positions (20 ms each), L tokens, D model width, N places to be predicted.
"""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from whisper.model import Whisper
from whisper.tokenizer import Tokenizer, get_tokenizer

from stream_server.engine.accelerator import is_accelerator
from stream_server.engine.alignment import TimedWord, time_words
from stream_server.engine.beam_loop import BeamLoop
from stream_server.engine.beams import Beams
from stream_server.engine.cache import BatchCache, own_positions
from stream_server.engine.guesses import Cues
from stream_server.engine.network import PLACES_MAX, Network
from stream_server.engine.prompts import Prompts, Start
from stream_server.engine.rows import Decoded, DecodeOptions, Row
from stream_server.engine.rules import Place, StampBounds, TokenRules, choose, initial_steps, no_speech_probs
from stream_server.engine.steps import Slot, StepLoop
from stream_server.engine.sureness import word_probabilities

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Written without spaces: whisper times each character."""

_BRANCHES_MAX = 6
"""Branches of all rows in a pass: with few rows it waits for memory, and more places take hardly longer; with
many, each place takes its time."""


@dataclass(frozen=True, slots=True)
class _Predictions:
    """What a pass predicts: a token for each place and its log-probability; in the first, no speech."""

    best: list[int]
    logprobs: list[float]
    no_speech: list[float]


class BatchDecoder:
    """Decodes batches with one model; used by one thread at a time.

    Args:
        model: On its device.
        language: The model's own, if it has but one.
        chooses_on_device: Whether tokens are chosen where the model lies, without asking the host
            (``StepLoop``); without, an accelerator would wait in each step. None: on accelerators.
    """

    def __init__(
        self, model: Whisper, language: str | None, *, chooses_on_device: bool | None = None
    ) -> None:
        self._model = model
        self._tokenizer = _load_tokenizer(model)
        self._cues = Cues.of(self._tokenizer)
        self._rules = TokenRules(self._tokenizer, model.dims.n_vocab, model.device)
        self._network = Network(model, self._tokenizer.eot)
        self._prompts = Prompts(model, self._network, self._tokenizer, language)
        if chooses_on_device is None:
            chooses_on_device = is_accelerator(model.device)
        self._beams = BeamLoop(self._network, self._rules, self._tokenizer.no_speech)
        self._steps: StepLoop | None = None
        if chooses_on_device:
            self._steps = StepLoop(self._network, self._rules, self._tokenizer.eot, model.dims.n_text_ctx)
        self.n_passes = 0
        """Passes of the text decoder over a batch so far, language detection not included."""

    @torch.inference_mode()
    def decode(self, mel: Tensor, options: Sequence[DecodeOptions]) -> list[Decoded]:
        """Decode windows of one length.

        Args:
            mel: float32 (B, n_mels, 2T), each row's log-mel computed by itself.
            options: One for each row.
        """
        return self.decode_features(self.encode(mel), options)

    @torch.inference_mode()
    def decode_features(
        self, features: Tensor, options: Sequence[DecodeOptions], lengths: Sequence[int] | None = None
    ) -> list[Decoded]:
        """The same of what ``encode`` made of windows that need not be of one length.

        Args:
            features: (B, T, D), short windows filled up at their ends with anything that is a number.
            options: One for each row.
            lengths: Audio positions of each window; None: T of all.
        """
        mask = own_positions(lengths, features.shape[1], features.device)
        # Greedy rows share their passes, and so do searches of one size.
        by_size: dict[int, list[int]] = defaultdict(list)
        for i, row in enumerate(options):
            by_size[0 if row.beam is None else row.beam.size].append(i)
        decoded: dict[int, Decoded] = {}
        for size, members in by_size.items():
            is_all = len(by_size) == 1
            chosen = features if is_all else features[members]
            own = mask if mask is None or is_all else mask[members]
            asked = [options[i] for i in members]
            found = self._search(chosen, own, asked, size) if size else self._extend(chosen, own, asked)
            decoded.update(zip(members, found, strict=True))
        return [decoded[i] for i in range(len(options))]

    def _extend(
        self, features: Tensor, mask: Tensor | None, options: Sequence[DecodeOptions]
    ) -> list[Decoded]:
        """Decode rows without beam search, given ``own_positions``."""
        plan = self._prompts.plan(options)
        slot = None if self._steps is None else self._steps.slot(features, plan.capacity, mask)
        if slot is None:
            cache = self._network.cache(features, plan.capacity + _BRANCHES_MAX, audio_mask=mask)
        else:
            cache = slot.cache
        starts = self._prompts.starts(plan, options, cache)
        rows = [self._row(i, row, start) for i, (row, start) in enumerate(zip(options, starts, strict=True))]
        self._run(list(rows), cache, slot)
        return [
            self._decoded(row, row.tokens, row.logprob, row.logprobs, is_whole=row.is_whole) for row in rows
        ]

    def _search(
        self, features: Tensor, mask: Tensor | None, options: Sequence[DecodeOptions], size: int
    ) -> list[Decoded]:
        """Decode windows by beam search, all of the same size, given ``own_positions``."""
        plan = self._prompts.plan(options)
        cache = self._network.cache(features, plan.capacity, size, mask)
        starts = self._prompts.starts(plan, options, cache)
        eot = self._tokenizer.eot
        windows = [
            Beams(asked.beam, asked, start.language, start.tokens, start.sot_index, start.tokens_max, eot)
            for asked, start in zip(options, starts, strict=True)
            if asked.beam is not None
        ]
        self.n_passes += self._beams.run(list(windows), cache, size)
        return [
            self._decoded(window, best.tokens, best.logprob, (), is_whole=best.is_whole)
            for window, best in ((window, window.best()) for window in windows)
        ]

    @torch.inference_mode()
    def encode(self, mel: Tensor) -> Tensor:
        """See ``Network.encode``."""
        return self._network.encode(mel)

    @torch.inference_mode()
    def time_words(
        self,
        features: Tensor,
        decoded: Sequence[Decoded],
        options: Sequence[DecodeOptions],
        n_positions: Sequence[int],
        lengths: Sequence[int] | None = None,
    ) -> list[list[TimedWord]]:
        """Find when each word of rows decoded before was said, in one more pass.

        Args:
            features: (B, T, D), as for ``decode_features``.
            decoded: What the rows say, B of them.
            options: By which they were decoded.
            n_positions: Audio positions of each row's own audio, without its padding.
            lengths: As for ``decode_features``.
        """
        texts = [[token for token in row.tokens if token < self._tokenizer.eot] for row in decoded]
        prompts = [
            self._prompts.tokens(replace(asked, language=row.language, prompt=(), timestamps=False))
            for asked, row in zip(options, decoded, strict=True)
        ]
        feeds = [[*prompt, *text, self._tokenizer.eot] for prompt, text in zip(prompts, texts, strict=True)]
        mask = own_positions(lengths, features.shape[1], features.device)
        cache = self._network.cache(features, 1 + max(map(len, feeds)), audio_mask=mask)
        scores: list[Tensor] = []
        self._network.hidden(feeds, [0] * len(feeds), cache, scores)
        attention = torch.cat(scores, dim=1)
        timed = []
        for i, text in enumerate(texts):
            words, tokens = self._split_words(text, decoded[i].language)
            timed.append(
                time_words(attention[i, :, : len(feeds[i])], words, list(map(len, tokens)), n_positions[i])
            )
        return timed

    def _split_words(self, tokens: list[int], language: str) -> tuple[list[str], list[list[int]]]:
        """Words and the tokens of each, as whisper splits them."""
        split = self._tokenizer.split_tokens_on_spaces
        if language in UNSPACED_LANGUAGES:
            split = self._tokenizer.split_tokens_on_unicode
        words, word_tokens = split([*tokens, self._tokenizer.eot])
        return words[:-1], word_tokens[:-1]

    def tokens_of(self, text: str) -> tuple[int, ...]:
        """The tokens of a text before, as whisper makes a prompt of them."""
        return tuple(self._tokenizer.encode(" " + text.strip())) if text.strip() else ()

    def text_of(self, tokens: Sequence[int]) -> str:
        """What tokens say."""
        text: str = self._tokenizer.decode(list(tokens))
        return text.strip()

    def _row(self, index: int, options: DecodeOptions, start: Start) -> Row:
        draft = options.draft
        row = Row(
            index,
            options,
            start.language,
            start.tokens,
            start.sot_index,
            start.tokens_max,
            self._tokenizer.eot,
            None if draft is None else self._cues,
        )
        row.suppose(draft or (), self._model.dims.n_vocab)
        if options.temperature > 0:
            row.chances = np.random.default_rng(options.seed).random(start.tokens_max)
        return row

    # ------------------------------------------------------------ the loop

    def _run(self, rows: list[Row], cache: BatchCache, slot: Slot | None) -> None:
        """Extend each row by its likeliest tokens until it ends; ``rows`` are in the cache's order.

        With a slot, whose cache it is then, only prompts and drafts are read here.
        """
        is_first = True
        while rows:
            if slot is not None and self._steps is not None and not is_first:
                self.n_passes += self._steps.run(rows, slot)
                return
            for row in rows:
                row.branch_out(_BRANCHES_MAX // len(rows) if slot is None else 0)
            stems = [row.stems for row in rows] if any(row.branches for row in rows) else None
            feeds, starts = [row.feed for row in rows], [row.n_cached for row in rows]
            hidden = self._network.hidden(feeds, starts, cache, stems=stems)
            places = [place for row in rows for place in self._places(row)]
            x = _at_places(hidden, rows)
            if is_first:
                x = torch.cat([hidden[torch.arange(len(rows)), [row.sot_index for row in rows]], x])
            predictions = self._predict(x, places)
            if is_first:
                for row, prob in zip(rows, predictions.no_speech, strict=True):
                    row.no_speech_prob = prob
            self.n_passes += 1
            is_first = False
            _close_up(rows, self._accept(rows, predictions), cache)

    def _places(self, row: Row) -> list[Place]:
        n_known = len(row.tokens)
        bounds: Sequence[StampBounds | None] = [None] * row.n_places
        if row.options.timestamps:
            n_initial = initial_steps(row.options.initial_timestamp_s_max)
            texts = ([*row.tokens, *row.guess[: branch.place], branch.token] for branch in row.branches)
            bounds = [
                *list(self._rules.stamp_bounds(row.tokens + row.guess, n_initial))[n_known:],
                *(list(self._rules.stamp_bounds(text, n_initial))[-1] for text in texts),
            ]
        temperature = row.options.temperature
        return [
            Place(n_known + i == 0, stamps, temperature, row.chance(n_known + i))
            for i, stamps in enumerate(bounds)
        ]

    def _accept(self, rows: list[Row], predictions: _Predictions) -> list[bool]:
        """Hand each row its predictions; returns which rows have ended."""
        n_vocab = self._model.dims.n_vocab
        ended, start = [], 0
        for row in rows:
            end = start + row.n_places
            ended.append(row.accept(predictions.best[start:end], predictions.logprobs[start:end], n_vocab))
            start = end
        return ended

    # ------------------------------------------------------------ predictions and results

    def _predict(self, x: Tensor, places: list[Place]) -> _Predictions:
        """Predict the token after each place from hidden states (N, D).

        If there are more states than places, the first ones are those of the start-of-transcript, where
        whisper reads the probability of no speech, before any suppression.
        """
        best, logprobs, no_speech = [], [], []
        n_sot = len(x) - len(places)
        for start in range(0, len(x), PLACES_MAX):
            logits = self._network.logits(x[start : start + PLACES_MAX])
            n_here = min(len(logits), max(0, n_sot - start))
            if n_here:
                no_speech += no_speech_probs(logits[:n_here], self._tokenizer.no_speech)
            logits = logits[n_here:]
            first = start + n_here - n_sot
            here = places[first : first + len(logits)]
            self._rules.apply(logits, here)
            tokens = choose(logits, here)
            logprobs += F.log_softmax(logits, dim=-1).gather(1, tokens[:, None])[:, 0].tolist()
            best += tokens.tolist()
        return _Predictions(best, logprobs, no_speech)

    def _decoded(
        self,
        row: Row | Beams,
        tokens: Sequence[int],
        logprob: float,
        logprobs: Sequence[float],
        *,
        is_whole: bool,
    ) -> Decoded:
        text = self.text_of(tokens)
        return Decoded(
            tokens=tuple(tokens),
            text=text,
            language=row.language,
            avg_logprob=logprob / (len(tokens) + 1),
            no_speech_prob=row.no_speech_prob,
            passes=row.passes,
            is_whole=is_whole,
            word_probabilities=word_probabilities(text, tokens, logprobs, self._tokenizer),
        )


def _at_places(hidden: Tensor, rows: Sequence[Row]) -> Tensor:
    """The states (N, D) of (B, L, D) from which a token is predicted: the last ones of what each row fed."""
    if hidden.shape[1] == 1:
        return hidden[:, 0]
    n_tokens = hidden.shape[1]
    places = [
        i * n_tokens + len(row.known) - 1 + place
        for i, row in enumerate(rows)
        for place in range(row.n_places)
    ]
    return hidden.flatten(0, 1)[torch.tensor(places, device=hidden.device)]


def _close_up(rows: list[Row], ended: Sequence[bool], cache: BatchCache) -> None:
    """Take out the rows that have ended; the last ones take their places in the cache."""
    for i in reversed([i for i, has_ended in enumerate(ended) if has_ended]):
        last = rows.pop()
        if i < len(rows):
            rows[i] = last
            cache.move(len(rows), i)


def _load_tokenizer(model: Whisper) -> Tokenizer:
    with warnings.catch_warnings():
        # whisper leaves closing its vocabulary to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return get_tokenizer(model.is_multilingual, num_languages=model.num_languages)
