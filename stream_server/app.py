"""The composition root: builds every part, wires them, and owns start, drain and stop.

Order of start: TLS and sockets first, because their mistakes are quick to find; then both models at
once; then the doors open. Order of stop: doors, sessions (finals first), VAD, engine.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import assert_never

import uvloop

from certs.live import TlsFiles
from stream_server import __version__
from stream_server.access import Access, open_audit, tls_files
from stream_server.config import Config
from stream_server.core.admission import Admission
from stream_server.core.audit import AuditAction, AuditEvent, Outcome
from stream_server.core.hub import Hub
from stream_server.core.messages import SessionId, Tier
from stream_server.core.orders import GaveUp, Report, Restarting, Results, Undecodable
from stream_server.core.policy import PolicyInForce
from stream_server.core.quotas import AudioQuotas
from stream_server.core.rooms import Rooms
from stream_server.core.settings import Tiers
from stream_server.core.writer_tokens import RevokedTokens
from stream_server.core_settings import room_limits, session_settings, source_limits
from stream_server.decoding import Decoding
from stream_server.dialects.room_wire import encode_room
from stream_server.doors import GuestDoor, Inside, client_listener
from stream_server.engine import ledger
from stream_server.engine.fake import FakeVad
from stream_server.engine.faults import Faults
from stream_server.engine.threads import set_torch_threads
from stream_server.errors import AuditUnavailable, ConfigError, EngineFailed, ModelError, ShuttingDown
from stream_server.ops.garbage import freeze_what_is_loaded
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics
from stream_server.policy_file import policy_in_force, watched_path
from stream_server.records.report_desk import ReportDesk
from stream_server.state_folder import audit_folders
from stream_server.transport.inherited import Door, check_doors, take_inherited
from stream_server.transport.ledger import SessionLedger
from stream_server.transport.listener import bind
from stream_server.transport.ops_listener import HOST as OPS_HOST
from stream_server.transport.ops_listener import serve_ops
from stream_server.transport.pages import StaticPages
from stream_server.vad_stage import FrameScorer, Scores, VadStage
from vad.model import NetworkFileError, SileroVad

_log = logging.getLogger(__name__)

TICK_S = 1.0
CUT_S = 1.0
"""How long a session that did not end by itself gets to read why it is cut off."""
EXIT_ENGINE_FAILED = 70
"""EX_SOFTWARE of sysexits.h: the engine was given up; what supervises the server should start it again."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What to tell the operator once the doors are open."""

    addresses: list[tuple[str, int]]
    models: Mapping[Tier, tuple[str, Path | None]]
    """Name and folder of each tier's model; the fake engine has no folder."""
    tls: TlsFiles
    crl_expires: datetime
    guest_addresses: list[tuple[str, int]] = field(default_factory=list)
    """Of the guest listener; empty when it is off."""


def run(
    config: Config, state: Path, on_ready: Callable[[Ready], None], reread: Callable[[], Config] | None = None
) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        config: Everything that can be set.
        state: Folder with ``certs``.
        on_ready: Called once connections are accepted.
        reread: See ``App``.

    Returns:
        Exit code: 0 after a signal, 70 after the engine was given up.

    Raises:
        ConfigError: TLS files or the address cannot be used.
        ModelError: A model cannot be loaded.
    """

    def settle(ready: Ready) -> None:
        freeze_what_is_loaded()
        on_ready(ready)

    return uvloop.run(App(config, state, reread=reread).run(settle))


class App:
    """One server.

    Args:
        config: Everything that can be set.
        state: Folder with ``certs``.
        reread: Reads the configuration again, for models to be replaced while the server runs; None: it does
            not change, and only what lies in the models' folders can.
        faults: What goes wrong in the engine's first, second … process, for tests.
    """

    def __init__(
        self,
        config: Config,
        state: Path,
        *,
        reread: Callable[[], Config] | None = None,
        faults: tuple[Faults, ...] = (),
    ) -> None:
        self._config = config
        self._reread = reread or (lambda: config)
        self._state = state
        self._files = tls_files(config.tls, state / "certs")
        self._metrics = Metrics()
        self._faults = faults
        self._stop = asyncio.Event()
        self._exit_code = 0
        self._is_open = False
        self._policy = PolicyInForce(policy_in_force(config, state))
        self._quotas = AudioQuotas(self._policy, time.time)
        self._revoked_tokens = RevokedTokens()
        self._guest_door: GuestDoor | None = None

    def stop(self) -> None:
        """Ask the server to drain and end. Loop's thread."""
        self._stop.set()

    def reload(self) -> None:
        """Read certificates, policy and models again, as SIGHUP asks. Loop's thread."""
        self._access.ask_reload()
        self._decoding.ask_reload()

    def is_ready(self) -> bool:
        """Whether streams are taken: doors open, engine alive, not stopping."""
        return self._is_open and not self._stop.is_set() and self._decoding.status.is_ready

    async def run(self, on_ready: Callable[[Ready], None]) -> int:
        """See ``run``; on a loop of the caller's."""
        self._loop = asyncio.get_running_loop()
        pages = StaticPages()
        self._audit = open_audit(self._config, self._state, self._metrics)
        self._reports = ReportDesk(*audit_folders(self._config, self._state))
        try:
            return await self._run_audited(on_ready, pages)
        finally:
            await self._reports.close()
            await asyncio.to_thread(self._audit.close)

    async def _run_audited(self, on_ready: Callable[[Ready], None], pages: StaticPages) -> int:
        has_guests = self._config.guest.enabled
        self._access = Access(
            self._files,
            self._policy,
            watched_path(self._config, self._state),
            self._audit,
            self._metrics,
            has_guests=has_guests,
            token_stream_s=self._config.guest.stream_s,
            revoked_tokens=self._revoked_tokens,
        )
        inherited = take_inherited()
        check_doors(inherited, {Door.GUEST: has_guests, Door.OPS: self._config.server.ops_port > 0})
        sockets = inherited.get(Door.SERVER) or bind(self._config.server.host, self._config.server.port)
        self._ops_sockets = inherited.get(Door.OPS, [])
        try:
            self._guest_door = self._open_guest_door(inherited.get(Door.GUEST))
            tiers = await self._start_models()
        except BaseException:
            for sock in [*sockets, *self._ops_sockets]:
                sock.close()
            if self._guest_door is not None:
                self._guest_door.close()
            raise
        inside = self._make_inside(tiers)
        tokens = None if self._guest_door is None else self._guest_door.tokens
        self._listener = client_listener(
            self._config, sockets, self._access.context, inside, tokens, pages, self._reports
        )
        self._listeners = [self._listener]
        if self._guest_door is not None:
            guests = self._guest_door.listener(inside, self._access.token_refusal, pages.for_guests())
            self._listeners.append(guests)
        try:
            await self._serve(tiers, on_ready)
        finally:
            await self._stop_all()
        return self._exit_code

    # ------------------------------------------------------------ start

    def _open_guest_door(self, sockets: list[socket.socket] | None) -> GuestDoor | None:
        context = self._access.guest_context
        if context is None:
            return None
        return GuestDoor(
            self._config,
            self._state,
            context,
            self._metrics,
            self._audit,
            self._revoked_tokens,
            sockets,
        )

    async def _start_models(self) -> Tiers:
        """Load VAD and Whisper at once; neither is left running if the other fails."""
        self._decoding = Decoding(
            self._config,
            self._state,
            self._reread,
            self._take_report,
            self._metrics,
            self._audit,
            self._faults,
        )
        loading = asyncio.create_task(asyncio.to_thread(self._load_vad))
        try:
            tiers = await self._decoding.start()
        except BaseException:
            await asyncio.gather(loading, return_exceptions=True)
            raise
        try:
            scorer = await loading
        except NetworkFileError as exc:
            await self._decoding.stop()
            raise ModelError(str(exc)) from exc
        self._vad = VadStage(scorer, self._post_scores, self._post_vad_failure)
        self._vad.start()
        return tiers

    def _load_vad(self) -> FrameScorer:
        if self._config.engine.fake:
            return FakeVad()
        set_torch_threads(1)
        network = SileroVad()
        network.warm_up()
        return network

    def _make_inside(self, tiers: Tiers) -> Inside:
        """Sessions and rooms, and what those at the doors ask before anybody comes to them."""
        limits = self._config.limits
        self._rooms = Rooms(
            room_limits(self._config), encode_room, new_life=lambda: secrets.token_hex(8), unix_s=time.time
        )
        sources = Admission(source_limits(self._config))
        self._hub = Hub(
            session_settings(self._config, tiers),
            self._vad,
            self._decoding,
            report_bug=self._report_bug,
            rooms=self._rooms,
            quotas=self._quotas,
            watcher=SessionLedger(sources, self._metrics, self._audit),
            outbox_max=limits.unread_events,
            outbox_wait_s=limits.unread_s,
            replay_max=limits.replay_events,
            detached_max=limits.detached,
        )
        return Inside(
            self._hub,
            self._rooms,
            sources,
            self._policy,
            self._quotas,
            self._access.presence,
            self,
            self._metrics,
            self._audit,
        )

    # ------------------------------------------------------------ run

    async def _serve(self, tiers: Tiers, on_ready: Callable[[Ready], None]) -> None:
        # Signals reach the main thread's loop only; a test runs its server on another thread.
        with contextlib.suppress(ValueError, RuntimeError):
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self.stop)
            self._loop.add_signal_handler(signal.SIGHUP, self.reload)
        async with contextlib.AsyncExitStack() as stack:
            ops_port = self._config.server.ops_port
            if ops_port:
                for sock in self._ops_sockets or bind(OPS_HOST, ops_port, port_key="ops_port"):
                    ops = serve_ops(sock, self, self._metrics, self._refresh_metrics)
                    await stack.enter_async_context(await ops)
            await self._tell_started()
            for listener in self._listeners:
                listener.start()
            self._is_open = True
            addresses = self._listener.addresses
            guests = [address for listener in self._listeners[1:] for address in listener.addresses]
            names = {tier: facts.name for tier, facts in tiers.facts.items()}
            _log.info("serving", extra=fields(addresses=addresses, guests=guests, models=names))
            choice = self._decoding.current.choice
            models = {tier: (name, choice[tier].folder) for tier, name in names.items()}
            on_ready(Ready(addresses, models, self._files, self._access.crl_expires, guests))
            await self._tick_until_stopped()

    async def _tick_until_stopped(self) -> None:
        while not self._stop.is_set():
            due_s = time.monotonic() + TICK_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), TICK_S)
            now_s = time.monotonic()
            if not self._stop.is_set():
                self._metrics.loop_lag_s.observe(max(0.0, now_s - due_s))
            self._hub.tick(now_s)
            self._rooms.tick(now_s)
            await self._decoding.tick(self._hub, now_s)
            await self._access.tick()
            if self._guest_door is not None:
                self._guest_door.tick()

    async def _tell_started(self) -> None:
        """Write down what runs here; without an audit log nobody is served."""
        started = AuditEvent(AuditAction.SERVER_START, Outcome.SUCCESS, detail={"version": __version__})
        n_rules = len(self._policy.current.rules)
        ruled = AuditEvent(AuditAction.POLICY_LOAD, Outcome.SUCCESS, detail={"rules": n_rules})
        try:
            for event in (started, *self._decoding.loaded_events(), ruled):
                await self._audit.secure(event)
        except AuditUnavailable as exc:
            raise ConfigError(f"the audit log cannot be written: {exc}") from exc

    def _report_bug(self, session: SessionId) -> None:
        _log.exception("session_bug", extra=fields(session=session))

    def _refresh_metrics(self) -> None:
        self._decoding.refresh_metrics()
        self._metrics.orphans.set(self._hub.n_orphans)
        self._metrics.looks_given_up.set(self._hub.n_looks_given_up)
        self._metrics.rooms.set(len(self._rooms))
        self._metrics.audit_waiting.set(self._audit.n_waiting)
        self._metrics.audit_write_failures.set(self._audit.n_failures)
        self._metrics.audit_dropped.set(self._audit.n_dropped)

    # ------------------------------------------------------------ what the stages report

    def _post_scores(self, scores: Scores) -> None:
        """VAD thread: hand scores to the loop."""
        self._loop.call_soon_threadsafe(self._take_scores, scores)

    def _take_scores(self, scores: Scores) -> None:
        now_s = time.monotonic()
        for session, probabilities in scores:
            self._hub.receive_scores(session, probabilities, now_s)

    def _take_report(self, report: Report) -> None:
        ledger.tell(report, self._metrics)
        now_s = time.monotonic()
        match report:
            case Results(results):
                for result in results:
                    self._hub.receive_result(result, now_s)
            case Undecodable(job):
                self._hub.receive_undecodable(job, now_s)
            case Restarting():
                pass  # Its jobs are decoded again; no session knows.
            case GaveUp():
                self._fail("engine")
            case _:
                assert_never(report)

    def _post_vad_failure(self) -> None:
        """VAD thread: it is dead."""
        self._loop.call_soon_threadsafe(self._fail, "vad")

    def _fail(self, stage: str) -> None:
        """A stage is gone for good: end all sessions and the server with a code that says so."""
        self._exit_code = EXIT_ENGINE_FAILED
        self._stop.set()
        error = EngineFailed(f"the server's {stage} stopped working; connect again")
        self._hub.fail_all(error, time.monotonic())

    # ------------------------------------------------------------ stop

    async def _stop_all(self) -> None:
        _log.info("stopping", extra=fields(sessions=len(self._hub)))
        self._is_open = False
        await asyncio.gather(*(listener.close() for listener in self._listeners))
        self._rooms.drain(ShuttingDown("the server is stopping; connect again"))
        self._hub.drain(time.monotonic())
        await self._wait_connections(self._config.server.drain_s)
        # Whose finals did not come in time is told so; whoever does not even read that is cut off.
        self._hub.fail_all(ShuttingDown("the server is stopping; connect again"), time.monotonic())
        await self._wait_connections(CUT_S)
        await asyncio.gather(*(listener.cut_connections() for listener in self._listeners))
        await asyncio.to_thread(self._vad.stop)
        await self._decoding.stop()
        detail: dict[str, str | int] = {"exit_code": self._exit_code}
        self._audit.record(AuditEvent(AuditAction.SERVER_STOP, Outcome.SUCCESS, detail=detail))
        _log.info("stopped", extra=fields(exit_code=self._exit_code))

    async def _wait_connections(self, timeout_s: float) -> None:
        await asyncio.gather(*(listener.wait_connections(timeout_s) for listener in self._listeners))
