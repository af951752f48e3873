"""Keys that never leave where they are: in Vault's transit engine, or on a token that speaks PKCS#11.

Such a key is named by a reference. What it is to wrap or to unwrap is given to the key helper, a process of
its own that lives for this one question (``helper``): only there is a connection opened, the vendor's library
loaded, and the access token or PIN read. A helper that hangs is killed.
"""

import re
import subprocess
import sys
from typing import assert_never
from urllib.parse import unquote, unquote_to_bytes

import msgspec

from stream_server.errors import ModelError

VAULT, PKCS11 = "vault:", "pkcs11:"
TOKEN_S = 30.0
"""How long a token may take; those that wait for a finger on a button take seconds."""
_START_S = 10.0
"""For a helper to start, on a busy machine."""
_VAULT_KEY = re.compile(r"vault:((?:[A-Za-z0-9._-]+/)+)([A-Za-z0-9._-]+)")
_URI_KEYS = ("token", "serial", "object", "id", "type", "module-path", "pin-source")


class VaultServer(msgspec.Struct, frozen=True):
    """How Vault is reached; holds no secret."""

    address: str
    """``https://HOST[:PORT]``, ``http://`` for this machine, ``unix:///PATH`` of a Vault Agent or Proxy."""
    token: str | None = None
    """Where the access token lies, as ``places.read_secret`` takes it; an Agent or Proxy may have its own."""
    ca: str | None = None
    """File with the authority of its certificate; None: those that this machine trusts."""
    namespace: str | None = None
    timeout_s: float = 10.0


class VaultKey(msgspec.Struct, frozen=True, tag="vault"):
    """A key of Vault's transit engine."""

    server: VaultServer
    mount: str
    name: str

    @property
    def place(self) -> str:
        """For errors."""
        return f"vault:{self.mount}/{self.name} at {self.server.address}"


class TokenKey(msgspec.Struct, frozen=True, tag="pkcs11"):
    """An AES key on a token that speaks PKCS#11."""

    uri: str
    module: str
    """Path of the vendor's library."""
    pin: str | None
    """Where the PIN lies, as ``places.read_secret`` takes it; None: the token asks for none."""
    token: str | None = None
    """Label of the token."""
    serial: str | None = None
    """Of the token."""
    label: str | None = None
    """Of the key."""
    id: bytes | None = None
    """Of the key."""

    @property
    def place(self) -> str:
        """For errors."""
        return self.uri.partition("?")[0]


ExternalKey = VaultKey | TokenKey


class Wrap(msgspec.Struct, frozen=True, tag="wrap"):
    """Asks the helper to wrap a data key."""

    key: ExternalKey
    data_key: bytes


class Unwrap(msgspec.Struct, frozen=True, tag="unwrap"):
    """Asks the helper for a data key that is in one of these."""

    key: ExternalKey
    wrapped: list[bytes]


class Answer(msgspec.Struct, frozen=True):
    """Of the helper: one of both."""

    result: bytes | None = None
    problem: str | None = None


def is_external(reference: str) -> bool:
    """Whether a reference names a key that stays where it is."""
    return reference.startswith((VAULT, PKCS11))


def parse_external(reference: str, vault: VaultServer | None) -> ExternalKey:
    """The key that a reference names; nothing is asked yet.

    Args:
        reference: ``vault:MOUNT/KEY``, or a URI of RFC 7512, ``pkcs11:token=…;object=…?module-path=…``.
        vault: How Vault is reached, if that is known.

    Raises:
        ModelError: It names none; says what is missing.
    """
    return _parse_vault(reference, vault) if reference.startswith(VAULT) else _parse_token(reference)


def wrap(key: ExternalKey, data_key: bytes) -> bytes:
    """Wrap a data key.

    Raises:
        ModelError: It cannot be done; names the key and the next step.
    """
    return _ask(Wrap(key, data_key))


def unwrap(key: ExternalKey, wrapped: list[bytes]) -> bytes:
    """The data key in the first of these that was wrapped by this key.

    Raises:
        ModelError: None was, or it cannot be done; names the key and the next step.
    """
    return _ask(Unwrap(key, wrapped))


def _parse_vault(reference: str, vault: VaultServer | None) -> VaultKey:
    match = _VAULT_KEY.fullmatch(reference)
    if match is None or any(set(part) == {"."} for part in reference[len(VAULT) :].split("/")):
        raise ModelError(f"{reference} must be vault:MOUNT/KEY, such as vault:transit/models")
    if vault is None:
        raise ModelError(f"{reference} needs [vault] in the configuration: address, ca and token")
    return VaultKey(vault, match[1].rstrip("/"), match[2])


def _parse_token(uri: str) -> TokenKey:
    path, _, query = uri[len(PKCS11) :].partition("?")
    given: dict[str, str] = {}
    for text in [*path.split(";"), *query.split("&")]:
        name, _, value = text.partition("=")
        if name == "pin-value":
            # Without the URI, which holds the PIN.
            raise ModelError("a pkcs11: URI must not hold a PIN: write it to a file, and pin-source=FILE")
        if text and (name not in _URI_KEYS or name in given or not value):
            raise ModelError(f"{uri}: {name!r} is not understood here; known: {', '.join(_URI_KEYS)}")
        given[name] = unquote(value)
    if "module-path" not in given:
        raise ModelError(f"{uri} lacks ?module-path=FILE, the PKCS#11 library of the token's vendor")
    if not given.keys() & {"object", "id"}:
        raise ModelError(f"{uri} lacks object=LABEL, the key's label on the token, or id=%01")
    if given.get("type", "secret-key") != "secret-key":
        raise ModelError(f"{uri}: a model is sealed with an AES key, type=secret-key")
    id_text = next((text[3:] for text in path.split(";") if text.startswith("id=")), None)
    return TokenKey(
        uri,
        given["module-path"],
        given["pin-source"].removeprefix("file:") if "pin-source" in given else None,
        given.get("token"),
        given.get("serial"),
        given.get("object"),
        None if id_text is None else unquote_to_bytes(id_text),
    )


def _ask(request: Wrap | Unwrap) -> bytes:
    key = request.key
    limit_s = _limit_s(key)
    try:
        ran = subprocess.run(  # noqa: S603  ourselves
            [sys.executable, "-m", "stream_server.sealing.helper", f"{limit_s + _START_S:g}"],
            input=msgspec.json.encode(request),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=limit_s + _START_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # Without its cause, which holds what the helper wrote.
        raise ModelError(f"{key.place} gave no answer within {limit_s:g} s; {_look(key)}") from None
    except OSError as exc:
        raise ModelError(f"the key helper for {key.place} cannot be started: {exc.strerror}") from exc
    try:
        answer = msgspec.json.decode(ran.stdout, type=Answer)
    except msgspec.DecodeError:
        raise ModelError(
            f"the key helper for {key.place} ended with code {ran.returncode} and no answer; {_look(key)}"
        ) from None
    if answer.result is None:
        raise ModelError(answer.problem or f"{key.place} gave no answer; {_look(key)}")
    return answer.result


def _limit_s(key: ExternalKey) -> float:
    return key.server.timeout_s if isinstance(key, VaultKey) else TOKEN_S


def _look(key: ExternalKey) -> str:
    match key:
        case VaultKey():
            return "look at the server with `vault status`, or raise [vault] timeout_s"
        case TokenKey():
            return f"look at the token with `pkcs11-tool --module {key.module} --list-slots`"
        case _:
            assert_never(key)
