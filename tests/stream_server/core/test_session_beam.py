"""Finals that are searched for with beams, for clients that ask and where the server lets them."""

import dataclasses

import numpy as np
import pytest
from driver import SETTINGS, START, World, as_bytes

from stream_server.core.messages import Audio, BeamSearch, Failed, Finish, Started
from stream_server.engine.fake import numbered_speech, silence

ALLOWED = dataclasses.replace(SETTINGS, beam_size_max=5, partial_frames=8)


def test_finals_are_searched_for_and_partials_are_not() -> None:
    world = World(ALLOWED).start(dataclasses.replace(START, beam=BeamSearch(5)))
    world.receive(Audio(as_bytes(np.concatenate([numbered_speech(range(40)), silence(40)]))))
    world.score()
    world.receive(Finish())
    world.score()
    assert {(job.final, job.n_rows) for job in world.jobs} == {(False, 1), (True, 5)}


@pytest.mark.parametrize(
    ("beam_size_max", "size", "named"),
    [(5, 6, "at most 5"), (1, 2, "not offered"), (4, 5, "limits.beam_size and engine.batch")],
)
def test_more_than_the_server_allows_is_refused_by_name(beam_size_max: int, size: int, named: str) -> None:
    settings = dataclasses.replace(SETTINGS, beam_size_max=beam_size_max)
    world = World(settings).start(dataclasses.replace(START, beam=BeamSearch(size)))
    [failed] = world.of(Failed)
    assert failed.error.code == "not_supported"
    assert named in str(failed.error)
    assert not world.of(Started)


def test_a_beam_of_one_may_always_be_asked_for() -> None:
    world = World(SETTINGS).start(dataclasses.replace(START, beam=BeamSearch(1)))
    assert len(world.of(Started)) == 1
