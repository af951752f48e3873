"""Tokens chosen on the device say what ``whisper.decode`` says; here the device is a CPU."""

import dataclasses

import models
import pytest
import torch
from parity import MIXED, RICH, Case, make_case, prompt_of, rows_near, sounds
from whisper.model import Whisper

from stream_server.engine.decoder import BatchDecoder
from stream_server.engine.network import Network
from stream_server.engine.rows import DecodeOptions
from stream_server.engine.rules import Place, StampState, TokenRules
from stream_server.engine.steps import SLOTS_MAX, StepLoop

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model() -> Whisper:
    return models.random_whisper(models.shape(64, 2, n_layer=2), seed=3)


@pytest.fixture(scope="module")
def decoder(model: Whisper) -> BatchDecoder:
    models.tokenizer_of(model)
    return BatchDecoder(model, None, chooses_on_device=True)


@pytest.fixture(scope="module")
def mixed(model: Whisper, decoder: BatchDecoder) -> Case:
    options = [*MIXED, *RICH[:4]]
    return dataclasses.replace(make_case(model, sounds(12, 24_000), options), decoder=decoder)


@pytest.mark.parametrize("rows", [range(12), range(5), [11, 0, 4], [7], [1, 1, 10, 1]], ids=str)
def test_rows_of_all_kinds_say_what_whisper_says(mixed: Case, rows: list[int]) -> None:
    assert rows_near(mixed, rows, mixed.decode(rows)) == 0


def test_a_slot_that_is_used_again_has_forgotten_what_was_in_it(mixed: Case) -> None:
    assert mixed.decode([8, 9, 0]) == mixed.decode([8, 9, 0])
    # The same slot with fewer rows than it has room for.
    assert rows_near(mixed, [2, 3, 6], mixed.decode([2, 3, 6])) == 0


def test_drafts_change_passes_and_nothing_else(mixed: Case) -> None:
    drafts = [tuple(said.tokens[:3]) for said in mixed.expected]
    options = [dataclasses.replace(o, draft=d) for o, d in zip(mixed.options, drafts, strict=True)]
    drafted = dataclasses.replace(mixed, options=options).decode(range(12))
    plain = mixed.decode(range(12))
    assert [row.tokens for row in drafted] == [row.tokens for row in plain]
    assert sum(row.passes for row in drafted) < sum(row.passes for row in plain)


def test_both_loops_sample_the_same_tokens(model: Whisper, decoder: BatchDecoder) -> None:
    mels = sounds(6, 24_000)
    options = [
        DecodeOptions("en", "transcribe", 12, temperature=0.4 * (i % 3), seed=i, timestamps=i % 2 == 0)
        for i in range(6)
    ]
    theirs = BatchDecoder(model, None, chooses_on_device=False).decode(mels, options)
    assert len({row.tokens for row in theirs}) == 6
    assert len({row.word_probabilities for row in theirs}) > 3
    for ours, wanted in zip(decoder.decode(mels, options), theirs, strict=True):
        assert (ours.tokens, ours.is_whole, ours.passes) == (wanted.tokens, wanted.is_whole, wanted.passes)
        assert ours.avg_logprob == pytest.approx(wanted.avg_logprob, abs=1e-5)
        assert ours.word_probabilities == pytest.approx(wanted.word_probabilities, abs=1e-5)
    drafts = [dataclasses.replace(o, draft=row.tokens[:4]) for o, row in zip(options, theirs, strict=True)]
    for drafted, wanted in zip(decoder.decode(mels, drafts), theirs, strict=True):
        assert drafted.tokens == wanted.tokens
        assert drafted.passes < wanted.passes


def test_a_row_ends_where_the_context_of_the_text_ends() -> None:
    model = models.random_whisper(models.shape(64, 2, n_layer=1), seed=1)
    # Without an end of its own, a row that may say everything runs into the wall.
    model.decoder.ln.bias.data.zero_()
    options = [DecodeOptions("en", "transcribe", 224, prompt_of(300))]
    mels = sounds(1, 8_000)
    theirs = BatchDecoder(model, None, chooses_on_device=False).decode(mels, options)
    ours = BatchDecoder(model, None, chooses_on_device=True).decode(mels, options)
    assert [row.tokens for row in ours] == [row.tokens for row in theirs]
    assert [len(row.tokens) for row in ours] == [448 + 1 - 228]


@pytest.mark.parametrize("has_stamps", [False, True], ids=["text", "timestamps"])
@pytest.mark.parametrize("is_sampled", [False, True], ids=["greedy", "sampled"])
def test_a_step_asks_the_host_for_nothing(has_stamps: bool, is_sampled: bool) -> None:
    # A meta tensor has a shape and no numbers: whatever would wait for one fails, as in a recording.
    model = models.random_whisper(models.shape(64, 2, n_layer=1))
    tokenizer = models.tokenizer_of(model)
    network = Network(model, tokenizer.eot)
    rules = TokenRules(tokenizer, model.dims.n_vocab, torch.device("meta"))
    model.to("meta")
    loop = StepLoop(network, rules, tokenizer.eot, model.dims.n_text_ctx)
    slot = loop.slot(torch.empty(3, 50, 64, device="meta"), capacity=20)
    with pytest.raises(NotImplementedError):
        slot.state.ended.tolist()
    loop._step(slot.state, slot.cache, has_stamps, is_sampled)


def test_slots_are_few(decoder: BatchDecoder) -> None:
    for n_samples in range(3_200, 3_200 * (SLOTS_MAX + 3), 3_200):
        decoder.decode(sounds(1, n_samples), [DecodeOptions("en", "transcribe", 2)])
    assert decoder._steps is not None
    assert len(decoder._steps._slots) == SLOTS_MAX


def test_the_rules_are_those_of_the_other_loop(model: Whisper) -> None:
    rules = TokenRules(models.tokenizer_of(model), model.dims.n_vocab, torch.device("cpu"))
    begin = rules.stamps_begin
    end = model.dims.n_vocab - 1
    texts: list[list[int] | None] = [
        [begin],
        [begin, 5],
        [begin, 5, begin + 3],
        [begin, 5, begin + 3, begin + 3],
        [begin, 5, begin + 3, begin + 3, 6],
        [begin, 5, end],
        None,
    ]
    # Of the last row, timestamps are all the likelier, and it is without.
    logits = torch.randn(len(texts), model.dims.n_vocab, generator=torch.Generator().manual_seed(0))
    logits[:, begin:] += torch.linspace(-3, 3, len(texts))[:, None]
    places = []
    for text in texts:
        *_, bounds = rules.stamp_bounds(text, None) if text else [None]
        places.append(Place(is_first=False, stamps=bounds))
    expected = logits.clone()
    rules.apply(expected, places)
    last, is_stamp, was_stamp = zip(*(rules.stamps_after(text or []) for text in texts), strict=True)
    stamps = StampState(
        torch.tensor([text is not None for text in texts]),
        torch.tensor(last),
        torch.tensor(is_stamp),
        torch.tensor(was_stamp),
    )
    assert torch.equal(rules.apply_after(logits, stamps), expected)
    assert (expected[:-1] == -torch.inf).any()
    assert len({tuple((row > -torch.inf).tolist()) for row in expected}) >= 5
