"""What the parts that are tested with whole servers do at moments that those do not meet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing import active_children
from pathlib import Path

import msgspec
from driver import SETTINGS, HubWorld

from stream_server.config import Config, EngineSection
from stream_server.core.audit import AuditEvent
from stream_server.core.orders import Death, GaveUp, Report
from stream_server.decoding import Decoding
from stream_server.ops.metrics import Metrics


class Log:
    """An audit log that is a list."""

    is_available = True

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def secure(self, event: AuditEvent) -> None:
        self.events.append(event)


class World:
    """The engines of a server whose clock and sessions stand still."""

    def __init__(self, state: Path) -> None:
        self.reports: list[Report] = []
        self.log = Log()
        self.metrics = Metrics()
        self.hub = HubWorld(SETTINGS).hub
        self.wanted = Config(engine=EngineSection(fake=True))
        self.decoding = Decoding(
            self.wanted, state, lambda: self.wanted, self.reports.append, self.metrics, self.log
        )

    async def load(self, model: str) -> None:
        """Have another model loaded, and stop just before it would be taken."""
        engine = EngineSection(fake=True, model=model)
        self.wanted = msgspec.structs.replace(self.wanted, engine=engine)
        self.decoding.ask_reload()
        await self.decoding.tick(self.hub, 0.0)
        assert self.decoding._loading is not None
        await self.decoding._loading


@asynccontextmanager
async def running(state: Path) -> AsyncIterator[World]:
    world = World(state)
    tiers = await world.decoding.start()
    world.hub.use(tiers)
    try:
        yield world
    finally:
        await world.decoding.stop()


async def test_a_server_that_stops_before_loaded_models_were_taken_stops_their_engine_too(
    tmp_path: Path,
) -> None:
    others = len(active_children())
    async with running(tmp_path) as world:
        await world.load("other")
        assert len(active_children()) == others + 2
    assert len(active_children()) == others


async def test_an_engine_that_dies_before_its_models_were_taken_leaves_the_old_ones(tmp_path: Path) -> None:
    others = len(active_children())
    async with running(tmp_path) as world:
        current = world.decoding.current
        await world.load("other")
        world.decoding._take_report(1, GaveUp(Death.CRASHED, 1))
        await world.decoding.tick(world.hub, 1.0)
        assert world.decoding.current is current
        assert world.reports == [], "the server would end"
        assert world.metrics.reload_failures.labels(what="models")._value.get() == 1
        assert len(active_children()) == others + 1
        await world.load("third")
        await world.decoding.tick(world.hub, 2.0)
        assert world.decoding.current is not current


async def test_the_end_of_the_engine_in_use_is_the_servers(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        end = GaveUp(Death.CRASHED, 1)
        world.decoding._take_report(0, end)
        assert world.reports == [end]
