"""Vault's transit engine: asked at the configured address only, and each refusal says what to do."""

import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fake_vault import TOKEN, FakeVault, fake_vault
from pki import Pki

from stream_server.errors import ModelError
from stream_server.sealing import vault
from stream_server.sealing.external import VaultKey, VaultServer, parse_external

DATA_KEY = bytes(range(32))


class Caller:
    """A Vault, and an operator's way to its key."""

    def __init__(self, server: FakeVault, folder: Path) -> None:
        self.vault = server
        self.token = folder / "token"
        self.token.write_text(TOKEN + "\n")
        self.token.chmod(0o600)

    def key(self, reference: str = "vault:transit/models", **changes: object) -> VaultKey:
        way = msgspec.structs.replace(
            VaultServer(self.vault.address, str(self.token), timeout_s=5.0), **changes
        )
        key = parse_external(reference, way)
        assert isinstance(key, VaultKey)
        return key

    def refused(self, key: VaultKey) -> str:
        """All that a log could show of the error, which never holds the token."""
        with pytest.raises(ModelError) as caught:
            vault.unwrap(key, [b"vault:v1:AAAA"])
        told = "".join(traceback.format_exception(caught.value))
        assert TOKEN not in told
        assert caught.value.__cause__ is None or TOKEN not in repr(caught.value.__cause__)
        return str(caught.value)


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    with fake_vault() as running:
        yield Caller(running, tmp_path)


def test_what_is_wrapped_is_unwrapped(caller: Caller) -> None:
    wrapped = vault.wrap(caller.key(), DATA_KEY)
    assert wrapped.startswith(b"vault:v1:")
    assert vault.unwrap(caller.key(), [b"vault:v1:AAAA", wrapped]) == DATA_KEY
    assert caller.vault.asked[0] == "/v1/transit/encrypt/models"


def test_after_a_rotation_the_old_version_opens_and_the_next_one_seals(caller: Caller) -> None:
    old = vault.wrap(caller.key(), DATA_KEY)
    caller.vault.rotate("transit/models")
    assert vault.unwrap(caller.key(), [old]) == DATA_KEY
    assert vault.wrap(caller.key(), DATA_KEY).startswith(b"vault:v2:")


def test_a_key_does_not_open_what_another_sealed(caller: Caller) -> None:
    wrapped = vault.wrap(caller.key(), DATA_KEY)
    caller.vault.keys["transit/other"] = []
    caller.vault.rotate("transit/other")
    with pytest.raises(ModelError, match=r"vault:transit/other at .* does not open it: Vault answers 400"):
        vault.unwrap(caller.key("vault:transit/other"), [wrapped])


def test_a_wrong_token_is_named_by_its_place(caller: Caller) -> None:
    caller.token.write_text("hvs.another")
    told = caller.refused(caller.key())
    assert f"Vault refuses {caller.token} for vault:transit/models" in told
    assert 'path "transit/decrypt/models" { capabilities = ["update"] }' in told


@pytest.mark.parametrize("text", ["", "two words", "with\nline", "\u00e9"])
def test_what_cannot_be_a_token_is_never_sent(caller: Caller, text: str) -> None:
    caller.token.write_text(text)
    assert f"{caller.token} holds no access token" in caller.refused(caller.key())
    assert caller.vault.asked == []


def test_a_token_file_that_others_may_read_is_refused(caller: Caller) -> None:
    caller.token.chmod(0o644)
    assert f"chmod 600 {caller.token}" in caller.refused(caller.key())


def test_a_sealed_vault_says_so(caller: Caller) -> None:
    caller.vault.is_sealed = True
    assert "sealed or in maintenance (503: Vault is sealed); `vault operator unseal`" in caller.refused(
        caller.key()
    )


def test_keys_and_mounts_that_are_not_there(caller: Caller) -> None:
    assert "is not there (404" in caller.refused(caller.key("vault:elsewhere/models"))
    assert "encryption key not found" in caller.refused(caller.key("vault:transit/gone"))
    with pytest.raises(ModelError, match="`vault write -f transit/keys/gone` makes the key"):
        vault.wrap(caller.key("vault:transit/gone"), DATA_KEY)


def test_the_namespace_is_told(caller: Caller) -> None:
    caller.vault.namespace = "speech"
    assert "permission denied" in caller.refused(caller.key())
    assert vault.wrap(caller.key(namespace="speech"), DATA_KEY)


def test_a_redirect_is_refused_and_gets_no_token(caller: Caller) -> None:
    with fake_vault() as elsewhere:
        caller.vault.redirect_to = elsewhere.address
        assert "redirects elsewhere (307), which is not followed" in caller.refused(caller.key())
        assert elsewhere.asked == []


def test_a_proxy_of_the_environment_is_not_used(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert vault.wrap(caller.key(), DATA_KEY)


def test_silence_ends(caller: Caller) -> None:
    caller.vault.is_silent.set()
    assert "gave no answer within 0.1 s" in caller.refused(caller.key(timeout_s=0.1))


def test_nobody_there(caller: Caller) -> None:
    told = caller.refused(caller.key(address="http://127.0.0.1:1"))
    assert "vault:transit/models at http://127.0.0.1:1 cannot be reached: Connection refused" in told


@pytest.mark.parametrize(
    "said", [b"not JSON", b"{}", b'{"data": {}}', b'{"data": {"plaintext": "no base64"}}', b"x" * 70_000]
)
def test_what_is_not_vault_is_told_and_not_quoted(caller: Caller, said: bytes) -> None:
    caller.vault.says = said
    caller.vault.answer = lambda *_: (200, {})  # type: ignore[method-assign]  it answers otherwise from here on
    told = caller.refused(caller.key())
    assert "does not answer as Vault does" in told
    assert "no base64" not in told


@pytest.mark.parametrize(
    "address",
    [
        "http://vault.example:8200",
        "https://",
        "ftp://x",
        "https://h:99999",
        "https://u:p@h",
        "https://h/path",
        "unix://",
    ],
)
def test_addresses_that_are_refused(caller: Caller, address: str) -> None:
    assert "[vault] address must be https://HOST:PORT" in caller.refused(caller.key(address=address))


def test_tls_needs_the_authority_that_is_configured(pki: Pki, tmp_path: Path) -> None:
    cert, key, ca, _ = pki.server_files
    with fake_vault(cert, key) as running:
        caller = Caller(running, tmp_path)
        assert vault.wrap(caller.key(ca=str(ca)), DATA_KEY)
        told = caller.refused(caller.key())
        assert "is not trusted" in told
        assert "[vault] ca" in told
        other = pki.client("other").cert
        assert "is not trusted" in caller.refused(caller.key(ca=str(other)))
        assert "cannot be read" in caller.refused(caller.key(ca=str(tmp_path / "gone")))
        assert "it is no PEM" in caller.refused(caller.key(ca=str(caller.token)))
        assert running.asked == ["/v1/transit/encrypt/models"]


def test_a_certificate_for_another_name_is_refused(pki: Pki, tmp_path: Path) -> None:
    cert, key, ca, _ = pki.server_files
    with fake_vault(cert, key, host="127.0.0.2") as running:
        caller = Caller(running, tmp_path)
        assert "is not trusted (IP address mismatch" in caller.refused(caller.key(ca=str(ca)))


def test_a_vault_proxy_on_a_socket_needs_no_network_and_no_token(tmp_path: Path) -> None:
    with fake_vault(socket=tmp_path / "proxy.sock") as running:
        running.token = None
        caller = Caller(running, tmp_path)
        key = caller.key(token=None)
        assert vault.unwrap(key, [vault.wrap(key, DATA_KEY)]) == DATA_KEY
