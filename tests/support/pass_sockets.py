"""Start a command as systemd does with socket activation: descriptors from 3 on, and what they are for.

python pass_sockets.py 12:server,13:guest COMMAND …
"""

import fcntl
import os
import sys

FIRST_FD = 3


def _main(sockets: str, command: list[str]) -> None:
    pairs = [pair.split(":") for pair in sockets.split(",")]
    # Copied out of the way first: a descriptor may stand where another one belongs.
    spares = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd, _ in pairs]
    for number, spare in enumerate(spares):
        os.dup2(spare, FIRST_FD + number)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(pairs))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for _, name in pairs)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
