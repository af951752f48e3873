"""What runs in the engine's process: load, say so, then batch in, results out, until told to stop.

Stateless between batches. Any exception ends the process: the parent sees it and acts.
"""

import os
import signal
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from stream_server.core.jobs import Batch
from stream_server.engine.fake import FakeTranscriber
from stream_server.engine.spec import EngineSpec, LoadFailed, Ready
from stream_server.errors import ModelError

if TYPE_CHECKING:
    from stream_server.engine.transcriber import Transcriber


def run_worker(pipe: Connection, spec: EngineSpec) -> None:
    """Serve batches from ``pipe``; None or its end stops."""
    # The parent drains before it stops us: a signal to the whole group must not take the last finals.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        transcriber = _load(spec)
    except ModelError as exc:
        pipe.send(LoadFailed(str(exc)))
        return
    pipe.send(Ready(transcriber.facts))
    _serve(pipe, transcriber)


def _load(spec: EngineSpec) -> "Transcriber":
    if spec.model is None:
        return FakeTranscriber()
    # Read by OpenMP when torch is imported. Threads that spin while they wait take the core from the thread
    # they wait for: on 2 cores under load a 3 s window took 62 ms with this and 100 to 1,600 ms without
    # (2026-11-21, demo-en, two threads).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch takes seconds to import; the fake is for tests that start many servers.
    from stream_server.engine.threads import set_torch_threads
    from stream_server.engine.transcriber import WhisperTranscriber, warm_up

    set_torch_threads(spec.threads)
    transcriber = WhisperTranscriber(spec.model, spec.device)
    warm_up(transcriber, spec.batch_max)
    return transcriber


def _serve(pipe: Connection, transcriber: "Transcriber") -> None:
    while True:
        try:
            batch: Batch | None = pipe.recv()
        except EOFError:
            return  # The server is gone.
        if batch is None:
            return
        started_s = time.monotonic()
        results = transcriber.transcribe(batch)
        pipe.send([replace(one, hops=replace(one.hops, started_s=started_s)) for one in results])
