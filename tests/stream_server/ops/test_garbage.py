"""In a process of its own: what is frozen stays so."""

import subprocess
import sys

SCRIPT = """
import gc
from stream_server.ops.garbage import freeze_what_is_loaded

class Left:
    "A cycle, as an ended connection leaves it."
    def __init__(self):
        self.me = self
        self.parts = [[] for _ in range(20)]

ballast = [[] for _ in range(200_000)]
gc.collect()
freeze_what_is_loaded()
before = gc.get_stats()[2]["collections"]
for _ in range(10_000):
    recent = [Left() for _ in range(5)]
print(gc.get_freeze_count() > 200_000, gc.get_stats()[2]["collections"] - before)
"""


def test_what_is_loaded_does_not_keep_python_from_searching_what_came_later() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    is_frozen, n_searches = done.stdout.split()
    assert is_frozen == "True"
    assert int(n_searches) >= 5
