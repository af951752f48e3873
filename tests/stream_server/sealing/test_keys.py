"""Keys are found where they are said to lie, and no error repeats one."""

import traceback
from pathlib import Path

import pyrage
import pytest

from stream_server.errors import ModelError
from stream_server.sealing.keys import (
    AgeIdentity,
    SecretKey,
    parse_recipient,
    read_key,
    read_secret_key,
    unwrap,
    wrap,
)

SECRET = "5a" * 32
DATA_KEY = bytes(range(32))


def file_with(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def told(reference: str) -> str:
    """All that a log could show of the error."""
    with pytest.raises(ModelError) as caught:
        read_key(reference)
    return "".join(traceback.format_exception(caught.value))


def test_a_key_is_read_from_a_file(tmp_path: Path) -> None:
    path = file_with(tmp_path / "key", f"# made today\n\n  {SECRET}\n")
    assert read_key(str(path)) == SecretKey(b"Z" * 32)


def test_a_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", SECRET)
    assert read_key("env:THE_KEY") == SecretKey(b"Z" * 32)


def test_a_key_is_read_from_a_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    file_with(tmp_path / "model-key", SECRET, 0o440)  # systemd lets the unit's group read it
    assert read_key("credential:model-key") == SecretKey(b"Z" * 32)


def test_places_without_a_key_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "LoadCredentialEncrypted=model-key" in told("credential:model-key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert str(tmp_path / "model-key") in told("credential:model-key")
    assert "not a path" in told("credential:../model-key")
    assert "NO_SUCH_VARIABLE" in told("env:NO_SUCH_VARIABLE")
    assert str(tmp_path / "gone") in told(str(tmp_path / "gone"))


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = file_with(tmp_path / "key", SECRET, 0o640)
    message = told(str(path))
    assert f"chmod 600 {path}" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", SECRET[:-2], SECRET + "00", SECRET[:-1] + "g", f"{SECRET}\n{SECRET}", "\xff" * 64],
)
def test_what_is_no_key_is_not_repeated(tmp_path: Path, text: str) -> None:
    message = told(str(file_with(tmp_path / "key", text)))
    assert "holds no key" in message
    assert SECRET[:-2] not in message


def test_a_damaged_identity_is_not_repeated(tmp_path: Path) -> None:
    identity = str(pyrage.x25519.Identity.generate())
    message = told(str(file_with(tmp_path / "key", identity[:-3] + "QQQ")))
    assert "damaged age identity" in message
    assert identity[20:-3] not in message


def test_a_file_larger_than_any_key_is_refused(tmp_path: Path) -> None:
    assert "too large" in told(str(file_with(tmp_path / "key", "#" * 65_537)))
    assert "holds no key" in told(str(file_with(tmp_path / "key", "#" * 65_536)))


def test_keys_do_not_show_themselves() -> None:
    assert "ZZZ" not in repr(SecretKey(b"Z" * 32))
    assert "AGE" not in repr(AgeIdentity("AGE-SECRET-KEY-1ABC"))


def test_a_secret_key_wraps_and_another_does_not_unwrap() -> None:
    slots = [wrap(DATA_KEY, SecretKey(b"A" * 32)), wrap(DATA_KEY, SecretKey(b"B" * 32))]
    assert unwrap(slots, SecretKey(b"A" * 32)) == unwrap(slots, SecretKey(b"B" * 32)) == DATA_KEY
    assert unwrap(slots, SecretKey(b"C" * 32)) is None


def test_an_age_pair_wraps_and_another_does_not_unwrap() -> None:
    pair, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    slots = [wrap(DATA_KEY, parse_recipient(str(pair.to_public())))]
    assert unwrap(slots, AgeIdentity(str(pair))) == DATA_KEY
    assert unwrap(slots, AgeIdentity(str(other))) is None
    assert unwrap(slots, SecretKey(DATA_KEY)) is None


def test_an_identity_file_as_age_keygen_writes_it(tmp_path: Path) -> None:
    pair = pyrage.x25519.Identity.generate()
    path = file_with(tmp_path / "key", f"# created: x\n# public key: {pair.to_public()}\n{pair}\n")
    assert read_key(str(path)) == AgeIdentity(str(pair))
    with pytest.raises(ModelError, match="only opens"):
        read_secret_key(path)


def test_a_recipient_must_be_the_public_half() -> None:
    secret = str(pyrage.x25519.Identity.generate())
    with pytest.raises(ModelError, match="takes the public half") as caught:
        parse_recipient(secret)
    assert secret not in str(caught.value)
    with pytest.raises(ModelError, match="no age recipient"):
        parse_recipient("age1nonsense")
