"""Everything that can go wrong, by whose fault it is.

::

    StreamServerError
     ├── StreamError            ends one stream: has a code, a WebSocket close code, a public message
     │    ├── BadMessage           1007  not JSON, a value out of bounds, or bytes that are no whole samples
     │    ├── ProtocolViolation    1002  wrong order, unknown type or field
     │    ├── UnsupportedAudio     1003  encoding, rate or channels we do not read
     │    ├── NotSupported         1003  reserved in the protocol, not offered by this server
     │    ├── NotAllowed           1008  identity or policy
     │    ├── QuotaExceeded        1008  the identity has sent all the audio it may send in a day
     │    ├── LinkExpired          1008  a guest's link is over or was revoked
     │    ├── TokenExpired         1008  the time of a stream that a writer token opened is over
     │    ├── TooLarge             1009  one message over the limit
     │    ├── IdleTimeout          1008  nothing sent for the idle time
     │    ├── UnknownSession       1008  no session of yours has the name that resume gives
     │    ├── ResumeExpired        1008  the connection was away longer than a session waits
     │    ├── EventOutOfRange      1008  resume asks for events that are not kept, or never were
     │    ├── SlowReader           1013  events pile up unread
     │    ├── Overloaded           1013  no room for this session or its work
     │    ├── AuditUnavailable     1013  no entry can be written to the audit log
     │    ├── EngineFailed         1011  the decoder died too often
     │    ├── InternalError        1011  a bug of ours; details are in the log only
     │    └── ShuttingDown         1001  the server is going away
     ├── ConfigError            at start: names the file and the key
     ├── ModelError             at start: names the model's file and what to do
     ├── BundleError            the archive for offline installation cannot be made: names what is missing
     └── UnreadableJob          a bug of ours: a session asked for what its model cannot read

A ``StreamError``'s message goes to the client as it is: it never carries speech, text, file names
of the server, or another client's data. The private cause stays in ``__cause__``.
Close codes are those of RFC 6455 section 7.4.1 and the IANA registry (1013 "try again later").
"""

from typing import ClassVar


class StreamServerError(Exception):
    """Base of every error this package raises on purpose."""


class StreamError(StreamServerError):
    """Ends one stream; the message is shown to the client."""

    code: ClassVar[str]
    close_code: ClassVar[int]


class BadMessage(StreamError):
    """Raised when a message cannot be read as what it claims to be."""

    code = "bad_message"
    close_code = 1007


class ProtocolViolation(StreamError):
    """Raised when a readable message is not allowed here."""

    code = "protocol_violation"
    close_code = 1002


class UnsupportedAudio(StreamError):
    """Raised when the audio format asked for is not one we read."""

    code = "unsupported_audio"
    close_code = 1003


class NotSupported(StreamError):
    """Raised when the protocol reserves what was asked for and this server does not offer it."""

    code = "not_supported"
    close_code = 1003


class NotAllowed(StreamError):
    """Raised when the identity may not do what it asked for."""

    code = "not_allowed"
    close_code = 1008


class QuotaExceeded(StreamError):
    """Raised when the identity has sent all the audio that it may send in a day."""

    code = "quota_exceeded"
    close_code = 1008


class LinkExpired(StreamError):
    """Raised when the link that let a guest in is over or was revoked."""

    code = "link_expired"
    close_code = 1008


class TokenExpired(StreamError):
    """Raised when the time of a writer token is over, or that of the stream that it opened."""

    code = "token_expired"
    close_code = 1008


class TooLarge(StreamError):
    """Raised when one message is over the size limit."""

    code = "too_large"
    close_code = 1009


class IdleTimeout(StreamError):
    """Raised when neither audio nor ``keepalive`` came for the idle time."""

    code = "idle_timeout"
    close_code = 1008


class UnknownSession(StreamError):
    """Raised when ``resume`` names a session that is over, never was, or is somebody else's."""

    code = "unknown_session"
    close_code = 1008


class ResumeExpired(StreamError):
    """Raised when a session has waited for its client for as long as it may."""

    code = "resume_expired"
    close_code = 1008


class EventOutOfRange(StreamError):
    """Raised when ``resume`` names an event after which the session cannot go on."""

    code = "event_out_of_range"
    close_code = 1008


class SlowReader(StreamError):
    """Raised when a client leaves its events unread for too long."""

    code = "slow_reader"
    close_code = 1013


class Overloaded(StreamError):
    """Raised when there is no room for a session or for its work."""

    code = "overloaded"
    close_code = 1013


class AuditUnavailable(StreamError):
    """Raised when the audit log cannot take an entry without which nothing may happen."""

    code = "audit_unavailable"
    close_code = 1013


class EngineFailed(StreamError):
    """Raised when the decoder was given up; nothing can be transcribed until the server is started again."""

    code = "engine_failed"
    close_code = 1011


class InternalError(StreamError):
    """Raised at the top of a session's tasks in place of an exception nobody expected."""

    code = "internal_error"
    close_code = 1011


class ShuttingDown(StreamError):
    """Raised when the server is asked to stop while the session runs."""

    code = "shutting_down"
    close_code = 1001


class ConfigError(StreamServerError):
    """Raised at start when the configuration cannot be used; the message names file and key."""


class ModelError(StreamServerError):
    """Raised when a model cannot be loaded; the message names the file and what to do."""


class BundleError(StreamServerError):
    """Raised when an archive for offline installation cannot be made; the message names what is missing."""


class UnreadableJob(StreamServerError):
    """Raised when the engine could not read a job as it was made; ends its session, as any bug does."""
