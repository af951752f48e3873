"""Lists the segments of a recording: ``python -m vad FILE [--json]``."""

from vad.cli import main

if __name__ == "__main__":
    main()
