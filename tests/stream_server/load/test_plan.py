from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stream_server.client.latency import Utterance
from stream_server.evaluation.word_latency import SpokenWord
from stream_server.load.plan import OVERTIME_S_MAX, TAIL_S, Clip, make_plans, script_of, share_out


def clip(seconds: float, *said: Utterance, first_sample: int = 0) -> Clip:
    whole = (Utterance(0.0, seconds, "a b"),)
    words = tuple(SpokenWord(one.text, one.start_s, one.end_s) for one in said)
    return Clip(first_sample, round(16_000 * seconds), said or whole, bool(said), words)


CLIPS = (clip(2.0), clip(3.5, Utterance(0.25, 3.0, "yes")), clip(1.0))


@given(
    n=st.integers(1, 40),
    ramp_s=st.floats(0, 30),
    measure_s=st.floats(1, 90),
    gap_s=st.floats(0, 3),
    seed=st.integers(0, 9),
)
def test_every_client_speaks_to_the_end_in_whole_frames_without_overlap(
    n: int, ramp_s: float, measure_s: float, gap_s: float, seed: int
) -> None:
    plans = make_plans(CLIPS, n, ramp_s=ramp_s, measure_s=measure_s, gap_s=gap_s, seed=seed)
    assert [plan.number for plan in plans] == list(range(n))
    for plan in plans:
        assert 0 <= plan.connect_s <= ramp_s
        length_s = ramp_s + measure_s - plan.connect_s
        assert 0 <= plan.n_samples / 16_000 - length_s + 1e-4 <= 3.5 + TAIL_S
        assert all(one.start_sample % 512 == 0 for one in plan.placed)
        for one, following in pairwise(plan.placed):
            end = one.start_sample + CLIPS[one.clip].n_samples
            assert following.start_sample - end >= 16_000 * gap_s - 256
        assert plan.placed[-1].start_sample / 16_000 <= length_s + 0.016


def test_clients_differ_in_order_and_beginning_and_a_seed_repeats_them() -> None:
    plans = make_plans(CLIPS, 8, ramp_s=4, measure_s=60, gap_s=1, seed=1)
    assert [plan.connect_s for plan in plans] == [0.5 * i for i in range(8)]
    assert len({plan.placed[0].start_sample for plan in plans}) > 4
    assert plans == make_plans(CLIPS, 8, ramp_s=4, measure_s=60, gap_s=1, seed=1)
    assert plans != make_plans(CLIPS, 8, ramp_s=4, measure_s=60, gap_s=1, seed=2)


def test_each_recording_comes_once_before_any_comes_again() -> None:
    (plan,) = make_plans(CLIPS, 1, ramp_s=0, measure_s=60, gap_s=1, seed=1)
    assert sorted(one.clip for one in plan.placed[:3]) == [0, 1, 2]
    assert sorted(one.clip for one in plan.placed[3:6]) == [0, 1, 2]


def test_what_lasts_far_beyond_the_end_is_cut_off() -> None:
    hour = (clip(3_600.0),)
    (plan,) = make_plans(hour, 1, ramp_s=0, measure_s=20, gap_s=1, seed=1)
    assert plan.n_samples == 20 * 16_000
    barely = (clip(20 + OVERTIME_S_MAX - 3.0),)
    (plan,) = make_plans(barely, 1, ramp_s=0, measure_s=20, gap_s=1, seed=1)
    assert plan.n_samples > 20 * 16_000


def test_a_script_is_in_the_time_of_the_stream() -> None:
    (plan,) = make_plans(CLIPS[1:2], 1, ramp_s=0, measure_s=3, gap_s=1, seed=1)
    begin_s = plan.placed[0].start_sample / 16_000
    script = script_of(CLIPS[1:2], plan.placed[:1])
    assert script.said == script.timed == (Utterance(begin_s + 0.25, begin_s + 3.0, "yes"),)
    assert script.words == (SpokenWord("yes", begin_s + 0.25, begin_s + 3.0),)
    assert script_of(CLIPS, plan.placed[:1]).timed == ()


def test_clients_are_dealt_out_like_cards() -> None:
    plans = make_plans(CLIPS, 5, ramp_s=0, measure_s=1, gap_s=1, seed=1)
    assert [[plan.number for plan in share] for share in share_out(plans, 2)] == [[0, 2, 4], [1, 3]]
