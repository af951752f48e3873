"""Several models in one engine process: each job is read by its own, whatever waits beside it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
from models import decode_job, random_whisper, write_model

from stream_server.core.jobs import Batch, DecodeJob
from stream_server.core.messages import Tier
from stream_server.core.orders import Report, Results
from stream_server.core.scheduler import Scheduler
from stream_server.core.supervisor import Patience
from stream_server.engine.process import Engine
from stream_server.engine.spec import EngineSpec
from stream_server.engine.transcriber import WhisperTranscriber

pytestmark = pytest.mark.model
PATIENCE_S = 120


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Tier, Path]:
    """Two models of different sizes with different weights."""
    place = tmp_path_factory.mktemp("tiers")
    shapes = {Tier.LIVE: models.shape(128, 2, n_layer=1), Tier.FILES: models.shape(192, 3, n_layer=1)}
    return {
        tier: write_model(place / tier, random_whisper(shape, seed), id=f"random-{tier}", audio_context="fit")
        for seed, (tier, shape) in enumerate(shapes.items())
    }


def jobs() -> list[DecodeJob]:
    """Windows of two lengths, for one tier and the other in turn."""
    generator = np.random.default_rng(1)
    windows = [generator.integers(-9_000, 9_000, n, dtype=np.int16) for n in (16_000, 24_000)] * 4
    return [
        replace(
            decode_job(window.tobytes(), session=f"{i}", language="en", final=False),
            tier=(Tier.LIVE, Tier.FILES)[i // 2 % 2],
        )
        for i, window in enumerate(windows)
    ]


async def test_each_job_says_what_the_model_of_its_tier_says_alone(folders: dict[Tier, Path]) -> None:
    results = {}
    done = asyncio.Event()

    def take(report: Report) -> None:
        assert isinstance(report, Results)
        results.update({result.session: result.tokens for result in report.results})
        if len(results) == len(jobs()):
            done.set()

    engine = Engine(EngineSpec(folders, "cpu", 1, 4), Scheduler(4, 100), take, Patience())
    loaded = await engine.start()
    try:
        assert {tier: model.facts.name for tier, model in loaded.items()} == {
            Tier.LIVE: "random-live",
            Tier.FILES: "random-files",
        }
        assert loaded[Tier.FILES].n_bytes > loaded[Tier.LIVE].n_bytes > 0
        for one in jobs():
            engine.submit(one)
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
    finally:
        await engine.stop()
    alone = {tier: WhisperTranscriber(folder, "cpu") for tier, folder in folders.items()}
    expected = {one.session: alone[one.tier].transcribe(Batch((one,)))[0].tokens for one in jobs()}
    assert results == expected
    assert len(set(expected.values())) > 1, "models that say the same prove nothing"
