"""What operators do on the command line stands in the audit log, or is not done."""

import json
import os
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from stream_server.cli import app
from stream_server.cli.recorded import recorded
from stream_server.core.audit import AuditAction
from stream_server.records.command_log import commands_in
from stream_server.records.folder import AuditFolder
from stream_server.records.line import Entry, decode


def certs(state: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["certs", *words, "--dir", str(state / "certs")])


def entries(state: Path) -> list[Entry]:
    folder = commands_in(AuditFolder(state / "audit"))
    return [decode(line) for number in folder.numbers() for line in folder.lines(number)]


def told(state: Path) -> list[tuple[str, str | None, str, str | None]]:
    return [(entry.action, entry.object, entry.outcome, entry.reason) for entry in entries(state)]


def begun(what: str) -> tuple[str, str, str, None]:
    return ("command.begin", what, "success", None)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder, and no configuration file where the commands look for one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


def test_certificates_issued_and_revoked_are_recorded_with_who_and_serial(state: Path) -> None:
    assert certs(state, "init").exit_code == 0
    assert certs(state, "server", "localhost").exit_code == 0
    assert certs(state, "client", "anna", "--role", "source").exit_code == 0
    assert certs(state, "revoke", "source-anna").exit_code == 0
    assert certs(state, "crl").exit_code == 0
    assert certs(state, "show").exit_code == 0
    deeds = [
        ("authority.make", "authority:stream-server.local"),
        ("certificate.issue", "certificate:server"),
        ("certificate.issue", "certificate:source-anna"),
        ("certificate.revoke", "certificate:source-anna"),
        ("crl.issue", "crl"),
    ]
    assert told(state) == [
        entry for action, what in deeds for entry in (begun(what), (action, what, "success", None))
    ]
    issue, revoke = entries(state)[5], entries(state)[7]
    assert issue.actor is not None
    assert issue.actor.id.startswith("user:")
    assert issue.detail["uid"] == os.getuid()
    assert revoke.detail["serials"] == issue.detail["serial"]
    assert issue.session == entries(state)[4].session
    assert entries(state)[4].detail["action"] == "certificate.issue"


def test_what_failed_is_recorded_with_its_reason(state: Path) -> None:
    certs(state, "init")
    assert certs(state, "revoke", "nobody").exit_code == 1
    assert told(state)[-1] == ("certificate.revoke", "certificate:nobody", "failure", "store_error")


def test_links_made_and_ended_are_recorded(state: Path) -> None:
    made = CliRunner().invoke(app, ["link", "board-301", "--state-dir", str(state)])
    assert made.exit_code == 0
    [_, entry] = entries(state)
    assert (entry.action, entry.object, entry.detail["lifetime_s"]) == ("link.make", "room:board-301", 28_800)
    link = str(entry.detail["link"])
    assert CliRunner().invoke(app, ["link", "--revoke", link, "--state-dir", str(state)]).exit_code == 0
    assert told(state)[-1] == ("link.revoke", f"link:{link}", "success", None)
    assert made.stdout.split("#link=")[1].strip() not in str(entries(state)), "the link itself is a secret"


def test_a_change_of_keys_is_recorded_with_who_had_it_made(state: Path) -> None:
    CliRunner().invoke(app, ["link", "board-301", "--state-dir", str(state)])
    rotated = CliRunner().invoke(app, ["keys", "rotate", "tokens", "--void", "--state-dir", str(state)])
    assert rotated.exit_code == 0
    assert told(state)[-1] == ("key.rotate", "key:tokens", "success", None)
    assert entries(state)[-1].detail["void"] == 1
    failed = CliRunner().invoke(app, ["keys", "rotate", "audit", "--state-dir", str(state)])
    assert failed.exit_code == 1
    assert told(state)[-1] == ("key.rotate", "key:audit", "failure", "audit_error")


def test_what_is_done_to_models_is_recorded(state: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["models", "import", str(tmp_path / "none.pt"), "--state-dir", str(state)]
    )
    assert result.exit_code == 1
    assert told(state) == [
        begun("model:none.pt"),
        ("model.install", "model:none.pt", "failure", "model_error"),
    ]


def test_nothing_is_done_that_cannot_be_recorded(state: Path) -> None:
    certs(state, "init")
    (state / "audit" / "commands" / "000001.jsonl").write_bytes(b"edited\n")
    result = certs(state, "client", "anna", "--role", "source")
    assert result.exit_code == 1
    assert "audit verify" in result.stderr
    assert "nothing was done" in result.stderr
    assert not (state / "certs" / "clients").exists()


def test_an_end_that_cannot_be_recorded_is_told(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(typer.Exit),
        recorded(AuditAction.MODEL_REMOVE, "model:a", state),
    ):
        (state / "audit" / "commands" / "000001.jsonl").write_bytes(b"edited\n")
    assert "the command did its work, but its end is not recorded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "outcome", "reason"),
    [
        (typer.Exit(0), "success", None),
        (typer.Exit(3), "failure", "exit_3"),
        (KeyboardInterrupt(), "failure", "keyboard_interrupt"),
        (OSError(28, "No space left on device"), "failure", "oserror"),
    ],
)
def test_however_a_command_ends_it_is_told(
    raised: BaseException, outcome: str, reason: str | None, state: Path
) -> None:
    with pytest.raises(type(raised)), recorded(AuditAction.MODEL_SEAL, "model:a", state):
        raise raised
    assert told(state)[-1] == ("model.seal", "model:a", outcome, reason)


def test_the_configuration_says_where_the_log_lies(state: Path, tmp_path: Path) -> None:
    config = tmp_path / "elsewhere.toml"
    config.write_text(
        f'[audit]\nfolder = "{tmp_path / "log"}"\ncheckpoint_folder = "{tmp_path / "copies"}"\n'
    )
    with recorded(AuditAction.LINK_MAKE, "room:a", state, config):
        pass
    assert not (state / "audit").exists()
    assert commands_in(AuditFolder(tmp_path / "log")).numbers() == [1]
    assert commands_in(AuditFolder(tmp_path / "copies")).note_numbers() == [1]


def test_a_long_name_is_cut(state: Path) -> None:
    with recorded(AuditAction.MODEL_SIGN, "model:" + "x" * 9_000, state):
        pass
    assert len(entries(state)[0].object or "") == 300


def test_report_export_and_verify_know_the_commands(state: Path) -> None:
    with recorded(AuditAction.MODEL_REMOVE, "model:a", state):
        pass
    shown = CliRunner().invoke(app, ["audit", "report", "--json", "--state-dir", str(state)])
    summary = json.loads(shown.stdout)
    assert {"what": "model.remove", "n": 1} in summary["report"]["actions"]
    assert summary["commands"]["integrity"] == 0
    assert shown.exit_code == 4, "the server itself has no log yet"
    exported = CliRunner().invoke(app, ["audit", "export", "--format", "csv", "--state-dir", str(state)])
    assert "model.remove,success" in exported.stdout
    path = commands_in(AuditFolder(state / "audit")).entries(1)
    path.write_bytes(path.read_bytes().replace(b"model:a", b"model:b", 1))
    verified = CliRunner().invoke(app, ["audit", "verify", "--json", "--state-dir", str(state)])
    assert json.loads(verified.stdout)["commands"]["integrity"] == 2
