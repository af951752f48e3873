"""The log that commands share: whole after any number of them, and refused where it cannot be kept."""

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from audit_logs import Clock, event

from stream_server.records import command_log
from stream_server.records.command_log import CommandLog, commands_in
from stream_server.records.errors import AuditError
from stream_server.records.folder import AuditFolder
from stream_server.records.summary import verify_logs
from stream_server.records.verify import Integrity, Verdict
from stream_server.records.writer import AuditSettings


def log_in(root: Path, clock: Clock | None = None) -> CommandLog:
    return CommandLog(
        root / "audit",
        root / "copies",
        AuditSettings(),
        "test",
        clock or Clock(),
        lambda: pytest.fail("copy"),
    )


def verdict_of(root: Path, copies: AuditFolder | None = None) -> Verdict | None:
    return verify_logs(AuditFolder(root / "audit"), copies)[1]


def test_each_write_is_signed_and_copied(tmp_path: Path) -> None:
    for i in range(3):
        log_in(tmp_path).write([event(i)])
    verdict = verdict_of(tmp_path, AuditFolder(tmp_path / "copies"))
    assert verdict is not None
    assert (verdict.integrity, verdict.n_entries, verdict.n_uncovered) == (Integrity.INTACT, 3, 0)
    assert verdict.n_checkpoints == 3
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700


def test_a_day_later_there_is_another_file_and_key(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(3):
        log_in(tmp_path, clock).write([event(0)])
        clock.advance(86_400)
    folder = commands_in(AuditFolder(tmp_path / "audit"))
    assert folder.numbers() == [1, 2, 3]
    assert folder.packed(1).exists()
    verdict = verdict_of(tmp_path, AuditFolder(tmp_path / "copies"))
    assert verdict is not None
    assert verdict.integrity is Integrity.INTACT


def test_commands_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    def write(i: int) -> None:
        log_in(tmp_path).write([event(i)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(12)))
    verdict = verdict_of(tmp_path, AuditFolder(tmp_path / "copies"))
    assert verdict is not None
    assert (verdict.integrity, verdict.n_entries) == (Integrity.INTACT, 12)


def test_a_log_that_is_held_for_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(tmp_path).write([event(0)])
    monkeypatch.setattr(command_log, "WAIT_S", 0.0)
    lock = os.open(commands_in(AuditFolder(tmp_path / "audit")).lock, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(AuditError, match="another process writes"):
        log_in(tmp_path).write([event(1)])
    os.close(lock)


def test_an_edited_log_takes_no_more_entries(tmp_path: Path) -> None:
    log_in(tmp_path).write([event(0), event(1)])
    path = commands_in(AuditFolder(tmp_path / "audit")).entries(1)
    path.write_bytes(path.read_bytes().replace(b"10.0.0.7", b"10.0.0.8", 1))
    with pytest.raises(AuditError, match="audit verify"):
        log_in(tmp_path).write([event(2)])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file")
    with pytest.raises(AuditError, match=str(tmp_path / "audit")):
        log_in(tmp_path).write([event(0)])


def test_a_log_that_is_gone_is_missed_where_there_are_copies(tmp_path: Path) -> None:
    log_in(tmp_path).write([event(0)])
    folder = commands_in(AuditFolder(tmp_path / "audit")).path
    folder.rename(tmp_path / "elsewhere")
    assert verdict_of(tmp_path) is None
    verdict = verdict_of(tmp_path, AuditFolder(tmp_path / "copies"))
    assert verdict is not None
    assert verdict.integrity is Integrity.UNREADABLE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes what it must then give away")
def test_what_root_has_written_belongs_to_the_servers_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 12_346)
    log_in(tmp_path).write([event(0)])
    written = [tmp_path / "audit", *(tmp_path / "audit").rglob("*")]
    assert len(written) > 5
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(12_345, 12_346)}
