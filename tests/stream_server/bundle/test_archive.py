"""The archive's bytes, and that it is there whole or not at all."""

import hashlib
import os
import tarfile
from pathlib import Path

import pytest

from stream_server.bundle.archive import Member, sums, write
from stream_server.errors import BundleError


def quiet(n_done: int, n_total: int) -> None:
    assert n_done <= n_total


def test_the_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc" * 5000)
    members = {"b/x": Member(source), "a.sh": Member(b"echo", is_executable=True)}
    first = write(tmp_path / "first.tar", "top", members, quiet)
    os.utime(source, (1, 1))
    source.chmod(0o600)
    second = write(tmp_path / "second.tar", "top", dict(reversed(members.items())), quiet)
    assert first == second == hashlib.sha256((tmp_path / "first.tar").read_bytes()).hexdigest()


def test_it_unpacks_to_one_folder_that_belongs_to_nobody(tmp_path: Path) -> None:
    write(tmp_path / "x.tar", "top", {"a.sh": Member(b"echo", is_executable=True), "b": Member(b"")}, quiet)
    with tarfile.open(tmp_path / "x.tar") as archive:
        found = [(info.name, info.mode, info.uid, info.uname) for info in archive]
    assert found == [("top/a.sh", 0o755, 0, ""), ("top/b", 0o644, 0, "")]


def test_progress_ends_with_all(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write(tmp_path / "x.tar", "top", {"a": Member(b"12"), "b": Member(b"3")}, lambda *so: told.append(so))
    assert told == [(2, 3), (3, 3)]


def test_an_archive_that_cannot_be_written_leaves_nothing_and_keeps_the_older(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("older")
    with pytest.raises(BundleError, match=r"x\.tar cannot be written: No such file"):
        write(tmp_path / "x.tar", "top", {"a": _Vanishing(tmp_path / "gone")}, quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
    assert (tmp_path / "x.tar").read_text() == "older"


class _Vanishing(Member):
    """A file that goes away while the archive is written."""

    def size(self) -> int:
        return 1


def test_two_commands_do_not_write_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / ".x.tar.partial").write_text("theirs")
    with pytest.raises(BundleError, match="another command is writing it"):
        write(tmp_path / "x.tar", "top", {"a": Member(b"")}, quiet)
    assert (tmp_path / ".x.tar.partial").read_text() == "theirs"


def test_sums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    assert sums({"b": Member(b""), "a/c": Member(b"")}) == f"{empty}  a/c\n{empty}  b\n".encode()


@pytest.mark.parametrize("name", ["../up", "a/../b", "/root", "two\nlines", "back\\slash", "a b", "", "a//b"])
def test_names_that_a_tool_could_misread_are_refused(name: str) -> None:
    with pytest.raises(BundleError, match="cannot be a file of the archive"):
        sums({name: Member(b"")})
