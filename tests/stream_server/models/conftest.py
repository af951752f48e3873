"""What these tests share."""

from collections.abc import Iterator

import pytest
import torch

from stream_server.engine.threads import set_torch_threads


@pytest.fixture(scope="package", autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """The models are too small to share among threads, and the cores are shared with other work."""
    n_threads = torch.get_num_threads()
    set_torch_threads(1)
    yield
    set_torch_threads(n_threads)
