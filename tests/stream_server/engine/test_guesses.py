"""Which tokens are worth a place beside the run, and how a run goes on where it was left."""

import models
import pytest
import torch

from stream_server.engine.cache import branched_span, make_span
from stream_server.engine.guesses import Branch, Cues, branches_of, continuations
from stream_server.engine.rows import DecodeOptions, Row

STOP, ASK, PROBE, EOT = 1, 2, 3, 0
CUES = Cues(full_stop=STOP, question_mark=ASK, marks=frozenset({STOP, ASK}), probe=PROBE)
CPU = torch.device("cpu")


def row_with(draft: tuple[int, ...], tokens_max: int = 50) -> Row:
    options = DecodeOptions("en", "transcribe", tokens_max, draft=draft)
    row = Row(0, options, "en", [90, 91], 0, tokens_max, EOT, CUES)
    row.suppose(draft, n_vocab=100)
    return row


def test_the_cues_are_those_of_whispers_vocabulary() -> None:
    tokenizer = models.tokenizer_of(models.random_whisper(models.shape(64, 2, n_layer=1)))
    cues = Cues.of(tokenizer)
    assert tokenizer.decode([cues.full_stop, cues.question_mark]) == ".?"
    assert {cues.full_stop, cues.question_mark} < cues.marks
    assert cues.probe > tokenizer.eot


@pytest.mark.parametrize(
    ("draft", "closing"), [((7, ASK), ASK), ((7, STOP), STOP), ((ASK, 7), STOP), ((), STOP)]
)
def test_a_draft_tells_with_which_mark_the_text_ends(draft: tuple[int, ...], closing: int) -> None:
    assert CUES.closing(draft) == closing


def test_the_end_of_a_draft_is_in_doubt() -> None:
    found = list(branches_of([7, 8, STOP], CUES, STOP, None, is_draft=True))
    assert found == [
        Branch(2, PROBE), Branch(2, ASK), Branch(3, STOP), Branch(3, PROBE), Branch(3, ASK)
    ]  # fmt: skip


def test_later_the_beginning_of_the_run_is_in_doubt() -> None:
    found = list(branches_of([7, 8, 9], CUES, ASK, 11, is_draft=False))
    assert found[:4] == [Branch(0, 11), Branch(0, ASK), Branch(0, PROBE), Branch(0, STOP)]
    assert {branch.place for branch in found} == {0, 1}


@pytest.mark.parametrize(
    ("token", "rest", "predicted", "ways"),
    [
        pytest.param(20, [7, 8, STOP], [8, STOP, EOT], [[8, STOP, EOT], [50]], id="another word"),
        pytest.param(8, [7, 8, 9], [21, 9, STOP], [[9, STOP], [50]], id="a word left out"),
        pytest.param(8, [4, 5, 6, 7, 8], [1, 1, 1, 1, 9], [[1, 1, 1, 1, 9], [50]], id="the same far off"),
        pytest.param(20, [STOP, 9], [EOT, 6], [[50], [EOT, 6]], id="not the end"),
        pytest.param(20, [STOP], [EOT], [[50]], id="not the end, and nothing behind"),
        pytest.param(20, [], [], [[50]], id="all of the run has come"),
    ],
)
def test_a_run_goes_on_where_it_was_left(
    token: int, rest: list[int], predicted: list[int], ways: list[list[int]]
) -> None:
    assert continuations(token, rest, predicted, 50, CUES) == ways


def test_a_branch_that_comes_brings_the_token_after_it() -> None:
    row = row_with((7, STOP))
    row.branch_out(3)
    assert row.branches == [Branch(1, PROBE), Branch(1, ASK), Branch(2, STOP)]
    # Instead of the full stop comes the question mark, and after that the end.
    assert row.accept([7, ASK, 30, 31, EOT, 32], [-1.0] * 6, n_vocab=100)
    assert (row.tokens, row.is_whole, row.logprob, row.passes) == ([7, ASK], True, -3.0, 1)


def test_a_branch_that_came_is_fed_again() -> None:
    row = row_with((7, STOP))
    row.branch_out(2)
    assert not row.accept([7, ASK, 30, 31, 33], [-1.0] * 5, n_vocab=100)
    assert (row.tokens, row.known) == ([7, ASK, 33], [ASK, 33])
    assert row.n_cached == 2 + 1


def test_the_probe_says_what_to_guess() -> None:
    row = row_with((7, STOP))
    row.branch_out(1)
    assert not row.accept([7, 8, EOT, 31], [-1.0] * 4, n_vocab=100)
    assert (row.tokens, row.guess, row.hint) == ([7, 8], [31], None)


def test_no_branch_predicts_beyond_the_limit_of_tokens() -> None:
    for tokens_max in range(1, 6):
        row = row_with((7, 8, STOP), tokens_max)
        row.branch_out(10)
        assert all(branch.place + 2 <= tokens_max for branch in row.branches)
        n_fed = len(row.feed)
        assert (n_fed, len(row.stems)) == (2 + len(row.guess) + len(row.branches),) * 2


def test_a_row_without_cues_and_a_full_batch_have_no_branches() -> None:
    plain = Row(0, DecodeOptions("en", "transcribe", 5), "en", [1], 0, 5, EOT, None)
    crowded = row_with((7, STOP))
    for row, n_max in ((plain, 6), (crowded, 0)):
        row.branch_out(n_max)
        assert row.branches == []


def test_a_branch_sees_what_stands_before_its_place_and_itself() -> None:
    # Two tokens are cached; of five, the last two are branches, behind the first and behind the third.
    span = branched_span([2], [[-1, 0, 1, 0, 2]], 12, CPU)
    assert span.positions.tolist() == [[2, 3, 4, 3, 5]]
    assert span.slots.tolist() == [[2, 3, 4, 5, 6]]
    assert span.mask is not None
    seen = [[slot for slot, is_seen in enumerate(line) if is_seen] for line in span.mask[0, 0].tolist()]
    assert seen == [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 5], [0, 1, 2, 3, 4, 6]]


def test_without_branches_both_spans_are_one() -> None:
    ours = branched_span([3, 5], [[-1, 0, 1], [-1]], 12, CPU)
    theirs = make_span([3, 5], 3, 12, CPU)
    assert torch.equal(ours.positions, theirs.positions)
    assert torch.equal(ours.slots, theirs.slots)
    assert ours.mask is not None
    assert theirs.mask is not None
    assert torch.equal(ours.mask, theirs.mask)
