import math

import pytest
from driver import SETTINGS, World, check_complete
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.audio.decoder import AudioFormat
from stream_server.core.endpointing import SILENCE_MS, SPEECH_THRESHOLD, Endpointing, segmenter_config
from stream_server.core.messages import Final, Finish, Start
from stream_server.engine.fake import numbered_speech, silence
from stream_server.errors import BadMessage, NotSupported
from vad.config import PRESETS, SegmenterConfig

SERVER = SegmenterConfig(pause_ms=500, pause_ms_min=300, segment_s_min=1.5, segment_s_max=4.0)
within = st.floats(*SILENCE_MS)


@st.composite
def wanted(draw: st.DrawFn) -> Endpointing:
    silence_ms = draw(st.none() | within)
    longest = SILENCE_MS[1] if silence_ms is None else silence_ms
    return Endpointing(
        draw(st.none() | st.sampled_from(list(PRESETS))),
        silence_ms,
        draw(st.none() | st.floats(SILENCE_MS[0], longest)),
        draw(st.none() | st.floats(*SPEECH_THRESHOLD)),
    )


@given(wanted())
def test_whatever_is_wanted_within_the_bounds_holds_and_the_lengths_stay_the_servers(
    wish: Endpointing,
) -> None:
    config = segmenter_config(SERVER, wish)
    assert (config.segment_s_min, config.segment_s_max) == (1.5, 4.0)
    assert wish.silence_ms in (None, config.pause_ms)
    assert wish.silence_ms_min in (None, config.pause_ms_min)
    assert wish.speech_threshold in (None, config.enter_threshold)
    base = SERVER if wish.preset is None else PRESETS[wish.preset]
    assert (config.pre_roll_ms, config.post_roll_ms) == (base.pre_roll_ms, base.post_roll_ms)


def test_who_wants_nothing_gets_the_servers_settings() -> None:
    assert segmenter_config(SERVER, None) is SERVER
    assert segmenter_config(SERVER, Endpointing()) == SERVER


def test_one_silence_given_pulls_the_other_along() -> None:
    short = segmenter_config(SERVER, Endpointing(silence_ms=100))
    assert (short.pause_ms, short.pause_ms_min) == (100, 100)
    long = segmenter_config(SERVER, Endpointing(silence_ms_min=900))
    assert (long.pause_ms, long.pause_ms_min) == (900, 900)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"preset": "party"}, NotSupported, "one of captions, dictation, telephone, conference-room"),
        ({"silence_ms": 63}, BadMessage, "endpointing.silence_ms must be between 64 and 5000, not 63"),
        ({"silence_ms": math.nan}, BadMessage, "not nan"),
        ({"silence_ms": 300, "silence_ms_min": 301}, BadMessage, "silence_ms_min must be between 64 and 300"),
        ({"speech_threshold": 0}, BadMessage, "speech_threshold must be between 0.05 and 0.95, not 0"),
        ({"speech_threshold": math.inf}, BadMessage, "not inf"),
    ],
)
def test_what_cannot_be_had_is_named_with_its_bounds(
    values: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Endpointing(**values)  # type: ignore[arg-type]  of any kind


def finals(wish: Endpointing | None, pause_frames: int) -> list[Final]:
    world = World(SETTINGS).start(Start(AudioFormat(), endpointing=wish))
    for number in range(3):
        world.send(numbered_speech(range(10 * number, 10 * number + 10)))
        world.send(silence(pause_frames))
    world.receive(Finish())
    world.settle()
    check_complete(world.events)
    assert world.numbers == list(range(30))
    return world.of(Final)


def test_a_session_ends_its_utterances_as_its_client_wants() -> None:
    assert len(finals(None, 15)) == 3
    assert len(finals(Endpointing("dictation"), 15)) == 1
    assert len(finals(Endpointing("dictation", silence_ms=400), 15)) == 3
    assert len(finals(None, 13)) == 1
    assert len(finals(Endpointing("telephone"), 13)) == 3
    assert len(finals(Endpointing("conference-room"), 19)) == 1


@settings(max_examples=50)
@given(wanted(), st.lists(st.tuples(st.integers(1, 200), st.integers(0, 60)), max_size=5))
def test_no_wish_loses_or_doubles_a_frame(wish: Endpointing, runs: list[tuple[int, int]]) -> None:
    world = World(SETTINGS).start(Start(AudioFormat(), endpointing=wish))
    said = 0
    for n_speech, n_silent in runs:
        world.send(numbered_speech(range(said, said + n_speech)))
        world.send(silence(n_silent))
        said += n_speech
        world.settle()
    world.receive(Finish())
    world.settle()
    assert world.numbers == list(range(said))
    assert all(final.end - final.start <= 5 * 16_000 for final in world.of(Final))
    check_complete(world.events)
