import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from audit_logs import Log, event

from stream_server.core.audit import AuditAction, AuditEvent, Outcome
from stream_server.errors import AuditUnavailable
from stream_server.records import audit_log as audit_log_module
from stream_server.records.audit_log import AuditLog
from stream_server.records.line import Entry, decode
from stream_server.records.verify import Integrity
from stream_server.records.writer import AuditSettings, AuditWriter

REFUSED = AuditEvent(AuditAction.AUTHORIZE, Outcome.DENIED, source="10.0.0.9", reason="not_allowed")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path, AuditSettings())


@pytest.fixture
def audit(log: Log, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuditLog]:
    monkeypatch.setattr(audit_log_module, "RETRY_S", 0.01)
    audit = AuditLog(log.folder.path, log.settings, "test", log.publish)
    yield audit
    audit.close()


def entries(log: Log) -> list[Entry]:
    return [decode(line) for line in log.folder.lines(1)]


class Disk:
    """Stands before ``AuditWriter.write``: may be full, may be slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        real = AuditWriter.write

        def write(writer: AuditWriter, events: list[AuditEvent]) -> None:
            self.entered.set()
            self.gate.wait()
            if self.is_full:
                raise OSError(28, "No space left on device")
            real(writer, events)

        monkeypatch.setattr(AuditWriter, "write", write)


async def test_secured_means_on_the_disk(log: Log, audit: AuditLog) -> None:
    for i in range(3):
        await audit.secure(event(i))
        assert [entry.detail["i"] for entry in entries(log)] == list(range(i + 1))


async def test_recorded_events_keep_their_order(log: Log, audit: AuditLog) -> None:
    for i in range(500):
        audit.record(event(i))
    await audit.secure(event(500))
    assert [entry.detail["i"] for entry in entries(log)] == list(range(501))


def test_closing_writes_what_waits_and_signs_it(log: Log) -> None:
    audit = AuditLog(log.folder.path, log.settings, "test", log.publish)
    for i in range(100):
        audit.record(event(i))
    audit.close()
    verdict = log.verify()
    assert (verdict.integrity, verdict.n_entries, verdict.n_uncovered) == (Integrity.INTACT, 100, 0)


async def test_on_a_full_disk_nothing_is_secured_and_nothing_recorded_is_lost(
    log: Log, audit: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    disk.is_full = True
    audit.record(event(0))
    with pytest.raises(AuditUnavailable):
        await audit.secure(event(1))
    assert not audit.is_available
    assert audit.n_failures > 0
    disk.is_full = False
    await audit.secure(event(2))
    assert audit.is_available
    assert [entry.detail["i"] for entry in entries(log)] == [0, 2]


async def test_the_queue_has_an_end(log: Log, audit: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log_module, "QUEUE_MAX", 10)
    disk = Disk(monkeypatch)
    disk.gate.clear()
    audit.record(event(0))
    await asyncio.to_thread(disk.entered.wait)
    for i in range(1, 14):
        audit.record(event(i))
    assert (audit.n_waiting, audit.n_dropped, audit.is_available) == (10, 3, False)
    with pytest.raises(AuditUnavailable):
        await audit.secure(event(99))
    disk.gate.set()
    await asyncio.to_thread(audit.close)
    assert [entry.detail["i"] for entry in entries(log)] == list(range(11))


def test_a_flood_of_refusals_is_one_line_of_a_number(log: Log) -> None:
    audit = AuditLog(log.folder.path, log.settings, "test", log.publish)
    for _ in range(1_000):
        audit.record(REFUSED)
    audit.record(replace(REFUSED, source="10.0.0.8"))
    audit.close()
    written = entries(log)
    assert len(written) == 7
    assert {"of": "client.authorize", "suppressed": 995} in [entry.detail for entry in written]


async def test_who_waits_in_a_log_that_closes_is_told(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = AuditLog(log.folder.path, log.settings, "test", log.publish)
    disk = Disk(monkeypatch)
    disk.is_full = True
    audit.record(event(0))
    await asyncio.to_thread(audit.close)
    with pytest.raises(AuditUnavailable):
        await audit.secure(event(1))
