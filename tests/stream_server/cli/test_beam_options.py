"""``--beam-size`` and what belongs to it, alike in all commands that have them."""

import pytest
from typer import BadParameter

from stream_server.cli.beam_options import beam_object, chosen_beam
from stream_server.core.messages import BeamSearch
from stream_server.dialects.schema import BeamObject


def test_without_a_size_nothing_is_searched_for() -> None:
    assert chosen_beam(None, None, None) is None
    assert beam_object(None) is None


def test_what_is_given_is_asked_of_the_server() -> None:
    chosen = chosen_beam(5, 2.0, 0.5)
    assert chosen == BeamSearch(5, 2.0, 0.5)
    assert beam_object(chosen) == BeamObject(5, 2.0, 0.5)
    assert chosen_beam(5, None, None) == BeamSearch(5)


@pytest.mark.parametrize(
    ("size", "patience", "length_penalty", "named"),
    [
        (None, 2.0, None, "need --beam-size"),
        (None, None, 0.0, "need --beam-size"),
        (0, None, None, "size must be between 1 and 16, not 0"),
        (17, None, None, "size must be between 1 and 16, not 17"),
        (5, 0.0, None, "patience must be above 0"),
        (5, None, 2.0, "length_penalty must be between 0 and 1"),
    ],
)
def test_a_wrong_value_is_named(
    size: int | None, patience: float | None, length_penalty: float | None, named: str
) -> None:
    with pytest.raises(BadParameter, match=named):
        chosen_beam(size, patience, length_penalty)
