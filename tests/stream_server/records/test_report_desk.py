"""Reports for a running server: aside, one at a time, with an end."""

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest
from audit_logs import Log

from stream_server.errors import AuditUnavailable
from stream_server.records import report_desk
from stream_server.records.report_desk import ReportDesk


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = Log(tmp_path)
    log.fill(12)
    return log


async def made(desk: ReportDesk) -> bytes:
    """The report, when the desk has it."""
    assert desk.ask() is None
    assert desk._making is not None
    await desk._making
    report = desk.ask()
    assert report is not None
    return report


async def test_a_report_is_made_aside_and_given_to_all_who_ask_in_the_moment(log: Log) -> None:
    desk = ReportDesk(log.folder.path, log.second.path)
    report = await made(desk)
    summary = msgspec.json.decode(report)
    assert summary["integrity"]["n_entries"] == 12
    assert summary["integrity"]["has_second_place"] is True
    assert len(summary["report"]["by_hour"]) == 24
    assert desk.ask() is report
    await desk.close()


async def test_who_asks_meanwhile_starts_no_second_one(log: Log) -> None:
    desk = ReportDesk(log.folder.path, None)
    assert desk.ask() is None
    making = desk._making
    assert desk.ask() is None
    assert desk._making is making
    await desk.close()


async def test_after_a_moment_it_is_made_anew(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = ReportDesk(log.folder.path, None)
    await made(desk)
    monkeypatch.setattr(report_desk, "KEEP_S", 0.0)
    assert desk.ask() is None
    await desk.close()


async def test_a_log_that_cannot_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk = ReportDesk(tmp_path / "none", None)
    with pytest.raises(AuditUnavailable, match="stream-server audit report"):
        await made(desk)
    [line] = [record for record in caplog.records if record.getMessage() == "report_failed"]
    assert line.levelno == logging.ERROR
    assert "exit code 4" in line.stream_server_fields["error"]  # type: ignore[attr-defined]  ops.log adds it
    await desk.close()


async def test_a_report_that_takes_too_long_is_given_up(log: Log) -> None:
    desk = ReportDesk(log.folder.path, None, timeout_s=0.001)
    with pytest.raises(AuditUnavailable):
        await made(desk)
    assert desk._process is None
    await desk.close()


async def test_a_server_that_stops_waits_for_no_report(log: Log) -> None:
    desk = ReportDesk(log.folder.path, None)
    desk.ask()
    async with asyncio.timeout(5):
        await desk.close()
    assert desk._making is None
    assert desk._result is None
