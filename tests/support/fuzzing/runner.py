"""Fuzz targets with atheris, two at a time: ``make fuzz``, ``make fuzz TARGET=policy SECONDS=3600``.

What is found lies in ``.fuzz``: ``corpus/TARGET`` has the inputs that reach new branches, from which the next
run begins, and ``crashes/TARGET`` those that crash. ``make fuzz-again TARGET=policy INPUT=FILE`` runs one
input again, with its traceback and without atheris. One worth keeping goes to ``tests/fuzz/found/TARGET``.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fuzzing import catalogue
from fuzzing.target import check

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".fuzz"
SLOW_S = 10
"""After which libFuzzer takes one input for a hang."""
START_S = 180
"""For imports and seeds; a child that takes as long beyond its time is ended."""
_RUNS = re.compile(r"Done (\d+) runs")
_COVERED = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """What came of one target."""

    name: str
    exit_code: int
    n_inputs: int
    n_branches: int
    """Reached in the code that is watched."""
    crashes: tuple[Path, ...]
    log: Path

    @property
    def is_clean(self) -> bool:
        """Nothing crashed, and something was tried."""
        return self.exit_code == 0 and not self.crashes and self.n_inputs > 0


def fuzz(name: str, seconds: int) -> Outcome:
    """Run one target for so long; what it said stands in a file."""
    target = catalogue.load(name)
    corpus, crashes, log = FOLDER / "corpus" / name, FOLDER / "crashes" / name, FOLDER / f"{name}.log"
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(crashes.iterdir())
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as scratch, log.open("wb") as said:
        words = Path(scratch, "words.dict")
        words.write_text(dictionary(target.words))
        command = [
            *(sys.executable, "-m", "fuzzing.child", name, str(corpus), f"-max_total_time={seconds}"),
            *([f"-dict={words}"] if target.words else []),
            *(f"-max_len={target.bytes_max}", f"-timeout={SLOW_S}", f"-rss_limit_mb={target.rss_mb_max}"),
            *(f"-artifact_prefix={crashes}/", "-print_final_stats=1"),
        ]
        environment = {**os.environ, "TMPDIR": scratch, "PYTHONWARNINGS": "error::RuntimeWarning"}
        exit_code = _run(command, environment, said, seconds + START_S)
    text = log.read_text(errors="replace")
    runs, covered = _RUNS.findall(text), _COVERED.findall(text)
    new = tuple(sorted(set(crashes.iterdir()) - before))
    return Outcome(
        name, exit_code, int(runs[-1]) if runs else 0, int(covered[-1]) if covered else 0, new, log
    )


def _run(command: Sequence[str], environment: dict[str, str], said: object, limit_s: float) -> int:
    try:
        return subprocess.run(
            command, env=environment, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, timeout=limit_s
        ).returncode
    except subprocess.TimeoutExpired:
        return -1


def dictionary(words: Sequence[bytes]) -> str:
    """Words as libFuzzer reads them; it takes none longer than 64 bytes."""
    lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in words if len(word) <= 64)
    return "".join(f'"{line}"\n' for line in lines)


def again(name: str, path: Path) -> None:
    """Run one input again; a crash is raised."""
    is_accepted = check(catalogue.load(name), path.read_bytes())
    print(f"{name}: {'accepted' if is_accepted else 'refused'}, as it should")


def report(outcome: Outcome) -> str:
    """One line, and for each crash the command that repeats it."""
    state = "ok" if outcome.is_clean else f"FAILED, see {outcome.log.relative_to(ROOT)}"
    lines = [f"{outcome.name:20} {outcome.n_inputs:>10,} inputs  {outcome.n_branches:>5} branches  {state}"]
    for path in outcome.crashes:
        lines.append(f"  make fuzz-again TARGET={outcome.name} INPUT={path.relative_to(ROOT)}")
    return "\n".join(lines)


def main() -> int:
    """The command; 1 if anything crashed."""
    parser = argparse.ArgumentParser(prog="fuzzing", description=__doc__)
    parser.add_argument("--target", choices=catalogue.MODULES, action="append", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at once")
    parser.add_argument("--again", type=Path, metavar="INPUT", help="run one input of one target again")
    options = parser.parse_args()
    names = options.target or list(catalogue.MODULES)
    if options.again is not None:
        if len(names) != 1:
            parser.error("--again needs one --target: make fuzz-again TARGET=... INPUT=...")
        again(names[0], options.again)
        return 0
    if find_spec("atheris") is None:
        parser.error("atheris is not installed; pip install -c constraints.txt -e '.[fuzz]'")
    return _fuzz_all(names, options.seconds, options.jobs)


def _fuzz_all(names: Sequence[str], seconds: int, jobs: int) -> int:
    began_s = time.monotonic()
    failed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for outcome in pool.map(lambda name: fuzz(name, seconds), names):
            print(report(outcome), flush=True)
            failed += not outcome.is_clean
    print(
        f"{len(names) - failed} of {len(names)} targets without a crash, {time.monotonic() - began_s:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
