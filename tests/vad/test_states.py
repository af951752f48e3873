"""The slab of stream states."""

import numpy as np
import pytest

from vad.states import SlotArray, VadStates


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


def test_a_slot_named_twice_is_refused() -> None:
    states = VadStates()
    slot = states.open()
    with pytest.raises(ValueError, match="twice"):
        states.check(slots_of(slot, slot))


def test_a_batch_of_nobody_is_allowed() -> None:
    VadStates().check(slots_of())
