"""What is worth an entry in the audit log: who did what to what, from where, and how it ended.

Values only; ``stream_server.records`` writes them. An entry never holds speech, text or a hotword. It is
the one place where the names in certificates stand in full.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Outcome(StrEnum):
    """How an action ended."""

    SUCCESS = "success"
    DENIED = "denied"
    """A rule said no."""
    FAILURE = "failure"
    """It was tried and did not work."""


class AuditAction(StrEnum):
    """What was done, as ``object.verb``; a closed list, so that reports can count on it."""

    AUTHENTICATE = "client.authenticate"
    """A TLS handshake."""
    AUTHORIZE = "client.authorize"
    """A request, after TLS."""
    TOKEN_MINT = "token.mint"  # noqa: S105  a name, not a secret
    """A client made a token by which others send audio in its place."""
    TOKEN_REVOKE = "token.revoke"  # noqa: S105  a name, not a secret
    SESSION_START = "session.start"
    SESSION_END = "session.end"
    MODEL_LOAD = "model.load"
    MODEL_UNLOAD = "model.unload"
    MODEL_STEP = "model.step"
    """Live speech is read by the fallback from here on, or by the live model again."""
    TLS_LOAD = "tls.load"
    """Certificate, authority or revocation list were read, at start or again."""
    KEY_ROTATE = "key.rotate"
    """Another key signs from here on."""
    POLICY_LOAD = "policy.load"
    REPORT_READ = "report.read"
    """Somebody read what this log comes to."""
    COMMAND_BEGIN = "command.begin"
    """A command is about to do what its detail names; how it ended is told by an entry of that action."""
    AUTHORITY_MAKE = "authority.make"
    CERTIFICATE_ISSUE = "certificate.issue"
    CERTIFICATE_REVOKE = "certificate.revoke"
    CRL_ISSUE = "crl.issue"
    MODEL_INSTALL = "model.install"
    MODEL_REMOVE = "model.remove"
    MODEL_SIGN = "model.sign"
    MODEL_SEAL = "model.seal"
    MODEL_UNSEAL = "model.unseal"
    MODEL_REKEY = "model.rekey"
    LINK_MAKE = "link.make"
    LINK_REVOKE = "link.revoke"
    SERVER_START = "server.start"
    SERVER_STOP = "server.stop"
    LOG_ANCHOR = "audit.anchor"
    """Where the log of commands ended at this moment: its newest checkpoint."""
    LOG_RECOVER = "audit.recover"
    """A line cut off by a crash was set aside at start."""
    LOG_EXPIRE = "audit.expire"
    """Entries older than the configured age were deleted."""
    LOG_SUPPRESS = "audit.suppress"
    """Repetitions of an entry, counted in its place."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: by the certificate shown, or by the user of the machine who ran a command."""

    id: str
    """The certificate's URI; or ``user:NAME``, without what follows."""
    serial: str
    """Of the certificate, hexadecimal."""
    fingerprint: str
    """SHA-256 of the certificate, hexadecimal."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that happened."""

    action: AuditAction
    outcome: Outcome
    actor: Actor | None = None
    """None: the server itself, or somebody who showed no certificate that could be read."""
    source: str | None = None
    """The peer's address."""
    resource: str | None = None
    """What it was done to, e.g. ``path:/v1/stream``."""
    reason: str | None = None
    """A code, when the outcome is not success."""
    session: str | None = None
    detail: Mapping[str, str | int] = field(default_factory=dict)
    """Numbers and codes: totals of a session, names of files, hashes."""


class Auditor(Protocol):
    """The audit log, as the parts that report to it need it."""

    @property
    def is_available(self) -> bool:
        """Whether entries are being written; while not, nobody is admitted."""

    def record(self, event: AuditEvent) -> None:
        """Have an event written soon."""

    async def secure(self, event: AuditEvent) -> None:
        """Return when the event is on the disk.

        Raises:
            AuditUnavailable: It cannot be written; what it stands for must not happen.
        """
