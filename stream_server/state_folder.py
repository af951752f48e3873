"""The state folder of a server: where it is, and where in it what lies."""

import os
from pathlib import Path

from stream_server.config import Config
from stream_server.errors import ConfigError

STATE_VARIABLE = "STREAM_SERVER_STATE"
STATE_FOLDERS = ("certs", "models", "audit", "guests")


def state_dir(option: Path | None) -> Path:
    """Where certificates, models, audit log and links lie: the option, the variable, or the user's folder."""
    if option is not None:
        return option
    named = os.environ.get(STATE_VARIABLE)
    return Path(named) if named else Path.home() / ".local" / "share" / "stream-server"


def audit_folders(config: Config, state: Path) -> tuple[Path, Path | None]:
    """Where the audit log lies, and the second place of its checkpoints, if there is one."""
    section = config.audit
    folder = Path(section.folder) if section.folder else state / "audit"
    return folder, Path(section.checkpoint_folder) if section.checkpoint_folder else None


def prepare_state(state: Path) -> None:
    """Make the state folder and what lies in it, readable by the owner only.

    Raises:
        ConfigError: A folder cannot be made.
    """
    for name in STATE_FOLDERS:
        try:
            (state / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"{state / name} cannot be made: {exc.strerror}; set --state-dir") from exc
