"""Files of weights: read as safetensors reads them, refused if they are none, and their memory goes back."""

import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from stream_server.engine import weights as weights_module
from stream_server.engine.pages import Pages
from stream_server.engine.weights import take_weights
from stream_server.errors import ModelError

CPU = torch.device("cpu")
PATH = Path("some/model.safetensors")


def pages_of(content: bytes) -> Pages:
    pages = Pages(len(content))
    pages.view[:] = content
    return pages


def take(content: bytes) -> dict[str, Tensor]:
    return take_weights(PATH, pages_of(content), CPU)


def file_of(header: Any, numbers: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
SHAPES = st.lists(st.integers(1, 70), max_size=3)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=8).filter(lambda s: s != "__metadata__"), st.tuples(DTYPES, SHAPES)))
def test_what_safetensors_writes_is_read_as_safetensors_reads_it(
    made: dict[str, tuple[torch.dtype, list[int]]],
) -> None:
    content = save({name: torch.randn(shape).to(dtype) for name, (dtype, shape) in made.items()})
    expected, found = load(content), take(content)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], tensor.float())


def test_metadata_is_no_tensor() -> None:
    assert take(save({"a": torch.ones(2)}, {"format": "pt"})).keys() == {"a"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "unpack", id="empty"),
        pytest.param(b"\xff" * 8, "header is longer than 8 MiB", id="endless header"),
        pytest.param(struct.pack("<Q", 9) + b"{}", "malformed|trailing|truncated|bytes", id="cut header"),
        pytest.param(file_of(b"[" * 5_000), "Expected `object`|recursion", id="deep header"),
        pytest.param(file_of(b'{"a": ' + b"[" * 5_000), "recursion|truncated", id="deep entry"),
        pytest.param(file_of(b'{"\xff": 1}'), "utf-8|malformed|UTF", id="not UTF-8"),
        pytest.param(file_of([]), "Expected `object`", id="a list"),
        pytest.param(file_of({"a": {"dtype": "F32"}}), "shape", id="no shape"),
        pytest.param(file_of({"a": entry("I8", [4], 0, 4)}, bytes(4)), "a is I8", id="integers"),
        pytest.param(file_of({"a": entry("F32", [0], 0, 0)}), ">= 1", id="no numbers"),
        pytest.param(file_of({"a": entry("F32", [-1], 0, 4)}, bytes(4)), ">= 1", id="negative"),
        pytest.param(file_of({"a": entry("F32", [1 << 62] * 9, 0, 4)}, bytes(4)), "a does not", id="huge"),
        pytest.param(file_of({"a": entry("F32", [1], 0, 5)}, bytes(5)), "a does not lie", id="other size"),
        pytest.param(file_of({"a": entry("F32", [1], 4, 8)}, bytes(8)), "a does not lie", id="gap"),
        pytest.param(file_of({"a": entry("F32", [1], 0, 4)}, bytes(8)), "8 bytes .* says 4", id="rest"),
        pytest.param(file_of({"a": entry("F32", [2], 0, 8)}, bytes(4)), "4 bytes .* says 8", id="cut"),
        pytest.param(
            file_of({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 4, 8)}, bytes(8)),
            "b does not lie",
            id="overlap",
        ),
    ],
)
def test_what_is_no_file_of_weights_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(ModelError, match=rf"some/model\.safetensors is not .*({says})"):
        take(content)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_numbers_that_are_not_finite_are_refused(dtype: torch.dtype, number: float, place: int) -> None:
    tensor = torch.linspace(-1, 1, 1_000).to(dtype)
    tensor[place] = number
    with pytest.raises(ModelError, match=r"some/model\.safetensors: odd holds numbers that are not finite"):
        take(save({"even": torch.ones(3), "odd": tensor}))


def test_each_tensor_gives_its_pages_back_before_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each conversion nothing is left of the file up to that tensor's end, but for a part of a page."""
    content = save({name: torch.full((5_000,), 7.0).half() for name in "abc"})
    pages = pages_of(content)
    make: Callable[..., Tensor] = weights_module._float32
    left: list[int] = []

    def watched(*args: Any) -> Tensor:
        left.append(sum(map(bool, pages.view)))
        return make(*args)

    monkeypatch.setattr(weights_module, "_float32", watched)
    take_weights(PATH, pages, CPU)
    left.append(sum(map(bool, pages.view)))
    # float16 7.0 is 0x4700: every second byte of 10,000 a tensor.
    assert left[0] > 15_000
    for before, after in itertools.pairwise(left):
        assert before - after >= 5_000 - 4_096
    assert left[-1] < 4_096
