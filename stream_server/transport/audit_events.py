"""What listeners and gates have to say to the audit log."""

from certs.identity import Identity
from stream_server.core.audit import Actor, AuditAction, AuditEvent, Outcome


class NoAudit:
    """Keeps nothing: for parts that are tried without a server."""

    is_available = True

    def record(self, event: AuditEvent) -> None:
        """Forget it."""

    async def secure(self, event: AuditEvent) -> None:
        """Forget it."""


def actor_of(identity: Identity) -> Actor:
    """A client, as the audit log names it."""
    return Actor(identity.uri, f"{identity.serial:x}", identity.fingerprint.hex())


def handshake_refused(address: str, reason: str) -> AuditEvent:
    """A connection that TLS, or a limit before it, turned away."""
    return AuditEvent(AuditAction.AUTHENTICATE, Outcome.DENIED, source=address, reason=reason)


def request_refused(identity: Identity | None, address: str, resource: str, reason: str) -> AuditEvent:
    """A request that got no upgrade."""
    actor = None if identity is None else actor_of(identity)
    return AuditEvent(AuditAction.AUTHORIZE, Outcome.DENIED, actor, address, resource, reason)


def request_admitted(identity: Identity, address: str, resource: str) -> AuditEvent:
    """A request that goes ahead: who passed TLS, and was allowed."""
    detail: dict[str, str | int] = {"not_after": identity.not_after.isoformat(timespec="seconds")}
    return AuditEvent(
        AuditAction.AUTHORIZE, Outcome.SUCCESS, actor_of(identity), address, resource, detail=detail
    )


def guest_admitted(address: str, resource: str) -> AuditEvent:
    """A guest's request that goes ahead; what he may read is told by his token, after it."""
    return AuditEvent(AuditAction.AUTHORIZE, Outcome.SUCCESS, None, address, resource)


def connection_cut(identity: Identity, address: str, reason: str) -> AuditEvent:
    """A live connection that is no longer welcome."""
    return AuditEvent(AuditAction.AUTHORIZE, Outcome.DENIED, actor_of(identity), address, reason=reason)
