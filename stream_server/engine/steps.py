"""Decoding token by token without asking the host: the loop for accelerators.

``engine.decoder`` chooses tokens on the host, which costs a wait in each step. Here the whole step is
tensors: the pass, the rules, the choice, and the bookkeeping of each row. Nothing is allocated that outlives
the step and every tensor stays in its place, so that the step can be recorded (``engine.accelerator``). The
host learns late which rows have ended; they are computed on and ignored. What comes out is the same.

Batches are filled up to a power of two, so that there are few recordings; when half of the rows have
ended, the others close up and a smaller one goes on.

Shapes: B rows of a recording, S tokens that a row may still say.
"""

import functools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from stream_server.engine.accelerator import LateFlags, Recording
from stream_server.engine.cache import BatchCache
from stream_server.engine.network import Network
from stream_server.engine.rows import Row
from stream_server.engine.rules import StampState, TokenRules, sample

CAPACITY_MIN = 64
"""Tokens of a row for which a slot has room, at least; more are a power of two, up to the model's context."""
SLOTS_MAX = 8
"""Slots kept: the shapes that come again and again. The one that was not used for longest makes room."""


@dataclass(frozen=True, slots=True)
class _State:
    """Where each row stands; all tensors have B rows, and are written in place."""

    token: Tensor
    """int64: said last, to be fed next."""
    position: Tensor
    """int64: where it is fed."""
    n_said: Tensor
    """int64: tokens in ``said``."""
    n_max: Tensor
    """int64: the row ends with so many."""
    ended: Tensor
    """bool."""
    is_whole: Tensor
    """bool: it ended by itself."""
    logprob: Tensor
    """float64: sum over the tokens, the end included."""
    said: Tensor
    """int64 (B, S)."""
    said_logprobs: Tensor
    """float32 (B, S): of each token said."""
    has_stamps: Tensor
    """bool: the row is with timestamps."""
    last_stamp: Tensor
    """int64: the last timestamp, or the one before the first."""
    is_stamp: Tensor
    """bool: the last token is one."""
    was_stamp: Tensor
    """bool: the one before it is."""
    is_sampled: Tensor
    """bool."""
    temperature: Tensor
    """float64, 1 where nothing is sampled."""
    chances: Tensor
    """float64 (B, S)."""

    @classmethod
    def of(cls, n_rows: int, n_tokens: int, device: torch.device) -> "_State":
        """Rows that have all ended."""

        def filled(value: float, dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.full((n_rows, *shape), value, dtype=dtype, device=device)

        whole, real, flag = torch.int64, torch.float64, torch.bool
        return cls(
            token=filled(0, whole),
            position=filled(0, whole),
            n_said=filled(0, whole),
            n_max=filled(0, whole),
            ended=filled(True, flag),
            is_whole=filled(False, flag),
            logprob=filled(0, real),
            said=filled(0, whole, n_tokens),
            said_logprobs=filled(0, torch.float32, n_tokens),
            has_stamps=filled(False, flag),
            last_stamp=filled(0, whole),
            is_stamp=filled(False, flag),
            was_stamp=filled(False, flag),
            is_sampled=filled(False, flag),
            temperature=filled(1, real),
            chances=filled(0, real, n_tokens),
        )

    def tensors(self) -> list[Tensor]:
        """All of them, in one order."""
        return [getattr(self, field.name) for field in fields(self)]

    def first(self, n_rows: int) -> "_State":
        """The first rows of the same tensors."""
        return _State(*(tensor[:n_rows] for tensor in self.tensors()))


class Slot:
    """Tensors for batches of one shape, and the steps recorded over them.

    Args:
        cache: With room for ``n_rows``.
        n_rows: A power of two.
        device: Where it lies.
    """

    def __init__(self, cache: BatchCache, n_rows: int, device: torch.device) -> None:
        self.cache = cache
        self.state = _State.of(n_rows, cache.capacity, device)
        self.recordings: dict[tuple[int, bool, bool], Recording] = {}


class StepLoop:
    """Takes rows that have their first tokens to their ends; used by one thread at a time.

    Args:
        network: Computes the passes.
        rules: Of its vocabulary.
        eot: The token that ends a row.
        n_text_ctx: The longest text that the model reads.
    """

    def __init__(self, network: Network, rules: TokenRules, eot: int, n_text_ctx: int) -> None:
        self._network = network
        self._rules = rules
        self._eot = eot
        self._n_text_ctx = n_text_ctx
        self._slots: OrderedDict[tuple[int, int, int, torch.dtype, bool], Slot] = OrderedDict()

    def slot(self, features: Tensor, capacity: int, audio_mask: Tensor | None = None) -> Slot:
        """A slot whose cache holds features (B, T, D) and no tokens, with room for ``capacity`` a row.

        The mask is that of ``BatchCache``.
        """
        n_rows, n_positions, _ = features.shape
        # What the longest row asks for is 2 more than the context, and attention is faster on multiples of 8.
        longest = self._n_text_ctx + 8
        room = min(_power_of_two(max(capacity, CAPACITY_MIN)), longest)
        key = (_power_of_two(n_rows), n_positions, room, features.dtype, audio_mask is not None)
        slot = self._slots.pop(key, None)
        if slot is None:
            # Before the new one is made, so that both never need memory at once.
            while len(self._slots) >= SLOTS_MAX:
                self._slots.popitem(last=False)
            slot = self._new_slot(features, key[0], key[2], audio_mask)
        self._slots[key] = slot
        self._network.refill(slot.cache, features, audio_mask)
        return slot

    def _new_slot(self, features: Tensor, n_rows: int, capacity: int, audio_mask: Tensor | None) -> Slot:
        try:
            nothing = features.new_zeros(n_rows, *features.shape[1:])
            # Rows that are not used attend to all of theirs.
            own = None if audio_mask is None else audio_mask.new_ones(n_rows, *audio_mask.shape[1:])
            cache = self._network.cache(nothing, capacity, audio_mask=own)
            return Slot(cache, n_rows, features.device)
        except RuntimeError:
            # Most likely memory is short: whoever tries again with fewer rows needs what the others hold.
            self._slots.clear()
            raise

    def run(self, rows: Sequence[Row], slot: Slot) -> int:
        """Decode rows to their ends.

        Args:
            rows: In the order of the slot's cache; each has said a token. They are changed.
            slot: Its cache holds all tokens of the rows but the last.

        Returns:
            How many passes it took.
        """
        places: list[Row | None] = list(rows)
        n_rows = _power_of_two(len(rows))
        self._load(rows, slot.state)
        kind = (any(row.options.timestamps for row in rows), any(row.chances is not None for row in rows))
        limit = max(row.tokens_max - len(row.tokens) for row in rows)
        flags = LateFlags(n_rows, slot.cache.device)
        n_steps = 0
        while n_steps < limit:
            n_steps += 1
            self._recording(slot, n_rows, *kind)()
            ended = flags.after_step(slot.state.ended[:n_rows])
            if ended is None:
                continue
            alive = [i for i, has_ended in enumerate(ended) if not has_ended]
            if not alive:
                break
            if 2 * len(alive) <= n_rows:
                self._collect(places, slot.state)
                n_rows = _power_of_two(len(alive))
                _close_up(places, alive, n_rows, slot)
                flags = LateFlags(n_rows, slot.cache.device)
        self._collect(places, slot.state)
        return n_steps

    def _load(self, rows: Sequence[Row], state: _State) -> None:
        """Write where the rows stand."""
        n_tokens = state.said.shape[1]
        fresh = _State.of(len(state.token), n_tokens, torch.device("cpu"))
        for i, row in enumerate(rows):
            n_left = row.tokens_max - len(row.tokens)
            fresh.token[i], fresh.position[i], fresh.n_max[i] = row.tokens[-1], row.n_cached, n_left
            fresh.ended[i] = False
            fresh.has_stamps[i] = row.options.timestamps
            stamps = self._rules.stamps_after(row.tokens)
            fresh.last_stamp[i], fresh.is_stamp[i], fresh.was_stamp[i] = stamps
            if row.chances is not None:
                fresh.is_sampled[i] = True
                fresh.temperature[i] = row.options.temperature
                fresh.chances[i, :n_left] = torch.from_numpy(row.chances[len(row.tokens) :])
        for mine, its in zip(state.tensors(), fresh.tensors(), strict=True):
            mine.copy_(its)

    def _recording(self, slot: Slot, n_rows: int, has_stamps: bool, is_sampled: bool) -> Recording:
        key = (n_rows, has_stamps, is_sampled)
        if key not in slot.recordings:
            state = slot.state.first(n_rows)
            step = functools.partial(self._step, state, slot.cache, has_stamps, is_sampled)
            slot.recordings[key] = Recording(step, state.tensors(), slot.cache.device)
        return slot.recordings[key]

    def _step(self, state: _State, cache: BatchCache, has_stamps: bool, is_sampled: bool) -> None:
        """One token more for each row that has not ended; tensors only."""
        logits = self._network.logits(self._network.step(state.token, state.position, cache))
        stamps = StampState(state.has_stamps, state.last_stamp, state.is_stamp, state.was_stamp)
        logits = self._rules.apply_after(logits, stamps if has_stamps else None)
        tokens = logits.argmax(dim=-1)
        if is_sampled:
            chances = state.chances.gather(1, state.n_said[:, None])
            sampled = sample(logits, state.temperature[:, None], chances)
            tokens = torch.where(state.is_sampled, sampled, tokens)
        logprobs = F.log_softmax(logits, dim=-1).gather(1, tokens[:, None])[:, 0]
        runs = ~state.ended
        is_end = tokens == self._eot
        says = runs & ~is_end
        state.logprob.add_(logprobs.double().masked_fill(state.ended, 0.0))
        index = state.n_said[:, None]
        for kept, new in ((state.said, tokens), (state.said_logprobs, logprobs.float())):
            kept.scatter_(1, index, torch.where(says[:, None], new[:, None], kept.gather(1, index)))
        state.n_said.add_(says)
        state.is_whole.logical_or_(runs & is_end)
        state.ended.logical_or_(is_end | (state.n_said >= state.n_max))
        is_stamp = tokens >= self._rules.stamps_begin
        state.was_stamp.copy_(state.is_stamp)
        state.last_stamp.copy_(torch.where(is_stamp, tokens, state.last_stamp))
        state.is_stamp.copy_(is_stamp)
        state.token.copy_(tokens)
        # A row that has ended stays where it is: it writes over itself.
        state.position.add_(~state.ended)

    def _collect(self, places: list[Row | None], state: _State) -> None:
        """Give the rows what they have said since they were loaded, in the way that ``Row.accept`` does."""
        n_rows = len(places)
        columns = (state.said, state.said_logprobs, state.n_said, state.logprob, state.is_whole, state.ended)
        said, logprobs, n_said, logprob, is_whole, ended = (column[:n_rows].tolist() for column in columns)
        for i, row in enumerate(places):
            if row is not None and ended[i]:
                row.tokens += said[i][: n_said[i]]
                row.logprobs += logprobs[i][: n_said[i]]
                row.logprob += logprob[i]
                row.is_whole = is_whole[i]
                row.passes += n_said[i] + is_whole[i]
                places[i] = None


def _close_up(places: list[Row | None], alive: Sequence[int], n_rows: int, slot: Slot) -> None:
    """Bring all rows that are alive among the first ``n_rows``; the places of others are free."""
    free = [i for i in range(n_rows) if i not in alive]
    for source in (i for i in alive if i >= n_rows):
        target = free.pop()
        places[target], places[source] = places[source], None
        for tensor in slot.state.tensors():
            tensor[target] = tensor[source]
        slot.cache.move(source, target)
    del places[n_rows:]


def _power_of_two(number: int) -> int:
    """The smallest one that is not less."""
    return 1 << (number - 1).bit_length()
