"""Runs in WhisperLive's environment: its server as its ``run_server.py`` starts it, which its wheel lacks.

One model for all clients, read in batches, which is what it offers for many; no other limit on clients than
its own admission in that mode.
"""

import sys

from whisper_live.server import TranscriptionServer

if __name__ == "__main__":
    TranscriptionServer().run(
        "127.0.0.1",
        port=int(sys.argv[1]),
        backend="faster_whisper",
        faster_whisper_custom_model_path=sys.argv[2],
        single_model=True,
        batch_enabled=True,
        max_clients=10_000,
        max_connection_time=36_000,
    )
