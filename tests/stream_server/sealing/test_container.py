"""The sealed file: what went in comes out, and nothing else is ever taken for it."""

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_server.errors import ModelError
from stream_server.sealing import container
from stream_server.sealing.container import MAGIC, SLOTS_MAX, SealedFile, seal
from stream_server.sealing.keys import SecretKey

KEY = SecretKey(bytes(range(32)))
OTHER = SecretKey(bytes(32))
CHUNK = 64
MANIFEST = b'{"id": "a model"}'


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "CHUNK_BYTES", CHUNK)


def write(folder: Path, files: dict[str, bytes], out: str = "sealed", seed: int = 0) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    seal(folder, list(files), MANIFEST, None, [KEY], folder / out)
    return folder / out


def read(path: Path, key: SecretKey = KEY) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with SealedFile(path) as sealed:
        for name, piece in sealed.pieces(key):
            files[name] = files.get(name, b"") + piece
    return files


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 5 * CHUNK + 7])
def test_what_went_in_comes_out(tmp_path: Path, size: int) -> None:
    files = {"weights": random.Random(size).randbytes(size), "small": b"x", "last": b"the tokenizer" * 11}
    assert read(write(tmp_path, files)) == files


def test_the_files_cannot_be_read_from_it_and_the_manifest_can(tmp_path: Path) -> None:
    path = write(tmp_path, {"weights": b"confidential " * 40})
    assert b"confidential" not in path.read_bytes()
    with SealedFile(path) as sealed:
        assert sealed.public.manifest.encode() == MANIFEST


def test_two_sealings_of_the_same_share_no_chunk(tmp_path: Path) -> None:
    one, two = (write(tmp_path, {"weights": bytes(640)}, out).read_bytes() for out in ("one", "two"))
    assert one[-80:] != two[-80:]


def mutations(whole: bytes, other: bytes, start: int) -> Iterator[tuple[str, bytes]]:
    """A thousand files that are not ``whole``; the payload begins at ``start``, in both."""
    rng = random.Random(20261121)
    sealed_chunk = CHUNK + 16
    n_chunks = (len(whole) - start) // sealed_chunk
    chunk = [whole[start + i * sealed_chunk :][:sealed_chunk] for i in range(n_chunks)]
    head = whole[:start]
    for _ in range(500):
        place = rng.randrange(len(whole))
        flipped = whole[place] ^ (1 << rng.randrange(8))
        yield f"bit of byte {place}", whole[:place] + bytes([flipped]) + whole[place + 1 :]
    for i in range(n_chunks):
        yield f"cut before chunk {i}", whole[: start + i * sealed_chunk]
    for _ in range(150 - n_chunks):
        yield "cut", whole[: rng.randrange(len(whole))]
    for _ in range(100):
        i, j = rng.sample(range(n_chunks), 2)
        swapped = [*chunk]
        swapped[i], swapped[j] = chunk[j], chunk[i]
        yield f"chunks {i} and {j} swapped", head + b"".join(swapped)
    for i in range(50):
        doubled = [*chunk]
        doubled.insert(rng.randrange(n_chunks), chunk[i % n_chunks])
        yield f"chunk {i % n_chunks} twice", head + b"".join(doubled)
        overwritten = [*chunk]
        overwritten[i % n_chunks] = chunk[(i + 1 + rng.randrange(n_chunks - 1)) % n_chunks]
        yield f"chunk {i % n_chunks} overwritten by another", head + b"".join(overwritten)
    for n_bytes in range(1, 51):
        yield f"{n_bytes} bytes appended", whole + rng.randbytes(n_bytes)
    for i in range(50):
        dropped = [*chunk]
        del dropped[i % n_chunks]
        yield f"chunk {i % n_chunks} left out", head + b"".join(dropped)
    for i in range(49):
        foreign = [*chunk]
        foreign[i % n_chunks] = other[start + (i % n_chunks) * sealed_chunk :][:sealed_chunk]
        yield f"chunk {i % n_chunks} of another model", head + b"".join(foreign)
    yield "payload of another model", head + other[start:]


def test_b9_of_a_thousand_altered_files_none_is_accepted(tmp_path: Path) -> None:
    rng = random.Random(1)
    path = write(tmp_path, {"weights": rng.randbytes(11 * CHUNK), "small": rng.randbytes(CHUNK)})
    other = write(tmp_path, {"weights": rng.randbytes(11 * CHUNK), "small": rng.randbytes(CHUNK)}, "other")
    whole, start = path.read_bytes(), path.stat().st_size - 12 * (CHUNK + 16)
    tried = list(mutations(whole, other.read_bytes(), start))
    assert len(tried) == 1000
    accepted, unnamed = [], []
    for what, content in tried:
        assert content != whole
        path.write_bytes(content)
        try:
            read(path)
        except ModelError as exc:
            unnamed += [] if str(path) in str(exc) else [what]
        else:
            accepted.append(what)
    assert accepted == []
    assert unnamed == []


def test_a_slot_of_somebody_else_is_protected_too(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x" * 100)
    seal(tmp_path, ["weights"], MANIFEST, None, [KEY, OTHER], tmp_path / "sealed")
    content = (tmp_path / "sealed").read_bytes()
    place = content.rindex(b'"wrapped":"') + 12
    altered = content[:place] + (b"B" if content[place : place + 1] != b"B" else b"C") + content[place + 1 :]
    (tmp_path / "sealed").write_bytes(altered)
    with pytest.raises(ModelError, match="truncated or altered"):
        read(tmp_path / "sealed")


def test_rekeying_leaves_the_payload_and_ends_the_old_key(tmp_path: Path) -> None:
    files = {"weights": random.Random(3).randbytes(1000)}
    path = write(tmp_path, files)
    payload = path.read_bytes()[-1200:]
    with SealedFile(path) as sealed:
        sealed.rekeyed(KEY, [OTHER], path)
    assert read(path, OTHER) == files
    assert path.read_bytes()[-1200:] == payload
    with pytest.raises(ModelError, match="not sealed for this key"):
        read(path, KEY)


def test_rekeying_with_a_wrong_key_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, {"weights": b"x"})
    before = path.read_bytes()
    with SealedFile(path) as sealed, pytest.raises(ModelError, match="not sealed for this key"):
        sealed.rekeyed(OTHER, [OTHER], path)
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["sealed", "weights"]


def test_as_many_keys_as_the_limit_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x")
    locks = [OTHER] * (SLOTS_MAX - 1) + [KEY]
    seal(tmp_path, ["weights"], MANIFEST, None, locks, tmp_path / "sealed")
    assert read(tmp_path / "sealed") == {"weights": b"x"}
    for wrong in ([], [*locks, KEY]):
        with pytest.raises(ModelError, match="1 to 64 keys"):
            seal(tmp_path, ["weights"], MANIFEST, None, wrong, tmp_path / "sealed")


def test_a_length_that_lies_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "sealed").write_bytes(MAGIC + struct.pack(">I", 0xFFFF_FFFF) + bytes(100))
    with pytest.raises(ModelError, match="truncated or altered"):
        SealedFile(tmp_path / "sealed")


@pytest.mark.parametrize("content", [b"", b"PK", MAGIC[:-1], b"x" * 1000])
def test_what_is_no_sealed_file_is_told_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sealed").write_bytes(content)
    with pytest.raises(ModelError, match="not a sealed model"):
        SealedFile(tmp_path / "sealed")


def test_a_file_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, {"weights": b"x"})
    with pytest.raises(ModelError, match="cannot be read"):
        seal(tmp_path, ["weights", "gone"], MANIFEST, None, [KEY], tmp_path / "new")
    with pytest.raises(ModelError, match="was not written"):
        seal(tmp_path, ["weights"], MANIFEST, None, [KEY], tmp_path / "no folder" / "new")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["sealed", "weights"]
