"""Makes a report in a process of its own: ``python -m stream_server.records.report_process FOLDER``.

A log may be large and its check takes a core for as long as it is. The server's event loop has other things
to do, and a thread would share its interpreter.
"""

import argparse
import os
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stream_server.records.folder import AuditFolder, FolderError
from stream_server.records.line import LineError
from stream_server.records.summary import summarise

MEMORY_BYTES_MAX = 1024 * 1024 * 1024
"""Of address space. A report of millions of entries takes about 50 MB; this ends what is not one."""
EXIT_UNREADABLE = 4
"""As ``stream-server audit`` says it."""


def main() -> int:
    """Write the summary as JSON to standard output; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--second", type=Path)
    parser.add_argument("--hours", type=int, required=True)
    options = parser.parse_args()
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    second = AuditFolder(options.second) if options.second else None
    try:
        summary = summarise(AuditFolder(options.folder), second, options.hours, datetime.now(UTC))
    except (FolderError, LineError) as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_UNREADABLE
    sys.stdout.buffer.write(msgspec.json.encode(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
