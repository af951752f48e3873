"""The slab of stream states."""

import numpy as np
import pytest

from vad.states import SILENT_FRAMES_MAX, SlotArray, VadStates


def slots_of(*slots: int) -> SlotArray:
    return np.array(slots, dtype=np.intp)


def mark(states: VadStates, slots: SlotArray) -> None:
    """Store in each slot its own number."""
    hidden = np.broadcast_to(slots[None, :, None], (2, len(slots), 128)).astype(np.float32)
    states.scatter(slots, hidden, np.broadcast_to(slots[:, None], (len(slots), 64)).astype(np.float32))


def test_open_streams_have_different_slots() -> None:
    states = VadStates()
    assert len({states.open() for _ in range(40)}) == len(states) == 40


def test_a_new_stream_has_heard_nothing_even_in_a_used_slot() -> None:
    states = VadStates()
    slot = states.open()
    states.scatter(slots_of(slot), np.ones((2, 1, 128), np.float32), np.ones((1, 64), np.float32))
    states.close(slot)
    assert states.open() == slot
    hidden, context = states.gather(slots_of(slot))
    assert not hidden.any()
    assert not context.any()


def test_each_slot_keeps_its_state_while_the_slab_grows() -> None:
    states = VadStates()
    first = slots_of(*[states.open() for _ in range(16)])
    mark(states, first)
    for _ in range(100):
        states.open()
    hidden, context = states.gather(first[::-1])
    np.testing.assert_array_equal(hidden[:, :, 5], np.broadcast_to(first[::-1], (2, 16)))
    np.testing.assert_array_equal(context[:, 5], first[::-1])


def test_gathered_states_are_copies() -> None:
    states = VadStates()
    slots = slots_of(states.open())
    hidden, context = states.gather(slots)
    hidden += 1
    context += 1
    assert not any(array.any() for array in states.gather(slots))


def test_a_slot_is_reused_before_the_slab_grows() -> None:
    states = VadStates()
    for _ in range(1_000):
        states.close(states.open())
    assert len(states) == 0
    assert states.open() < 16


@pytest.mark.parametrize("slot", [-1, 0, 5, 99])
def test_a_slot_that_is_not_open_is_refused(slot: int) -> None:
    states = VadStates()
    states.close(states.open())
    with pytest.raises(ValueError, match="not open"):
        states.close(slot)


def test_a_batch_of_nobody_is_allowed() -> None:
    VadStates().check(slots_of())


def test_a_stream_rests_from_the_frame_after_a_second_of_silence_until_it_sends_sound() -> None:
    states = VadStates()
    slots = np.array([states.open(), states.open()], dtype=np.intp)
    states.scatter(slots, np.ones((2, 2, 128), np.float32), np.ones((2, 64), np.float32))
    silent_and_not = np.array([True, False])
    for _ in range(SILENT_FRAMES_MAX):
        assert states.rest(slots, silent_and_not).tolist() == [False, False]
    assert states.gather(slots)[0].all()
    for _ in range(3):
        assert states.rest(slots, silent_and_not).tolist() == [True, False]
    states.forget(slots[:1])
    hidden, context = states.gather(slots)
    assert not hidden[:, 0].any()
    assert not context[0].any()
    assert hidden[:, 1].all()
    assert context[1].all()
    assert not states.rest(slots, np.array([False, False])).any()
    assert not states.rest(slots, silent_and_not).any(), "the count begins anew"


def test_a_slot_given_again_does_not_inherit_silence() -> None:
    states = VadStates()
    slots = np.array([states.open()], dtype=np.intp)
    for _ in range(SILENT_FRAMES_MAX):
        states.rest(slots, np.array([True]))
    states.close(int(slots[0]))
    assert states.open() == slots[0]
    assert not states.rest(slots, np.array([True])).any()
