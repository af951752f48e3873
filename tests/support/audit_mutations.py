"""Ways to edit an audit log, as somebody would who wants an entry gone or changed.

Each takes a log whose files are all uncompressed and changes what lies in its folder. He can write there
and can read the current signing key; he cannot write to the second place.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from audit_logs import Log
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from stream_server.records import line
from stream_server.records.merkle import MerkleTree
from stream_server.records.note import Checkpoint, announced_key, sign

Mutation = Callable[[Log, random.Random], None]


def _pick(log: Log, rng: random.Random) -> Path:
    """A file of entries that has some."""
    return rng.choice([path for path in sorted(log.folder.path.glob("*.jsonl")) if path.stat().st_size])


def _edit_lines(log: Log, rng: random.Random, edit: Callable[[list[bytes]], None]) -> None:
    path = _pick(log, rng)
    lines = path.read_bytes().splitlines(keepends=True)
    before = list(lines)
    while lines == before:
        edit(lines)
    path.write_bytes(b"".join(lines))


def flip_bit(log: Log, rng: random.Random) -> None:
    path = rng.choice(sorted(log.folder.path.glob("0*")))
    while not path.stat().st_size:
        path = rng.choice(sorted(log.folder.path.glob("0*")))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def delete_line(log: Log, rng: random.Random) -> None:
    _edit_lines(log, rng, lambda lines: lines.pop(rng.randrange(len(lines))) and None)


def repeat_line(log: Log, rng: random.Random) -> None:
    _edit_lines(log, rng, lambda lines: lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines)))


def swap_lines(log: Log, rng: random.Random) -> None:
    path = rng.choice([p for p in sorted(log.folder.path.glob("*.jsonl")) if p.read_bytes().count(b"\n") > 1])
    lines = path.read_bytes().splitlines(keepends=True)
    i, j = rng.sample(range(len(lines)), 2)
    lines[i], lines[j] = lines[j], lines[i]
    path.write_bytes(b"".join(lines))


def truncate_tail(log: Log, rng: random.Random) -> None:
    path = _pick(log, rng)
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def truncate_lines(log: Log, rng: random.Random) -> None:
    """The end of the log, and the checkpoints that would tell."""
    last = log.folder.numbers()[-1]
    n_kept = rng.randrange(max(1, len(list(log.folder.lines(last)))))
    path = log.folder.entries(last)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:n_kept]))
    log.folder.notes(last).unlink(missing_ok=True)


def splice(log: Log, rng: random.Random) -> None:
    """The tail of one file behind the head of another."""
    source, target = rng.sample([p for p in sorted(log.folder.path.glob("*.jsonl")) if p.stat().st_size], 2)
    tail = source.read_bytes().splitlines(keepends=True)
    head = target.read_bytes().splitlines(keepends=True)
    target.write_bytes(b"".join(head[: rng.randrange(len(head))] + tail[rng.randrange(len(tail)) :]))


def drop_file(log: Log, rng: random.Random) -> None:
    _pick(log, rng).unlink()


def drop_last_files(log: Log, rng: random.Random) -> None:
    numbers = log.folder.numbers()
    for number in numbers[rng.randrange(1, len(numbers)) :]:
        log.folder.entries(number).unlink()
        log.folder.notes(number).unlink(missing_ok=True)


def rechain(log: Log, rng: random.Random) -> None:
    """Change an entry and make every later line follow it, without any key."""
    _forge(log, rng)


def reseal(log: Log, rng: random.Random) -> None:
    """The same, and sign new checkpoints with the current key."""
    _forge(log, rng)
    key = load_pem_private_key(log.folder.signing_key.read_bytes(), None)
    for number in log.folder.numbers():
        tree = MerkleTree()
        for content in log.folder.lines(number):
            tree.add(content)
        notes = log.folder.read_notes(number)
        announced = announced_key(notes[-1]) if notes else None
        next_key = None if announced is None else key.public_key().public_bytes_raw()
        checkpoint = Checkpoint(f"{log.folder.origin()}/{number:06d}", tree.size, tree.root(), next_key)
        log.folder.notes(number).write_text(sign(checkpoint, key))


def _forge(log: Log, rng: random.Random) -> None:
    total = sum(len(list(log.folder.lines(number))) for number in log.folder.numbers())
    victim, prev, seq = rng.randrange(total), None, 0
    for number in log.folder.numbers():
        forged = []
        for content in log.folder.lines(number):
            entry = line.decode(content)
            changes = {} if prev is None else {"prev": prev}
            if seq == victim:
                changes["src"] = "10.6.6.6"
            content = line.encode(_replace(entry, changes))
            prev, seq = line.digest(content), seq + 1
            forged.append(content + b"\n")
        log.folder.entries(number).write_bytes(b"".join(forged))


def _replace(entry: line.Entry, changes: dict[str, str]) -> line.Entry:
    values = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return line.Entry(**(values | changes))


def roll_back(log: Log, rng: random.Random) -> None:
    """Put an old copy of the whole folder in place: ``log.old`` was taken before the last entries."""
    shutil.rmtree(log.folder.path)
    shutil.copytree(log.root / "old", log.folder.path)


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        flip_bit, delete_line, repeat_line, swap_lines, truncate_tail, truncate_lines, splice, drop_file,
        drop_last_files, rechain, reseal, roll_back,
    )
}  # fmt: skip
