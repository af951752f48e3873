"""Batched greedy decoding over openai-whisper's modules and weights.

What comes out for a row equals ``whisper.decode`` of the same window with
``DecodingOptions(without_timestamps=True, temperature=0, sample_len=cap)``: the mathematics of each
module is whisper's own; the loop, the key-value cache and the fitted audio context are ours.

Shapes: B rows, T audio positions (20 ms each), L tokens, D model width.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from whisper.model import MultiHeadAttention, Whisper
from whisper.tokenizer import Tokenizer, get_tokenizer


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What one row is asked for."""

    language: str | None
    """None: the model's own language, or detection."""
    task: str
    """``transcribe`` or ``translate``."""
    tokens_max: int
    """The row ends after this many tokens."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one row says."""

    tokens: tuple[int, ...]
    text: str
    language: str
    avg_logprob: float
    no_speech_prob: float


class _LayerCache:
    """Keys and values of one decoder layer: of the tokens so far, and of the audio, computed once."""

    def __init__(self, cross: MultiHeadAttention, features: Tensor) -> None:
        self.cross_key = _split_heads(cross.key(features), cross.n_head)
        self.cross_value = _split_heads(cross.value(features), cross.n_head)
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, heads, L, D / heads) keys and values; returns all so far."""
        self.key = key if self.key is None else torch.cat([self.key, key], dim=2)
        self.value = value if self.value is None else torch.cat([self.value, value], dim=2)
        return self.key, self.value


class GreedyDecoder:
    """Decodes batches with one model; used by one thread at a time."""

    def __init__(self, model: Whisper, language: str | None) -> None:
        self._model = model
        self._own_language = language or "en"
        self._tokenizer = _load_tokenizer(model)
        self._suppressed = torch.tensor(_suppressed_tokens(self._tokenizer), device=model.device)
        blank = [*self._tokenizer.encode(" "), self._tokenizer.eot]
        self._blank = torch.tensor(blank, device=model.device)

    @torch.inference_mode()
    def decode(self, mel: Tensor, options: Sequence[DecodeOptions]) -> list[Decoded]:
        """Decode windows of one length.

        Args:
            mel: float32 (B, n_mels, 2T), each row's log-mel computed by itself.
            options: One for each row.
        """
        features = self.encode(mel)
        languages = self._languages(features, options)
        prompt = torch.tensor(
            [self._prompt(language, row.task) for language, row in zip(languages, options, strict=True)],
            device=features.device,
        )
        caps = torch.tensor([row.tokens_max for row in options], device=features.device)
        tokens, sums, no_speech = self._greedy(features, prompt, caps)
        return [
            self._decoded(row, language, total, silence)
            for row, language, total, silence in zip(
                tokens.tolist(), languages, sums.tolist(), no_speech.tolist(), strict=True
            )
        ]

    def encode(self, mel: Tensor) -> Tensor:
        """Audio features (B, T, D) of mel (B, n_mels, 2T), T at most the model's context.

        whisper's encoder insists on 30 s; this is the same with the positions cut to T.
        """
        encoder = self._model.encoder
        x = F.gelu(encoder.conv1(mel))
        x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
        x = (x + encoder.positional_embedding[: x.shape[1]]).to(x.dtype)
        for block in encoder.blocks:
            x = block(x)
        features: Tensor = encoder.ln_post(x)
        return features

    def _languages(self, features: Tensor, options: Sequence[DecodeOptions]) -> list[str]:
        if not self._model.is_multilingual:
            return [self._own_language] * len(options)
        unknown = [i for i, row in enumerate(options) if row.language is None]
        languages = [row.language or "" for row in options]
        for i, language in zip(unknown, self._detect(features[unknown]) if unknown else [], strict=True):
            languages[i] = language
        return languages

    def _detect(self, features: Tensor) -> list[str]:
        """The likeliest language of each row, as ``whisper.detect_language`` finds it."""
        start = torch.full((len(features), 1), self._tokenizer.sot, device=features.device)
        logits = self._logits(start, 0, features, self._caches(features))[:, 0]
        candidates = torch.tensor(self._tokenizer.all_language_tokens, device=features.device)
        best = logits[:, candidates].argmax(dim=-1).tolist()
        return [self._tokenizer.all_language_codes[i] for i in best]

    def _prompt(self, language: str, task: str) -> list[int]:
        tokenizer = self._tokenizer
        if not self._model.is_multilingual:
            return [tokenizer.sot, tokenizer.no_timestamps]
        task_token = tokenizer.transcribe if task == "transcribe" else tokenizer.translate
        return [tokenizer.sot, tokenizer.to_language_token(language), task_token, tokenizer.no_timestamps]

    def _greedy(self, features: Tensor, prompt: Tensor, caps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Extend each row by its likeliest tokens until it ends.

        Returns:
            int64 (B, L) tokens after the prompt, rows filled up with end-of-text; float32 (B,) sums of
            log-probabilities, the end included; float32 (B,) probability of no speech.
        """
        eot = self._tokenizer.eot
        caches = self._caches(features)
        logits = self._logits(prompt, 0, features, caches)
        # whisper reads the no-speech probability at the start-of-transcript, before any suppression.
        no_speech = logits[:, 0].softmax(dim=-1)[:, self._tokenizer.no_speech]
        sums = torch.zeros(len(prompt), device=features.device)
        ended = caps <= 0
        taken: list[Tensor] = []
        for step in range(int(caps.max())):
            scores = logits[:, -1]
            if step == 0:
                scores[:, self._blank] = -torch.inf
            scores[:, self._suppressed] = -torch.inf
            best = scores.argmax(dim=-1)
            sums += F.log_softmax(scores, dim=-1).gather(1, best[:, None])[:, 0] * ~ended
            best = torch.where(ended, eot, best)
            taken.append(best)
            ended = ended | (best == eot) | (step + 1 >= caps)
            if bool(ended.all()):
                break
            logits = self._logits(best[:, None], prompt.shape[1] + step, features, caches)
        return torch.stack(taken, dim=1), sums, no_speech

    def _decoded(self, row: list[int], language: str, total: float, no_speech: float) -> Decoded:
        eot = self._tokenizer.eot
        tokens = row[: row.index(eot)] if eot in row else row
        text = self._tokenizer.decode(tokens).strip()
        return Decoded(tuple(tokens), text, language, total / (len(tokens) + 1), no_speech)

    # ------------------------------------------------------------ one pass of the text decoder

    def _caches(self, features: Tensor) -> list[_LayerCache]:
        return [_LayerCache(block.cross_attn, features) for block in self._model.decoder.blocks]

    def _logits(self, tokens: Tensor, offset: int, features: Tensor, caches: list[_LayerCache]) -> Tensor:
        """float32 (B, L, n_vocab) after tokens (B, L), the first of which stands at ``offset``."""
        decoder = self._model.decoder
        positions = decoder.positional_embedding[offset : offset + tokens.shape[1]]
        x = (decoder.token_embedding(tokens) + positions).to(features.dtype)
        for block, cache in zip(decoder.blocks, caches, strict=True):
            x = x + _self_attention(block.attn, block.attn_ln(x), cache)
            x = x + _cross_attention(block.cross_attn, block.cross_attn_ln(x), cache)
            x = x + block.mlp(block.mlp_ln(x))
        x = decoder.ln(x)
        logits: Tensor = (x @ decoder.token_embedding.weight.to(x.dtype).T).float()
        return logits


def _load_tokenizer(model: Whisper) -> Tokenizer:
    with warnings.catch_warnings():
        # whisper leaves closing its vocabulary to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return get_tokenizer(model.is_multilingual, num_languages=model.num_languages)


def _self_attention(attention: MultiHeadAttention, x: Tensor, cache: _LayerCache) -> Tensor:
    n_head = attention.n_head
    key = _split_heads(attention.key(x), n_head)
    value = _split_heads(attention.value(x), n_head)
    key, value = cache.append(key, value)
    query = _split_heads(attention.query(x), n_head)
    # Only the prompt, the first pass, is longer than one token: a later token sees all before it.
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=x.shape[1] > 1)
    out: Tensor = attention.out(_join_heads(mixed))
    return out


def _cross_attention(attention: MultiHeadAttention, x: Tensor, cache: _LayerCache) -> Tensor:
    query = _split_heads(attention.query(x), attention.n_head)
    out: Tensor = attention.out(
        _join_heads(F.scaled_dot_product_attention(query, cache.cross_key, cache.cross_value))
    )
    return out


def _split_heads(x: Tensor, n_head: int) -> Tensor:
    """(B, L, D) → (B, heads, L, D / heads)."""
    return x.view(*x.shape[:2], n_head, -1).permute(0, 2, 1, 3)


def _join_heads(x: Tensor) -> Tensor:
    """(B, heads, L, D / heads) → (B, L, D)."""
    return x.permute(0, 2, 1, 3).flatten(start_dim=2)


def _suppressed_tokens(tokenizer: Tokenizer) -> list[int]:
    """What ``DecodingOptions(suppress_tokens="-1")`` keeps from being sampled."""
    special = (
        tokenizer.transcribe,
        tokenizer.translate,
        tokenizer.sot,
        tokenizer.sot_prev,
        tokenizer.sot_lm,
        tokenizer.no_speech,
    )
    return sorted({*tokenizer.non_speech_tokens, *special})
