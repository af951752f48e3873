"""The doors of a server, built from its configuration: who is let in where, and up to how many."""

import logging
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream_server.config import Config
from stream_server.core.admission import Admission, AdmissionLimits
from stream_server.core.audit import Auditor
from stream_server.core.guests import Guests
from stream_server.core.hub import Hub
from stream_server.core.networks import networks
from stream_server.core.policy import PolicyInForce
from stream_server.core.quotas import AudioQuotas
from stream_server.core.rooms import Rooms
from stream_server.core.signed import KeysInForce
from stream_server.core.writer_tokens import RevokedTokens, WriterToken, WriterTokens
from stream_server.errors import ConfigError
from stream_server.guest_links import GuestLinks
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.transport.audit_events import (
    reader_cut,
    token_keys_changed,
    token_keys_kept,
    token_taken_back,
)
from stream_server.transport.connection import stream_handler, writer_handler
from stream_server.transport.gate import Gate, RoomDoor, StreamDoor, TokenDoor
from stream_server.transport.guest_gate import GuestGate, WriterDoor
from stream_server.transport.listener import Listener, bind
from stream_server.transport.presence import Objection, Presence
from stream_server.transport.responses import Health, Pages, Reports
from stream_server.transport.room_reader import guest_handler, reader_handler
from stream_server.transport.tls import SwappableContext

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inside:
    """What lies behind the doors, and whom those at the doors ask."""

    hub: Hub
    rooms: Rooms
    sources: Admission
    """Counts the streams, whichever door they came by."""
    policy: PolicyInForce
    quotas: AudioQuotas
    presence: Presence
    health: Health
    metrics: Metrics
    auditor: Auditor


def client_listener(
    config: Config,
    sockets: Sequence[socket.socket],
    context: SwappableContext,
    inside: Inside,
    tokens: WriterTokens | None,
    pages: Pages,
    reports: Reports,
) -> Listener:
    """What accepts clients with a certificate; it owns the sockets.

    Args:
        config: Of the server.
        sockets: From ``bind``, or inherited.
        context: TLS that asks for client certificates.
        inside: Where they are let in.
        tokens: What makes tokens for writers; None where there is no listener that takes them.
        pages: What browsers may load.
        reports: The security report, for admins.
    """
    of_rooms = config.rooms
    token_limits = AdmissionLimits(connects_per_minute=config.guest.tokens_per_minute)
    readers = AdmissionLimits(of_rooms.readers, of_rooms.readers_per_identity, of_rooms.connects_per_minute)
    serve = stream_handler(inside.hub, inside.policy, inside.presence, inside.metrics)
    read = reader_handler(inside.rooms, inside.presence, inside.metrics)
    gate = Gate(
        StreamDoor(inside.sources, inside.quotas, serve),
        RoomDoor(Admission(readers), inside.rooms, read),
        inside.policy,
        config.tls.trust_domain,
        inside.health,
        inside.metrics,
        inside.auditor,
        None if tokens is None else TokenDoor(Admission(token_limits), tokens),
        pages,
        reports,
        frozenset(config.server.origins),
    )
    limits = config.limits
    return Listener(
        sockets,
        context,
        gate,
        inside.metrics,
        inside.auditor,
        handshakes_max=limits.handshakes,
        handshakes_per_address=limits.handshakes_per_address,
        handshakes_per_s=limits.handshakes_per_second,
        handshake_s=config.tls.handshake_s,
        networks=networks(config.server.networks),
        proxies=networks(config.server.proxy_from),
    )


class GuestDoor:
    """The guest listener: its links, its socket, and what it serves.

    Built before anything slow is begun, so that its mistakes are told at once.

    Args:
        config: With ``guest.enabled``.
        state: Folder with ``guests``.
        context: TLS without client certificates.
        metrics: Reloads of keys that failed.
        auditor: Told of other keys, of tokens taken back, and of readers who were cut.
        revoked_tokens: Kept as their list says.
        sockets: That already listen; None binds ``guest.host`` and ``guest.port``.

    Raises:
        ConfigError: Key, list or address cannot be used.
    """

    def __init__(
        self,
        config: Config,
        state: Path,
        context: SwappableContext,
        metrics: Metrics,
        auditor: Auditor,
        revoked_tokens: RevokedTokens,
        sockets: list[socket.socket] | None = None,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._auditor = auditor
        self._links = GuestLinks(state)
        self._keys = KeysInForce(self._links.changed_keys() or self._links.keys())
        self._guests = Guests(self._keys, time.time)
        self.tokens = WriterTokens(self._keys, time.time, lambda: secrets.token_hex(6))
        """Of writers; made at the gate of clients with a certificate."""
        self._guests.set_links(self._links.changed_links() or [])
        self._revoked_tokens = revoked_tokens
        revoked_tokens.ids = self._links.changed_revoked_tokens() or frozenset()
        self.context = context
        self._sockets = sockets or bind(config.guest.host, config.guest.port, section="guest")

    def close(self) -> None:
        """Give the address back; for one that never listened."""
        for sock in self._sockets:
            sock.close()

    def listener(
        self, inside: Inside, token_objection: Callable[[WriterToken, str], Objection | None], pages: Pages
    ) -> Listener:
        """What accepts guests; it owns the address from here on.

        Args:
            inside: Where they are let in.
            token_objection: Why a token is worth nothing at an address although it is ours and in its time.
            pages: What browsers may load.
        """
        guest = self._config.guest
        readers = AdmissionLimits(guest.readers, guest.readers_per_address, guest.connects_per_minute)
        by_address = AdmissionLimits(guest.writers, guest.writers_per_address, guest.connects_per_minute)
        writers = WriterDoor(
            self.tokens,
            Admission(by_address),
            inside.sources,
            inside.quotas,
            inside.policy,
            token_objection,
            writer_handler(inside.hub, inside.policy, inside.presence, self._metrics),
            frozenset(self._config.server.origins),
        )
        gate = GuestGate(
            Admission(readers),
            self._guests,
            self.refresh,
            guest_handler(inside.rooms, self._guests, self._metrics),
            inside.health,
            self._metrics,
            self._auditor,
            writers,
            pages,
        )
        return Listener(
            self._sockets,
            self.context,
            gate,
            self._metrics,
            self._auditor,
            handshakes_max=guest.handshakes,
            handshakes_per_address=guest.handshakes_per_address,
            handshakes_per_s=guest.handshakes_per_second,
            handshake_s=self._config.tls.handshake_s,
            networks=networks(guest.networks),
            proxies=networks(guest.proxy_from),
        )

    def tick(self) -> None:
        """About once a second: take in what has changed, end readers whose link is over or was revoked."""
        self.refresh()
        self._refresh_revoked_tokens()
        for link_id in self._guests.tick():
            self._auditor.record(reader_cut(link_id))

    def refresh(self) -> None:
        """Take in keys and the list of links, if they have changed."""
        self._refresh_keys()
        try:
            links = self._links.changed_links()
        except ConfigError as exc:
            # What is known stays in force: a damaged file must neither let anybody in nor throw all out.
            _log.error("guest_links_unreadable", extra=fields(error=str(exc)))
            links = None
        if links is not None:
            self._guests.set_links(links)

    def _refresh_revoked_tokens(self) -> None:
        try:
            ids = self._links.changed_revoked_tokens()
        except ConfigError as exc:
            # What is known stays in force, as with links.
            _log.error("revoked_tokens_unreadable", extra=fields(error=str(exc)))
            self._metrics.reload_failures.labels(what="revoked_tokens").inc()
            return
        if ids is not None:
            _log.info("revoked_tokens_reloaded", extra=fields(tokens=len(ids)))
            for token_id in sorted(ids - self._revoked_tokens.ids):
                self._auditor.record(token_taken_back(token_id))
            self._revoked_tokens.ids = ids

    def _refresh_keys(self) -> None:
        try:
            keys = self._links.changed_keys()
        except ConfigError as exc:
            _log.error("token_keys_unreadable", extra=fields(error=str(exc)))
            self._metrics.reload_failures.labels(what="token_keys").inc()
            self._auditor.record(token_keys_kept())
            return
        if keys is None:
            return
        before, self._keys.current = self._keys.current, keys
        if keys.names != before.names:
            _log.info("token_keys_reloaded", extra=fields(retired=len(keys.retired)))
            self._auditor.record(token_keys_changed(keys))
