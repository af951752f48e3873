"""The one place that sets torch's threads, tried in processes of its own."""

import os
import subprocess
import sys

import pytest


def threads_after(n_threads: int) -> int:
    program = (
        "import torch; from stream_server.engine.threads import set_torch_threads; "
        f"set_torch_threads({n_threads}); print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_a_process_gets_the_threads_it_is_given() -> None:
    assert threads_after(3) == 3


@pytest.mark.slow
def test_zero_leaves_one_of_the_cores_that_the_process_may_use_to_others() -> None:
    assert threads_after(0) == max(1, len(os.sched_getaffinity(0)) - 1)
