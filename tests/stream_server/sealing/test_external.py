"""Keys that stay where they are: how they are named, and the process that asks for them."""

import os
import sys
import traceback
from pathlib import Path

import msgspec
import pytest
from fake_vault import TOKEN, fake_vault
from soft_token import PIN, SoftToken, make_soft_token

from stream_server.errors import ModelError
from stream_server.sealing import external, helper, vault
from stream_server.sealing.external import (
    TokenKey,
    Unwrap,
    VaultKey,
    VaultServer,
    is_external,
    parse_external,
    unwrap,
    wrap,
)
from stream_server.sealing.keys import SecretKey
from stream_server.sealing.keys import unwrap as unwrap_slots
from stream_server.sealing.keys import wrap as wrap_slot

SERVER = VaultServer("https://vault.example:8200")
DATA_KEY = bytes(range(32))
PYTHON = sys.executable


def test_a_vault_key_has_a_mount_and_a_name() -> None:
    assert parse_external("vault:transit/models", SERVER) == VaultKey(SERVER, "transit", "models")
    assert parse_external("vault:team-a/transit/models", SERVER) == VaultKey(
        SERVER, "team-a/transit", "models"
    )


@pytest.mark.parametrize(
    "reference",
    [
        "vault:",
        "vault:models",
        "vault:/models",
        "vault:transit/",
        "vault:a/../b",
        "vault:a/b?c",
        "vault:a b/c",
    ],
)
def test_references_that_name_no_vault_key(reference: str) -> None:
    with pytest.raises(ModelError, match="must be vault:MOUNT/KEY, such as"):
        parse_external(reference, SERVER)


def test_a_vault_key_needs_the_address() -> None:
    with pytest.raises(ModelError, match=r"vault:transit/models needs \[vault\] in the configuration"):
        parse_external("vault:transit/models", None)


def test_a_token_key_is_named_by_its_uri() -> None:
    uri = (
        "pkcs11:token=The%20token;serial=12;object=model%3Bkey;id=%01%ff;type=secret-key"
        "?module-path=/lib/x.so&pin-source=credential:hsm-pin"
    )
    key = parse_external(uri, None)
    expected = TokenKey(uri, "/lib/x.so", "credential:hsm-pin", "The token", "12", "model;key", b"\x01\xff")
    assert key == expected
    assert key.place == uri.partition("?")[0]


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("pkcs11:", "lacks .module-path"),
        ("pkcs11:object=a", "lacks .module-path"),
        ("pkcs11:token=a?module-path=/x", "lacks object=LABEL"),
        ("pkcs11:object=a;object=b?module-path=/x", "'object' is not understood"),
        ("pkcs11:object=a;colour=b?module-path=/x", "'colour' is not understood"),
        ("pkcs11:object=?module-path=/x", "'object' is not understood"),
        ("pkcs11:object=a;type=private?module-path=/x", "sealed with an AES key"),
    ],
)
def test_uris_that_are_refused(uri: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        parse_external(uri, None)


def test_a_pin_in_the_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(ModelError, match="must not hold a PIN") as caught:
        parse_external(f"pkcs11:object=a?module-path=/x&pin-value={PIN}", None)
    assert PIN not in "".join(traceback.format_exception(caught.value))


def test_other_references_are_not_external() -> None:
    assert not any(map(is_external, ["env:KEY", "credential:key", "/etc/key", "vault", "C:pkcs11:"]))


def test_the_helper_asks_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    with fake_vault() as running:
        key = parse_external("vault:transit/models", VaultServer(running.address, "env:VAULT_TOKEN"))
        slots = [wrap_slot(DATA_KEY, SecretKey(bytes(32))), wrap_slot(DATA_KEY, key)]
        assert [slot.kind for slot in slots] == ["secret", "vault"]
        assert unwrap_slots(slots, key) == DATA_KEY
        # Of another kind only: nobody is asked.
        running.asked.clear()
        assert unwrap_slots(slots[:1], key) is None
        assert running.asked == []


def test_the_helper_asks_a_token(tmp_path: Path) -> None:
    token: SoftToken = make_soft_token(tmp_path)
    key = parse_external(token.uri(), None)
    assert unwrap(key, [wrap(key, DATA_KEY)]) == DATA_KEY


def answered_by(program: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    """What is told where a program stands in for the helper."""
    script = folder / "helper"
    script.write_text(f"#!{PYTHON}\nimport os, sys, time\nsys.stdin.read()\n{program}\n")
    script.chmod(0o700)
    monkeypatch.setattr(external.sys, "executable", str(script))
    with pytest.raises(ModelError) as caught:
        unwrap(VaultKey(msgspec.structs.replace(SERVER, timeout_s=0.1), "transit", "models"), [b"x"])
    return "".join(traceback.format_exception(caught.value))


def test_a_helper_that_dies_or_babbles_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in ("os.kill(os.getpid(), 11)", "print('secret', 'of', sep=' ')", "sys.exit(3)"):
        told = answered_by(program, monkeypatch, tmp_path)
        assert "the key helper for vault:transit/models at https://vault.example:8200 ended with code" in told
        assert "secret of" not in told
    assert "gave no answer" in answered_by("print('{}')", monkeypatch, tmp_path)


def test_a_helper_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(external, "_START_S", 0.4)
    program = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(100)"
    assert "gave no answer within 0.1 s" in answered_by(program, monkeypatch, tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_helper_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external.sys, "executable", "/gone/python")
    with pytest.raises(ModelError, match=r"the key helper for .* cannot be started: No such file"):
        unwrap(VaultKey(SERVER, "transit", "models"), [b"x"])


def test_a_bug_in_the_helper_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise ValueError(f"invalid header {TOKEN}")

    monkeypatch.setattr(vault, "unwrap", fail)
    answer = helper.answer_to(msgspec.json.encode(Unwrap(VaultKey(SERVER, "transit", "models"), [b"x"])))
    assert answer.result is None
    assert answer.problem is not None
    assert "ValueError" in answer.problem
    assert TOKEN not in answer.problem
