"""How many live sessions ours and its peers carry with the same weights, recordings and measures.

Each server runs on one core, the clients on the other, one server after the other. See ``README.md`` here.

Run: ``python -m benchmarks.peers``, or ``make peers``.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.environments import HERE, Unavailable, ensure_environment
from benchmarks.peers.measure import Sent, measure
from benchmarks.peers.report import Found, as_markdown
from benchmarks.peers.search import carried_by, next_sessions
from benchmarks.peers.servers import Place, Serve, stream_server, whisper_live, whisperlivekit
from benchmarks.peers.weights import convert
from stream_server.cli.bench_material import write_material
from stream_server.cli.machine import cpu_name
from stream_server.engine.manifest import embedded_model, read_manifest
from stream_server.evaluation.references import parse_manifest
from stream_server.load.result import RunResult
from stream_server.load.run import Settings

MODELS = HERE / ".models"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
"""Of all servers: one thread for the one core, and nothing is fetched."""
WARM_S = 3.0
SESSION_SECONDS = 45.0
"""Measured of all sessions together at least: with one, few utterances end in the time of a run."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server, and how it is set up."""

    serve: Serve
    environment: str | None
    """Of a peer; None is ours."""
    first: int
    """Sessions where the search begins, after the run with one."""
    settings: str


CONTESTANTS = {
    "stream-server": Contestant(stream_server, None, 16, "its defaults; over mutual TLS"),
    "WhisperLive": Contestant(
        whisper_live,
        "whisper-live",
        2,
        "0.10.0, faster-whisper, one model for all clients, batch inference with its defaults (16 windows,"
        " 50 ms, greedy), int8 as it chooses on processors, VAD on, options as its client's; no TLS",
    ),
    "WhisperLiveKit": Contestant(
        partial(whisperlivekit, ()),
        "whisperlivekit",
        2,
        "0.2.26, its default policy (SimulStreaming with AlignAtt, faster-whisper's encoder), passes every"
        " 0.5 s, VAD on, PCM; no TLS",
    ),
    "WhisperLiveKit, LocalAgreement": Contestant(
        partial(whisperlivekit, ("--backend-policy", "localagreement", "--backend", "faster-whisper")),
        "whisperlivekit",
        2,
        "0.2.26, LocalAgreement with faster-whisper, passes every 0.5 s, VAD on, PCM; no TLS",
    ),
}


def main() -> None:
    """Set up, measure, show, write."""
    asked = _arguments()
    if missing := sorted((asked.server_cores | asked.client_cores) - os.sched_getaffinity(0)):
        raise SystemExit(f"there is no core {missing[0]} here: see --server-cores and --client-cores")
    os.environ.update(ENVIRONMENT)
    # Ends the server under way, which has a session of its own, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted = [name for name in CONTESTANTS if not asked.only or name in asked.only]
    unavailable: dict[str, str] = {}
    pythons = dict(_environments(wanted, unavailable))
    converted = _converted(asked.model, pythons, unavailable)
    if asked.set_up:
        print(f"{', '.join(pythons)}: ready; {unavailable or 'nothing is missing'}")
        raise SystemExit(1 if unavailable else 0)
    os.sched_setaffinity(0, asked.client_cores)
    with TemporaryDirectory(prefix="stream-server-peers-") as folder:
        sent = _material(Path(folder, "samples.pcm"), Settings(asked.ramp, asked.seconds, asked.gap, "en"))
        found: list[Found] = []
        try:
            for name in wanted:
                peer = CONTESTANTS[name]
                python = Path(sys.executable) if peer.environment is None else pythons.get(peer.environment)
                model = asked.model if peer.environment is None else converted
                if python is None or model is None:
                    found.append(Found(name, peer.settings, unavailable=unavailable[peer.environment or ""]))
                    continue
                place = Place(python, model, asked.server_cores)
                found.append(asyncio.run(_search(name, peer, place, sent, asked)))
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        finally:
            # Also what came before Ctrl-C or a mistake of ours: it took minutes.
            _write(found, asked)


def _arguments() -> argparse.Namespace:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    option = parser.add_argument
    option("--model", type=Path, default=embedded_model(), help="folder of ours; without it the embedded one")
    option("--only", action="append", choices=CONTESTANTS, help="measure this one; may be given again")
    option("--sessions", type=int, action="append", help="measure so many instead of searching; also again")
    option("--most", type=int, default=200, help="sessions that the search does not exceed")
    option("--seconds", type=float, default=25.0, help="measured in each run, longer with one session or two")
    option("--ramp", type=float, default=5.0, help="seconds over which clients connect")
    option("--gap", type=float, default=1.0, help="seconds of pause between recordings")
    option("--server-cores", type=_cores, default="0", help="such as 0 or 0,1")
    option("--client-cores", type=_cores, default="1", help="such as 1 or 2,3")
    option("--set-up", action="store_true", help="make the environments and convert, no more")
    option("--out", type=Path, help="write OUT.json and OUT.md")
    return parser.parse_args()


def _cores(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split(",")))


def _environments(wanted: Sequence[str], unavailable: dict[str, str]) -> Iterator[tuple[str, Path]]:
    for name in dict.fromkeys(CONTESTANTS[one].environment for one in wanted):
        if name is not None:
            try:
                yield name, ensure_environment(name)
            except Unavailable as exc:
                unavailable[name] = str(exc)


def _converted(model: Path, pythons: dict[str, Path], unavailable: dict[str, str]) -> Path | None:
    """The peers' forms of the model, kept under the hash of its weights."""
    if not pythons:
        return None
    sha256 = read_manifest(model).files["model.safetensors"].sha256
    # The name tells WhisperLiveKit that the model knows English only.
    folder = MODELS / sha256[:16] / "model.en"
    if not (folder / "tokenizer.json").exists():
        print(f"converting {model} …", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            convert(model, next(iter(pythons.values())), folder)
        except Unavailable as exc:
            unavailable.update(dict.fromkeys(pythons, str(exc)))
            return None
    return folder


def _material(samples: Path, settings: Settings) -> Sent:
    with resources.as_file(resources.files("stream_server") / "assets" / "recordings" / "heldout") as folder:
        path = folder / "manifest.json"
        material, problems = write_material(parse_manifest(path.read_bytes(), path).usable, samples)
    if problems:
        raise SystemExit("\n".join(problems))
    return Sent(material, settings)


async def _search(name: str, peer: Contestant, place: Place, sent: Sent, asked: argparse.Namespace) -> Found:
    runs: list[RunResult] = []
    try:
        while (sessions := _next(Found(name, peer.settings, tuple(runs)), peer, asked)) is not None:
            settings = replace(
                sent.settings, measure_s=max(sent.settings.measure_s, SESSION_SECONDS / sessions)
            )
            # A fresh server each time: what one run left undone is no load of the next.
            async with peer.serve(place) as served:
                await measure(served, replace(sent, settings=Settings(0.0, WARM_S, 1.0)), 1)
                runs.append(await measure(served, replace(sent, settings=settings), sessions))
            print(f"{name}: {_brief(runs[-1])}", file=sys.stderr, flush=True)
    except Unavailable as exc:
        return Found(name, peer.settings, tuple(runs), str(exc))
    return Found(name, peer.settings, tuple(runs))


def _next(found: Found, peer: Contestant, asked: argparse.Namespace) -> int | None:
    """One session first, then the limit by finals; by settled text where no finals come in time."""
    done = [run.sessions for run in found.runs]
    if asked.sessions:
        return next((n for n in asked.sessions if n not in done), None)
    if not done:
        return 1
    which = "final" if carried_by(found.outcomes("final")) else "settled"
    return next_sessions(found.outcomes(which), peer.first, asked.most)


def _brief(run: RunResult) -> str:
    latencies = {"final": run.final, "settled": run.settled, "word": run.partial}
    p95 = ", ".join(f"{name} {one.p95_s:.2f}" if one else f"{name} -" for name, one in latencies.items())
    lag_ms = 1000 * (run.client_lag_p99_s or 0)
    return f"{run.sessions} sessions, p95 in s: {p95}; clients {lag_ms:.0f} ms late"


def _write(found: Sequence[Found], asked: argparse.Namespace) -> None:
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "model": read_manifest(asked.model).files["model.safetensors"].sha256,
        "server_cores": sorted(asked.server_cores),
        "client_cores": sorted(asked.client_cores),
        "seconds": asked.seconds,
        "ramp": asked.ramp,
        "gap": asked.gap,
    }
    table = as_markdown(found)
    print(f"\n{about['date']}, {about['cpu']}\n\n{table}")
    if asked.out:
        text = json.dumps({**about, "found": [asdict(one) for one in found]}, indent=1)
        asked.out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        asked.out.with_suffix(".md").write_text(_page(about, table), encoding="utf-8")


def _page(about: dict[str, object], table: str) -> str:
    lines = [
        f"# Side by side with peers, {str(about['date'])[:10]}",
        "",
        f"`make peers` on an {about['cpu']}, one core for the server and another for the clients; weights",
        f"{str(about['model'])[:16]}…, {about['seconds']:g} s a run, {about['gap']:g} s between recordings.",
        "What is measured, and how each server is set up: `benchmarks/peers/README.md`.",
        "",
    ]
    return "\n".join([*lines, table])


if __name__ == "__main__":
    main()
