"""What the server's log tells of that of commands: no cut goes unseen, and no clean log is accused."""

import fcntl
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_logs import Clock, Log, event
from audit_mutations import MUTATIONS

from stream_server.core.audit import AuditAction
from stream_server.records import audit_log
from stream_server.records.anchor import CommandsEnd
from stream_server.records.audit_log import AuditLog
from stream_server.records.command_log import commands_in
from stream_server.records.folder import AuditFolder
from stream_server.records.line import decode
from stream_server.records.summary import verify_logs
from stream_server.records.verify import Integrity, Verdict
from stream_server.records.writer import AuditSettings, AuditWriter

N_EDITS = int(os.environ.get("STREAM_SERVER_AUDIT_EDITS", "960")) // 10
"""`make audit-edits` sets ten times 1,000."""


class Machine:
    """A server's log and that of commands in it, without a second place."""

    def __init__(self, root: Path) -> None:
        self.server = AuditFolder(root / "audit")
        self.commands = Log(root)
        self.commands.folder = commands_in(self.server)
        self.clock = Clock()

    def anchor(self) -> None:
        """As a server that starts, looks once, and stops."""
        writer = AuditWriter(self.server.path, AuditSettings(), "test", self.clock, _nowhere)
        writer.write([event(0)])
        if (anchor := CommandsEnd(self.commands.folder).anchor()) is not None:
            writer.write([anchor])
        writer.close()

    def verdict(self) -> Verdict:
        server, commands = verify_logs(self.server)
        assert server.integrity is Integrity.INTACT
        assert commands is not None
        return commands


def _nowhere(number: int, note: str) -> None:
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of commands of several files, anchored three times, and in ``old`` one from before the third."""
    root = tmp_path_factory.mktemp("machine")
    machine = Machine(root)
    for n_events in (20, 15):
        machine.commands.fill(n_events)
        machine.anchor()
    _unpack(machine.commands.folder)
    shutil.copytree(machine.commands.folder.path, root / "old")
    machine.commands.fill(8)
    machine.anchor()
    _unpack(machine.commands.folder)
    assert len(machine.commands.folder.numbers()) > 3
    verdict = machine.verdict()
    assert (verdict.integrity, verdict.n_anchors) == (Integrity.INTACT, 3)
    return root


def _unpack(folder: AuditFolder) -> None:
    for path in folder.path.glob("*.gz"):
        number = int(path.name[:6])
        folder.entries(number).write_bytes(b"".join(line + b"\n" for line in folder.lines(number)))
        path.unlink()


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.timeout(1800)
def test_every_edit_of_what_was_anchored_is_found(whole: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "machine"
    for seed in range(-(-N_EDITS // len(MUTATIONS))):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(whole, root)
        machine = Machine(root)
        MUTATIONS[name](machine.commands, random.Random(seed))
        verdict = machine.verdict()
        assert verdict.integrity is not Integrity.INTACT, (name, seed)
        assert verdict.problem


def test_a_cut_end_is_found_although_the_log_has_grown_and_was_anchored_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.commands.fill(3)
    shutil.copytree(machine.commands.folder.path, tmp_path / "old")
    machine.commands.fill(1)
    machine.anchor()
    shutil.rmtree(machine.commands.folder.path)
    shutil.copytree(tmp_path / "old", machine.commands.folder.path)
    machine.commands.fill(4)
    machine.anchor()
    assert machine.verdict().integrity is Integrity.TAMPERED


def test_a_log_that_is_gone_or_begun_anew_is_missed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.commands.fill(3)
    machine.anchor()
    machine.commands.folder.path.rename(tmp_path / "elsewhere")
    assert machine.verdict().integrity is Integrity.UNREADABLE
    machine.commands.fill(9)
    assert machine.verdict().integrity is Integrity.TAMPERED


def test_what_is_not_anchored_yet_may_grow(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.commands.fill(1)
    machine.anchor()
    machine.commands.fill(30)
    verdict = machine.verdict()
    assert (verdict.integrity, verdict.n_anchors) == (Integrity.INTACT, 1)


@pytest.mark.timeout(600)
def test_no_clean_log_is_accused(tmp_path: Path) -> None:
    """Commands, changes of keys, days, crashes and anchors in any order."""
    for seed in range(max(10, N_EDITS // 10)):
        rng, machine = random.Random(seed), Machine(tmp_path / str(seed))
        for _ in range(rng.randint(1, 12)):
            rng.choice(STEPS)(machine)
        machine.commands.fill(1)
        machine.anchor()
        assert machine.verdict().integrity is Integrity.INTACT, seed


def _run_commands(machine: Machine) -> None:
    machine.commands.fill(3)


def _rotate(machine: Machine) -> None:
    writer = machine.commands.open()
    writer.rotate()
    writer.close()


def _sleep(machine: Machine) -> None:
    machine.commands.clock.advance(86_400)


def _crash(machine: Machine) -> None:
    machine.commands.fill(1)
    last = machine.commands.folder.numbers()[-1]
    with machine.commands.folder.entries(last).open("ab") as file:
        file.write(b'{"torn')


STEPS: list[Callable[[Machine], None]] = [_run_commands, _rotate, _sleep, _crash, Machine.anchor]


def test_nothing_is_told_where_there_is_nothing_new(tmp_path: Path) -> None:
    commands = Machine(tmp_path).commands
    end = CommandsEnd(commands.folder)
    assert end.anchor() is None
    commands.fill(2)
    first = end.anchor()
    assert first is not None
    assert end.anchor() == first, "it is told until it is written"
    end.mark_written(first)
    assert end.anchor() is None
    commands.fill(1)
    assert end.anchor() not in (None, first)


def test_a_command_that_is_writing_is_left_alone(tmp_path: Path) -> None:
    commands = Machine(tmp_path).commands
    commands.fill(1)
    lock = os.open(commands.folder.lock, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert CommandsEnd(commands.folder).anchor() is None
    os.close(lock)
    assert CommandsEnd(commands.folder).anchor() is not None


# ---------------------------------------------------------------- in a running server


def anchors_in(folder: AuditFolder) -> list[str]:
    found = [decode(line) for number in folder.numbers() for line in folder.lines(number)]
    return [str(entry.detail["note"]) for entry in found if entry.action == AuditAction.LOG_ANCHOR]


def test_a_server_anchors_what_commands_wrote_while_it_ran_and_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "ANCHOR_S", 0.0)
    monkeypatch.setattr(audit_log, "RETRY_S", 0.001)
    machine = Machine(tmp_path)
    audit = AuditLog(machine.server.path, AuditSettings(), "test", _nowhere)
    machine.commands.fill(1)
    while not anchors_in(machine.server):
        pass
    monkeypatch.setattr(audit_log, "ANCHOR_S", 1e9)
    machine.commands.fill(1)
    audit.close()
    assert 2 <= len(anchors_in(machine.server)) <= 3
    assert machine.commands.folder.read_notes(1)[-1] == anchors_in(machine.server)[-1]
    verdict = machine.verdict()
    assert (verdict.integrity, verdict.n_entries) == (Integrity.INTACT, 2)


def test_a_log_of_commands_that_cannot_be_read_does_not_stop_the_servers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(tmp_path)
    machine.commands.fill(1)
    machine.commands.folder.notes(1).write_bytes(b"half of a")
    audit = AuditLog(machine.server.path, AuditSettings(), "test", _nowhere)
    audit.record(event(0))
    audit.close()
    assert "audit_commands_unreadable" in caplog.text
    assert machine.verdict().integrity is Integrity.UNREADABLE
