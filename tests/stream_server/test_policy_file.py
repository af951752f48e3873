"""What a policy file may say, and how a wrong one is told."""

import os
from pathlib import Path

import pytest

from stream_server.config import Config, PolicySection
from stream_server.core.networks import networks
from stream_server.core.policy import ANY_ROOM, DEFAULT_POLICY, Quota, Right, Rule
from stream_server.errors import ConfigError
from stream_server.policy_file import FILE_BYTES_MAX, load_policy, policy_in_force

FULL = """
[[rule]]
identities = ["/source/board-*", "/source/studio"]
role = "source"
publish = ["board-*", "hall"]
read = ["*"]
networks = ["10.1.0.0/16", "fd00::/8", "192.0.2.7"]
sessions = 2
connects_per_minute = 20
audio_seconds_per_day = 36000

[[rule]]
identities = ["/source/desk"]
rights = ["stream", "mint"]
token_networks = ["10.3.0.0/16"]

[[rule]]
identities = ["/source/board-13"]
rights = []

[[rule]]
identities = ["/*"]
rights = ["read", "administer"]
read = ["lobby"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_file_becomes_one_rule_for_each_pattern(tmp_path: Path) -> None:
    boards = Rule(
        "/source/board-*",
        frozenset({Right.STREAM, Right.READ}),
        ("board-*", "hall"),
        ANY_ROOM,
        networks(["10.1.0.0/16", "fd00::/8", "192.0.2.7"]),
        Quota(2, 20, 36_000),
    )
    rules = load_policy(written(tmp_path, FULL)).rules
    assert rules[0] == boards
    assert (rules[1].identities, rules[1].networks) == ("/source/studio", boards.networks)
    mint = frozenset({Right.STREAM, Right.MINT})
    assert rules[2] == Rule("/source/desk", mint, token_networks=networks(["10.3.0.0/16"]))
    assert rules[3] == Rule("/source/board-13", frozenset())
    assert rules[4] == Rule("/*", frozenset({Right.READ, Right.ADMINISTER}), read=("lobby",))


def test_programs_may_unless_the_rule_says_otherwise(tmp_path: Path) -> None:
    for line, allowed in (("", True), ("programs = true", True), ("programs = false", False)):
        assert load_policy(written(tmp_path, one(line))).rules[0].programs is allowed


def test_roles_are_the_rights_of_the_built_in_rules(tmp_path: Path) -> None:
    for role in ("source", "reader", "admin"):
        text = f'[[rule]]\nidentities = ["/{role}/*"]\nrole = "{role}"'
        assert (
            load_policy(written(tmp_path, text)).rules[0].rights
            == DEFAULT_POLICY.rule_for(f"/{role}/x").rights
        )


def one(*lines: str, identities: str = '["/source/*"]', role: str | None = '"source"') -> str:
    head = ["[[rule]]", f"identities = {identities}"] + ([f"role = {role}"] if role else [])
    return "\n".join([*head, *lines])


BAD = {
    # what is wrong: file, what the error must say besides the file's name
    "not TOML": ("[[rule", ["TOML"]),
    "nothing": ("", ["rule is missing", "[[rule]]"]),
    "no rule": ("rule = []", ["rule", "nobody"]),
    "another table": ("[rules]\nx = 1", ["unknown key rules", "rule"]),
    "a key that is not known": (one("publsh = []"), ["rule 1", "unknown key publsh", "publish"]),
    "the second rule": (one() + "\n" + one("x = 1", identities='["/a"]'), ["rule 2", "unknown key x"]),
    "no identities": ('[[rule]]\nrole = "source"', ["rule 1", "identities", "missing"]),
    "an empty list of them": (one(identities="[]"), ["rule 1", "identities", "/source/board-301"]),
    "a list that is none": (one(identities='"/source/*"'), ["rule 1", "identities", "array"]),
    "identities without a slash": (one(identities='["source/x"]'), ["rule 1", "identities", "number 1"]),
    "a star in the middle": (one(identities='["/a", "/source/*/x"]'), ["rule 1", "number 2", "prefix and *"]),
    "a percent sign": (one(identities='["/source/%41"]'), ["identities", "number 1"]),
    "identities twice in one": (one(identities='["/a", "/a"]'), ["rule 1", "identities", "twice"]),
    "identities twice in two": (one() + "\n" + one(), ["rule 2", "identities", "rule 1"]),
    "neither role nor rights": (one(role=None), ["rule 1", "role", "rights"]),
    "both role and rights": (one('rights = ["read"]'), ["rule 1", "either role"]),
    "a role that is none": (one(role='"boss"'), ["rule 1", "role", "source, reader, admin"]),
    "a right that is none": (
        one('rights = ["read", "rule"]', role=None),
        ["rule 1", "rights", "number 2", "stream, read, administer, mint"],
    ),
    "a room that cannot be": (one('publish = ["Hall"]'), ["rule 1", "publish", "number 1", "a-z 0-9"]),
    "a room that begins with a dash": (one('publish = ["hall", "-x*"]'), ["rule 1", "publish", "number 2"]),
    "a room's star in the middle": (one('read = ["a*b"]'), ["rule 1", "read", "number 1"]),
    "publishing by a reader": (one('publish = ["hall"]', role='"reader"'), ["rule 1", "publish", "stream"]),
    "reading without the right": (
        one('rights = ["stream"]', 'read = ["*"]', role=None),
        ["read", "right read"],
    ),
    "minting without streaming": (one('rights = ["mint"]', role=None), ["rule 1", "rights", "stream"]),
    "networks of tokens without minting": (
        one('token_networks = ["10.1.0.0/16"]'),
        ["rule 1", "token_networks", "mint"],
    ),
    "a network of tokens that is none": (
        one('rights = ["stream", "mint"]', 'token_networks = ["10.1"]', role=None),
        ["rule 1", "token_networks", "10.1.0.0/16"],
    ),
    "a network that is none": (one('networks = ["10.1"]'), ["rule 1", "networks", "10.1.0.0/16"]),
    "a network with bits too many": (one('networks = ["10.1.2.3/16"]'), ["rule 1", "networks", "bits"]),
    "no sessions": (one("sessions = 0"), ["rule 1", "sessions", "1 and", "rights = []"]),
    "no connects": (one("connects_per_minute = -1"), ["rule 1", "connects_per_minute"]),
    "no audio": (one("audio_seconds_per_day = 0"), ["rule 1", "audio_seconds_per_day"]),
    "half a second": (one("audio_seconds_per_day = 0.5"), ["rule 1", "audio_seconds_per_day", "int"]),
    "a word for programs": (one('programs = "no"'), ["rule 1", "programs", "bool"]),
    "true for a number": (one("sessions = true"), ["rule 1", "sessions", "int"]),
    "a number too long to read": (one(f"sessions = {'9' * 5000}"), ["TOML"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_file_is_told_by_file_rule_and_key(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert not [word for word in words if word not in message], message


def test_errors_do_not_quote_identities(tmp_path: Path) -> None:
    path = written(tmp_path, one(identities='["/source/Anna Smith"]'))
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    assert "Anna" not in str(caught.value)


def test_a_file_that_others_may_change_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, one())
    path.chmod(0o646)
    with pytest.raises(ConfigError, match="chmod o-w"):
        load_policy(path)
    path.chmod(0o660)
    load_policy(path)


def test_a_file_has_a_size(tmp_path: Path) -> None:
    text = one()
    path = written(tmp_path, text + "\n" + "#" * (FILE_BYTES_MAX - len(text) - 1))
    load_policy(path)
    os.truncate(path, 0)
    path.write_text(text + "\n" + "#" * (FILE_BYTES_MAX - len(text)))
    with pytest.raises(ConfigError, match="larger than"):
        load_policy(path)


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="TOML"):
        load_policy(path)


def test_the_file_in_the_state_is_taken_if_there_is_one(tmp_path: Path) -> None:
    assert policy_in_force(Config(), tmp_path) is DEFAULT_POLICY
    (tmp_path / "policy.toml").write_text(one(identities='["/x"]'))
    assert policy_in_force(Config(), tmp_path).rules[0].identities == "/x"


def test_a_configured_file_must_be_there_and_wins(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(one(identities='["/x"]'))
    config = Config(policy=PolicySection(str(tmp_path / "else.toml")))
    with pytest.raises(ConfigError, match=r"else\.toml cannot be read"):
        policy_in_force(config, tmp_path)
    (tmp_path / "else.toml").write_text(one(identities='["/y"]'))
    assert policy_in_force(config, tmp_path).rules[0].identities == "/y"
