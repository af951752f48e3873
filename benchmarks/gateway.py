"""Live sessions per core: TLS, protocol, speech detection, segmenting; only the engine is a fake.

The server runs pinned to one core, its clients to the others. They send recorded speech at real time, half
the time or all the time. Each frame carries its number in bits that nobody hears, and the fake engine
writes the numbers that it finds: so each final must name exactly the frames between its start and its end,
and "0 frames lost, 0 doubled" is an equation. Sessions per core are what the server's processor time for
one session allows, which other load on the machine stretches little; the loop's lag is what it was.

Run: ``python -m benchmarks.gateway``. Results: ``benchmarks/results``.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import uvloop

from certs.store import Store
from certs.tls import client_context
from stream_server.app import App, Ready
from stream_server.cli.demo_certs import client_files, ensure_certs
from stream_server.cli.machine import cpu_name
from stream_server.client import CaptionStream, FinalEvent, Pace, connect, transcribe
from stream_server.client.latency import percentile
from stream_server.config_file import load_config
from stream_server.engine.fake import ranges_text, tag_frames
from stream_server.engine.threads import set_torch_threads
from stream_server.load.stream_audio import make_noise
from stream_server.load.usage import read_usage
from stream_server.ops.garbage import freeze_what_is_loaded
from stream_server.vad_stage import FrameScorer
from vad.audio import FRAME_SAMPLES
from vad.framing import Framer
from vad.model import SileroVad

CHUNK_BYTES = 3_200
LAG_S = 0.02
VARIANTS = 16
"""Clients begin at so many different places of the speech."""
SPEECH_OPEN_S = 4.5
"""Of speech that leaves a segment open: it is cut at 5 s."""

SPREAD_S = 2.0
"""Sessions whose memory is measured begin to speak one after the other over this time."""


# ---------------------------------------------------------------- the server's process


class GatewayApp(App):
    """The product with the fake engine and the real speech detector."""

    def _load_vad(self) -> FrameScorer:
        set_torch_threads(1)
        network = SileroVad()
        network.warm_up()
        return network


async def serve(state: Path) -> None:
    """Serve until standard input ends; answer each line on it with the loop's lags since the last."""
    limits = {
        "sessions": 100_000,
        "sessions_per_identity": 100_000,
        "connects_per_minute": 1_000_000,
        # Full within minutes, where 512 would fill for twenty: ``benchmarks.steady`` looks for what rises.
        "unread_events": 32,
        "replay_events": 32,
    }
    config = load_config(None, {"server": {"port": 0}, "engine": {"fake": True}, "limits": limits})
    app = GatewayApp(config, state)
    lags_s: list[float] = []

    def tell(ready: Ready) -> None:
        freeze_what_is_loaded()
        print(ready.addresses[0][1], flush=True)

    async def watch() -> None:
        while True:
            due_s = time.monotonic() + LAG_S
            await asyncio.sleep(LAG_S)
            lags_s.append(max(0.0, time.monotonic() - due_s))

    async def answer() -> None:
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
        )
        while await commands.readline():
            print(json.dumps(lags_s), flush=True)
            lags_s.clear()
        app.stop()

    aside = [asyncio.create_task(watch()), asyncio.create_task(answer())]
    await app.run(tell)
    for task in aside:
        task.cancel()


@dataclass(frozen=True, slots=True)
class Server:
    """The running server."""

    process: Process
    url: str
    certs: Path

    async def lags_s(self) -> list[float]:
        """Of its loop, since the last call."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"lags\n")
        found: list[float] = json.loads(await self.process.stdout.readline())
        return found

    def rss_bytes(self) -> int:
        """Resident memory of the server's own process, the engine's not counted."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return 1024 * int(line.split()[1])

    def cpu_s(self) -> float:
        """Processor time of all its processes."""
        sample = read_usage([self.process.pid])
        assert sample is not None
        return sample.cpu_s


@contextlib.asynccontextmanager
async def running(core: int, *, realtime: bool) -> AsyncIterator[Server]:
    """A server on one core."""
    with TemporaryDirectory(prefix="stream-server-gateway-") as folder:
        ensure_certs(Store(Path(folder, "certs")))
        process = await spawn("serve", folder, core=core, realtime=realtime)
        try:
            assert process.stdout is not None
            port = int(await process.stdout.readline())
            yield Server(process, f"wss://localhost:{port}/v1/stream", Path(folder, "certs"))
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


def _settle(core: int, realtime: bool) -> None:
    os.sched_setaffinity(0, {core})
    if realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


async def spawn(*arguments: str, core: int, realtime: bool = False) -> Process:
    """One of the benchmark's own processes, pinned to a core."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.gateway",
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=sys.stderr if os.environ.get("GATEWAY_LOG") else asyncio.subprocess.DEVNULL,
        limit=2**28,
        preexec_fn=lambda: _settle(core, realtime),
    )


# ---------------------------------------------------------------- the clients' process


def speech(share: float, n_frames: int, variant: int) -> bytes:
    """A stream of speech for this share of the time, tagged, as int16 little-endian.

    The utterances of the included dialogue one after the other, each followed by faint noise that makes
    up the rest of its share.
    """
    folder = resources.files("stream_server") / "assets" / "recordings"
    samples = soundfile.read(str(folder / "dialogue.flac"), dtype="int16")[0]
    utterances = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["dialogue"]["utterances"]
    noise = np.frombuffer(make_noise(), dtype=np.int16)
    parts = []
    for said in utterances:
        part = samples[round(16_000 * said["start"]) : round(16_000 * said["end"])]
        parts += [part, np.resize(noise, round(len(part) * (1 / share - 1)))]
    frames = Framer().push(np.concatenate(parts))
    index = (np.arange(n_frames) + variant * len(frames) // VARIANTS) % len(frames)
    return tag_frames(frames[index], 0).astype("<i2").tobytes()


@dataclass(frozen=True, slots=True)
class Seen:
    """What all clients of a run saw."""

    finals: int
    frames_sent: int
    frames_captioned: int
    wrong: int
    """Finals that do not name exactly their frames, or overlap the one before."""
    unfinished: int
    """Streams that did not end by ``finished``."""


class Client:
    """One stream of tagged speech."""

    def __init__(self, url: str, certs: Path) -> None:
        self._url = url
        self._tls = client_context(certs / "ca.pem", *client_files(Store(certs)))
        self.n_finals = self.n_captioned = self.n_wrong = 0
        self._end_frame = 0

    async def play(self, stream: bytes, delay_s: float) -> bool:
        """Send it at real time and check what comes back; whether it ended well."""
        await asyncio.sleep(delay_s)
        chunks: Iterator[bytes] = (stream[i : i + CHUNK_BYTES] for i in range(0, len(stream), CHUNK_BYTES))
        async with connect(self._url, tls=self._tls) as opened:
            async for event in transcribe(opened, Pace(32_000).paced(chunks)):
                if isinstance(event, FinalEvent):
                    self._check(event)
        return True

    def _check(self, final: FinalEvent) -> None:
        first, end = (round(seconds * 16_000 / FRAME_SAMPLES) for seconds in (final.start, final.end))
        self.n_finals += 1
        self.n_captioned += end - first
        self.n_wrong += final.text != ranges_text(range(first, end)) or first < self._end_frame
        self._end_frame = end


async def play_all(
    url: str, certs: Path, n_clients: int, seconds: float, ramp_s: float, share: float
) -> Seen:
    """Run the clients; each begins a little after the one before."""
    n_frames = round(seconds * 16_000 / FRAME_SAMPLES)
    streams = [speech(share, n_frames, variant) for variant in range(VARIANTS)]
    clients = [Client(url, certs) for _ in range(n_clients)]
    print("ready", flush=True)
    ended = await asyncio.gather(
        *(client.play(streams[i % VARIANTS], ramp_s * i / n_clients) for i, client in enumerate(clients)),
        return_exceptions=True,
    )
    return Seen(
        finals=sum(client.n_finals for client in clients),
        frames_sent=n_frames * n_clients,
        frames_captioned=sum(client.n_captioned for client in clients),
        wrong=sum(client.n_wrong for client in clients),
        unfinished=sum(one is not True for one in ended),
    )


async def hold_all(url: str, certs: Path, with_speech: bool) -> None:
    """Open as many more sessions as each line of standard input says, and keep them."""
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    audio = speech(1.0, round(SPEECH_OPEN_S * 16_000 / FRAME_SAMPLES), 0)
    chunks = [audio[i : i + CHUNK_BYTES] for i in range(0, len(audio), CHUNK_BYTES)]
    tls = client_context(certs / "ca.pem", *client_files(Store(certs)))
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        while line := await commands.readline():
            streams = [await stack.enter_async_context(connect(url, tls=tls)) for _ in range(int(line))]
            readers += [asyncio.create_task(_read(stream)) for stream in streams]
            if with_speech:
                # Not in step: their partials would wait all at once, each with a copy of the audio.
                step_s = SPREAD_S / len(streams)
                await asyncio.gather(*(_send(one, chunks, i * step_s) for i, one in enumerate(streams)))
            await asyncio.sleep(3.0)
            print("open", flush=True)
        for reader in readers:
            reader.cancel()


async def _send(stream: CaptionStream, chunks: Sequence[bytes], delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    async for chunk in Pace(32_000).paced(chunks):
        await stream.send(chunk)


async def _read(stream: CaptionStream) -> None:
    async for _ in stream:
        continue


# ---------------------------------------------------------------- the measurement


async def measure_live(
    server: Server, core: int, sessions: int, seconds: float, share: float, *, realtime: bool
) -> dict[str, Any]:
    """So many sessions at once: processor time of one, lag of the loop, and whether all arrived."""
    ramp_s = min(10.0, sessions / 20)
    arguments = [server.url, str(server.certs), str(sessions), str(seconds + ramp_s), str(ramp_s), str(share)]
    clients = await spawn("clients", *arguments, core=core, realtime=realtime)
    assert clients.stdout is not None
    await clients.stdout.readline()
    await asyncio.sleep(ramp_s + 2.0)
    await server.lags_s()
    began_s, cpu_s = time.monotonic(), server.cpu_s()
    await asyncio.sleep(seconds - 4.0)
    used = (server.cpu_s() - cpu_s) / (time.monotonic() - began_s)
    lags_s = await server.lags_s()
    seen = json.loads(await clients.stdout.readline())
    await clients.wait()
    return {
        "sessions": sessions,
        "speech_share": share,
        "server_cores": round(used, 3),
        "sessions_per_core": round(sessions / used),
        "loop_lag_p99_ms": round(1000 * percentile(lags_s, 99), 1),
        "loop_lag_p50_ms": round(1000 * percentile(lags_s, 50), 1),
        **seen,
    }


async def measure_memory(
    server: Server, core: int, counts: tuple[int, int], *, with_speech: bool
) -> tuple[float, float]:
    """Bytes of one more session, the slope between two numbers of them; and the loop's longest lag, seconds.

    Where the loop lags, what clients send meanwhile comes at once, and the buffers of TLS grow to hold it.
    """
    holder = await spawn("hold", server.url, str(server.certs), str(int(with_speech)), core=core)
    assert holder.stdin is not None
    assert holder.stdout is not None
    sizes = []
    for n_more in counts:
        holder.stdin.write(f"{n_more}\n".encode())
        await holder.stdout.readline()
        sizes.append(server.rss_bytes())
    lags_s = await server.lags_s()
    holder.kill()
    await holder.wait()
    return (sizes[1] - sizes[0]) / counts[1], max(lags_s)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, in one server after the other."""
    server_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "load_average": os.getloadavg()[0],
        "realtime": options.realtime,
        "live": [],
    }
    for sessions, share in ((options.half, 0.5), (options.full, 1.0)):
        if sessions:
            async with running(server_core, realtime=options.realtime) as server:
                live = await measure_live(
                    server, client_core, sessions, options.seconds, share, realtime=options.realtime
                )
            print(json.dumps(live))
            found["live"].append(live)
    if options.memory:
        for name, with_speech in (("idle", False), ("open_segment", True)):
            async with running(server_core, realtime=options.realtime) as server:
                size, lag_s = await measure_memory(
                    server, client_core, (50, options.memory), with_speech=with_speech
                )
            found[f"{name}_bytes"], found[f"{name}_lag_max_ms"] = round(size), round(1000 * lag_s)
            print(f"{name}: {size / 1000:.0f} kB a session, the loop's longest lag {1000 * lag_s:.0f} ms")
    return found


def main() -> None:
    """The measurement, or one of the processes it starts."""
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(Path(sys.argv[2])))
    elif sys.argv[1:2] == ["clients"]:
        url, certs, n_clients, seconds, ramp_s, share = sys.argv[2:]
        seen = uvloop.run(
            play_all(url, Path(certs), int(n_clients), float(seconds), float(ramp_s), float(share))
        )
        print(json.dumps(asdict(seen)), flush=True)
    elif sys.argv[1:2] == ["hold"]:
        uvloop.run(hold_all(sys.argv[2], Path(sys.argv[3]), bool(int(sys.argv[4]))))
    else:
        parser = argparse.ArgumentParser(description="Live sessions per core.")
        parser.add_argument("--half", type=int, default=300, help="sessions that speak half the time")
        parser.add_argument("--full", type=int, default=200, help="sessions that speak all the time")
        parser.add_argument(
            "--memory", type=int, default=200, help="sessions of the memory slope; 0 leaves it"
        )
        parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement, at least 10")
        parser.add_argument(
            "--realtime",
            action="store_true",
            help="before all other work of the machine (SCHED_RR, needs root), where it has any",
        )
        parser.add_argument("--json", type=Path, help="write the figures here")
        options = parser.parse_args()
        found = asyncio.run(measure(options))
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
