import csv
import json
from pathlib import Path

import pytest
from audit_logs import Clock, Log
from typer.testing import CliRunner, Result

from stream_server.cli.audit import app
from stream_server.core.audit import AuditAction, AuditEvent, Outcome
from stream_server.records.audit_log import utc_now
from stream_server.records.writer import AuditSettings


class _Here(Log):
    """A log where the command looks for it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folder = type(self.folder)(self.root / "audit")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = _Here(tmp_path, AuditSettings(), Clock(utc_now()))
    log.clock.advance(-3_600)
    log.fill(3)
    writer = log.open()
    writer.write([AuditEvent(AuditAction.AUTHENTICATE, Outcome.DENIED, source="10.0.0.9", reason="revoked")])
    writer.close()
    return log


def run(log: Log, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--state-dir", str(log.root)])


def test_verify_says_intact_and_what_it_could_not_know(log: Log) -> None:
    result = run(log, "verify")
    assert result.exit_code == 0
    assert "intact: 4 entries, 2 checkpoints, 0 entries not signed yet" in result.output
    assert "give --checkpoints FOLDER" in result.output


def test_verify_with_copies_and_key_says_no_more_than_intact(log: Log, tmp_path: Path) -> None:
    kept = tmp_path / "kept.pub"
    kept.write_text(run(log, "key").output)
    result = run(log, "verify", "--checkpoints", str(log.second.path), "--key", str(kept))
    assert result.exit_code == 0
    assert "--checkpoints" not in result.output


def test_verify_names_the_edited_entry(log: Log) -> None:
    path = log.folder.entries(1)
    path.write_bytes(path.read_bytes().replace(b"10.0.0.7", b"10.0.0.8", 1))
    result = run(log, "verify")
    assert result.exit_code == 2
    assert "tampered: file 000001, entry 1:" in result.output


def test_verify_tells_a_shorter_log(log: Log) -> None:
    path = log.folder.entries(1)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert run(log, "verify").exit_code == 3


def test_verify_as_json(log: Log) -> None:
    verdict = json.loads(run(log, "verify", "--json").output)
    assert (verdict["integrity"], verdict["n_entries"]) == (0, 4)


@pytest.mark.parametrize("command", [["verify"], ["report"], ["export", "--format", "csv"], ["key"]])
def test_no_log_is_one_line_and_exit_4(tmp_path: Path, command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--state-dir", str(tmp_path)])
    assert result.exit_code == 4
    assert str(tmp_path / "audit") in result.output


def test_report_sums_up_the_day(log: Log) -> None:
    result = run(log, "report")
    assert result.exit_code == 0
    assert "4 entries, 0 requests admitted, 1 turned away, 3 sessions ended" in result.output
    assert "revoked certificate used" in result.output
    assert "intact:" in result.output


def test_report_of_an_edited_log_ends_like_verify(log: Log) -> None:
    path = log.folder.entries(1)
    path.write_bytes(path.read_bytes().replace(b"10.0.0.7", b"10.0.0.8", 1))
    result = run(log, "report", "--json")
    assert result.exit_code == 2
    assert json.loads(result.output)["integrity"]["integrity"] == 2


def test_export_writes_every_entry(log: Log) -> None:
    rows = list(csv.DictReader(run(log, "export", "--format", "csv").output.splitlines()))
    assert [row["action"] for row in rows] == ["session.end"] * 3 + ["client.authenticate"]
    events = run(log, "export", "--format", "ocsf", "--hours", "2").output.splitlines()
    assert [json.loads(event)["class_uid"] for event in events] == [6003, 6003, 6003, 3002]
