"""Counters and histograms, one registry for the server. No identity in any label."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

HOPS = ("pause", "vad", "queue", "batch", "decode", "send")
"""The stages between a sound and its caption; ``core.hops.Budget`` tells what each is."""
_HOP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_LATENCY_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions = Gauge("stt_sessions_active", "Sessions now open", registry=self.registry)
        self.sessions_ended = Counter(
            "stt_sessions_ended", "Sessions that ended, by close code", ["code"], registry=self.registry
        )
        self.rooms = Gauge("stt_rooms_active", "Rooms now open", registry=self.registry)
        self.room_readers = Gauge("stt_room_readers_active", "Readers now in rooms", registry=self.registry)
        self.room_readers_ended = Counter(
            "stt_room_readers_ended", "Readers that ended, by close code", ["code"], registry=self.registry
        )
        self.sessions_detached = Gauge(
            "stt_sessions_detached",
            "Sessions waiting for a client whose connection broke",
            registry=self.registry,
        )
        self.connections_lost = Counter(
            "stt_connections_lost",
            "Connections that broke and left a session waiting",
            registry=self.registry,
        )
        self.sessions_resumed = Counter(
            "stt_sessions_resumed", "Sessions that went on over another connection", registry=self.registry
        )
        self.sessions_expired = Counter(
            "stt_sessions_expired", "Sessions whose client did not come back in time", registry=self.registry
        )
        self.refused = Counter(
            "stt_refused", "Requests refused before a session, by reason", ["reason"], registry=self.registry
        )
        self.handshakes_failed = Counter(
            "stt_handshakes_failed",
            "TLS handshakes that failed, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.audio_s = Counter("stt_audio_seconds", "Audio received", registry=self.registry)
        self.final_wait_s = self._histogram(
            "stt_final_decode_seconds", "From the end of a segment known to its text"
        )
        self.partial_wait_s = self._histogram("stt_partial_decode_seconds", "The same for a partial")
        self.look_wait_s = self._histogram(
            "stt_look_decode_seconds", "The same for a second look at an utterance"
        )
        self.wait_s = {"final": self.final_wait_s, "partial": self.partial_wait_s, "look": self.look_wait_s}
        self.looks_given_up = self._gauge(
            "stt_looks_given_up", "Second looks that were wanted and not waited for: the engine was busy"
        )
        self.engine_busy_s = Counter(
            "stt_engine_busy_seconds",
            "Time the engine has decoded, by what",
            ["kind"],
            registry=self.registry,
        )
        self._hop_s = Histogram(
            "stt_hop_seconds",
            "Time of partials and finals at each hop, from the last sample received to the text written",
            ["kind", "hop"],
            registry=self.registry,
            buckets=_HOP_S,
        )
        self._hops = {
            kind: {hop: self._hop_s.labels(kind=kind, hop=hop) for hop in HOPS}
            for kind in ("partial", "final")
        }
        self.queue_wait_s = self._histogram("stt_queue_wait_seconds", "Jobs waiting for the engine")
        self.guard_retried = Counter(
            "stt_guard_retried",
            "Attempts at a final decoded again, by rule broken",
            ["rule"],
            registry=self.registry,
        )
        self.guard_dropped = Counter(
            "stt_guard_dropped",
            "Texts held to be invented and taken away, by rule and kind",
            ["rule", "kind"],
            registry=self.registry,
        )
        self.events_dropped = Counter(
            "stt_events_dropped",
            "Partials, lags and acks replaced before they were written",
            registry=self.registry,
        )
        self.partials_superseded = Gauge(
            "stt_partials_superseded", "Partials replaced before they were decoded", registry=self.registry
        )
        self.orphans = Gauge(
            "stt_orphan_results", "Scores and results for sessions already gone", registry=self.registry
        )
        self.engine_restarts = Counter(
            "stt_engine_restarts",
            "Engine processes that died and were replaced, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.engine_undecodable = Counter(
            "stt_engine_undecodable",
            "Segments that killed the engine and got an empty final",
            registry=self.registry,
        )
        self.engine_ready = self._gauge("stt_engine_ready", "1 while the engine takes jobs")
        self.engine_batch_max = Gauge(
            "stt_engine_batch_max",
            "Windows decoded at once; below engine.batch while memory is short",
            ["tier"],
            registry=self.registry,
        )
        self.engine_model_bytes = Gauge(
            "stt_engine_model_bytes",
            "Memory that the weights of each tier's model take",
            ["tier"],
            registry=self.registry,
        )
        self.engine_out_of_memory = self._gauge(
            "stt_engine_out_of_memory", "Times that the engine ran out of memory"
        )
        self.retired_sessions = self._gauge(
            "stt_retired_sessions", "Sessions that still use models which others have replaced"
        )
        self.stepped_down = self._gauge(
            "stt_stepped_down", "1 while the fallback reads live speech in place of the live model"
        )
        self.steps = Counter(
            "stt_steps",
            "Times that live speech went to another model: to the fallback, by reason, or back (recovered)",
            ["reason"],
            registry=self.registry,
        )
        self.engine_canary_s = Gauge(
            "stt_engine_canary_seconds",
            "How long the last check of each tier's model took",
            ["tier"],
            registry=self.registry,
        )
        self.engine_silent_s = self._gauge(
            "stt_engine_heartbeat_age_seconds", "Since the engine last answered"
        )
        self.crl_next_update = Gauge(
            "stt_crl_next_update_timestamp_seconds",
            "When the CRL expires and refuses all",
            registry=self.registry,
        )
        self.server_not_after = Gauge(
            "stt_server_certificate_not_after_timestamp_seconds",
            "When the server's certificate ends",
            registry=self.registry,
        )
        self.reload_failures = Counter(
            "stt_reload_failures",
            "Changed files that could not be used, so that the old ones stay",
            ["what"],
            registry=self.registry,
        )
        self.audit_waiting = Gauge(
            "stt_audit_waiting", "Audit entries not on the disk yet", registry=self.registry
        )
        self.audit_write_failures = Gauge(
            "stt_audit_write_failures", "Writes of the audit log that failed", registry=self.registry
        )
        self.audit_dropped = Gauge(
            "stt_audit_dropped", "Audit entries that found the queue full", registry=self.registry
        )
        self.audit_copy_failures = Counter(
            "stt_audit_copy_failures",
            "Checkpoints that could not be copied to the second place at once",
            registry=self.registry,
        )
        self.loop_lag_s = self._histogram("stt_event_loop_lag_seconds", "Lateness of the one-second tick")

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, registry=self.registry, buckets=_LATENCY_S)

    def observe_hops(self, kind: str, seconds: Mapping[str, float]) -> None:
        """Count one caption's time at each hop.

        Args:
            kind: ``partial`` or ``final``.
            seconds: By the names in ``HOPS``.
        """
        for hop, histogram in self._hops[kind].items():
            histogram.observe(seconds[hop])

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
