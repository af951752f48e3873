"""Each fuzzing target over its seeds, over inputs that once failed, and over some hundred mutations.

``make fuzz`` looks for new ones with atheris; here it is made sure that the targets work, and in seconds.
"""

import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import catalogue
from fuzzing.mutation import mutations
from fuzzing.target import REFUSAL_LENGTH_MAX, Target, check, scratch

FOUND = Path(__file__).parent / "found"
"""``TARGET/NAME``: inputs that crashed, or nearly."""


@pytest.fixture(scope="module", autouse=True)
def _scratch_is_removed() -> Iterator[None]:
    yield
    shutil.rmtree(scratch())


@pytest.mark.parametrize("name", catalogue.MODULES)
def test_a_target_takes_some_seeds_and_stands_what_is_near_them(name: str) -> None:
    target = catalogue.load(name)
    seeds = list(target.seeds())
    accepted = [check(target, seed) for seed in seeds]
    assert any(accepted) or name in NEVER_ACCEPTED
    near = mutations(seeds, target.words, target.n_suite, seed=0)
    accepted += [_check_in_little_memory(target, data[: target.bytes_max]) for data in near]
    assert not all(accepted) or not target.refusals


def _check_in_little_memory(target: Target, data: bytes) -> bool:
    tracemalloc.start()
    try:
        is_accepted = check(target, data)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held <= target.memory_bytes_max, f"{held} bytes held for {len(data)}"
    return is_accepted


NEVER_ACCEPTED = {"safetensors", "openai-checkpoint"}
"""A whole Whisper would be needed."""


@pytest.mark.parametrize(
    "path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_what_once_failed_is_stood(path: Path) -> None:
    target = catalogue.load(path.parent.name)
    check(target, path.read_bytes())


def test_an_exception_that_no_docstring_names_is_a_crash() -> None:
    def feed(data: bytes) -> None:
        int(data)

    assert check(Target(feed, (ValueError,), list), b"x") is False
    assert check(Target(feed, (ValueError,), list), b"7") is True
    with pytest.raises(ValueError, match="invalid literal"):
        check(Target(feed, (KeyError,), list), b"x")


def test_a_refusal_says_something_and_not_too_much() -> None:
    def feed(data: bytes) -> None:
        raise KeyError(*[data.decode()] * bool(data))

    for data in (b"", b"x" * (REFUSAL_LENGTH_MAX + 1)):
        with pytest.raises(AssertionError, match="a refusal of"):
            check(Target(feed, (KeyError,), list), data)
