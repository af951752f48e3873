"""What stands at the doors while the server runs: the audit log, and credentials and policy that may change.

Certificate, authority, revocation list and policy are read again when their files change or on SIGHUP. Bad
ones are told and the old ones stay. A connection whose certificate was revoked or has ended, or which the
policy no longer lets in, is cut, its finals first.
"""

import asyncio
import logging
import socket
from datetime import datetime
from pathlib import Path

from certs.live import FileWatch, LiveCredentials, TlsFiles
from certs.tls import TlsConfigError, guest_context
from stream_server.config import Config, TlsSection
from stream_server.core.audit import AuditAction, AuditEvent, Auditor, Outcome
from stream_server.core.networks import contains
from stream_server.core.policy import PolicyInForce
from stream_server.core.writer_tokens import RevokedTokens, WriterToken
from stream_server.errors import ConfigError, NotAllowed, TokenExpired
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.policy_file import load_policy
from stream_server.records.audit_log import AuditLog, utc_now
from stream_server.records.errors import AuditError
from stream_server.records.second_place import SecondPlace
from stream_server.records.writer import AuditSettings
from stream_server.state_folder import audit_folders
from stream_server.transport.audit_events import connection_cut
from stream_server.transport.presence import Objection, Presence, Present
from stream_server.transport.tls import SwappableContext

_log = logging.getLogger(__name__)

_MIB = 1024 * 1024


def open_audit(config: Config, state: Path, metrics: Metrics) -> AuditLog:
    """Open the audit log; its owner must close it.

    Raises:
        ConfigError: It cannot be written, or was edited; says what to do.
    """
    section = config.audit
    folder, copies = audit_folders(config, state)
    settings = AuditSettings(file_bytes_max=section.file_mib * _MIB, keep_days=section.keep_days)
    try:
        return AuditLog(
            folder,
            settings,
            socket.gethostname(),
            SecondPlace(copies, metrics.audit_copy_failures.inc).publish,
        )
    except AuditError as exc:
        raise ConfigError(str(exc)) from exc


def tls_files(section: TlsSection, certs: Path) -> TlsFiles:
    """Configured paths, each defaulting to its file in the certificates' folder."""
    return TlsFiles(
        cert=Path(section.cert) if section.cert else certs / "server.pem",
        key=Path(section.key) if section.key else certs / "server.key",
        client_ca=Path(section.client_ca) if section.client_ca else certs / "ca.pem",
        crl=Path(section.crl) if section.crl else certs / "crl.pem",
    )


class Access:
    """The credentials in use. Its listeners' contexts are swapped when others take their place.

    Args:
        files: The four TLS files.
        policy: The rules in force, replaced when their file changes.
        policy_file: Theirs; it need not exist yet.
        auditor: Told what was loaded and who was cut.
        metrics: Dates of expiry, and reloads that failed.
        has_guests: Whether a context without client certificates is needed too.
        token_stream_s: How long after a token was made its stream ends.
        revoked_tokens: Writer tokens taken back; whoever reads their list replaces them.

    Raises:
        ConfigError: The files cannot be used.
    """

    def __init__(
        self,
        files: TlsFiles,
        policy: PolicyInForce,
        policy_file: Path,
        auditor: Auditor,
        metrics: Metrics,
        *,
        has_guests: bool,
        token_stream_s: int,
        revoked_tokens: RevokedTokens,
    ) -> None:
        self.presence = Presence()
        self._files = files
        self._policy = policy
        self._policy_file = policy_file
        self._policy_watch = FileWatch([policy_file])
        self._auditor = auditor
        self._metrics = metrics
        self._token_stream_s = token_stream_s
        self._revoked_tokens = revoked_tokens
        self._is_asked = False
        try:
            self._live = LiveCredentials(files, utc_now())
            guests = guest_context(files.cert, files.key) if has_guests else None
        except TlsConfigError as exc:
            raise ConfigError(str(exc)) from exc
        self.context = SwappableContext(self._live.current.context)
        self.guest_context = SwappableContext(guests) if guests is not None else None
        self._tell_loaded()

    @property
    def crl_expires(self) -> datetime:
        """When the revocation list in use ends, UTC-aware."""
        return self._live.current.revoked.expires

    def ask_reload(self) -> None:
        """Have the files read again by the next ``tick``, changed or not."""
        self._is_asked = True

    async def tick(self) -> None:
        """About once a second: take over changed files, cut who is no longer welcome."""
        is_asked, self._is_asked = self._is_asked, False
        if self._live.has_changed() or is_asked:
            await self._reload_tls()
        if self._policy_watch.has_changed() or (is_asked and self._policy_file.exists()):
            await self._reload_policy()
        for present, objection in self.presence.review(self._objection):
            told = fields(fp=present.identity.short, reason=objection.reason)
            _log.warning("connection_cut", extra=told)
            self._auditor.record(connection_cut(present, objection.reason))

    async def _reload_policy(self) -> None:
        # Also when it fails: the same broken file is not tried again each second.
        self._policy_watch.take()
        try:
            policy = await asyncio.to_thread(load_policy, self._policy_file)
        except ConfigError as exc:
            _log.error("policy_reload_failed", extra=fields(error=str(exc)))
            self._metrics.reload_failures.labels(what="policy").inc()
            self._auditor.record(AuditEvent(AuditAction.POLICY_LOAD, Outcome.FAILURE, reason="kept_the_old"))
            return
        self._policy.current = policy
        n_rules = len(policy.rules)
        _log.info("policy_reloaded", extra=fields(rules=n_rules))
        self._auditor.record(AuditEvent(AuditAction.POLICY_LOAD, Outcome.SUCCESS, detail={"rules": n_rules}))

    async def _reload_tls(self) -> None:
        try:
            credentials = await asyncio.to_thread(self._live.reload, utc_now())
            guests = guest_context(self._files.cert, self._files.key)
        except TlsConfigError as exc:
            _log.error("tls_reload_failed", extra=fields(error=str(exc)))
            self._metrics.reload_failures.labels(what="tls").inc()
            self._auditor.record(AuditEvent(AuditAction.TLS_LOAD, Outcome.FAILURE, reason="kept_the_old"))
            return
        self.context.swap(credentials.context)
        if self.guest_context is not None:
            self.guest_context.swap(guests)
        _log.info("tls_reloaded", extra=fields(revoked=len(credentials.revoked)))
        self._tell_loaded()

    def _tell_loaded(self) -> None:
        current = self._live.current
        self._metrics.crl_next_update.set(current.revoked.expires.timestamp())
        self._metrics.server_not_after.set(current.server_expires.timestamp())
        detail: dict[str, str | int] = {
            "revoked": len(current.revoked),
            "crl_expires": current.revoked.expires.isoformat(timespec="seconds"),
            "server_expires": current.server_expires.isoformat(timespec="seconds"),
        }
        self._auditor.record(AuditEvent(AuditAction.TLS_LOAD, Outcome.SUCCESS, detail=detail))

    def token_refusal(self, token: WriterToken, address: str) -> Objection | None:
        """Why nobody may begin to send audio by a token that is one of ours and in its time.

        Args:
            token: As shown.
            address: From where.
        """
        if self.crl_expires <= utc_now():
            # As TLS does with certificates: nobody could tell whether the maker's was revoked since.
            return Objection("crl_expired", NotAllowed("the server's revocation list has expired"))
        return self._token_objection(token, address)

    def _token_objection(self, token: WriterToken, address: str) -> Objection | None:
        if token.id in self._revoked_tokens.ids:
            return Objection("taken_back", NotAllowed("this token was taken back; ask for another one"))
        if not contains((token.network,), address):
            return Objection("address_not_allowed", NotAllowed("this token is for another network"))
        minter = token.minter
        if self._live.current.revoked.names(minter):
            return Objection("revoked", NotAllowed("the certificate that made this token was revoked"))
        if minter.not_after <= utc_now():
            return Objection(
                "expired_certificate", NotAllowed("the certificate that made this token has ended")
            )
        denial = self._policy.current.token_denial(minter.path, room=token.room, network=token.network)
        if denial is not None:
            return Objection(
                "policy", NotAllowed(f"its maker may no longer do what this token is for: {denial.value}")
            )
        if token.issued_s + self._token_stream_s <= utc_now().timestamp():
            over = TokenExpired("the time of this token's stream is over; go on with another token")
            return Objection("over", over)
        return None

    def _objection(self, present: Present) -> Objection | None:
        if present.token is not None:
            return self._token_objection(present.token, present.address)
        identity = present.identity
        if self._live.current.revoked.names(identity):
            return Objection("revoked", NotAllowed("this certificate was revoked"))
        if identity.not_after <= utc_now():
            return Objection("expired", NotAllowed("this certificate has ended; get a new one"))
        denial = self._policy.current.denial(
            identity.path,
            present.right,
            publish=present.publish,
            read=present.read,
            address=present.address,
        )
        if denial is not None:
            return Objection("policy", NotAllowed(f"the server's policy has changed: {denial.value}"))
        return None
