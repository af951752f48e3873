"""A refused client gets to read why, whatever it has sent meanwhile."""

import socket
import ssl
from collections.abc import Iterator

import pytest
from live_server import LiveServer
from pki import Pki

from certs.tls import client_context
from stream_server.transport import listener

REQUEST = b"GET / HTTP/1.1\r\nX: " + b"x" * 30_000


class Stranger:
    """A client without a certificate, to whom the handshake is over: what ends it is not sent yet."""

    def __init__(self, server: LiveServer, pki: Pki) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context(pki.ca).wrap_bio(
            self._incoming, self._outgoing, server_hostname="localhost"
        )
        self.sock = socket.create_connection(("127.0.0.1", server.ready.addresses[0][1]), timeout=10)
        while not self._is_done():
            self.sock.sendall(self._outgoing.read())
            self._incoming.write(self.sock.recv(65_536))

    def _is_done(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def send(self, request: bytes) -> None:
        """What ends the handshake and a request, at once, as browsers send it."""
        self._tls.write(request)
        self.sock.sendall(self._outgoing.read())

    def alert(self) -> str | None:
        """The reason of the alert; None at the connection's end."""
        while data := self.sock.recv(65_536):
            self._incoming.write(data)
            try:
                self._tls.read()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as exc:
                return exc.reason
        return None


@pytest.fixture
def stranger(server: LiveServer, pki: Pki) -> Iterator[Stranger]:
    client = Stranger(server, pki)
    yield client
    client.sock.close()


def test_a_request_sent_while_the_alert_is_under_way_does_not_cost_the_alert(stranger: Stranger) -> None:
    """In TLS 1.3 the handshake is over for the client before the server has looked at its certificate.

    A socket that is closed already answers by a reset; what the client sends next then fails, and browsers
    tell of that in place of the alert.
    """
    stranger.send(b"GET / HTTP/1.1\r\n")
    assert stranger.sock.recv(1, socket.MSG_PEEK)
    for _ in range(3):
        stranger.send(REQUEST)
    assert stranger.alert() == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


async def test_who_has_read_the_alert_and_stays_is_cut_off(
    server: LiveServer, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LINGER_S", 0.01)
    stranger.send(b"GET / HTTP/1.1\r\n")
    assert stranger.alert() == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    await server.until(lambda: not server.app._listener._openings)
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        flood(stranger.sock)


def test_who_goes_on_sending_is_cut_off(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LINGER_S", 60.0)
    stranger.send(b"GET / HTTP/1.1\r\n")
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        flood(stranger.sock)


def flood(sock: socket.socket) -> None:
    """Send far more than a request has."""
    for _ in range(1_000):
        sock.sendall(bytes(65_536))
