"""Which tokens may come next: whisper's ``SuppressBlank``, ``SuppressTokens`` and ``ApplyTimestampRules``.

The filters of whisper look at one step of rows of equal length. These look at any number of places of
rows of any length at once, because a guess is checked at all its places in one pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from whisper.tokenizer import Tokenizer

TIMESTAMP_STEP_S = 0.02


@dataclass(frozen=True, slots=True)
class StampBounds:
    """What the rules of timestamps forbid at one place."""

    text_from: int
    """Tokens below are forbidden."""
    stamps_from: int
    """Timestamps below are forbidden."""
    stamps_to: int
    """Timestamps above are forbidden."""


@dataclass(frozen=True, slots=True)
class StampState:
    """Where rows stand among their timestamps; tensors of B rows."""

    has_stamps: Tensor
    """bool: the row is with timestamps; if not, the rest is not looked at."""
    last_stamp: Tensor
    """int64: the last timestamp, or the token before the first of them."""
    is_stamp: Tensor
    """bool: the last token is one."""
    was_stamp: Tensor
    """bool: the token before it is."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place to be predicted."""

    is_first: bool
    """It is the row's first token."""
    stamps: StampBounds | None
    """None: the row is without timestamps."""
    temperature: float = 0.0
    chance: float | None = None
    """Where in the distribution the token is taken, at least 0 and below 1; None: the likeliest."""


class TokenRules:
    """The rules for one vocabulary of ``n_vocab`` tokens."""

    def __init__(self, tokenizer: Tokenizer, n_vocab: int, device: torch.device) -> None:
        self._eot: int = tokenizer.eot
        self._no_timestamps: int = tokenizer.no_timestamps
        self._stamps_begin: int = tokenizer.timestamp_begin
        self._n_vocab = n_vocab
        self._ids = torch.arange(n_vocab, device=device)
        # Added to logits: much cheaper than writing to a list of columns.
        self._suppress = torch.zeros(n_vocab, device=device)
        self._suppress[_suppressed_tokens(tokenizer)] = -torch.inf
        blank = [*tokenizer.encode(" "), tokenizer.eot]
        self._blank = torch.tensor(blank, device=device)

    def apply(self, logits: Tensor, places: Sequence[Place]) -> None:
        """Set the logits of forbidden tokens to minus infinity, in place: float32 (N, n_vocab)."""
        logits += self._suppress
        first = [i for i, place in enumerate(places) if place.is_first]
        if first:
            logits[torch.tensor(first, device=logits.device)[:, None], self._blank] = -torch.inf
        stamped = [(i, place.stamps) for i, place in enumerate(places) if place.stamps is not None]
        if stamped:
            index = torch.tensor([i for i, _ in stamped], device=logits.device)
            logits[index] = self._with_stamps(logits[index], [bounds for _, bounds in stamped])

    def apply_after(self, logits: Tensor, stamps: StampState | None) -> Tensor:
        """The same as ``apply`` at one place of each row, not the first, without asking the host.

        Args:
            logits: float32 (B, n_vocab), changed in place.
            stamps: Where the rows stand; None if all are without timestamps.
        """
        logits += self._suppress
        if stamps is None:
            return logits
        is_half_pair = stamps.is_stamp & ~stamps.was_stamp
        # Numbers by ``masked_fill``: ``where`` would copy them from the host, which no CUDA graph can record.
        text_from = torch.zeros_like(stamps.last_stamp).masked_fill(is_half_pair, self._eot)
        stamps_from = stamps.last_stamp + ~is_half_pair
        stamps_from = stamps_from.masked_fill(stamps.is_stamp & stamps.was_stamp, self._n_vocab)
        bounds = torch.stack([text_from, stamps_from, torch.full_like(text_from, self._n_vocab)])
        stamped = self._within(logits.clone(), bounds[:, :, None])
        return torch.where(stamps.has_stamps[:, None], stamped, logits)

    def stamps_after(self, tokens: Sequence[int]) -> tuple[int, bool, bool]:
        """The last timestamp of a row, and whether its last token and the one before it are one."""
        stamps = [token for token in tokens if token >= self._stamps_begin]
        # Before the first token, whisper takes a timestamp for granted.
        *_, before, last = [True, True, *(token >= self._stamps_begin for token in tokens)]
        return (stamps[-1] if stamps else self._stamps_begin - 1), last, before

    @property
    def stamps_begin(self) -> int:
        """The first timestamp."""
        return self._stamps_begin

    def _with_stamps(self, logits: Tensor, bounds: list[StampBounds]) -> Tensor:
        limits = [[b.text_from, b.stamps_from, b.stamps_to] for b in bounds]
        return self._within(logits, torch.tensor(limits, device=logits.device).T[:, :, None])

    def _within(self, logits: Tensor, bounds: Tensor) -> Tensor:
        """Rows with timestamps; bounds are int64 (3, N, 1), the fields of ``StampBounds``."""
        text_from, stamps_from, stamps_to = bounds
        ids, begin = self._ids, self._stamps_begin
        is_early = (ids >= begin) & (ids < stamps_from)
        logits.masked_fill_((ids < text_from) | is_early | (ids > stamps_to), -torch.inf)
        logits[:, self._no_timestamps].fill_(-torch.inf)
        # If all timestamps together are likelier than any text, it is a timestamp.
        is_stamp = logits[:, begin:].logsumexp(dim=-1) > logits[:, :begin].amax(dim=-1)
        return logits.masked_fill_(is_stamp[:, None] & (ids < begin), -torch.inf)

    def stamp_bounds(self, tokens: Sequence[int], n_initial: int | None) -> Iterator[StampBounds]:
        """The bounds of the place after each prefix of ``tokens``, the empty and the whole one included.

        Args:
            tokens: What the row says, after its prompt.
            n_initial: The first timestamp is at most this many steps; None: any.
        """
        begin, end = self._stamps_begin, self._n_vocab
        yield StampBounds(begin, begin, end if n_initial is None else begin + n_initial)
        last_stamp = begin - 1
        # Before the first token, whisper takes a timestamp for granted.
        was_stamp = True
        for token in tokens:
            is_stamp = token >= begin
            last_stamp = token if is_stamp else last_stamp
            # Timestamps come in pairs: after two of them text, after one its partner or the end. They
            # never fall, and only an end may equal the start of the next segment.
            is_half_pair = is_stamp and not was_stamp
            stamps_from = end if is_stamp and was_stamp else last_stamp + (not is_half_pair)
            yield StampBounds(self._eot if is_half_pair else 0, stamps_from, end)
            was_stamp = is_stamp


def initial_steps(limit_s: float | None) -> int | None:
    """The latest first timestamp, in steps; None: any."""
    return None if limit_s is None else round(limit_s / TIMESTAMP_STEP_S)


def no_speech_probs(logits: Tensor, no_speech: int) -> list[float]:
    """The probability of no speech by whisper.

    Args:
        logits: float32 (B, n_vocab), unfiltered, at the start-of-transcript.
        no_speech: Its token.
    """
    found: list[float] = logits.softmax(dim=-1)[:, no_speech].tolist()
    return found


def choose(logits: Tensor, places: Sequence[Place]) -> Tensor:
    """int64 (N,): the likeliest token at each place, or the one at its chance."""
    tokens = logits.argmax(dim=-1)
    chances = {i: place.chance for i, place in enumerate(places) if place.chance is not None}
    if chances:
        index = torch.tensor(list(chances), device=logits.device)
        temperatures = [[places[i].temperature] for i in chances]
        tokens[index] = sample(
            logits[index],
            torch.tensor(temperatures, dtype=torch.float64, device=logits.device),
            torch.tensor(
                [[chance] for chance in chances.values()], dtype=torch.float64, device=logits.device
            ),
        )
    return tokens


def sample(logits: Tensor, temperatures: Tensor, chances: Tensor) -> Tensor:
    """int64 (N,): the token at each chance.

    Args:
        logits: float32 (N, n_vocab).
        temperatures: float64 (N, 1), above 0.
        chances: float64 (N, 1), at least 0 and below 1.
    """
    # In double precision, so that rounding in a batch moves a sample as good as never.
    cumulative = (logits.double() / temperatures).softmax(dim=-1).cumsum(dim=-1)
    targets = chances * cumulative[:, -1:]
    # To the right: a forbidden token adds nothing to the sum and is never the first above it.
    return torch.searchsorted(cumulative, targets, right=True)[:, 0]


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
