"""What a window shall say, in Whisper's format, and what the batch of a step is made of."""

import numpy as np
import pytest
import torch

from training.demo_en import augment, batches, corpus, reading, synth_flite, targets, vocabulary
from training.demo_en.config import LISTEN, WORLD, TrainConfig, smoke_corpus
from training.demo_en.dataset import Dataset, phone_inventory, token_times
from training.demo_en.model import Trainee
from training.demo_en.store import Utterance, write_shard
from training.demo_en.windows import Heard, Window

TONE = (8000 * np.sin(np.arange(24_000) * 0.1)).astype(np.int16)


@pytest.fixture
def words(tmp_path):
    corpus.build(tmp_path, smoke_corpus())
    return vocabulary.build(tmp_path)


@pytest.fixture
def dataset(tmp_path, words):
    spoken = []
    for _ in range(12):
        utterance = Utterance("test", ["The", "river."], [(100, 400), (400, 1200)], [("arpa:r", 1500)])
        spoken.append((utterance, TONE))
    write_shard(tmp_path / "speech" / "train-00000", spoken)
    data = Dataset(tmp_path / "speech", words, phone_inventory(tmp_path / "speech"))
    data.refresh()
    return data


def heard(words):
    tokens = np.array(words.encode("the"), np.int32)
    return Heard(tokens, np.array([[0.2, 0.5]] * len(tokens), np.float32), 0.2, 0.5)


def row(words, stage, prompt=None, speech=True):
    window = Window(np.zeros(16_000, np.float32), [heard(words)] if speech else [])
    rng = np.random.default_rng(5)
    return targets.make(window, prompt, stage, words, rng)


def test_text_follows_start_and_notimestamps(words):
    made = row(words, LISTEN)
    assert made.inputs[:2] == [words.start, words.no_timestamps]
    assert made.targets == [words.no_timestamps, *words.encode("the"), words.end]


def test_timestamps_enclose_what_is_heard(words):
    stage = TrainConfig().stages[-1]
    assert stage is WORLD
    made = targets._timed(Window(np.zeros(16_000, np.float32), [heard(words)]), words)
    assert made.targets == [words.timestamp(0.2), *words.encode("the"), words.timestamp(0.5), words.end]


def test_silence_is_no_speech_and_an_empty_text(words):
    assert row(words, LISTEN, speech=False).targets == [words.no_speech, words.end]


def test_a_prompt_is_given_but_not_learned(words):
    made = row(words, LISTEN, prompt=np.array([1, 2, 3]))
    assert made.inputs[0] == words.previous
    assert made.targets[:4] == [targets.IGNORE] * 4
    assert made.targets[4:] == row(words, LISTEN).targets


def test_the_vocabulary_names_every_row_once_and_keeps_timestamps_in_order(words):
    assert len(set(words.whisper_ids)) == len(words)
    assert words.timestamp(0.02) == words.timestamp(0.0) + 1
    assert words.whisper_ids[words.timestamp(30.0)] == 51_863
    assert words.decode(words.encode("river.")) == " river."


def test_punctuation_is_not_heard_and_a_figure_is_heard_as_a_whole(words):
    utterance = Utterance("test", ["the", "river."], [(0, 200), (200, 800)], [])
    tokens, spans, word_of = token_times(utterance, words)
    assert spans[0] == (0.0, 0.2)
    assert spans[-1] == (-1.0, -1.0)
    assert len(tokens) == len(spans) == len(word_of)


def test_the_batch_of_a_step_is_always_the_same(dataset):
    config = TrainConfig(batch_audio_s=10.0)
    one, two = (batches.make(dataset, config, step=7) for _ in range(2))
    for name in one.__slots__:
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert one.audio.shape[1] == 320 * one.phones.shape[1]


@pytest.mark.parametrize("step", range(13_000, 13_030))
def test_every_kind_of_window_becomes_a_batch(dataset, step):
    batch = batches.make(dataset, TrainConfig(batch_audio_s=10.0), step)
    assert batch.phones.shape[1] <= 1500
    assert batch.audio.abs().max() <= 1.5
    assert int(batch.inputs.max()) < len(dataset.vocabulary)


def test_unused_tokens_count_in_the_softmax_as_often_as_export_copies_them(words):
    model = Trainee(TrainConfig().shape, words, n_phones=3)
    hidden = torch.randn(1, 192)
    row_score = model.logits(hidden)[0, words.unknown]
    bare = hidden[0] @ model.whisper.decoder.token_embedding.weight[words.unknown]
    assert (row_score - bare).item() == pytest.approx(np.log(words.n_unused), rel=1e-4)
    assert words.n_unused + len(words) - 1 == 51_864


def test_a_telephone_keeps_length_and_loses_what_lies_above_its_band():
    wide = np.sin(np.arange(16_000) * 2 * np.pi * 6000 / 16_000).astype(np.float32)
    heard_there = augment.telephone(wide)
    assert heard_there.shape == wide.shape
    assert np.abs(heard_there).max() < 0.1


def test_flite_words_get_their_segments_even_when_equal():
    segments = [("pau", 100, -1), ("dh", 150, 0), ("ax", 200, 0), ("dh", 260, 1), ("ax", 320, 1)]
    assert synth_flite.word_times(["the", "the"], segments) == [(100, 200), (200, 320)]


def test_a_word_without_a_time_shares_that_of_its_neighbour():
    assert reading.fill_gaps([(0, 100), None, (100, 300)]) == [(0, 50), (50, 100), (100, 300)]
    assert reading.fill_gaps([None, (40, 90)]) == [(40, 40), (40, 90)]
