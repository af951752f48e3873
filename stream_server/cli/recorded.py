"""What commands change stands in the audit log: that one begins, before it acts, and how it ended."""

import os
import pwd
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from certs.cli import Deed
from stream_server.cli.models_view import print_error
from stream_server.config_file import find_config, load_config
from stream_server.core.audit import Actor, AuditAction, AuditEvent, Outcome
from stream_server.errors import ConfigError
from stream_server.records.audit_log import utc_now
from stream_server.records.command_log import CommandLog
from stream_server.records.errors import AuditError
from stream_server.records.writer import AuditSettings
from stream_server.state_folder import audit_folders

Detail = dict[str, str | int]

_TEXT_MAX = 300
_NO_LOGIN = 2**32 - 1
"""What Linux says of a process that nobody logged in to start."""
_DEEDS = {
    Deed.MAKE_AUTHORITY: AuditAction.AUTHORITY_MAKE,
    Deed.ISSUE: AuditAction.CERTIFICATE_ISSUE,
    Deed.REVOKE: AuditAction.CERTIFICATE_REVOKE,
    Deed.RENEW_CRL: AuditAction.CRL_ISSUE,
}


@contextmanager
def recorded(action: AuditAction, resource: str, state: Path, config: Path | None = None) -> Iterator[Detail]:
    """Record what a ``with`` block does. It is not entered while that cannot be written down.

    Args:
        action: What is done.
        resource: To what, e.g. ``model:base.en``.
        state: The state folder it is done in.
        config: Configuration file given on the command line.

    Yields:
        Numbers and codes to tell beside the outcome; the block fills it.
    """
    with _one_line_errors("nothing was done"):
        log = command_log(state, config)
        resource = resource[:_TEXT_MAX]
        who, detail = _os_user()
        session = secrets.token_hex(8)
        begun = {**detail, "action": action.value}
        log.write(
            [
                AuditEvent(
                    AuditAction.COMMAND_BEGIN, Outcome.SUCCESS, who, None, resource, None, session, begun
                )
            ]
        )
    try:
        yield detail
    except BaseException as exc:
        reason = _reason(exc)
        outcome = Outcome.SUCCESS if reason is None else Outcome.FAILURE
        with _one_line_errors("that the command ended is not recorded"):
            log.write([AuditEvent(action, outcome, who, None, resource, reason, session, detail)])
        raise
    with _one_line_errors("the command did its work, but its end is not recorded"):
        log.write([AuditEvent(action, Outcome.SUCCESS, who, None, resource, None, session, detail)])


@contextmanager
def recorded_deed(folder: Path, deed: Deed, what: str) -> Iterator[Detail]:
    """Record what ``stream-server certs`` does in a folder of certificates."""
    # Of a folder that lies elsewhere, such as on the machine of an authority alone, the log lies in it.
    state = folder.parent if folder.name == "certs" else folder
    with recorded(_DEEDS[deed], what, state) as detail:
        yield detail


def command_log(state: Path, config: Path | None) -> CommandLog:
    """The log that commands share, of a state folder and a configuration."""
    settings = load_config(find_config(config), {})
    folder, copies = audit_folders(settings, state)
    return CommandLog(
        folder,
        copies,
        AuditSettings(keep_days=settings.audit.keep_days),
        socket.gethostname(),
        utc_now,
        lambda: typer.echo(f"warning: {copies} could not take a copy of the checkpoint", err=True),
    )


def _os_user() -> tuple[Actor, Detail]:
    """Who runs the command; beside it, who logged in before becoming that user."""
    uid = os.getuid()
    detail: Detail = {"uid": uid}
    try:
        login = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        login = _NO_LOGIN  # a kernel without it
    if login not in (_NO_LOGIN, uid):
        detail["login"] = _name_of(login)
    return Actor(f"user:{_name_of(uid)}", serial="", fingerprint=""), detail


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _reason(exc: BaseException) -> str | None:
    """A code for what ended a command; None if that was no failure."""
    if isinstance(exc, typer.Exit):
        return None if exc.exit_code == 0 else f"exit_{exc.exit_code}"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(exc).__name__).lower()


@contextmanager
def _one_line_errors(consequence: str) -> Iterator[None]:
    try:
        yield
    except (AuditError, ConfigError) as exc:
        print_error(f"{exc}; {consequence}")
        raise typer.Exit(1) from exc
