"""Vault's transit engine, asked over https by the key helper and by nothing else.

No proxy is used, and no redirect followed: the access token goes to the configured address, or nowhere. What
Vault answers is bounded, and quoted in errors only as far as it is its own words for a refusal.
"""

import base64
import http.client
import ipaddress
import re
import socket
import ssl
from urllib.parse import quote, urlsplit

import msgspec

from stream_server.errors import ModelError
from stream_server.sealing.external import VaultKey, VaultServer
from stream_server.sealing.places import read_secret

_ANSWER_BYTES_MAX = 65_536
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")


class _Data(msgspec.Struct):
    plaintext: str | None = None
    ciphertext: str | None = None


class _Success(msgspec.Struct):
    data: _Data


class _Failure(msgspec.Struct):
    errors: list[str]


class _Rejected(Exception):
    """Raised when Vault answers 400: this ciphertext is not of this key, or there is no such key."""


def wrap(key: VaultKey, data_key: bytes) -> bytes:
    """Let Vault encrypt a data key.

    Raises:
        ModelError: It cannot be reached or refuses; says what to do.
    """
    try:
        data = _post(key, "encrypt", {"plaintext": base64.b64encode(data_key).decode()})
    except _Rejected as exc:
        raise ModelError(
            f"{key.place} cannot encrypt: {exc}; `vault write -f {key.mount}/keys/{key.name}` makes the key"
        ) from exc
    if data.ciphertext is None:
        raise _strange(key)
    return data.ciphertext.encode()


def unwrap(key: VaultKey, wrapped: list[bytes]) -> bytes:
    """Let Vault decrypt the first of these that it can.

    Raises:
        ModelError: It can none, cannot be reached, or refuses; says what to do.
    """
    reason = ""
    for one in wrapped:
        try:
            data = _post(key, "decrypt", {"ciphertext": one.decode("ascii", "replace")})
        except _Rejected as exc:
            reason = str(exc)
            continue
        if data.plaintext is None:
            raise _strange(key)
        try:
            return base64.b64decode(data.plaintext, validate=True)
        except ValueError:
            raise _strange(key) from None
    raise ModelError(
        f"{key.place} does not open it: {reason}; name the key that it was sealed for "
        f"(`vault list {key.mount}/keys`), in a version that may still decrypt"
    )


def _post(key: VaultKey, operation: str, body: dict[str, str]) -> _Data:
    server = key.server
    path = f"{quote(key.mount)}/{operation}/{quote(key.name)}"
    headers = {"Content-Type": "application/json", "X-Vault-Request": "true", **_credentials(server)}
    connection = _connection(server)
    try:
        connection.request("POST", f"/v1/{path}", msgspec.json.encode(body), headers)
        with connection.getresponse() as answer:
            content = answer.read(_ANSWER_BYTES_MAX + 1)
    except ssl.SSLCertVerificationError as exc:
        raise ModelError(
            f"{server.address} is not trusted ({exc.verify_message}); set [vault] ca to the file of the "
            "authority that issued its certificate, and address to a name in it"
        ) from None
    except TimeoutError:
        raise ModelError(
            f"{key.place} gave no answer within {server.timeout_s:g} s; look at it with `vault status`, or "
            "raise [vault] timeout_s"
        ) from None
    except (OSError, http.client.HTTPException) as exc:
        why = exc.strerror if isinstance(exc, OSError) else None
        raise ModelError(
            f"{key.place} cannot be reached: {why or type(exc).__name__}; is [vault] address right, and may "
            "this process connect? Under PrivateNetwork=yes it reaches unix:///PATH only"
        ) from None
    finally:
        connection.close()
    if len(content) > _ANSWER_BYTES_MAX:
        raise _strange(key)
    if answer.status != 200:
        raise _refusal(key, path, answer.status, _words(content))
    try:
        return msgspec.json.decode(content, type=_Success).data
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Without its cause, which could quote what it read.
        raise _strange(key) from None


def _credentials(server: VaultServer) -> dict[str, str]:
    headers = {} if server.namespace is None else {"X-Vault-Namespace": server.namespace}
    if server.token is not None:
        secret = read_secret(server.token, "the access token for Vault")
        token = secret.text.strip()
        if not _TOKEN.fullmatch(token):
            raise ModelError(f"{secret.place} holds no access token for Vault, which is one word")
        headers["X-Vault-Token"] = token
    return headers


def _refusal(key: VaultKey, path: str, status: int, words: str) -> Exception:
    server = key.server
    told = f"{status}{f': {words}' if words else ''}"
    if status == 400:
        return _Rejected(f"Vault answers {told}")
    if 300 <= status < 400:
        problem = (
            f"{server.address} redirects elsewhere ({status}), which is not followed; set [vault] address to "
            "the active node, or to what stands before all of them"
        )
    elif status == 403:
        where = server.token or "an access token, which [vault] token would name,"
        problem = (
            f"Vault refuses {where} for {key.place} ({told}); renew the token, or let its policy have "
            f'path "{path}" {{ capabilities = ["update"] }}'
        )
    elif status == 404:
        problem = (
            f"{key.place} is not there ({told}); `vault secrets list` shows the mounts of the transit "
            "engine, and [vault] namespace says where to look"
        )
    elif status == 503:
        problem = f"Vault at {server.address} is sealed or in maintenance ({told}); `vault operator unseal`"
    else:
        problem = f"Vault refuses {key.place} ({told}); look at it with `vault status`"
    return ModelError(problem)


def _words(content: bytes) -> str:
    """Vault's own words for a refusal, fit for one line."""
    try:
        errors = msgspec.json.decode(content, type=_Failure).errors
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    words = " ".join(" ".join(errors).split())
    return "".join(c if c.isprintable() else "?" for c in words)[:200]


def _strange(key: VaultKey) -> ModelError:
    return ModelError(f"{key.place} does not answer as Vault does; is [vault] address another service?")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a socket in the file system."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(server: VaultServer) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(server.address)
        port = parts.port
    except ValueError:
        raise _bad_address(server) from None
    if parts.scheme == "unix" and not parts.netloc and parts.path:
        return _UnixConnection(parts.path, server.timeout_s)
    host = parts.hostname
    if host is None or parts.path not in ("", "/") or parts.query or parts.username is not None:
        raise _bad_address(server)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=server.timeout_s, context=_context(server))
    if parts.scheme == "http" and _is_this_machine(host):
        return http.client.HTTPConnection(host, port, timeout=server.timeout_s)
    raise _bad_address(server)


def _bad_address(server: VaultServer) -> ModelError:
    return ModelError(
        f"[vault] address must be https://HOST:PORT, or unix:///PATH, not {server.address!r}; http:// is for "
        "this machine only"
    )


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _context(server: VaultServer) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=server.ca)
    except OSError as exc:  # SSLError is one
        why = exc.strerror if exc.errno is not None and not isinstance(exc, ssl.SSLError) else "it is no PEM"
        raise ModelError(f"[vault] ca: {server.ca} cannot be read: {why}") from exc
