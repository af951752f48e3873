"""Audit logs made for tests: a clock that is set, and a second place in memory."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stream_server.core.audit import AuditAction, AuditEvent, Outcome
from stream_server.records.folder import AuditFolder
from stream_server.records.verify import Verdict, verify
from stream_server.records.writer import AuditSettings, AuditWriter

SMALL = AuditSettings(file_bytes_max=3_000, checkpoint_events=4, checkpoint_s=60.0)
"""A file holds about ten entries."""


@dataclass
class Clock:
    now: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Log:
    """A log in ``root/log`` with copies of its checkpoints in ``root/second``."""

    root: Path
    settings: AuditSettings = SMALL
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.folder = AuditFolder(self.root / "log")
        self.second = AuditFolder(self.root / "second")
        self.second.path.mkdir(parents=True, exist_ok=True)

    def publish(self, number: int, note: str) -> None:
        with self.second.notes(number).open("a") as file:
            file.write(note)

    def open(self) -> AuditWriter:
        return AuditWriter(self.folder.path, self.settings, "test", self.clock, self.publish)

    def fill(self, n_events: int) -> None:
        """Open, write events one by one with checkpoints where due, close."""
        writer = self.open()
        for i in range(n_events):
            writer.write([event(i)])
            self.clock.advance(1.0)
            if writer.is_checkpoint_due:
                writer.checkpoint()
        writer.tidy()
        writer.close()

    def verify(self) -> Verdict:
        return verify(self.folder, self.second)


def event(i: int) -> AuditEvent:
    return AuditEvent(AuditAction.SESSION_END, Outcome.SUCCESS, source="10.0.0.7", detail={"i": i})
