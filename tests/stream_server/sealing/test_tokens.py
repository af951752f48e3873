"""Keys on a token: SoftHSM wraps and unwraps, and each refusal says what to do."""

import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from soft_token import PIN, SoftToken, make_soft_token

from stream_server.errors import ModelError
from stream_server.sealing import tokens
from stream_server.sealing.external import TokenKey, parse_external

DATA_KEY = bytes(range(32))


@pytest.fixture(scope="module")
def soft_token(tmp_path_factory: pytest.TempPathFactory) -> SoftToken:
    return make_soft_token(tmp_path_factory.mktemp("softhsm"))


@pytest.fixture
def pin(soft_token: SoftToken) -> Iterator[Path]:
    """The file with the PIN, to be changed."""
    yield soft_token.pin
    soft_token.pin.write_text(PIN + "\n")
    soft_token.pin.chmod(0o600)


def key(uri: str) -> TokenKey:
    parsed = parse_external(uri, None)
    assert isinstance(parsed, TokenKey)
    return parsed


def refused(uri: str) -> str:
    """All that a log could show of the error, which never holds the PIN."""
    with pytest.raises(ModelError) as caught:
        tokens.unwrap(key(uri), [bytes(60)])
    assert PIN not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_what_is_wrapped_is_unwrapped(soft_token: SoftToken) -> None:
    one, two = (tokens.wrap(key(soft_token.uri()), DATA_KEY) for _ in range(2))
    assert one != two
    assert tokens.unwrap(key(soft_token.uri()), [bytes(60), b"", one]) == DATA_KEY
    by_id = f"pkcs11:token=models;id=%00?module-path={soft_token.module}&pin-source=file:{soft_token.pin}"
    assert tokens.unwrap(key(by_id), [one]) == DATA_KEY


def test_what_was_altered_or_wrapped_by_another_key_is_not_opened(soft_token: SoftToken) -> None:
    ours, another = (tokens.wrap(key(soft_token.uri(label)), DATA_KEY) for label in ("ours", "another"))
    for wrapped in (another, ours[:-1] + bytes([ours[-1] ^ 1]), ours[:20], bytes(4_096)):
        with pytest.raises(ModelError, match=r"token=models;object=ours does not open it"):
            tokens.unwrap(key(soft_token.uri()), [wrapped])


def test_a_wrong_pin_is_named_by_its_place(soft_token: SoftToken, pin: Path) -> None:
    pin.write_text("0000")
    assert f"refuses the PIN in {pin}; after a few wrong ones it locks itself" in refused(soft_token.uri())
    pin.write_text("")
    assert f"{pin} holds no PIN" in refused(soft_token.uri())
    pin.write_text(PIN)
    pin.chmod(0o644)
    assert f"chmod 600 {pin}" in refused(soft_token.uri())


def test_without_a_pin_the_key_is_not_to_be_seen(soft_token: SoftToken) -> None:
    told = refused(f"pkcs11:token=models;object=ours?module-path={soft_token.module}")
    assert "not to be seen without the PIN (pin-source)" in told


def test_keys_and_tokens_that_are_not_there(soft_token: SoftToken) -> None:
    told = refused(soft_token.uri("gone"))
    assert "token=models;object=gone is not there" in told
    assert "--keygen --key-type AES:32 --label gone" in told
    assert "names more than one key; add id=" in refused(soft_token.uri("twice"))
    told = refused(soft_token.uri(token="lost"))
    assert f"token=lost;object=ours names no token; in the slots of {soft_token.module}: 'models'" in told


def test_libraries_that_are_none(soft_token: SoftToken, tmp_path: Path) -> None:
    gone, none = tmp_path / "gone.so", tmp_path / "none.so"
    none.write_text("no library")
    uri = soft_token.uri()
    assert f"{gone} is not there; module-path" in refused(uri.replace(str(soft_token.module), str(gone)))
    assert f"{none} cannot be loaded" in refused(uri.replace(str(soft_token.module), str(none)))
