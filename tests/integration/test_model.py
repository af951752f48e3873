"""The embedded model behind the whole server: error rates, latency, and nobody gets another's text."""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
from live_server import FINISH, START, LiveServer, WireClient, pieces, wire
from pki import ClientPair, Pki

from stream_server.audio.decoder import AudioFormat
from stream_server.config import SegmentsSection
from stream_server.core.actions import Submit
from stream_server.core.hops import Hops
from stream_server.core.jobs import Batch, DecodeJob
from stream_server.core.messages import Final, Limits, SessionId, Start, Task, Tier
from stream_server.core.settings import SessionSettings, Tiers
from stream_server.core.transcription import Transcription
from stream_server.engine.manifest import embedded_model
from stream_server.engine.text import normalise_english
from stream_server.engine.threads import set_torch_threads
from stream_server.engine.transcriber import WhisperTranscriber
from vad import segment_recording
from vad.audio import int16_to_float32
from vad.model import SileroVad

pytestmark = [pytest.mark.model, pytest.mark.slow]

RATE_HZ = 16_000
CHUNK_SAMPLES = 1_600


@dataclass(frozen=True)
class Recording:
    """One file, and what is said in it."""

    name: str
    samples: np.ndarray
    utterances: list[tuple[float, float, str]]
    """Start and end in seconds, and the words."""

    @property
    def text(self) -> str:
        return " ".join(text for _, _, text in self.utterances)


@pytest.fixture(scope="module")
def corpus(recordings: Path) -> list[Recording]:
    """Every recording of the package."""
    manifest = json.loads((recordings / "manifest.json").read_text())
    listed = [(r["file"], [(0.0, r["seconds"], r["text"])]) for r in manifest["recordings"]]
    dialogue = manifest["dialogue"]
    listed.append((dialogue["file"], [(u["start"], u["end"], u["text"]) for u in dialogue["utterances"]]))
    return [
        Recording(name, soundfile.read(recordings / name, dtype="int16")[0], utterances)
        for name, utterances in listed
    ]


@pytest.fixture(scope="module")
def whisper() -> WhisperTranscriber:
    """The model without a server."""
    set_torch_threads(0)
    return WhisperTranscriber(embedded_model(), "cpu")


def live_finals(whisper: WhisperTranscriber, samples: np.ndarray, *, early: bool) -> tuple[list[Final], int]:
    """The finals of a session whose engine answers at once, and how many windows were read early."""
    segmenter, limits = SegmentsSection().segmenter(), Limits(65_536, 30.0, 10.0)
    settings = SessionSettings(Tiers({Tier.LIVE: whisper.facts}), limits, segmenter, early_finals=early)
    stream = Transcription(SessionId("live"), Start(AudioFormat()), settings, 0.0)
    heard = np.concatenate([samples[: len(samples) // 512 * 512], np.zeros(31 * 512, np.int16)])
    frames = heard.reshape(-1, 512)
    scores = SileroVad().score_stream(int16_to_float32(frames)).tolist()
    finals: list[Final] = []
    n_early = 0
    for frame, score in zip(frames, scores, strict=True):
        stream.append(frame, 0.0)
        steps = stream.push_scores([score], 0.0)
        while steps:
            step = steps.pop(0)
            if isinstance(step, Submit):
                n_early += step.job.early
                [result] = whisper.transcribe(Batch((replace(step.job, pcm=bytes(step.job.pcm)),)))
                steps += stream.take(result, 0.0)
            elif isinstance(step, Final):
                finals.append(replace(step, hops=None))
    return finals, n_early


def test_finals_that_are_read_early_are_those_that_are_read_late(
    whisper: WhisperTranscriber, corpus: list[Recording]
) -> None:
    for recording in corpus[:3]:
        early, n_early = live_finals(whisper, recording.samples, early=True)
        late, _ = live_finals(whisper, recording.samples, early=False)
        assert early == late
        assert n_early >= len(late) >= 1


def offline(whisper: WhisperTranscriber, windows: list[np.ndarray]) -> list[str]:
    """The texts of whole windows, decoded one by one."""
    jobs = [
        DecodeJob(SessionId("t"), i, 1, True, 0, w.tobytes(), None, Task.TRANSCRIBE, "live", Hops())
        for i, w in enumerate(windows)
    ]
    return [whisper.transcribe(Batch((job,)))[0].text for job in jobs]


def error_rate(references: list[str], hypotheses: list[str]) -> float:
    """Pooled word error rate after Whisper's English normaliser."""
    rate: float = jiwer.wer(
        [normalise_english(t) for t in references], [normalise_english(t) for t in hypotheses]
    )
    return rate


async def stream(client: WireClient, samples: np.ndarray) -> list[str]:
    """Finals of a recording sent as fast as the server takes it."""
    await client.send(START)
    for piece in pieces(samples.tobytes(), 2 * CHUNK_SAMPLES):
        await client.send(piece)
    await client.send(FINISH)
    await client.rest()
    return [final["text"] for final in client.of("final")]


async def test_streamed_error_rate_is_that_of_the_same_segments_and_near_that_of_whole_utterances(
    corpus: list[Recording], whisper: WhisperTranscriber, real: LiveServer, pki: Pki, source: ClientPair
) -> None:
    network = SileroVad()
    references = [recording.text for recording in corpus]
    streamed, segmented, whole = [], [], []
    for recording in corpus:
        async with wire(real.url, pki, source) as client:
            streamed.append(" ".join(await stream(client, recording.samples)))
        cuts = segment_recording(recording.samples, network)
        windows = [recording.samples[c.start_frame * 512 : c.end_frame * 512] for c in cuts]
        segmented.append(" ".join(offline(whisper, windows)))
        spans = [(int(a * RATE_HZ), int(b * RATE_HZ)) for a, b, _ in recording.utterances]
        whole.append(" ".join(offline(whisper, [recording.samples[a:b] for a, b in spans])))
    rates = {
        "streamed": error_rate(references, streamed),
        "segments offline": error_rate(references, segmented),
        "whole utterances": error_rate(references, whole),
    }
    assert rates["streamed"] <= rates["segments offline"] + 0.02, rates
    assert rates["streamed"] <= rates["whole utterances"] + 0.10, rates


async def test_ten_clients_at_once_get_the_same_finals_as_one_alone(
    corpus: list[Recording], real: LiveServer, pki: Pki, source: ClientPair
) -> None:
    async def one(recording: Recording) -> list[str]:
        async with wire(real.url, pki, source) as client:
            return await stream(client, recording.samples)

    chosen = corpus[:10]
    alone = [await one(recording) for recording in chosen]
    together = await asyncio.gather(*(one(recording) for recording in chosen))
    assert together == alone
    assert len({str(texts) for texts in alone}) == 10


@pytest.mark.timeout(240)
async def test_finals_arrive_within_one_and_a_half_seconds_of_the_last_word(
    corpus: list[Recording], real: LiveServer, pki: Pki, source: ClientPair
) -> None:
    """One stream at real time: recordings with a second of silence between, 30 finals at least."""
    order = [*corpus, *corpus[:9]]
    gap = np.zeros(RATE_HZ, dtype=np.int16)
    audio = np.concatenate([part for recording in order for part in (gap, recording.samples)] + [gap])
    ends, at = [], 0
    for recording in order:
        at += len(gap)
        ends += [at / RATE_HZ + end for _, end, _ in recording.utterances]
        at += len(recording.samples)
    async with wire(real.url, pki, source) as client:
        arrivals = await at_real_time(client, audio)
    finals = client.of("final")
    assert len(finals) >= 30
    latencies = []
    for end in ends:
        [index] = [
            i for i, final in enumerate(finals) if final["start"] < end - 0.3 and final["end"] > end - 0.5
        ]
        latencies.append(arrivals[index] - end)
    p95 = sorted(latencies)[int(0.95 * len(latencies))]
    assert p95 <= 1.5, latencies
    assert len(client.of("partial")) > len(finals)


async def at_real_time(client: WireClient, audio: np.ndarray) -> list[float]:
    """Stream at real time; returns when each final arrived, seconds after the first sample was due."""
    arrivals: list[float] = []
    await client.send(START)
    await client.receive("started")
    began_s = time.monotonic()

    async def send() -> None:
        for i, piece in enumerate(pieces(audio.tobytes(), 2 * CHUNK_SAMPLES)):
            due_s = began_s + (i + 1) * CHUNK_SAMPLES / RATE_HZ  # a microphone has a chunk when it is over
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await client.send(piece)
        await client.send(FINISH)

    sending = asyncio.create_task(send())
    async for message in client.socket:
        client.events.append(json.loads(message))
        if client.events[-1]["type"] == "final":
            arrivals.append(time.monotonic() - began_s)
    await sending
    return arrivals
