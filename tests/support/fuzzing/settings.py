"""What an operator writes: configuration and policy, in TOML."""

from collections.abc import Iterator

from fuzzing.target import DEEP, Target, as_file
from stream_server.config import Config
from stream_server.config_file import load_config
from stream_server.core.policy import Right
from stream_server.errors import ConfigError
from stream_server.policy_file import load_policy


def _feed_configuration(data: bytes) -> None:
    config = load_config(as_file(data, "config.toml"), {"server": {"port": 8443}})
    assert isinstance(config, Config)
    assert config.server.port == 8443
    config.segments.segmenter()


def _configuration_seeds() -> Iterator[bytes]:
    yield b'offline = true\n[server]\nhost = "0.0.0.0"\nnetworks = ["10.0.0.0/8"]\n[limits]\nsessions = 7\n'
    yield b'[segments]\npreset = "telephone"\npause_ms = 640\nsegment_s_max = 5\n[log]\nlevel = "debug"\n'
    yield b'[guest]\nenabled = true\nurl = "https://captions.example"\n[models]\nkey = "env:KEY"\n'
    yield b"[tls]\nhandshake_s = nan\n"
    yield b"[limits]\nunread_s = inf\nsessions = 1_000\n"
    yield b"server = 1\n"
    yield b"[server]\nnothing = 1979-05-27T07:32:00Z\n"


_SECTIONS = tuple(f"\n[{name}]\n".encode() for name in Config.__struct_fields__)
_KEYS = tuple(
    f"{key} = ".encode()
    for name in Config.__struct_fields__
    for key in getattr(getattr(Config(), name), "__struct_fields__", ())
)

configuration = Target(
    _feed_configuration,
    (ConfigError,),
    _configuration_seeds,
    (*_SECTIONS, *_KEYS, b"[[", b"'''", b'"""', b"1e999", b"nan", b"-inf", b"0x", b"\\U", b"{a.b=", DEEP),
)


def _feed_policy(data: bytes) -> None:
    policy = load_policy(as_file(data, "policy.toml"))
    for path in ("/source/board-301", "/reader/lobby", "/x"):
        rule = policy.rule_for(path)
        for right in Right:
            assert policy.allows(path, right) == (right in rule.rights)
        policy.may_publish(path, "hall")
        policy.may_read(path, "hall")


def _policy_seeds() -> Iterator[bytes]:
    yield (
        b'[[rule]]\nidentities = ["/source/board-*", "/source/studio"]\nrole = "source"\n'
        b'publish = ["board-*", "hall"]\nread = ["*"]\nnetworks = ["10.1.0.0/16", "fd00::/8"]\n'
        b"sessions = 2\nconnects_per_minute = 20\naudio_seconds_per_day = 36000\n"
    )
    yield b'[[rule]]\nidentities = ["/*"]\nrights = []\n[[rule]]\nidentities = ["/a"]\nrights = ["read"]\n'
    yield b'[[rule]]\nidentities = ["/a"]\n'
    yield b"rule = []\n"
    yield b"rule = [1]\n"
    yield b"[rule]\nx = 1\n"


policy = Target(
    _feed_policy,
    (ConfigError,),
    _policy_seeds,
    (
        *(
            b"\n[[rule]]\n",
            b"identities = ",
            b"role = ",
            b"rights = ",
            b"publish = ",
            b"read = ",
            b"networks = ",
        ),
        *(b"sessions = ", b"connects_per_minute = ", b"audio_seconds_per_day = ", b'"/*"', b'"administer"'),
        *(b"rule.x", b"rule.0", b'"a`b" = 1\n', DEEP, b"{" * 8),
    ),
)
