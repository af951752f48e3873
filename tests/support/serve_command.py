"""``stream-server serve`` as an operator runs it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pki import Pki


@contextmanager
def serve(
    pki: Pki,
    config: str,
    *arguments: str,
    before: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    fds: Sequence[int] = (),
) -> Iterator["subprocess.Popen[str]"]:
    """``stream-server serve`` as an operator runs it.

    Args:
        pki: Of its state folder.
        config: Contents of its configuration file.
        arguments: Further ones of the command.
        before: Another command before it.
        environment: Variables beside those of this process.
        fds: Descriptors that it inherits.
    """
    state = pki.store.folder.parent
    path = state / f"config-{time.monotonic_ns()}.toml"
    path.write_text(config)
    command = [
        sys.executable,
        "-m",
        "stream_server",
        "serve",
        "--state-dir",
        str(state),
        "--config",
        str(path),
    ]
    process = subprocess.Popen(
        [*before, *command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "300", **(environment or {})},
        pass_fds=fds,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


FAKE = "[engine]\nfake = true\n[server]\nport = 0\n"


def address_printed(process: "subprocess.Popen[str]") -> str:
    """The URL that ``serve`` prints once it is ready."""
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(r"wss://\S+", line):
            return match.group().replace("127.0.0.1", "localhost")
    raise AssertionError(process.communicate()[1])
