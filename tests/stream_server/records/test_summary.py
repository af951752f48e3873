"""A report with the log's verdict, from a log that a server may be writing."""

from datetime import timedelta
from pathlib import Path

import pytest
from audit_logs import Log

from stream_server.records import summary as module
from stream_server.records.summary import entries, summarise, verify_logs
from stream_server.records.verify import NO_ANCHORS, Checked, Integrity, Verdict, check


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """About ten entries a file, one a second, four files."""
    log = Log(tmp_path)
    log.fill(40)
    return log


def test_a_summary_has_report_and_verdict(log: Log) -> None:
    made = summarise(log.folder, log.second, 1, log.clock.now)
    assert (made.report.n_entries, made.integrity.n_entries) == (40, 40)
    assert made.integrity.integrity is Integrity.INTACT
    assert made.integrity.has_second_place


def test_files_that_ended_before_are_not_read(log: Log) -> None:
    everything = list(entries(log.folder))
    assert [entry.seq for entry in everything] == list(range(40))
    recent = list(entries(log.folder, log.clock.now - timedelta(seconds=5)))
    assert recent == everything[-len(recent) :]
    assert 5 <= len(recent) < 15
    assert list(entries(log.folder, log.clock.now - timedelta(days=9))) == everything


def test_a_line_that_is_being_written_is_not_read(log: Log) -> None:
    path = log.folder.entries(log.folder.numbers()[-1])
    with path.open("ab") as file:
        file.write(b'{"action":"session.e')
    assert [entry.seq for entry in entries(log.folder)] == list(range(40))
    assert summarise(log.folder, None, 1, log.clock.now).integrity.integrity is Integrity.TRUNCATED


def test_a_file_that_is_packed_while_it_is_opened_is_read(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain file was there when the folder was listed, and is packed when it is opened."""
    number = log.folder.numbers()[0]
    assert log.folder.packed(number).exists()
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert len(list(log.folder.lines(number))) > 5


def test_a_fault_counts_when_it_is_found_twice(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    good = check(log.folder)
    torn = Checked(Verdict(Integrity.TRUNCATED, 3, 0, 3, False, "a new file was just begun"), NO_ANCHORS)
    found = [torn, good]
    monkeypatch.setattr(module, "check", lambda *_: found.pop(0))
    assert verify_logs(log.folder) == (good.verdict, None)
    found = [torn, torn]
    assert verify_logs(log.folder) == (torn.verdict, None)
