"""A newcomer's mistakes in the configuration, and what each says."""

import dataclasses
import traceback
from pathlib import Path

import msgspec
import pytest

from stream_server.config import Config
from stream_server.config_file import load_config
from stream_server.errors import ConfigError
from vad.config import PRESETS, SegmenterConfig


def load(tmp_path: Path, text: str, **flags: dict[str, object]) -> Config:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, flags)


def test_every_key_has_a_default() -> None:
    assert load_config(None, {}) == Config()


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Config()


def test_offline_stands_before_the_sections(tmp_path: Path) -> None:
    assert load(tmp_path, "offline = true\n[server]\nport = 1\n").offline
    with pytest.raises(ConfigError, match="expected `bool`"):
        load(tmp_path, 'offline = "yes"\n')


def test_segments_become_a_segmenter_configuration(tmp_path: Path) -> None:
    assert Config().segments.segmenter() == SegmenterConfig(overlap_ms=1_000)
    assert load(tmp_path, "[segments]\nsegment_s_max = 4").segments.segmenter().segment_s_max == 4.0


def test_secrets_in_place_of_where_they_lie_are_refused_and_not_repeated(tmp_path: Path) -> None:
    for text, secret in (
        ('[models]\nkey = "{}"', "5a" * 32),
        ('[vault]\ntoken = "{}"', "hvs.CAESIJ-a-token-for-tests-only"),
        ('[vault]\ntoken = "{}"', "s.abcdefghijklmnopqrstuvwx"),
    ):
        with pytest.raises(
            ConfigError, match="must be a file, env:NAME or credential:NAME, not the"
        ) as caught:
            load(tmp_path, text.format(secret))
        assert secret not in "".join(traceback.format_exception(caught.value))


BAD = [
    # file, what the error must say besides the file's name
    ("foo = 1", ["unknown key foo", "server, tls, limits, engine, segments, audit, log"]),
    ("[foo]\nx = 1", ["unknown key foo"]),
    ("[limits]\nfoo = 1", ["unknown key limits.foo", "idle_s"]),
    ("[segments]\nfoo = 1", ["unknown key segments.foo", "pause_ms"]),
    ("[engine.tiers]\nfoo = 1", ["unknown key engine.tiers.foo", "live, fallback, files"]),
    ('[engine]\nmodel = "a"\ntiers.live = "b"', ["engine", "model is the short form of tiers.live"]),
    ("limits = 3", ["limits", "expected"]),
    ("[[limits]]\nidle_s = 3", ["limits", "expected"]),
    ('[server]\nport = "x"', ["server.port", "int"]),
    ("[server]\nport = 1.5", ["server.port", "int"]),
    ("[server]\nport = true", ["server.port", "int"]),
    ("[server.port]\nx = 1", ["server.port", "int"]),
    ("[server]\nhost = 3", ["server.host", "str"]),
    ("[tls]\ncert = 3", ["tls.cert", "str"]),
    ("[engine]\nfake = 1", ["engine.fake", "bool"]),
    ("[limits]\nidle_s = []", ["limits.idle_s"]),
    ("[server]\nport = -1", ["server", "port", "0", "65535", "-1"]),
    ("[server]\nport = 65536", ["server", "port"]),
    ("[server]\nops_port = 65536", ["server", "ops_port"]),
    ("[server]\ndrain_s = -0.1", ["server", "drain_s"]),
    ("[tls]\nhandshake_s = 0", ["tls", "handshake_s"]),
    ("[limits]\nsessions = 0", ["limits", "sessions"]),
    ("[limits]\nsessions_per_identity = 0", ["limits", "sessions_per_identity"]),
    ("[limits]\nconnects_per_minute = 0", ["limits", "connects_per_minute"]),
    ("[limits]\nhandshakes = 0", ["limits", "handshakes"]),
    ("[limits]\nidle_s = 0.5", ["limits", "idle_s"]),
    ("[limits]\nidle_s = nan", ["limits", "idle_s", "nan"]),
    ("[limits]\nidle_s = inf", ["limits", "idle_s"]),
    ("[limits]\nahead_s = 9.9", ["limits", "ahead_s", "10"]),
    ("[limits]\nunread_events = 0", ["limits", "unread_events"]),
    ("[limits]\nunread_s = 0", ["limits", "unread_s"]),
    ("[limits]\nwaiting_finals = 0", ["limits", "waiting_finals"]),
    ("[limits]\nbeam_size = 0", ["limits", "beam_size", "16"]),
    ("[limits]\nbeam_size = 17", ["limits", "beam_size", "16"]),
    ("[limits]\nresume_s = -1", ["limits", "resume_s"]),
    ("[limits]\nresumes_per_minute = 0", ["limits", "resumes_per_minute"]),
    ("[limits]\ndetached = 0", ["limits", "detached"]),
    ("[limits]\nreplay_events = 255", ["limits", "replay_events", "256"]),
    ("[limits]\nunread_events = 513", ["limits", "replay_events", "513"]),
    ("[limits]\nsessions = 1" + "0" * 400, ["limits", "sessions"]),
    ("[limits]\nidle_s = 1" + "0" * 400, ["limits.idle_s"]),
    ('[engine]\ndevice = "tpu"', ["engine", "device", "auto, cpu or cuda"]),
    ("[engine]\nthreads = -1", ["engine", "threads"]),
    ("[limits]\nhandshakes_per_address = 0", ["limits", "handshakes_per_address"]),
    (
        '[server]\nnetworks = ["10.0.0.0/8", "10.1.2.3/16"]',
        ["server", "networks", "10.1.0.0/16", "host bits"],
    ),
    ('[server]\nnetworks = "10.0.0.0/8"', ["server.networks", "array"]),
    ('[guest]\nnetworks = ["here"]', ["guest", "networks", "here"]),
    ('[server]\norigins = ["https://a.example/"]', ["server", "origins", "https://intranet.example:8000"]),
    ('[server]\norigins = ["*"]', ["server", "origins", "'*'"]),
    ('[server]\norigins = ["null"]', ["server", "origins", "'null'"]),
    ('[server]\norigins = ["https://A.example"]', ["server", "origins"]),
    ("[policy]\nfile = 3", ["policy.file", "str"]),
    ('[vault]\naddress = "vault.example:8200"', ["vault", "address", "https://HOST:PORT"]),
    ('[vault]\naddress = "https://user@vault.example"', ["vault", "address"]),
    ('[vault]\naddress = "https://vault.example/ui"', ["vault", "address"]),
    ("[vault]\ntimeout_s = 121", ["vault", "timeout_s", "120"]),
    ("[vault]\ntimeout_s = 0.09", ["vault", "timeout_s", "0.1"]),
    ("[engine]\nbatch = 0", ["engine", "batch"]),
    ("[engine]\npartial_ms = 31", ["engine", "partial_ms"]),
    ('[segments]\npreset = "party"', ["segments", "preset", "captions, dictation"]),
    ('[segments]\npreset = "dictation"\npause_ms = 500', ["segments", "pause_ms_min", "500"]),
    ("[segments]\npause_ms = 10", ["segments", "pause_ms", "64"]),
    ("[segments]\npause_ms_min = 500", ["segments", "pause_ms_min", "480"]),
    ("[segments]\nenter_threshold = nan", ["segments", "enter_threshold"]),
    ("[segments]\nsegment_s_max = 2", ["segments", "segment_s_max"]),
    ('[log]\nlevel = "loud"', ["log", "level", "debug, info"]),
    ('[log]\nformat = "xml"', ["log", "format", "json or text"]),
    ("port", ["is not TOML"]),
    ("a = " + "[" * 3_000, ["is not TOML"]),
    ("a = 1" + "0" * 5_000, ["is not TOML"]),
]


@pytest.mark.parametrize(("text", "hints"), BAD, ids=[text[:40] for text, _ in BAD])
def test_a_mistake_in_the_file_names_file_and_key(tmp_path: Path, text: str, hints: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    for hint in [str(tmp_path / "my.toml"), *hints]:
        assert hint in str(caught.value)
    assert "`$" not in str(caught.value)


def test_every_section_is_frozen_and_refuses_unknown_keys() -> None:
    values = (getattr(Config(), name) for name in Config.__struct_fields__)
    for section in (Config(), *(value for value in values if isinstance(value, msgspec.Struct))):
        assert section.__struct_config__.frozen
        assert section.__struct_config__.forbid_unknown_fields
        assert msgspec.convert(msgspec.to_builtins(section), type(section)) == section


def test_a_preset_is_the_base_and_the_other_keys_win_over_it(tmp_path: Path) -> None:
    config = load(tmp_path, '[segments]\npreset = "dictation"\nenter_threshold = 0.6\nsegment_s_max = 4')
    assert config.segments.segmenter() == dataclasses.replace(
        PRESETS["dictation"], enter_threshold=0.6, segment_s_max=4.0, overlap_ms=1_000
    )
    assert Config().segments.segmenter() == SegmenterConfig(overlap_ms=1_000)


def test_windows_overlap_by_half_of_the_shortest_segment_unless_told_otherwise(tmp_path: Path) -> None:
    short = load(tmp_path, "[segments]\nsegment_s_min = 1.5")
    assert short.segments.segmenter().overlap_ms == 750
    assert load(tmp_path, "[segments]\noverlap_ms = 0").segments.segmenter().overlap_ms == 0
