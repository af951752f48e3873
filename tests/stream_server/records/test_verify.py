import os
import random
import shutil
from pathlib import Path

import pytest
from audit_logs import Log, event
from audit_mutations import MUTATIONS

from stream_server.records.folder import AuditFolder, read_public_key
from stream_server.records.verify import Integrity, verify

N_EDITS = int(os.environ.get("STREAM_SERVER_AUDIT_EDITS", "600"))
"""`make audit-edits` sets 10,000."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A log of several files, closed in order, and in ``old`` a copy from before its last entries."""
    log = Log(tmp_path_factory.mktemp("audit"))
    log.fill(35)
    shutil.copytree(log.folder.path, log.root / "old")
    log.fill(8)
    for folder in (log.folder.path, log.root / "old"):
        for path in folder.glob("*.gz"):
            _unpack(path)
    assert len(log.folder.numbers()) > 3
    assert log.verify().integrity is Integrity.INTACT
    return log


def _unpack(path: Path) -> None:
    number = int(path.name[:6])
    folder = AuditFolder(path.parent)
    folder.entries(number).write_bytes(b"".join(line + b"\n" for line in folder.lines(number)))
    path.unlink()


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.timeout(1800)
def test_every_edit_is_found(whole: Log, tmp_path: Path, name: str) -> None:
    log = Log(tmp_path)
    shutil.copytree(whole.second.path, log.second.path, dirs_exist_ok=True)
    shutil.copytree(whole.root / "old", tmp_path / "old")
    for seed in range(-(-N_EDITS // len(MUTATIONS))):
        shutil.rmtree(log.folder.path, ignore_errors=True)
        shutil.copytree(whole.folder.path, log.folder.path)
        MUTATIONS[name](log, random.Random(seed))
        verdict = log.verify()
        assert verdict.integrity is not Integrity.INTACT, (name, seed)
        assert verdict.problem


@pytest.mark.timeout(1800)
def test_clean_logs_raise_no_alarm(tmp_path: Path) -> None:
    """Written, stopped, crashed and gone on with at random."""
    for seed in range(max(20, N_EDITS // 10)):
        rng = random.Random(seed)
        log = Log(tmp_path / str(seed))
        for _ in range(rng.randint(1, 3)):
            log.fill(rng.randint(0, 12))
            if rng.random() < 0.3 and log.folder.numbers():
                with log.folder.entries(log.folder.numbers()[-1]).open("ab") as file:
                    file.write(b'{"torn')
                log.fill(0)
        assert log.verify().integrity is Integrity.INTACT, seed


def test_entries_after_the_last_checkpoint_are_counted(tmp_path: Path) -> None:
    log = Log(tmp_path)
    writer = log.open()
    for i in range(6):
        writer.write([event(i)])
        if writer.is_checkpoint_due:
            writer.checkpoint()
    verdict = verify(log.folder)
    assert (verdict.integrity, verdict.n_entries, verdict.n_uncovered) == (Integrity.INTACT, 6, 2)
    assert not verdict.has_second_place
    writer.close()


def test_a_new_log_in_the_place_of_the_old_needs_the_key_that_was_noted(tmp_path: Path) -> None:
    """Somebody who deletes everything and begins again has a log that is in order by itself."""
    log = Log(tmp_path)
    log.fill(5)
    noted = read_public_key(log.folder.first_key_file)
    shutil.rmtree(log.folder.path)
    shutil.rmtree(log.second.path)
    log.second.path.mkdir()
    log.fill(5)
    assert verify(log.folder).integrity is Integrity.INTACT
    assert verify(log.folder, first_key=noted).integrity is Integrity.TAMPERED


def test_no_log_is_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        verdict = verify(AuditFolder(path))
        assert verdict.integrity is Integrity.UNREADABLE
        assert str(path) in (verdict.problem or "")
