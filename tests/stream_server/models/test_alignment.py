"""Alignment heads, between whisper's dump and pairs."""

import base64
import gzip

import models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whisper.model import Whisper

from stream_server.engine.manifest import Dimensions
from stream_server.models.alignment import dump_heads, heads_of
from stream_server.models.official import official_models

DIMS = Dimensions(**vars(models.tiny()))
# As transformers' generation_config.json of openai/whisper-tiny names them.
TINY = [(2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)]


def test_the_dump_of_tiny_is_read() -> None:
    assert heads_of(official_models()["tiny"].alignment_heads, DIMS) == TINY


def test_whisper_reads_what_is_dumped() -> None:
    model = Whisper(models.shape(64, 6, n_layer=4))
    model.set_alignment_heads(dump_heads(TINY, DIMS).encode())
    assert [tuple(pair) for pair in model.alignment_heads.indices().T.tolist()] == TINY


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1))
def test_pairs_survive_the_dump(pairs: set[tuple[int, int]]) -> None:
    dump = dump_heads(pairs, DIMS)
    assert heads_of(dump, DIMS) == sorted(pairs)
    assert dump == dump_heads(reversed(sorted(pairs)), DIMS)


@pytest.mark.parametrize("pairs", [[], [(4, 0)], [(0, 6)], [(-1, 0)], [(0, -1)]])
def test_heads_that_the_decoder_has_not_are_refused(pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"there is no head|no heads are named"):
        dump_heads(pairs, DIMS)


@pytest.mark.parametrize(
    "dump",
    [
        pytest.param("~~~~~~", id="not base85"),
        pytest.param(base64.b85encode(b"no gzip").decode(), id="not gzip"),
        pytest.param(base64.b85encode(gzip.compress(bytes(24))[:-12]).decode(), id="cut short"),
        pytest.param(base64.b85encode(gzip.compress(bytes(23))).decode(), id="another decoder's"),
    ],
)
def test_what_is_no_dump_is_refused(dump: str) -> None:
    with pytest.raises(ValueError, match=r"base85|whisper|another number of heads"):
        heads_of(dump, DIMS)
