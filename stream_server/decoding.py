"""What decodes while the server runs: the engine and the models that it has loaded.

``core`` decides; here configured names become folders, and what happens to the engine is measured and told.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from stream_server.config import Config, EngineSection
from stream_server.core.audit import AuditAction, AuditEvent, Auditor, Outcome
from stream_server.core.jobs import DecodeJob
from stream_server.core.messages import SessionId, Tier
from stream_server.core.scheduler import Bucket, Scheduler, one_bucket
from stream_server.core.settings import Tiers
from stream_server.core.step_down import Overload, StepDown, StepReason
from stream_server.core.supervisor import Death, Patience, Report, Restarting
from stream_server.engine.access import ModelAccess, model_access
from stream_server.engine.faults import Faults
from stream_server.engine.manifest import find_model, read_manifest
from stream_server.engine.process import Engine, EngineStatus
from stream_server.engine.spec import EngineSpec
from stream_server.engine.windows import window_samples
from stream_server.errors import ModelError
from stream_server.ops.log import fields
from stream_server.ops.metrics import Metrics

_log = logging.getLogger(__name__)

_LIVE_TIERS = (Tier.LIVE, Tier.FALLBACK)


def find_tiers(section: EngineSection, state: Path) -> dict[Tier, Path | None]:
    """The model folder of each tier that has a model of its own; None is the fake engine.

    Raises:
        ModelError: There is no such model, or the live one would stand in for itself.
    """
    tiers = section.tiers
    wanted = {Tier.LIVE: tiers.live or section.model, Tier.FALLBACK: tiers.fallback, Tier.FILES: tiers.files}
    named = [tier for tier, name in wanted.items() if tier is Tier.LIVE or name is not None]
    if section.fake:
        return dict.fromkeys(named)
    folders = {tier: find_model(wanted[tier], state) for tier in named}
    live = folders[Tier.LIVE].resolve()
    if Tier.FALLBACK in folders and folders[Tier.FALLBACK].resolve() == live:
        raise ModelError(
            f"live and fallback of [engine.tiers] are the same model, {live}; take a lighter one as "
            "fallback, or leave it out"
        )
    if Tier.FILES in folders and folders[Tier.FILES].resolve() == live:
        del folders[Tier.FILES]  # One copy of the weights does for both.
    return dict(folders)


def bucket_of(models: Mapping[Tier, Path | None], access: ModelAccess) -> Bucket:
    """What tells the scheduler which jobs of a tier share a pass: the length of their window in its model.

    Raises:
        ModelError: A manifest cannot be read, or is not signed as it must be; found before seconds are
            spent on starting a process.
    """
    folders = {tier: folder for tier, folder in models.items() if folder is not None}
    if not folders:
        return one_bucket
    manifests = {tier: read_manifest(folder, access.trust) for tier, folder in folders.items()}
    return lambda job: window_samples(job.n_samples, manifests[job.tier])


class Decoding:
    """The engine in use. All methods on the loop's thread.

    Args:
        config: Everything that can be set.
        state: Folder with ``models``.
        on_report: As for ``Engine``.
        metrics: Told how the engine is.
        auditor: Told which model reads live speech.
        faults: What goes wrong in the engine's first, second … process, for tests.
    """

    def __init__(
        self,
        config: Config,
        state: Path,
        on_report: Callable[[Report], None],
        metrics: Metrics,
        auditor: Auditor,
        faults: tuple[Faults, ...] = (),
    ) -> None:
        self._config = config
        self._state = state
        self._on_report = on_report
        self._metrics = metrics
        self._auditor = auditor
        self._faults = faults
        engine = config.engine
        self._step_down = StepDown(Overload(engine.overload_wait_s, engine.overload_s, engine.recovery_s))
        self._n_out_of_memory = 0

    async def start(self) -> Tiers:
        """Load the configured models.

        Raises:
            ModelError: There is none of a name, or it cannot be loaded.
        """
        section = self._config.engine
        self.folders = find_tiers(section, self._state)
        access = model_access(self._config)
        spec = EngineSpec(self.folders, section.device, section.threads, section.batch, access, self._faults)
        finals_max = self._config.limits.waiting_finals
        self._scheduler = Scheduler(section.batch, finals_max, bucket_of(self.folders, access))
        patience = Patience(
            section.hang_s, section.load_s, section.heartbeat_s, section.restarts, section.restarts_within_s
        )
        self._engine = Engine(spec, self._scheduler, self._take_report, patience)
        loaded = await self._engine.start()
        for tier, model in loaded.items():
            self._metrics.engine_model_bytes.labels(tier).set(model.n_bytes)
        self._tiers = Tiers({tier: model.facts for tier, model in loaded.items()})
        return self._tiers

    async def stop(self) -> None:
        """Stop the engine; see ``Engine.stop``."""
        await self._engine.stop()

    @property
    def engine(self) -> Engine:
        """The engine that new sessions get."""
        return self._engine

    @property
    def status(self) -> EngineStatus:
        """How it is."""
        return self._engine.status

    def submit(self, job: DecodeJob) -> None:
        """See ``Engine.submit``."""
        self._engine.submit(job)

    def withdraw(self, session: SessionId) -> None:
        """See ``Engine.withdraw``."""
        self._engine.withdraw(session)

    def tick(self, now_s: float) -> None:
        """About once a second: see whether the live model carries what is asked of it."""
        if Tier.FALLBACK not in self._tiers.facts:
            return
        status = self._engine.status
        if status.n_out_of_memory > self._n_out_of_memory:
            self._n_out_of_memory = status.n_out_of_memory
            self._step(self._step_down.run_out_of_memory(now_s))
        if status.is_ready:
            self._step(self._step_down.observe(self._engine.longest_wait_s(_LIVE_TIERS), now_s))
        else:
            self._step_down.interrupt()

    def _take_report(self, report: Report) -> None:
        if isinstance(report, Restarting) and report.death is Death.OUT_OF_MEMORY:
            if Tier.FALLBACK in self._tiers.facts:
                self._step(self._step_down.run_out_of_memory(time.monotonic()))
        self._on_report(report)

    def _step(self, reason: StepReason | None) -> None:
        if reason is None:
            return
        is_down = self._step_down.is_down
        self._tiers.is_stepped_down = is_down
        tier = Tier.FALLBACK if is_down else Tier.LIVE
        model = self._tiers.facts[tier].name
        _log.warning("live_speech_stepped", extra=fields(tier=tier.value, model=model, reason=reason.value))
        self._metrics.stepped_down.set(is_down)
        self._metrics.steps.labels(reason).inc()
        detail: dict[str, str | int] = {"tier": tier.value, "cause": reason.value}
        self._auditor.record(
            AuditEvent(AuditAction.MODEL_STEP, Outcome.SUCCESS, resource=f"model:{model}", detail=detail)
        )

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date."""
        status, metrics = self._engine.status, self._metrics
        metrics.partials_superseded.set(self._scheduler.n_superseded)
        metrics.engine_ready.set(status.is_ready)
        metrics.engine_silent_s.set(status.silent_s)
        metrics.engine_out_of_memory.set(status.n_out_of_memory)
        for tier, batch_max in status.batch_max.items():
            metrics.engine_batch_max.labels(tier).set(batch_max)
        for tier, canary_s in status.canary_s.items():
            metrics.engine_canary_s.labels(tier).set(canary_s)
