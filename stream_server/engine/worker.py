"""What runs in the engine's process: load the models, say so, then batch in, answer out, until told to stop.

Stateless between batches. Running out of memory is dealt with here; any other exception ends the
process: the parent sees it and acts.
"""

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from stream_server.core.jobs import Batch
from stream_server.core.messages import Tier
from stream_server.engine.fake import FakeTranscriber
from stream_server.engine.faults import FaultyTranscriber
from stream_server.engine.manifest import manifest_sha256
from stream_server.engine.memory import (
    OutOfMemory,
    ThriftyTranscriber,
    is_accelerator_error,
    is_out_of_memory,
)
from stream_server.engine.spec import Decoded, EngineSpec, ExitCode, Loaded, LoadFailed, Ready
from stream_server.errors import ModelError
from stream_server.ops.garbage import freeze_what_is_loaded

if TYPE_CHECKING:
    from stream_server.engine.transcriber import Transcriber


def run_worker(pipe: Connection, spec: EngineSpec) -> None:
    """Serve batches from ``pipe``; None or its end stops."""
    # The parent drains before it stops us: a signal to the whole group must not take the last finals.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        _load_and_serve(pipe, spec)
    except ModelError as exc:
        pipe.send(LoadFailed(str(exc)))
    except Exception as exc:
        code = _exit_code(exc)
        if code is None:
            raise
        _end(code)


def _load_and_serve(pipe: Connection, spec: EngineSpec) -> None:
    transcribers = _load(spec)
    freeze_what_is_loaded()
    pipe.send(Ready({tier: _loaded(one, spec.models[tier]) for tier, one in transcribers.items()}))
    while True:
        try:
            batch: Batch | None = pipe.recv()
        except EOFError:
            return  # The server is gone.
        if batch is None:
            return
        started_s = time.monotonic()
        # A batch holds jobs of one tier, see ``core.scheduler``.
        transcriber = transcribers[batch.jobs[0].tier]
        results = transcriber.transcribe(batch)
        results = [replace(one, hops=replace(one.hops, started_s=started_s)) for one in results]
        n_out_of_memory = sum(one.n_out_of_memory for one in transcribers.values())
        pipe.send(Decoded(results, transcriber.limit.now, n_out_of_memory))


def _loaded(transcriber: ThriftyTranscriber, folder: Path | None) -> Loaded:
    digest = "" if folder is None else manifest_sha256(folder)
    return Loaded(transcriber.facts, transcriber.limit.now, transcriber.n_bytes, digest)


def _load(spec: EngineSpec) -> dict[Tier, ThriftyTranscriber]:
    folders = {tier: folder for tier, folder in spec.models.items() if folder is not None}
    fakes = {
        tier: _equip(FakeTranscriber("fake" if tier is Tier.LIVE else f"fake-{tier}"), tier, spec, gc.collect)
        for tier in spec.models
        if tier not in folders
    }
    return fakes | (_load_whispers(spec, folders) if folders else {})


def _load_whispers(spec: EngineSpec, folders: Mapping[Tier, Path]) -> dict[Tier, ThriftyTranscriber]:
    # Read by OpenMP when torch is imported. Threads that spin while they wait take the core from the thread
    # they wait for: on 2 cores under load a 3 s window took 62 ms with this and 100 to 1,600 ms without
    # (2026-11-21, demo-en, two threads).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch takes seconds to import; the fake is for tests that start many servers.
    from stream_server.engine.room import check_room
    from stream_server.engine.threads import set_torch_threads
    from stream_server.engine.transcriber import WhisperTranscriber, warm_up

    set_torch_threads(spec.threads)
    check_room(folders, spec)
    transcribers = {}
    for tier, folder in folders.items():
        transcriber = _equip(WhisperTranscriber(folder, spec.device, spec.access), tier, spec, _free)
        warm_up(transcriber, spec.batch_max)
        transcribers[tier] = transcriber
    return transcribers


def _equip(
    transcriber: "Transcriber", tier: Tier, spec: EngineSpec, free: Callable[[], object]
) -> ThriftyTranscriber:
    for faults in spec.faults if tier is Tier.LIVE else ():
        transcriber = FaultyTranscriber(transcriber, faults)
    return ThriftyTranscriber(transcriber, spec.batch_max, free)


def _free() -> None:
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # Does nothing where CUDA was not used.


def _exit_code(error: Exception) -> ExitCode | None:
    """The code that tells the parent what happened; None leaves it to Python."""
    if isinstance(error, OutOfMemory) or is_out_of_memory(error):
        return ExitCode.OUT_OF_MEMORY
    return ExitCode.ACCELERATOR if is_accelerator_error(error) else None


def _end(code: ExitCode) -> NoReturn:
    """End at once: after such an error the clean-up of CUDA's libraries may hang."""
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)
