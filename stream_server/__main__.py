"""``python -m stream_server`` is the command ``stream-server``."""

from stream_server.cli import main

# The engine's process imports this module anew under another name.
if __name__ == "__main__":
    main()
