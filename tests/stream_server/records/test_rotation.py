"""Another key signs the audit log: at once, in whichever process writes it, and verifiably."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_logs import Log, event

from stream_server.core.audit import AuditAction
from stream_server.records import writer as writer_module
from stream_server.records.errors import AuditError
from stream_server.records.line import Entry, decode
from stream_server.records.note import announced_key
from stream_server.records.rotation import RotationTimeout, rotate_audit_key
from stream_server.records.verify import Integrity

INTACT = Integrity.INTACT


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def entries(log: Log) -> list[Entry]:
    return [decode(line) for number in log.folder.numbers() for line in log.folder.lines(number)]


def never(seconds: float) -> None:
    raise AssertionError("nobody has to wait")


def rotate(log: Log, sleep: Callable[[float], None] = never) -> int:
    return rotate_audit_key(log.folder, log.publish, sleep, log.clock)


def test_the_old_key_names_the_new_one_twice_and_is_erased(log: Log) -> None:
    log.fill(3)
    old = log.folder.signing_key.read_bytes()
    assert rotate(log) == 2
    *_, told = entries(log)
    assert (told.action, told.object) == (AuditAction.KEY_ROTATE, "key:audit")
    assert told.detail["next_key"] == announced_key(log.folder.read_notes(1)[-1])
    assert old not in [path.read_bytes() for path in log.folder.path.iterdir()]
    assert log.verify().integrity is INTACT


def test_a_log_is_intact_over_many_changes_of_keys(log: Log) -> None:
    for _ in range(3):
        log.fill(2)
        rotate(log)
        assert rotate(log) == log.folder.numbers()[-1]
    log.fill(1)
    assert log.folder.numbers() == list(range(1, 8))
    verdict = log.verify()
    assert (verdict.integrity, verdict.n_entries) == (INTACT, 3 * 4 + 1)


def test_a_key_that_was_not_announced_signs_nothing(log: Log) -> None:
    log.fill(2)
    rotate(log)
    log.fill(2)
    notes = log.folder.notes(1)
    told = announced_key(log.folder.read_notes(1)[-1])
    assert told is not None
    notes.write_text(notes.read_text().replace(told, base64.b64encode(bytes(32)).decode()))
    assert log.verify().integrity is Integrity.TAMPERED


def test_who_writes_the_log_is_asked_and_does_it(log: Log) -> None:
    writer = log.open()
    writer.write([event(0)])

    def serve(seconds: float) -> None:
        assert writer.is_rotation_asked
        writer.rotate()

    assert rotate(log, serve) == 2
    assert not writer.is_rotation_asked
    writer.write([event(1)])
    writer.close()
    assert log.verify().integrity is INTACT


def test_a_server_that_does_not_answer_is_told(log: Log) -> None:
    writer = log.open()
    waited: list[float] = []
    with pytest.raises(RotationTimeout, match="take the wish back"):
        rotate(log, waited.append)
    assert sum(waited) == pytest.approx(10.0)
    writer.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_root_makes_no_key_that_the_servers_user_could_not_read(log: Log) -> None:
    log.fill(1)
    os.chown(log.folder.path, 12_345, 12_345)
    with pytest.raises(RotationTimeout, match="one that starts does it then"):
        rotate(log, lambda seconds: None)
    assert log.folder.numbers() == [1]
    assert log.folder.rotation_request.exists()


def test_without_a_log_there_is_nothing_to_do(log: Log) -> None:
    with pytest.raises(AuditError, match="no audit log"):
        rotate(log)


@pytest.mark.parametrize("step", ["write_private", "sync_names"])
def test_a_change_that_the_disk_interrupts_is_done_at_the_next_try_with_the_key_that_was_named(
    log: Log, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = log.open()
    writer.write([event(0)])

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, step, fail)
        with pytest.raises(OSError, match="No space"):
            writer.rotate()
    writer.rotate()
    writer.write([event(1)])
    writer.close()
    [told] = [entry for entry in entries(log) if entry.action == AuditAction.KEY_ROTATE]
    assert told.detail["next_key"] == announced_key(log.folder.read_notes(1)[-1])
    assert log.verify().integrity is INTACT
