"""How many threads torch uses: set here, once in each process, and nowhere else.

The server's process scores VAD batches that are too small to share among threads. The engine's process
gets all cores but one, which is the server's: torch's threads wait for each other in every operation,
so that one of them without a core holds up all. Measured 2026-11-21 on 2 cores with one of them busy:
a 3 s window took 54 ms with one thread and 500 to 2,600 ms with two (``demo-en``, batch of 1).
"""

import os

import torch


def set_torch_threads(n_threads: int) -> None:
    """Give this process ``n_threads`` for torch; 0 is all cores it may run on but one."""
    torch.set_num_threads(n_threads or max(1, len(os.sched_getaffinity(0)) - 1))
