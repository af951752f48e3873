"""Everything that can be configured: frozen structs, one for each section, which check what they are given.

Every key has a default. How a file and the command line's flags become these is ``config_file``'s business.
"""

import dataclasses
import re

import msgspec

from stream_server.config_checks import (
    check_choice,
    check_counts,
    check_networks,
    check_origins,
    check_place,
    check_proxies,
    check_range,
)
from vad.config import PRESETS, SegmenterConfig

STREAM_S_MAX = 86_400
"""The longest that streams by writer tokens may go on after their tokens were made."""


class ServerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server listens."""

    host: str = "127.0.0.1"
    """Address to bind; ``0.0.0.0`` and ``::`` are every interface."""
    port: int = 8443
    """0 takes a free one."""
    ops_port: int = 0
    """Loopback port of ``/healthz``, ``/readyz`` and ``/metrics`` without TLS; 0 is off."""
    drain_s: float = 5.0
    """How long sessions get to deliver their last finals after SIGTERM."""
    networks: tuple[str, ...] = ()
    """Who may connect at all, in CIDR notation; others are cut off before TLS. Empty is everybody."""
    proxy_from: tuple[str, ...] = ()
    """Networks of proxies that tell each client's address by the PROXY protocol, version 2; that address
    counts from there on. Connections of theirs without it are refused."""
    origins: tuple[str, ...] = ()
    """Other origins, such as ``https://intranet.example``, whose pages may open sockets here."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("port", self.port, 0, 65_535)
        check_range("ops_port", self.ops_port, 0, 65_535)
        check_range("drain_s", self.drain_s, 0, 3_600)
        check_networks("networks", self.networks)
        check_proxies(self.proxy_from)
        check_origins(self.origins)


class TlsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose certificates; each path defaults to the file of that purpose in the state's ``certs``."""

    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    crl: str | None = None
    trust_domain: str = "stream-server.local"
    """Of the names in client certificates."""
    handshake_s: float = 5.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("handshake_s", self.handshake_s, 0.1, 60)


class LimitsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is let in and held. Every limit is on by default."""

    sessions: int = 200
    sessions_per_identity: int = 4
    connects_per_minute: int = 10
    """By one identity."""
    handshakes: int = 64
    """Connections at once that have not sent their request; for one more, the oldest is cut off."""
    handshakes_per_address: int = 16
    """The same for one address, so that none can keep all others out."""
    handshakes_per_second: int = 200
    """Begun at most, after a burst of ``handshakes``; each takes about a millisecond of the streams' core."""
    idle_s: float = 30.0
    ahead_s: float = 10.0
    """Audio ahead of decoding before the socket is left unread."""
    unread_events: int = 256
    unread_s: float = 10.0
    """Finals waiting longer than this mean the client does not read."""
    waiting_finals: int = 4096
    """Finals of all sessions before the engine; further ones wait in their sessions, which are not read."""
    resume_s: float = 45.0
    """How long a session whose connection broke waits for its client; 0 ends it at once. The default is a
    cut of 30 s, and what a client needs to notice its end and to connect."""
    resumes_per_minute: int = 60
    """Connections by one identity that go on with a session."""
    detached: int = 200
    """Sessions that wait so at once; the one that has waited longest makes room."""
    replay_events: int = 512
    """Events of each session that are kept for its client to come back."""
    beam_size: int = 5
    """Most beams that a client may ask for in the search for its finals, and never more than
    ``engine.batch``: each takes a row of a batch. 1 forbids beam search."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_counts(
            self,
            "sessions sessions_per_identity connects_per_minute handshakes handshakes_per_address"
            " handshakes_per_second unread_events waiting_finals resumes_per_minute detached",
        )
        check_range("resume_s", self.resume_s, 0, 3_600)
        # What a slow reader may leave unread must still be there when it comes back.
        check_range("replay_events", self.replay_events, self.unread_events, 1_000_000)
        check_range("beam_size", self.beam_size, 1, 16)
        check_range("idle_s", self.idle_s, 1, 86_400)
        # A closed segment of 5 s and an open one must fit, or a stream would stop for good.
        check_range("ahead_s", self.ahead_s, 10, 600)
        check_range("unread_s", self.unread_s, 0.1, 600)


class RoomsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rooms, in which readers follow what sources say.

    How long a reader may leave finals unread is ``limits.unread_s``.
    """

    rooms: int = 100
    sources_per_room: int = 16
    readers_per_room: int = 500
    readers: int = 1_000
    """Of all rooms, guests not counted."""
    readers_per_identity: int = 16
    connects_per_minute: int = 30
    """Readers that one identity may connect."""
    history_events: int = 1_000
    """Finals, and sources that came and went, kept in each room for readers who come late or come back."""
    history_bytes: int = 1_048_576
    history_s: float = 3_600.0
    grace_s: float = 300.0
    """How long what was said is kept after a room's last source has left."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_counts(
            self, "rooms sources_per_room readers_per_room readers readers_per_identity connects_per_minute"
        )
        check_range("history_events", self.history_events, 16, 1_000_000)
        # The largest event, a final of a few kilobytes, must fit with some others.
        check_range("history_bytes", self.history_bytes, 65_536, 1_073_741_824)
        check_range("history_s", self.history_s, 60, 86_400)
        check_range("grace_s", self.grace_s, 0, 86_400)


class GuestSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A second listener for those without a certificate: readers with a link, senders with a token.

    Off unless enabled.
    """

    enabled: bool = False
    host: str = "127.0.0.1"
    """Address to bind; may be another than ``server.host``, such as that of a visitors' network."""
    port: int = 8444
    """0 takes a free one."""
    url: str | None = None
    """How visitors reach it, such as ``https://captions.example:8444``; for `stream-server link`."""
    readers: int = 300
    """Guests of all rooms."""
    readers_per_address: int = 100
    """A network behind one address may have many."""
    connects_per_minute: int = 300
    """Tokens and sockets that one address may ask for."""
    writers: int = 100
    """Streams open at once that tokens have opened; they count in ``limits.sessions`` as well."""
    writers_per_address: int = 32
    tokens_per_minute: int = 60
    """Tokens that one certificate may have made."""
    stream_s: int = 14_400
    """How long after its token was made a stream ends; the client goes on with another token."""
    handshakes: int = 64
    """TLS handshakes under way at once."""
    handshakes_per_address: int = 16
    handshakes_per_second: int = 200
    networks: tuple[str, ...] = ()
    """As ``server.networks``, for this listener."""
    proxy_from: tuple[str, ...] = ()
    """As ``server.proxy_from``, for this listener."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("port", self.port, 0, 65_535)
        check_counts(
            self,
            "readers readers_per_address writers writers_per_address connects_per_minute tokens_per_minute"
            " handshakes handshakes_per_address handshakes_per_second",
        )
        check_range("stream_s", self.stream_s, 60, STREAM_S_MAX)
        check_networks("networks", self.networks)
        check_proxies(self.proxy_from)
        if self.url is not None and not self.url.startswith("https://"):
            raise ValueError("url must begin with https://")


class TiersSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which models are loaded at once, and what for; each a folder, or a name in the state's ``models``."""

    live: str | None = None
    """For live speech; the default is the embedded demo model."""
    fallback: str | None = None
    """A lighter one, which reads live speech while there is too much to do; without it nothing stands in."""
    files: str | None = None
    """For clients that ask for ``files`` in ``start``; without it they get the live one."""


class EngineSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decodes."""

    model: str | None = None
    """The same as ``tiers.live``, for a server with one model."""
    tiers: TiersSection = TiersSection()
    allow_downgrade: bool = False
    """When models are replaced while the server runs: also by an older version of the same."""
    retire_s: float = 3_600.0
    """How long sessions may stay with models that were replaced; then they end, their finals first."""
    overload_wait_s: float = 1.0
    """With ``tiers.fallback``: when the oldest live final has waited longer than this for its text …"""
    overload_s: float = 5.0
    """… for so long without a pause, the fallback reads the utterances that begin,"""
    recovery_s: float = 30.0
    """until the wait has been less than half of it for so long."""
    fake: bool = False
    """The deterministic engine for tests and gateway benchmarks; it transcribes nothing real."""
    device: str = "auto"
    threads: int = 0
    """Torch threads of the engine; 0 is all cores but one."""
    batch: int = 8
    """Most windows decoded at once."""
    context: bool = False
    """Finals are read on from the text of those before, by models trained for it, unless a client says no.
    Off: ``demo-en`` reads worse with it, see ``benchmarks/results/2026-11-21-seams.md``."""
    early_finals: bool = True
    """A segment is read as a final when its pause begins, so that the text is there when the pause is long
    enough to be sure of; if speech goes on, that was a partial."""
    sure_word: float = 0.3
    """Partials show a word when two hypotheses agree on it and the model gives it this probability, else when
    four do; 0: always when two do. Higher is calmer and later, see ``python -m benchmarks.flicker``."""
    partial_ms: int = 512
    """New audio after which a partial is decoded again. With half of it words come 0.1 s sooner if as few are
    to be taken back (``sure_word``), for twice the work."""
    load_s: float = 300.0
    """Within which the engine's process must have loaded and warmed up; else it is killed."""
    hang_s: float = 30.0
    """A batch may take this long, and ten times as long as the last check for each of its windows; else the
    process is killed and another one decodes the batch."""
    heartbeat_s: float = 10.0
    """Without work, the engine is checked by a known window this often."""
    restarts: int = 5
    """Deaths of the engine's process within ``restarts_within_s``; one more ends the server with exit code
    70."""
    restarts_within_s: float = 300.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_choice("device", self.device, ("auto", "cpu", "cuda"))
        if self.model is not None and self.tiers.live is not None:
            raise ValueError("model is the short form of tiers.live; give one of them")
        check_range("threads", self.threads, 0, 1_024)
        check_range("batch", self.batch, 1, 512)
        check_range("partial_ms", self.partial_ms, 128, 5_000)
        check_range("sure_word", self.sure_word, 0, 1)
        check_range("load_s", self.load_s, 1, 86_400)
        check_range("hang_s", self.hang_s, 0.1, 86_400)
        check_range("heartbeat_s", self.heartbeat_s, 0.1, 86_400)
        check_range("retire_s", self.retire_s, 0, 604_800)
        check_range("overload_wait_s", self.overload_wait_s, 0.1, 600)
        check_range("overload_s", self.overload_s, 1, 3_600)
        check_range("recovery_s", self.recovery_s, 1, 86_400)
        check_range("restarts", self.restarts, 0, 1_000)
        check_range("restarts_within_s", self.restarts_within_s, 1, 86_400)


OVERLAP_MS = 1_000
"""A word of the overlap must be whole in both windows for them to agree on it; see ``benchmarks.seams``."""


class SegmentsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where speech is cut; the meaning of each key is told in ``vad.config.SegmenterConfig``.

    A client may choose another preset, pause and threshold in ``start``, not the length of segments.
    """

    preset: str = "captions"
    """``captions``, ``dictation``, ``telephone`` or ``conference-room``; the keys below win over it."""
    enter_threshold: float | None = None
    exit_threshold: float | None = None
    pause_ms: float | None = None
    pause_ms_min: float | None = None
    fade_ms: float | None = None
    pre_roll_ms: float | None = None
    post_roll_ms: float | None = None
    segment_s_min: float | None = None
    segment_s_max: float | None = None
    overlap_ms: float | None = None
    """Unless set, half of ``segment_s_min``, at most a second; 0 leaves what is read beside cuts as it is."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        self.segmenter()

    def segmenter(self) -> SegmenterConfig:
        """The same as the ``vad`` package takes it."""
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}")
        given = {key: value for key, value in msgspec.structs.asdict(self).items() if value is not None}
        del given["preset"]
        config = dataclasses.replace(PRESETS[self.preset], **given)
        if self.overlap_ms is None:
            overlap_ms = min(OVERLAP_MS, 500 * config.segment_s_min)
            return dataclasses.replace(config, overlap_ms=overlap_ms)
        return config


class AuditSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record of who did what; it cannot be switched off."""

    folder: str | None = None
    """Where it is kept; the default is ``audit`` in the state folder. One server writes one folder."""
    checkpoint_folder: str | None = None
    """A second place for the signed checkpoints, best on another machine's disk."""
    keep_days: int = 0
    """Days after which old files are deleted; 0 keeps all."""
    file_mib: int = 64
    """Size at which a new file is begun; one is begun each day as well."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("keep_days", self.keep_days, 0, 36_500)
        check_range("file_mib", self.file_mib, 1, 1_024)


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged, to standard error."""

    level: str = "info"
    format: str = "json"
    """``json``, one object a line, or ``text`` for a person."""

    def __post_init__(self) -> None:
        """Check the choices."""
        check_choice("level", self.level, ("debug", "info", "warning", "error"))
        check_choice("format", self.format, ("json", "text"))


class PolicySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may do what."""

    file: str | None = None
    """Rules in TOML; the default is ``policy.toml`` in the state folder, if it is there."""


class ModelsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who vouches for models, and what opens sealed ones."""

    key: str | None = None
    """Where the key lies that opens sealed models: ``credential:NAME`` of systemd, ``env:NAME``, a file that
    only its owner may read, ``vault:MOUNT/KEY`` of Vault's transit engine, or the ``pkcs11:`` URI of a key on
    a token. Never the key itself."""
    trusted_keys: tuple[str, ...] = ()
    """Files with public keys (PEM, Ed25519 or P-256); a model that another key signed is refused."""
    require_signature: bool = False
    """Refuse models that are not signed; the embedded one is a part of the program and needs none."""

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.require_signature and not self.trusted_keys:
            raise ValueError("require_signature needs trusted_keys, the files with the signers' public keys")
        check_place("key", self.key)


class VaultSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the key helper reaches Vault, for keys ``vault:MOUNT/KEY``; the server itself connects nowhere."""

    address: str | None = None
    """``https://HOST:PORT``; ``http://`` for this machine only; ``unix:///PATH`` of a Vault Agent or Proxy,
    the one way under ``PrivateNetwork=yes``."""
    token: str | None = None
    """Where the access token lies: ``credential:NAME``, ``env:NAME``, or a file that only its owner may read.
    An Agent or Proxy may have its own."""
    ca: str | None = None
    """File with the authority of Vault's certificate; the default is those that the machine trusts."""
    namespace: str | None = None
    timeout_s: float = 10.0
    """How long Vault may be silent, in all."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("timeout_s", self.timeout_s, 0.1, 120)
        if self.address is not None and not re.match(r"https?://[^/@]+/?$|unix:///", self.address):
            raise ValueError("address must be https://HOST:PORT, or unix:///PATH")
        check_place("token", self.token)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    offline: bool = False
    """Refuse all that connects out: ``stream-server models pull``, and keys in Vault. Stands before any
    section."""
    server: ServerSection = ServerSection()
    tls: TlsSection = TlsSection()
    limits: LimitsSection = LimitsSection()
    engine: EngineSection = EngineSection()
    segments: SegmentsSection = SegmentsSection()
    audit: AuditSection = AuditSection()
    log: LogSection = LogSection()
    rooms: RoomsSection = RoomsSection()
    guest: GuestSection = GuestSection()
    policy: PolicySection = PolicySection()
    models: ModelsSection = ModelsSection()
    vault: VaultSection = VaultSection()
