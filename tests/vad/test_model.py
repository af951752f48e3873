"""The real network: batches, states, its file."""

import hashlib
import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vad.audio import Float32Array, int16_to_float32
from vad.cli import read_recording
from vad.framing import Framer
from vad.model import _ROWS_MAX, KNOWN_NETWORKS, NetworkFileError, SileroVad, _n_rows, find_network
from vad.states import SILENT_FRAMES_MAX, SlotArray, VadStates

pytestmark = pytest.mark.model

# Rounding in float32: up to 7e-7 between batches and 5e-6 from the wrapper, which scores one row at a time. A
# mixed-up state changes scores by 0.01 and more.
BATCH_TOLERANCE = 1e-6
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def speech(recordings: Path) -> Float32Array:
    """The first 15 s of the dialogue, float32 (468, 512)."""
    samples = read_recording(recordings / "dialogue.flac")
    return int16_to_float32(Framer().push(samples[: 15 * 16_000]))


def open_slots(states: VadStates, n_streams: int) -> list[int]:
    return [states.open() for _ in range(n_streams)]


def test_a_batch_scores_as_its_streams_alone(network: SileroVad, speech: Float32Array) -> None:
    streams = speech[:450].reshape(9, 50, 512)
    alone = [network.score_stream(stream) for stream in streams]
    states = VadStates()
    slots = np.array(open_slots(states, 9), dtype=np.intp)
    together = [network.score(streams[:, tick], slots, states) for tick in range(50)]
    np.testing.assert_allclose(np.stack(together, axis=1), alone, atol=BATCH_TOLERANCE, rtol=0)


def test_scores_do_not_depend_on_streams_that_come_go_and_pause(
    network: SileroVad, speech: Float32Array
) -> None:
    # Stream i opens at tick 3 i, sends its next frame on two of three ticks, and closes after 40 frames, so
    # that batches of every size and order occur and slots are reused while the slab grows.
    n_streams, n_frames = 24, 40
    streams = [speech[7 * i : 7 * i + n_frames] for i in range(n_streams)]
    states = VadStates()
    slots: dict[int, int] = {}
    scores: list[list[float]] = [[] for _ in streams]
    tick = 0
    while any(len(done) < n_frames for done in scores):
        if tick % 3 == 0 and tick // 3 < n_streams:
            slots[tick // 3] = states.open()
        live = [i for i in slots if (tick + i) % 3]
        frames = (
            np.stack([streams[i][len(scores[i])] for i in live]) if live else np.empty((0, 512), np.float32)
        )
        result = network.score(frames, np.array([slots[i] for i in live], dtype=np.intp), states)
        for i, score in zip(live, result, strict=True):
            scores[i].append(float(score))
            if len(scores[i]) == n_frames:
                states.close(slots.pop(i))
        tick += 1
    assert len(states) == 0
    alone = [network.score_stream(stream) for stream in streams]
    np.testing.assert_allclose(scores, alone, atol=BATCH_TOLERANCE, rtol=0)


@settings(max_examples=25)
@given(data=st.data())
def test_whoever_comes_goes_or_is_muted_meanwhile_each_stream_scores_as_alone(
    network: SileroVad, speech: Float32Array, data: st.DataObject
) -> None:
    states = VadStates()
    slots: dict[int, int] = {}
    heard: dict[int, list[Float32Array]] = {}
    scores: dict[int, list[float]] = {}
    for tick in range(data.draw(st.integers(1, 12))):
        if slots and data.draw(st.booleans()):
            states.close(slots.pop(data.draw(st.sampled_from(sorted(slots)))))
        for _ in range(data.draw(st.integers(0, 3))):
            slots[len(heard)] = states.open()
            scores[len(heard)] = []
            heard[len(heard)] = []
        live = data.draw(st.permutations(sorted(slots)))[: data.draw(st.integers(0, len(slots)))]
        n_muted = data.draw(st.sampled_from([0, 0, 0, SILENT_FRAMES_MAX + 2]))
        for stream in live:
            if (stream + tick) % 2 and n_muted:
                silence = np.zeros((n_muted, 512), np.float32)
                for frame in silence:
                    slot = np.array([slots[stream]], dtype=np.intp)
                    scores[stream] += network.score(frame[np.newaxis], slot, states).tolist()
                heard[stream] += list(silence)
        frames = [speech[(50 + 31 * stream + tick) % len(speech)] for stream in live]
        if live:
            own = np.array([slots[stream] for stream in live], dtype=np.intp)
            for stream, score in zip(live, network.score(np.stack(frames), own, states), strict=True):
                scores[stream].append(float(score))
        for stream, frame in zip(live, frames, strict=True):
            heard[stream].append(frame)
    for stream, own_frames in heard.items():
        if own_frames:
            alone = network.score_stream(np.stack(own_frames))
            np.testing.assert_allclose(scores[stream], alone, atol=BATCH_TOLERANCE, rtol=0)


@settings(max_examples=40)
@given(data=st.data())
def test_frames_handed_in_together_score_as_one_by_one(
    network: SileroVad, speech: Float32Array, data: st.DataObject
) -> None:
    n_streams = data.draw(st.integers(1, 5))
    by_runs, one_by_one = VadStates(), VadStates()
    slots = open_slots(by_runs, n_streams)
    other_slots = open_slots(one_by_one, n_streams)
    n_heard = [0] * n_streams
    for _ in range(data.draw(st.integers(1, 4))):
        # Rows of several streams, those of one in their order and otherwise anyhow.
        streams = data.draw(st.lists(st.integers(0, n_streams - 1), min_size=1, max_size=90))
        frames = np.empty((len(streams), 512), np.float32)
        n_muted = data.draw(st.sampled_from([0, 0, SILENT_FRAMES_MAX - 1, SILENT_FRAMES_MAX + 3]))
        for row, stream in enumerate(streams):
            frames[row] = speech[(40 + 29 * stream + n_heard[stream]) % len(speech)]
            if stream % 2 == 0 and n_heard[stream] % 60 < n_muted:
                frames[row] = 0
            n_heard[stream] += 1
        together = network.score(frames, np.array([slots[i] for i in streams], dtype=np.intp), by_runs)
        alone = [
            network.score(frames[row : row + 1], np.array([other_slots[i]], dtype=np.intp), one_by_one)[0]
            for row, i in enumerate(streams)
        ]
        np.testing.assert_allclose(together, alone, atol=BATCH_TOLERANCE, rtol=0)


def test_after_a_second_of_digital_silence_a_stream_scores_as_a_new_one(
    network: SileroVad, speech: Float32Array
) -> None:
    silence = np.zeros((SILENT_FRAMES_MAX + 1, 512), np.float32)
    for n_silent in (len(silence), 1_000):
        muted = np.concatenate([speech[40:80], np.zeros((n_silent, 512), np.float32), speech[80:120]])
        scores = network.score_stream(muted)
        assert (scores[40 : 40 + SILENT_FRAMES_MAX] > 0).all(), "short silences are scored as anything else"
        assert not scores[40 + SILENT_FRAMES_MAX : 40 + n_silent].any()
        np.testing.assert_array_equal(scores[40 + n_silent :], network.score_stream(speech[80:120]))
    almost = np.concatenate([speech[40:80], silence[:-1], speech[80:120]])
    assert (network.score_stream(almost)[-40:] != network.score_stream(speech[80:120])).any()


def test_resting_streams_are_not_given_to_the_network(network: SileroVad, speech: Float32Array) -> None:
    states = VadStates()
    slots = np.array(open_slots(states, 3), dtype=np.intp)
    frames = np.zeros((3, 512), np.float32)
    frames[1] = speech[50]
    rows: list[int] = []

    class Counting(SileroVad):
        def __init__(self) -> None:
            self._network = network._network

        def _encode(self, contexts: Float32Array, frames: Float32Array, awake: SlotArray) -> Float32Array:
            rows.append(len(awake))
            return super()._encode(contexts, frames, awake)

        def _decode(self, features: Float32Array, hidden: Float32Array) -> tuple[Float32Array, Float32Array]:
            assert len(features) == rows[-1]
            return super()._decode(features, hidden)

    counting = Counting()
    for _ in range(SILENT_FRAMES_MAX + 2):
        counting.score(frames, slots, states)
    counting.score(frames[[0, 2]], slots[[0, 2]], states)
    assert rows == [3] * SILENT_FRAMES_MAX + [1] * 2 + [0]
    assert not states.gather(slots[[0, 2]])[0].any()
    assert states.gather(slots[[1]])[0].any()


def test_one_sample_that_is_not_zero_is_sound(network: SileroVad) -> None:
    frames = np.zeros((SILENT_FRAMES_MAX + 5, 512), np.float32)
    frames[:, 300] = 1 / 32_768
    assert network.score_stream(frames).all()


def test_scores_equal_those_of_the_published_wrapper(network: SileroVad, speech: Float32Array) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        wrapper = torch.jit.load(str(find_network()))
    with torch.inference_mode():
        expected = [float(wrapper(torch.from_numpy(frame[np.newaxis]), 16_000)) for frame in speech[:100]]
    np.testing.assert_allclose(network.score_stream(speech[:100]), expected, atol=TOLERANCE, rtol=0)


def test_speech_scores_high_and_silence_low(network: SileroVad, speech: Float32Array) -> None:
    scores = network.score_stream(speech)
    assert scores.dtype == np.float32
    # The recording's first word begins in frame 24.
    assert scores[:24].max() < 0.1
    assert scores[32:110].mean() > 0.8


def test_a_batch_larger_than_the_network_is_given_at_once_scores_the_same(
    network: SileroVad, speech: Float32Array
) -> None:
    n_streams = 300
    states = VadStates()
    slots = np.array(open_slots(states, n_streams), dtype=np.intp)
    together = [network.score(speech[tick : tick + n_streams], slots, states) for tick in (0, 50)]
    for stream in (0, 255, 256, 299):
        alone = network.score_stream(speech[[stream, 50 + stream]])
        np.testing.assert_allclose([batch[stream] for batch in together], alone, atol=BATCH_TOLERANCE, rtol=0)


def test_the_network_is_given_few_numbers_of_rows_none_of_them_one() -> None:
    rows = [_n_rows(n) for n in range(1, _ROWS_MAX + 1)]
    assert all(n <= given_ < n + 8 for n, given_ in enumerate(rows, start=1))
    assert min(rows) == 2
    assert max(rows) == _ROWS_MAX
    assert len(set(rows)) <= 34


def test_an_empty_batch_and_an_empty_stream_have_no_scores(network: SileroVad) -> None:
    nobody = np.empty(0, dtype=np.intp)
    assert network.score(np.empty((0, 512), np.float32), nobody, VadStates()).shape == (0,)
    assert network.score_stream(np.empty((0, 512), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(np.zeros((1, 512), np.int16), id="int16"),
        pytest.param(np.zeros((1, 256), np.float32), id="half a frame"),
        pytest.param(np.zeros((2, 512), np.float32), id="more frames than slots"),
        pytest.param(np.zeros(512, np.float32), id="no batch"),
    ],
)
def test_frames_of_another_shape_or_type_are_refused(network: SileroVad, frames: Float32Array) -> None:
    states = VadStates()
    slots = np.array([states.open()], dtype=np.intp)
    with pytest.raises(ValueError, match=r"frames must be float32 \(1, 512\)"):
        network.score(frames, slots, states)


def test_a_closed_slot_is_refused_before_any_state_changes(network: SileroVad, speech: Float32Array) -> None:
    states = VadStates()
    kept, gone = open_slots(states, 2)
    states.close(gone)
    with pytest.raises(ValueError, match="not open"):
        network.score(speech[50:52], np.array([kept, gone], dtype=np.intp), states)
    assert not states.gather(np.array([kept], dtype=np.intp))[0].any()


def test_loading_warns_of_nothing_and_leaves_the_thread_count() -> None:
    n_threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SileroVad()
    assert torch.get_num_threads() == n_threads
    assert "silero_vad" not in sys.modules


def test_an_unknown_network_file_is_refused_by_name_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "other.jit"
    path.write_bytes(b"not the network")
    found = hashlib.sha256(b"not the network").hexdigest()
    with pytest.raises(NetworkFileError, match=rf"other\.jit is not a known one: its SHA-256 is {found}"):
        SileroVad(path)


def test_a_hash_given_replaces_the_known_ones() -> None:
    (known,) = KNOWN_NETWORKS
    SileroVad(sha256=known.upper())
    with pytest.raises(NetworkFileError, match="not a known one"):
        SileroVad(sha256="0" * 64)


def test_a_missing_network_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NetworkFileError, match=r"cannot read the VAD network .*gone\.jit: No such file"):
        SileroVad(tmp_path / "gone.jit")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NetworkFileError, match="silero-vad is not installed"):
        find_network()
