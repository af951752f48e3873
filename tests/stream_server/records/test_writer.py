import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from audit_logs import Clock, Log, event

from stream_server.records import writer as writer_module
from stream_server.records.errors import AuditError
from stream_server.records.line import decode
from stream_server.records.verify import Integrity
from stream_server.records.writer import AuditSettings, AuditWriter

INTACT = Integrity.INTACT


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def numbers_in(log: Log) -> list[int]:
    """What ``event`` counted, read back."""
    entries = (decode(line) for number in log.folder.numbers() for line in log.folder.lines(number))
    return [entry.detail["i"] for entry in entries if "i" in entry.detail]


def test_what_was_written_is_there_in_order_and_intact(log: Log) -> None:
    log.fill(50)
    assert numbers_in(log) == list(range(50))
    verdict = log.verify()
    assert (verdict.integrity, verdict.n_entries, verdict.n_uncovered) == (INTACT, 50, 0)
    assert len(log.folder.numbers()) > 3


def test_closed_files_are_compressed(log: Log) -> None:
    log.fill(50)
    *closed, current = log.folder.numbers()
    assert all(log.folder.packed(number).exists() for number in closed)
    assert not any(log.folder.entries(number).exists() for number in closed)
    assert log.folder.entries(current).exists()


def test_a_log_goes_on_where_it_ended(log: Log) -> None:
    for _ in range(10):
        log.fill(7)
    assert log.verify().integrity is INTACT
    assert log.verify().n_entries == 70


def test_only_the_owner_may_read_it(log: Log) -> None:
    log.fill(30)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in log.folder.path.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_a_new_day_begins_a_new_file(tmp_path: Path) -> None:
    log = Log(tmp_path, AuditSettings(), Clock(datetime(2026, 11, 21, 23, 59, 58, tzinfo=UTC)))
    log.fill(5)
    assert [len(list(log.folder.lines(number))) for number in log.folder.numbers()] == [2, 3]


def test_a_checkpoint_is_due_after_so_many_events_or_so_much_time(log: Log) -> None:
    writer = log.open()
    assert not writer.is_checkpoint_due
    writer.write([event(0)])
    assert not writer.is_checkpoint_due
    log.clock.advance(60.0)
    assert writer.is_checkpoint_due
    writer.checkpoint()
    assert not writer.is_checkpoint_due
    writer.write([event(i) for i in range(4)])
    assert writer.is_checkpoint_due
    writer.close()


def test_nothing_new_makes_no_checkpoint(log: Log) -> None:
    log.fill(4)
    before = log.folder.notes(1).read_bytes()
    for _ in range(3):
        log.fill(0)
    assert log.folder.notes(1).read_bytes() == before


def test_a_line_torn_by_a_crash_is_cut_off_and_told(log: Log) -> None:
    log.fill(5)
    with log.folder.entries(1).open("ab") as file:
        file.write(b'{"action":"sess')
    log.fill(1)
    assert numbers_in(log) == [0, 1, 2, 3, 4, 0]
    told = decode(list(log.folder.lines(1))[5])
    assert (told.action, told.detail) == ("audit.recover", {"bytes": 15, "file": "000001"})
    assert log.verify().integrity is INTACT


def test_two_processes_cannot_write_one_log(log: Log) -> None:
    writer = log.open()
    with pytest.raises(AuditError, match="another process"):
        log.open()
    writer.close()
    log.open().close()


def test_a_full_disk_leaves_no_half_line(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = log.open()
    writer.write([event(0)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: len(data) // 2)
        with pytest.raises(OSError, match="No space"):
            writer.write([event(1), event(2)])
    writer.write([event(3)])
    writer.close()
    assert numbers_in(log) == [0, 3]
    assert log.verify().integrity is INTACT


@pytest.mark.parametrize("step", ["write_private", "sign", "sync_names", "_open_next"])
def test_a_change_of_files_may_be_interrupted_anywhere(
    log: Log, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """By trouble of the disk, after which the same writer goes on, or by the end of the process."""
    for goes_on in (True, False):
        writer = log.open()
        with monkeypatch.context() as patch:
            _fail_in_change(patch, step, log)
            with pytest.raises(OSError, match="broken"):
                _write_until_it_fails(writer)
        if goes_on:
            writer.write([event(0)])
            writer.close()
        else:
            os.close(writer._file)
            os.close(writer._lock)
        log.fill(3)
        assert log.verify().integrity is INTACT, log.verify()


def _write_until_it_fails(writer: AuditWriter) -> None:
    for n in range(1_000):
        writer.write([event(n)])


def _fail_in_change(patch: pytest.MonkeyPatch, step: str, log: Log) -> None:
    def fail(*args: object) -> None:
        raise OSError("broken")

    if step != "_open_next":
        patch.setattr(writer_module, step, fail)
        return
    real = os.open
    patch.setattr(os, "open", lambda path, *rest: fail() if str(path).endswith("l") else real(path, *rest))


def test_old_files_expire_and_the_log_stays_provable(tmp_path: Path) -> None:
    log = Log(tmp_path, AuditSettings(file_bytes_max=1_000, keep_days=30), Clock(datetime.now(UTC)))
    log.fill(20)
    closed = log.folder.numbers()[:-1]
    for number in closed:
        long_ago = log.clock().timestamp() - 31 * 86_400
        os.utime(log.folder.packed(number), (long_ago, long_ago))
    log.fill(20)
    log.fill(2)
    assert log.folder.numbers()[0] == closed[-1] + 1
    verdict = log.verify()
    assert verdict.integrity is INTACT, verdict
    log.folder.packed(log.folder.numbers()[0]).unlink()
    assert log.verify().integrity is Integrity.TRUNCATED


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("first.pub", "first.pub is missing"),
        ("signing.key", "signing.key is missing"),
        ("origin", "origin: No such file"),
        ("000002.jsonl", "000002 .*is missing"),
    ],
)
def test_a_missing_file_stops_the_start_and_is_named(log: Log, name: str, message: str) -> None:
    log.fill(12)
    (log.folder.path / name).unlink()
    with pytest.raises(AuditError, match=message):
        log.open()


def test_a_log_edited_while_the_server_was_down_is_not_appended_to(log: Log) -> None:
    log.fill(5)
    path = log.folder.entries(1)
    path.write_bytes(path.read_bytes().replace(b'"i":2', b'"i":7'))
    with pytest.raises(AuditError, match="audit verify"):
        log.open()


def test_a_log_cut_short_while_the_server_was_down_is_not_appended_to(log: Log) -> None:
    log.fill(5)
    path = log.folder.entries(1)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(AuditError, match="shorter than its last checkpoint"):
        log.open()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "audit"
    with pytest.raises(AuditError, match=r"file/audit.*Not a directory"):
        AuditWriter(folder, AuditSettings(), "test", Clock(), lambda *_: None)


@pytest.mark.parametrize("name", ["lock", "000001.jsonl", "000001.notes", "first.tmp", "signing.tmp"])
def test_a_name_that_leads_elsewhere_is_not_followed(log: Log, tmp_path: Path, name: str) -> None:
    """Root writes the log of commands into a folder of the server's user."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"no line of a log")
    log.folder.path.mkdir(exist_ok=True)
    (log.folder.path / name).symlink_to(elsewhere)
    with pytest.raises((AuditError, OSError)):
        log.fill(1)
    assert elsewhere.read_bytes() == b"no line of a log"
