"""Beam search says what ``whisper.decode(beam_size=...)`` says, whatever else is in the batch."""

from dataclasses import replace

import models
import numpy as np
import pytest
import soundfile
import torch
import whisper
from parity import Case, make_case, prompt_of, rows_near, sounds
from whisper.audio import log_mel_spectrogram
from whisper.model import Whisper

from stream_server.core.messages import BeamSearch
from stream_server.engine.beams import Beams
from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.engine.model import load_whisper
from stream_server.engine.rows import DecodeOptions

EOT = 9

# ---------------------------------------------------------------- the rules


def beams(search: BeamSearch, tokens_max: int = 5) -> Beams:
    return Beams(search, DecodeOptions("en", "transcribe", tokens_max), "en", [1, 2], 0, tokens_max, EOT)


def step(window: Beams, *rows: dict[int, float]) -> list[int] | None:
    """One step in which row i is offered ``rows[i]``: log-probabilities by token."""
    tokens = np.array([list(row) for row in rows], dtype=np.int64)
    return window.advance(tokens, np.array([list(row.values()) for row in rows], dtype=np.float32))


def test_the_prompt_is_fed_once_and_then_a_token_to_each_hypothesis() -> None:
    window = beams(BeamSearch(2))
    assert (window.feeds, window.n_cached) == ([[1, 2]], 0)
    assert step(window, {3: -1.0, 4: -2.0, 5: -3.0}) == [0, 0]
    assert (window.feeds, window.n_cached) == ([[3], [4]], 2)
    assert step(window, {5: -1.0, 6: -5.0, 7: -6.0}, {6: -0.5, 7: -1.0, 8: -9.0}) == [0, 1]
    assert (window.alive, window.n_cached) == ([(3, 5), (4, 6)], 3)


def test_a_hypothesis_may_have_no_heir_and_another_two() -> None:
    window = beams(BeamSearch(2))
    step(window, {3: -1.0, 4: -2.0, 5: -3.0})
    assert step(window, {5: -9.0, 6: -9.5, 7: -9.9}, {6: -0.5, 7: -1.0, 8: -9.0}) == [1, 1]
    assert window.alive == [(4, 6), (4, 7)]


def test_an_end_counts_only_while_it_is_among_the_best() -> None:
    window = beams(BeamSearch(1))
    assert step(window, {3: -1.0, EOT: -2.0}) == [0]
    assert step(window, {EOT: -0.5, 4: -1.0}) is None
    assert window.best().tokens == (3,)
    assert window.best().logprob == -1.5
    assert window.best().is_whole


def test_patience_waits_for_more_ends_and_a_longer_text_wins_by_its_mean() -> None:
    texts = {}
    for patience in (1.0, 2.0):
        window = beams(BeamSearch(1, patience))
        step(window, {3: -1.0, 4: -2.0})
        if step(window, {EOT: -0.5, 4: -0.5}) is not None:
            assert step(window, {EOT: -0.25, 4: -3.0}) is None
        texts[patience] = window.best().tokens
    assert texts == {1.0: (3,), 2.0: (3, 4)}


@pytest.mark.parametrize(("length_penalty", "said"), [(None, (3, 4, 5)), (1.0, (3, 4, 5)), (0.0, (3,))])
def test_the_length_penalty_decides_between_short_and_long(
    length_penalty: float | None, said: tuple[int, ...]
) -> None:
    window = beams(BeamSearch(1, 2.0, length_penalty))
    step(window, {3: -1.0, 4: -2.0})
    step(window, {EOT: -0.5, 4: -0.5})
    step(window, {5: -0.1, 6: -3.0})
    assert step(window, {EOT: -0.1, 4: -3.0}) is None
    assert window.best().tokens == said


def test_at_the_limit_of_tokens_the_living_are_taken() -> None:
    window = beams(BeamSearch(2), tokens_max=1)
    assert step(window, {3: -1.0, 4: -2.0, 5: -3.0}) is None
    best = window.best()
    assert (best.tokens, best.logprob, best.is_whole) == ((3,), -1.0, False)


def test_impossible_tokens_are_offered_to_nobody() -> None:
    window = beams(BeamSearch(3))
    assert step(window, {3: -1.0, EOT: -np.inf, 5: -np.inf, 6: -np.inf}) == [0, 0, 0]
    assert window.alive == [(3,)]
    assert window.feeds == [[3], [EOT], [EOT]]


def test_where_nothing_is_possible_nothing_is_said() -> None:
    window = beams(BeamSearch(1))
    assert step(window, {3: float("nan"), 4: -np.inf}) is None
    assert window.best().tokens == ()


@pytest.mark.parametrize(
    ("size", "patience", "length_penalty", "named"),
    [
        (0, 1.0, None, "size must be between 1 and 16"),
        (17, 1.0, None, "size must be between 1 and 16"),
        (5, 0.0, None, "patience must be above 0"),
        (5, 4.1, None, "patience must be above 0"),
        (5, float("nan"), None, "patience must be above 0"),
        (2, 0.2, None, "it must be above 0.25"),
        (5, 1.0, 1.1, "length_penalty must be between 0 and 1"),
        (5, 1.0, -0.1, "length_penalty must be between 0 and 1"),
        (5, 1.0, float("nan"), "length_penalty must be between 0 and 1"),
    ],
)
def test_a_value_out_of_its_bounds_is_named(
    size: int, patience: float, length_penalty: float | None, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        BeamSearch(size, patience, length_penalty)


# ---------------------------------------------------------------- beside whisper

MIXED = [
    DecodeOptions("de", "transcribe", 9, prompt_of(5), beam=BeamSearch(3)),
    DecodeOptions(None, "translate", 9, timestamps=True, beam=BeamSearch(3, 2.0)),
    DecodeOptions("fr", "transcribe", 9),
    DecodeOptions(None, "transcribe", 7, prompt_of(40), beam=BeamSearch(3, 0.4, 0.6)),
    DecodeOptions("zh", "transcribe", 1, beam=BeamSearch(3)),
    DecodeOptions("en", "transcribe", 9, timestamps=True, beam=BeamSearch(5, length_penalty=0.0)),
]


@pytest.fixture(scope="module")
def mixed() -> Case:
    model = models.random_whisper(models.tiny(n_layer=1), seed=3)
    return make_case(model, sounds(6, 24_000), MIXED)


@pytest.mark.model
@pytest.mark.parametrize("rows", [range(6), [5, 3, 1], [4, 2, 0], [1, 1, 0]], ids=str)
def test_rows_of_all_kinds_share_a_batch(mixed: Case, rows: list[int]) -> None:
    assert rows_near(mixed, rows, mixed.decode(rows)) == 0


@pytest.mark.model
def test_the_cases_are_telling(mixed: Case) -> None:
    greedy = [replace(row, beam=None) for row in MIXED]
    plain = mixed.decoder.decode(mixed.mels, greedy)
    assert sum(list(a.tokens) != b.tokens for a, b in zip(plain, mixed.expected, strict=True)) >= 2
    assert any(len(b.tokens) < a.tokens_max for a, b in zip(MIXED, mixed.expected, strict=True))


@pytest.mark.model
def test_a_beam_of_one_is_greedy(mixed: Case) -> None:
    options = [DecodeOptions("en", "transcribe", 9, timestamps=i > 2) for i in range(6)]
    greedy = mixed.decoder.decode(mixed.mels, options)
    searched = mixed.decoder.decode(mixed.mels, [replace(row, beam=BeamSearch(1)) for row in options])
    assert [row.tokens for row in searched] == [row.tokens for row in greedy]
    assert [row.avg_logprob for row in searched] == pytest.approx([row.avg_logprob for row in greedy])


@pytest.fixture(scope="module")
def embedded() -> Whisper:
    return load_whisper(embedded_model(), read_manifest(embedded_model()), torch.device("cpu"))


@pytest.mark.model
def test_the_embedded_model_searches_as_whisper_does(embedded: Whisper) -> None:
    from importlib import resources

    folder = resources.files("stream_server") / "assets" / "recordings"
    mels = []
    for number in (1, 4, 9):
        samples, _ = soundfile.read(str(folder / f"{number:02}.flac"), dtype="float32")
        mels.append(log_mel_spectrogram(whisper.pad_or_trim(samples, 72_000)))
    options = [
        DecodeOptions(None, "transcribe", 40, beam=beam)
        for beam in (BeamSearch(5), BeamSearch(5, 1.4), BeamSearch(5, length_penalty=1.0))
    ]
    case = make_case(embedded, torch.stack(mels), options)
    assert rows_near(case, range(3), case.decode(range(3))) == 0
