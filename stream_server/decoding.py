"""What decodes while the server runs: the engine, the models that it has loaded, and how they are replaced.

Models that are loaded together are a *generation*, with an engine process of its own. A replacement is
another generation: it is loaded and checked beside the one in use, then sessions that begin get it; those of
the generation before finish on that, and when the last has ended its process ends. So neither a model that
cannot be loaded nor the loading of one disturbs a session, and memory is freed for certain.

``core`` decides when a lighter model stands in; here it is measured, done and told.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stream_server.config import Config
from stream_server.core.audit import AuditAction, AuditEvent, Auditor, Outcome
from stream_server.core.hub import Hub
from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import SessionId, Tier
from stream_server.core.orders import Death, GaveUp, Report, Restarting
from stream_server.core.scheduler import Scheduler
from stream_server.core.settings import Tiers
from stream_server.core.step_down import Overload, StepDown, StepReason
from stream_server.core.supervisor import Patience
from stream_server.engine.access import model_access
from stream_server.engine.choice import Choice, bucket_of, check_versions, choose_models
from stream_server.engine.faults import Faults
from stream_server.engine.process import Engine, EngineStatus
from stream_server.engine.spec import EngineSpec
from stream_server.errors import ConfigError, EngineFailed, ModelError, ShuttingDown
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics

_log = logging.getLogger(__name__)

_LIVE_TIERS = (Tier.LIVE, Tier.FALLBACK)


@dataclass(slots=True, eq=False)
class Generation:
    """Models that were loaded together, and the engine that has them."""

    choice: Choice
    scheduler: Scheduler
    engine: Engine
    tiers: Tiers
    n_bytes: Mapping[Tier, int]
    """Memory that the weights take."""
    retired_s: float = 0.0
    """Since when sessions that begin get another one; of one that is retired."""


class Decoding:
    """The engines in use; one, but for the time of a replacement. All methods on the loop's thread.

    Args:
        config: Everything that can be set.
        state: Folder with ``models``.
        reread: Reads the configuration again.
        on_report: As for ``Engine``; of the generation that sessions get that begin.
        metrics: Told how the engine is.
        auditor: Told which models are loaded, and which one reads live speech.
        faults: What goes wrong in the first engine's first, second … process, for tests.
    """

    def __init__(
        self,
        config: Config,
        state: Path,
        reread: Callable[[], Config],
        on_report: Callable[[Report], None],
        metrics: Metrics,
        auditor: Auditor,
        faults: tuple[Faults, ...] = (),
    ) -> None:
        self._config = config
        self._state = state
        self._reread = reread
        self._on_report = on_report
        self._metrics = metrics
        self._auditor = auditor
        self._faults = faults
        self._retired: Generation | None = None
        self._loading: asyncio.Task[Generation | None] | None = None
        self._is_asked = False
        self._number = 0
        """Of the generation that sessions get that begin."""
        self._n_replacements = 0
        """Begun, whether or not they succeeded: no number is given twice."""
        self._given_up: set[int] = set()
        """Generations whose engine was given up."""
        self._n_out_of_memory = 0
        self._has_died_of_memory = False
        self._step_down = self._new_policy()

    def _new_policy(self) -> StepDown:
        engine = self._config.engine
        return StepDown(Overload(engine.overload_wait_s, engine.overload_s, engine.recovery_s))

    # ------------------------------------------------------------ start and stop

    async def start(self) -> Tiers:
        """Load the configured models.

        Raises:
            ModelError: There is none of a name, or it cannot be loaded.
        """
        trust = model_access(self._config).trust
        choice = choose_models(self._config.engine, self._state, trust)
        self._current = await self._load(choice, number=0, faults=self._faults)
        self._publish_memory()
        return self._current.tiers

    async def _load(self, choice: Choice, *, number: int, faults: tuple[Faults, ...] = ()) -> Generation:
        section = self._config.engine
        spec = EngineSpec(
            {tier: model.folder for tier, model in choice.items()},
            section.device,
            section.threads,
            section.batch,
            model_access(self._config),
            is_beside=number > 0,
            faults=faults,
        )
        scheduler = Scheduler(section.batch, self._config.limits.waiting_finals, bucket_of(choice))
        patience = Patience(
            section.hang_s, section.load_s, section.heartbeat_s, section.restarts, section.restarts_within_s
        )
        engine = Engine(spec, scheduler, functools.partial(self._take_report, number), patience)
        loaded = await engine.start()
        tiers = Tiers({tier: model.facts for tier, model in loaded.items()}, number)
        n_bytes = {tier: model.n_bytes for tier, model in loaded.items()}
        return Generation(choice, scheduler, engine, tiers, n_bytes)

    async def stop(self) -> None:
        """Stop all engines; see ``Engine.stop``."""
        if self._loading is not None:
            self._loading.cancel()
            [loaded] = await asyncio.gather(self._loading, return_exceptions=True)
            if isinstance(loaded, Generation):  # Ready since the last tick.
                await loaded.engine.stop()
        await asyncio.gather(*(generation.engine.stop() for generation in self._generations))

    @property
    def _generations(self) -> list[Generation]:
        return [one for one in (self._current, self._retired) if one is not None]

    # ------------------------------------------------------------ what others ask

    @property
    def current(self) -> Generation:
        """What sessions get that begin."""
        return self._current

    @property
    def engine(self) -> Engine:
        """Its engine."""
        return self._current.engine

    @property
    def status(self) -> EngineStatus:
        """How that is."""
        return self._current.engine.status

    def submit(self, job: DecodeJob) -> None:
        """See ``Engine.submit``; the job goes to its generation."""
        generation = next(one for one in self._generations if one.tiers.generation == job.generation)
        generation.engine.submit(job)

    def abandon(self, job: DecodeJob) -> None:
        """See ``Engine.abandon``."""
        for generation in self._generations:
            generation.engine.abandon(job)

    def withdraw(self, session: SessionId) -> None:
        """See ``Engine.withdraw``."""
        for generation in self._generations:
            generation.engine.withdraw(session)

    def loaded_events(self) -> list[AuditEvent]:
        """What the audit log says of the models in use."""
        current = self._current
        return [
            AuditEvent(
                AuditAction.MODEL_LOAD,
                Outcome.SUCCESS,
                resource=f"model:{current.tiers.facts[tier].name}",
                detail={"tier": tier.value, "version": model.version, "manifest_sha256": model.sha256},
            )
            for tier, model in current.choice.items()
        ]

    # ------------------------------------------------------------ once a second

    async def tick(self, hub: Hub, now_s: float) -> None:
        """About once a second: step down or back, replace models, let go of replaced ones."""
        self._watch_load(now_s)
        if self._loading is not None and self._loading.done():
            loading, self._loading = self._loading, None
            if (generation := loading.result()) is not None:
                await self._replace(generation, hub, now_s)
        if self._retired is not None:
            await self._let_go(self._retired, hub, now_s)
        if self._is_asked and self._loading is None:
            self._is_asked = False
            self._loading = asyncio.create_task(self._prepare(hub))

    # ------------------------------------------------------------ stepping down

    def _watch_load(self, now_s: float) -> None:
        """See whether the live model carries what is asked of it."""
        if Tier.FALLBACK not in self._current.tiers.facts:
            return
        status = self._current.engine.status
        if status.n_out_of_memory > self._n_out_of_memory or self._has_died_of_memory:
            self._n_out_of_memory, self._has_died_of_memory = status.n_out_of_memory, False
            self._step(self._step_down.run_out_of_memory(now_s))
        if status.is_ready:
            wait_s = self._current.engine.longest_wait_s(_LIVE_TIERS)
            self._step(self._step_down.observe(wait_s, now_s))
        else:
            self._step_down.interrupt()

    def _step(self, reason: StepReason | None) -> None:
        if reason is None:
            return
        is_down = self._step_down.is_down
        self._current.tiers.is_stepped_down = is_down
        tier = Tier.FALLBACK if is_down else Tier.LIVE
        model = self._current.tiers.facts[tier].name
        _log.warning("live_speech_stepped", extra=fields(tier=tier.value, model=model, reason=reason.value))
        self._metrics.stepped_down.set(is_down)
        self._metrics.steps.labels(reason).inc()
        detail: dict[str, str | int] = {"tier": tier.value, "cause": reason.value}
        self._auditor.record(
            AuditEvent(AuditAction.MODEL_STEP, Outcome.SUCCESS, resource=f"model:{model}", detail=detail)
        )

    # ------------------------------------------------------------ replacing

    def ask_reload(self) -> None:
        """Have the next ``tick`` see whether other models are configured, or theirs changed on the disk."""
        self._is_asked = True

    async def _prepare(self, hub: Hub) -> Generation | None:
        """Load what is configured, beside what is in use; None where that is the same, or cannot be."""
        try:
            config = await asyncio.to_thread(self._reread)
            # The rest of the section holds from start to end.
            wanted = config.engine
            section = msgspec.structs.replace(
                self._config.engine, model=wanted.model, tiers=wanted.tiers, fake=wanted.fake
            )
            trust = model_access(self._config).trust
            choice = await asyncio.to_thread(choose_models, section, self._state, trust)
            if choice == self._current.choice:
                _log.info("models_unchanged")
                return None
            if not wanted.allow_downgrade:
                check_versions(self._current.choice, choice)
            if self._retired is not None:
                raise ModelError(
                    f"{hub.n_read_by(self._retired.tiers)} sessions still use the models that were replaced "
                    "before, and a third set is not loaded; try again when they have ended, at the latest "
                    f"{self._config.engine.retire_s:.0f} s (engine.retire_s) after that replacement"
                )
            self._n_replacements += 1
            return await self._load(choice, number=self._n_replacements)
        except (ConfigError, ModelError) as exc:
            self._note_failure(str(exc))
        except Exception:  # A mistake of ours: the models in use go on, and so does the server.
            _log.exception("models_reload_bug")
            self._note_failure("the server made a mistake; its traceback stands above")
        return None

    def _note_failure(self, error: str) -> None:
        _log.error("models_reload_failed", extra=fields(error=error))
        self._metrics.reload_failures.labels(what="models").inc()
        self._auditor.record(AuditEvent(AuditAction.MODEL_LOAD, Outcome.FAILURE, reason="kept_the_old"))

    async def _replace(self, generation: Generation, hub: Hub, now_s: float) -> None:
        """Have sessions that begin get this generation."""
        if generation.tiers.generation in self._given_up:
            self._note_failure("the engine of the other models died at once")
            await generation.engine.stop()
            return
        self._number = generation.tiers.generation
        retired, self._retired, self._current = self._current, self._current, generation
        retired.retired_s = now_s
        # Its load only falls from here on.
        retired.tiers.is_stepped_down = False
        self._step_down = self._new_policy()
        self._n_out_of_memory, self._has_died_of_memory = 0, False
        self._metrics.stepped_down.set(0)
        self._publish_memory()
        hub.use(generation.tiers)
        for event in self.loaded_events():
            self._auditor.record(event)
        models = {tier.value: facts.name for tier, facts in generation.tiers.facts.items()}
        n_sessions = hub.n_read_by(retired.tiers)
        _log.info("models_replaced", extra=fields(models=models, sessions_on_the_old=n_sessions))

    async def _let_go(self, retired: Generation, hub: Hub, now_s: float) -> None:
        """Stop a generation that no session uses any more, and end the sessions that use it for too long."""
        n_sessions = hub.n_read_by(retired.tiers)
        self._metrics.retired_sessions.set(n_sessions)
        if not n_sessions:
            self._retired = None
            await retired.engine.stop()
            for facts in retired.tiers.facts.values():
                self._auditor.record(
                    AuditEvent(AuditAction.MODEL_UNLOAD, Outcome.SUCCESS, resource=f"model:{facts.name}")
                )
            _log.info("models_unloaded")
        elif retired.tiers.generation in self._given_up:
            error = EngineFailed("the server's engine stopped working; connect again")
            hub.end_read_by(retired.tiers, error, now_s)
        elif now_s - retired.retired_s > self._config.engine.retire_s:
            away = ShuttingDown("the server has other models now; connect again")
            hub.end_read_by(retired.tiers, away, now_s)

    # ------------------------------------------------------------ what the engines report

    def _take_report(self, number: int, report: Report) -> None:
        if isinstance(report, GaveUp) and number != self._number:
            # Its sessions are ended by the next tick; those of the generation in use are not touched.
            _log.error("other_engine_given_up", extra=fields(reason=report.death.value))
            self._given_up.add(number)
            return
        if isinstance(report, Restarting) and number == self._number:
            self._has_died_of_memory |= report.death is Death.OUT_OF_MEMORY
        self._on_report(report)

    def _publish_memory(self) -> None:
        gauge = self._metrics.engine_model_bytes
        gauge.clear()
        for tier, n_bytes in self._current.n_bytes.items():
            gauge.labels(tier).set(n_bytes)

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date."""
        status, metrics = self._current.engine.status, self._metrics
        metrics.partials_superseded.set(self._current.scheduler.n_superseded)
        metrics.engine_ready.set(status.is_ready)
        metrics.engine_silent_s.set(status.silent_s)
        metrics.engine_out_of_memory.set(status.n_out_of_memory)
        for tier, batch_max in status.batch_max.items():
            metrics.engine_batch_max.labels(tier).set(batch_max)
        for tier, canary_s in status.canary_s.items():
            metrics.engine_canary_s.labels(tier).set(canary_s)
