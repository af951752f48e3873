"""Vault's transit engine, as far as the key helper asks it: real encryption, real refusals, silence."""

import base64
import json
import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.CAESIJ-a-token-for-tests-only"


class FakeVault:
    """What it holds, how it behaves, and what it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, list[AESGCM]] = {"transit/models": [AESGCM(secrets.token_bytes(32))]}
        """MOUNT/NAME → the versions of a key."""
        self.token: str | None = TOKEN
        self.is_sealed = False
        self.namespace: str | None = None
        self.redirect_to: str | None = None
        self.says: bytes | None = None
        """Instead of an answer."""
        self.is_silent = threading.Event()
        self.asked: list[str] = []
        self.address = ""

    def rotate(self, key: str) -> None:
        self.keys[key].append(AESGCM(secrets.token_bytes(32)))

    def answer(self, path: str, headers: Any, body: dict[str, str]) -> tuple[int, dict[str, object]]:
        self.asked.append(path)
        if self.is_sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if headers.get("X-Vault-Request") != "true":
            return 412, {"errors": ["missing 'X-Vault-Request' header"]}
        if (self.token, self.namespace) != (headers.get("X-Vault-Token"), headers.get("X-Vault-Namespace")):
            return 403, {"errors": ["permission denied"]}
        version, mount, operation, name = path.strip("/").split("/")
        if version != "v1" or not any(key.startswith(f"{mount}/") for key in self.keys):
            return 404, {"errors": [f"no handler for route {path!r}"]}
        versions = self.keys.get(f"{mount}/{name}")
        if versions is None:
            return 400, {"errors": ["encryption key not found"]}
        return self._encrypt(versions, body) if operation == "encrypt" else self._decrypt(versions, body)

    def _encrypt(self, versions: list[AESGCM], body: dict[str, str]) -> tuple[int, dict[str, object]]:
        nonce = secrets.token_bytes(12)
        sealed = nonce + versions[-1].encrypt(nonce, base64.b64decode(body["plaintext"]), None)
        text = f"vault:v{len(versions)}:{base64.b64encode(sealed).decode()}"
        return 200, {"data": {"ciphertext": text, "key_version": len(versions)}, "lease_id": ""}

    def _decrypt(self, versions: list[AESGCM], body: dict[str, str]) -> tuple[int, dict[str, object]]:
        try:
            _, version, text = body["ciphertext"].split(":")
            sealed = base64.b64decode(text, validate=True)
            plain = versions[int(version[1:]) - 1].decrypt(sealed[:12], sealed[12:], None)
        except (ValueError, IndexError, InvalidTag):
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, {"data": {"plaintext": base64.b64encode(plain).decode()}, "lease_id": ""}


class _Handler(BaseHTTPRequestHandler):
    vault: FakeVault

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.vault.is_silent.is_set():
            self.rfile.read(1)  # Until the client has had enough.
            return
        if self.vault.redirect_to is not None:
            self.vault.asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", self.vault.redirect_to + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, answer = self.vault.answer(self.path, self.headers, json.loads(content))
        text = json.dumps(answer).encode() if self.vault.says is None else self.vault.says
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _TcpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Clients that refuse our certificate, or have had enough, are part of the tests."""


class _UnixServer(ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def fake_vault(
    cert: Path | None = None, key: Path | None = None, *, host: str = "127.0.0.1", socket: Path | None = None
) -> Iterator[FakeVault]:
    """Run one on loopback, over TLS if there is a certificate; or on a socket in the file system."""
    vault = FakeVault()
    handler = type("Handler", (_Handler,), {"vault": vault})
    server: _TcpServer | _UnixServer
    if socket is not None:
        server = _UnixServer(str(socket), handler)
        vault.address = f"unix://{socket}"
    else:
        server = _TcpServer((host, 0), handler)
        vault.address = f"{'https' if cert else 'http'}://{host}:{server.server_address[1]}"
        if cert is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield vault
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
