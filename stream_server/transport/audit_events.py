"""What listeners and gates have to say to the audit log."""

import hashlib

from certs.identity import Identity
from stream_server.core.audit import Actor, AuditAction, AuditEvent, Outcome
from stream_server.core.signed import Keys
from stream_server.core.writer_tokens import WriterToken
from stream_server.transport.presence import Present


def actor_of(identity: Identity) -> Actor:
    """A client, as the audit log names it."""
    return Actor(identity.uri, f"{identity.serial:x}", identity.fingerprint.hex())


def handshake_refused(address: str, reason: str) -> AuditEvent:
    """A connection that TLS, or a limit before it, turned away."""
    return AuditEvent(AuditAction.AUTHENTICATE, Outcome.DENIED, source=address, reason=reason)


def request_refused(actor: Actor | None, address: str, resource: str, reason: str) -> AuditEvent:
    """A request that got no upgrade."""
    return AuditEvent(AuditAction.AUTHORIZE, Outcome.DENIED, actor, address, resource, reason)


def request_admitted(identity: Identity, address: str, resource: str) -> AuditEvent:
    """A request that goes ahead: who passed TLS, and was allowed."""
    detail: dict[str, str | int] = {"not_after": identity.not_after.isoformat(timespec="seconds")}
    return AuditEvent(
        AuditAction.AUTHORIZE, Outcome.SUCCESS, actor_of(identity), address, resource, detail=detail
    )


def token_minted(token: WriterToken, address: str) -> AuditEvent:
    """A client made a token by which others act for it."""
    detail: dict[str, str | int] = {
        "token": token.id,
        "network": str(token.network),
        "seconds": token.expires_s - token.issued_s,
    }
    if token.name is not None:
        detail["name"] = token.name
    return AuditEvent(
        AuditAction.TOKEN_MINT,
        Outcome.SUCCESS,
        actor_of(token.minter),
        address,
        _streams_of(token),
        detail=detail,
    )


def writer_admitted(token: WriterToken, address: str) -> AuditEvent:
    """A request by a token that goes ahead, for whoever had the token made."""
    detail: dict[str, str | int] = {"token": token.id}
    return AuditEvent(
        AuditAction.AUTHORIZE,
        Outcome.SUCCESS,
        actor_of(token.minter),
        address,
        _streams_of(token),
        detail=detail,
    )


def _streams_of(token: WriterToken) -> str:
    return "path:/v1/stream" if token.room is None else f"room:{token.room}"


def token_keys_changed(keys: Keys) -> AuditEvent:
    """Other keys sign, or count for, links and tokens from here on."""
    detail: dict[str, str | int] = {
        "key": hashlib.sha256(keys.current.public_key().public_bytes_raw()).hexdigest(),
        "retired": len(keys.retired),
    }
    return AuditEvent(AuditAction.KEY_ROTATE, Outcome.SUCCESS, resource="key:tokens", detail=detail)


def token_keys_kept() -> AuditEvent:
    """Other keys for links and tokens could not be read."""
    return AuditEvent(AuditAction.KEY_ROTATE, Outcome.FAILURE, resource="key:tokens", reason="kept_the_old")


def token_taken_back(token_id: str) -> AuditEvent:
    """A token that opens nothing from here on."""
    return AuditEvent(AuditAction.TOKEN_REVOKE, Outcome.SUCCESS, resource=f"token:{token_id}")


def reader_cut(link_id: str) -> AuditEvent:
    """A live reader whose link is over, or was revoked."""
    return AuditEvent(AuditAction.AUTHORIZE, Outcome.DENIED, resource=f"link:{link_id}", reason="link_over")


def report_read(identity: Identity, address: str, resource: str) -> AuditEvent:
    """An admin who is given the security report."""
    return AuditEvent(AuditAction.REPORT_READ, Outcome.SUCCESS, actor_of(identity), address, resource)


def guest_admitted(address: str, resource: str) -> AuditEvent:
    """A guest's request that goes ahead; what he may read is told by his token, after it."""
    return AuditEvent(AuditAction.AUTHORIZE, Outcome.SUCCESS, None, address, resource)


def connection_cut(present: Present, reason: str) -> AuditEvent:
    """A live connection that is no longer welcome."""
    detail: dict[str, str | int] = {} if present.token is None else {"token": present.token.id}
    actor = actor_of(present.identity)
    return AuditEvent(
        AuditAction.AUTHORIZE, Outcome.DENIED, actor, present.address, reason=reason, detail=detail
    )
