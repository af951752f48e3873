"""The certificate commands, as a person types them."""

import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.serialization import pkcs12
from typer.testing import CliRunner, Result

from certs.authority import crl_info
from certs.cli import PASSPHRASE_VARIABLE, CertsFolder, app
from certs.store import Store

RUNNER = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "certs"


def run(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Result:
    return RUNNER.invoke(app, [*arguments, "--dir", str(folder)], env=env, terminal_width=200)


def ok(folder: Path, *arguments: str) -> str:
    result = run(folder, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(folder: Path, *arguments: str) -> str:
    result = run(folder, *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_the_commands_lead_from_one_to_the_next(folder: Path) -> None:
    assert "Next: `stream-server certs server localhost`" in ok(folder, "init")
    assert "Next: `stream-server certs client" in ok(folder, "server", "localhost", "127.0.0.1")
    assert "Next: `stream-server serve`" in ok(folder, "client", "demo", "--role", "source")
    assert "certs show`" in ok(folder, "revoke", "demo")
    assert "certs show`" in ok(folder, "crl", "--days", "3")
    shown = ok(folder, "show")
    for text in (
        "localhost 127.0.0.1",
        "spiffe://stream-server.local/source/demo",
        "revoked 20",
        "authority",
    ):
        assert text in shown


def test_every_command_explains_itself() -> None:
    for command in ("init", "server", "client", "revoke", "crl", "show"):
        result = RUNNER.invoke(app, [command, "--help"], terminal_width=200)
        assert result.exit_code == 0
        assert "--dir" in result.stdout


def test_the_trust_domain_given_to_init_is_in_every_identity(folder: Path) -> None:
    ok(folder, "init", "--trust-domain", "hall.example")
    assert "spiffe://hall.example/reader/anna" in ok(folder, "client", "anna", "--role", "reader")


def test_days_are_obeyed(folder: Path) -> None:
    ok(folder, "init")
    ok(folder, "client", "demo", "--role", "source", "--days", "2")
    ok(folder, "crl", "--days", "3")
    store, now = Store(folder), datetime.now(UTC)
    assert store.read_index().entries[0].not_after - now < timedelta(days=2)
    assert crl_info(store.crl.read_bytes()).next_update - now < timedelta(days=3)


def test_expected_trouble_is_one_line_and_status_1(folder: Path) -> None:
    assert "certs init" in fail(folder, "client", "demo", "--role", "source")
    assert "certs init" in fail(folder, "show")
    ok(folder, "init")
    assert "--force" in fail(folder, "init")
    assert "trust domain" in fail(folder, "init", "--trust-domain", "A B", "--force")
    assert "the name must be" in fail(folder, "client", "a b", "--role", "source")
    assert "neither a host name" in fail(folder, "server", "https://x")
    assert "certs show" in fail(folder, "revoke", "nobody")
    (folder / "crl.pem").unlink()
    assert "certs crl" in fail(folder, "show")


def test_wrong_usage_is_status_2(folder: Path) -> None:
    for arguments in (
        ["client", "demo"],
        ["client", "demo", "--role", "king"],
        ["crl", "--days", "0"],
        ["sing"],
    ):
        assert run(folder, *arguments).exit_code == 2


def test_init_with_force_says_where_the_old_authority_went(folder: Path) -> None:
    ok(folder, "init")
    assert "replaced-" in ok(folder, "init", "--force")


def test_a_replaced_certificate_is_named_with_the_command_that_revokes_it(folder: Path) -> None:
    ok(folder, "init")
    ok(folder, "client", "demo", "--role", "source")
    serial = Store(folder).read_index().entries[0].serial_hex
    said = ok(folder, "client", "demo", "--role", "source", "--force")
    assert f"certs revoke {serial}`" in said


def test_revoking_twice_is_no_error(folder: Path) -> None:
    ok(folder, "init")
    ok(folder, "client", "demo", "--role", "source")
    ok(folder, "revoke", "demo")
    assert "was revoked before" in ok(folder, "revoke", "demo")


def open_p12(folder: Path, passphrase: str) -> None:
    pkcs12.load_key_and_certificates((folder / "clients/source-demo.p12").read_bytes(), passphrase.encode())


def test_a_generated_passphrase_is_shown_once_and_opens_the_file(folder: Path) -> None:
    ok(folder, "init")
    said = ok(folder, "client", "demo", "--role", "source", "--p12")
    [line] = [line for line in said.splitlines() if "shown only now" in line]
    open_p12(folder, line.rpartition(" ")[2])


def test_a_passphrase_from_a_file_is_used_and_not_shown(folder: Path, tmp_path: Path) -> None:
    ok(folder, "init")
    file = tmp_path / "passphrase"
    file.write_text("from the file\n")
    said = ok(folder, "client", "demo", "--role", "source", "--passphrase-file", str(file))
    assert "from the file" not in said
    open_p12(folder, "from the file")


def test_a_passphrase_from_the_environment_is_used_and_not_shown(folder: Path) -> None:
    ok(folder, "init")
    environment = {PASSPHRASE_VARIABLE: "from outside!"}
    result = run(folder, "client", "demo", "--role", "source", "--p12", env=environment)
    assert result.exit_code == 0
    assert "from outside!" not in result.output
    open_p12(folder, "from outside!")


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"short\n"])
def test_an_unusable_passphrase_file_is_one_line(folder: Path, tmp_path: Path, content: bytes | None) -> None:
    ok(folder, "init")
    file = tmp_path / "passphrase"
    if content is not None:
        file.write_bytes(content)
    assert "passphrase" in fail(folder, "client", "demo", "--role", "source", "--passphrase-file", str(file))


def test_an_embedding_program_chooses_the_folder_and_dir_overrules_it(folder: Path, tmp_path: Path) -> None:
    outer = typer.Typer()

    @outer.callback()
    def state(ctx: typer.Context) -> None:
        ctx.obj = CertsFolder(folder)

    outer.add_typer(app, name="certs")
    assert RUNNER.invoke(outer, ["certs", "init"]).exit_code == 0
    assert (folder / "ca.pem").exists()
    other = tmp_path / "other"
    assert RUNNER.invoke(outer, ["certs", "init", "--dir", str(other)]).exit_code == 0
    assert (other / "ca.pem").exists()


def test_without_any_choice_the_state_folder_is_used(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["init"], env={"STREAM_SERVER_STATE": str(tmp_path)})
    assert result.exit_code == 0
    assert (tmp_path / "certs" / "ca.pem").exists()


def test_the_package_runs_as_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["certs", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("certs", run_name="__main__")
    assert "python -m certs" in capsys.readouterr().out
