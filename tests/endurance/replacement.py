"""Real models that are replaced, refused and exchanged under a running server: part of ``make faults``.

Each step starts a process that imports torch, which is too slow for the tests that always run; there the same
is done with the numbered engine.
"""

import os
import signal
from multiprocessing import active_children
from pathlib import Path

import pytest
from live_server import FINISH, PAUSE, START, LiveServer, live_server, wire
from models import random_whisper, shape, write_model
from pki import ClientPair, Pki

from stream_server.engine.fake import numbered_speech

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE_S = 120.0
"""A process that imports torch takes seconds, on a busy machine many."""
FIT = {"audio_context": "fit"}


def failures(server: LiveServer) -> int:
    return int(server.app._metrics.reload_failures.labels(what="models")._value.get())


async def test_models_are_replaced_by_newer_ones_refused_when_older_and_survive_an_exchange(
    pki: Pki, source: ClientPair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = {child.pid for child in active_children()}
    model = random_whisper(shape(64, 2, n_layer=1))
    folder = write_model(tmp_path / "small", model, version="1", **FIT)
    with live_server(pki, engine={"fake": False, "model": str(folder)}) as server:
        first = server.worker.pid

        async def is_served() -> None:
            async with wire(server.url, pki, source) as client:
                await client.send(START, numbered_speech(range(40)).tobytes(), PAUSE, FINISH)
                assert (await client.rest())[-1]["type"] == "finished"

        await is_served()
        write_model(folder, model, version="2", **FIT)
        server.reload()
        await server.until(lambda: server.worker.pid != first, PATIENCE_S)
        second = server.worker.pid
        await is_served()

        write_model(folder, model, version="1", **FIT)
        server.reload()
        await server.until(lambda: failures(server) == 1)
        assert server.worker.pid == second

        # An engine that dies after its model was exchanged on the disk has the other one from then on.
        assert second is not None
        os.kill(second, signal.SIGKILL)
        await server.until(lambda: not server.app._decoding.status.is_ready)
        await server.until(lambda: server.app._decoding.status.is_ready, PATIENCE_S)
        assert "model_changed_on_disk" in caplog.messages
        await is_served()

        third = server.worker.pid
        server.reload(allow_downgrade=True)
        await server.until(lambda: server.worker.pid != third, PATIENCE_S)
        await is_served()
        write_model(folder, model, version="3", **FIT)
        server.reload()
        # A server that stops while it loads models leaves no process behind.
        await server.until(lambda: server.app._decoding._loading is not None)
    assert {child.pid for child in active_children()} == others
