"""How much audio an identity may send from one midnight to the next."""

from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.policy import Policy, PolicyInForce, Quota, Right, Rule
from stream_server.core.quotas import DAY_S, AudioQuotas

MIDNIGHT = 20_000 * DAY_S
LIMIT_S = 10


def policy(limit_s: int | None = LIMIT_S) -> Policy:
    rights = frozenset({Right.STREAM})
    quota = Quota(audio_s_per_day=limit_s)
    return Policy((Rule("/source/*", rights, quota=quota), Rule("/source/free", rights)))


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self, now_s: float = MIDNIGHT) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def test_the_last_sample_may_be_sent_and_the_one_after_it_is_too_much() -> None:
    quotas = AudioQuotas(PolicyInForce(policy()), Clock())
    quotas.spend("/source/a", LIMIT_S * 16_000 - 1)
    assert not quotas.is_spent("/source/a")
    quotas.spend("/source/a", 1)
    assert quotas.is_spent("/source/a")
    assert not quotas.is_exceeded("/source/a")
    quotas.spend("/source/a", 1)
    assert quotas.is_exceeded("/source/a")


def test_each_identity_has_its_own_share() -> None:
    quotas = AudioQuotas(PolicyInForce(policy()), Clock())
    quotas.spend("/source/a", LIMIT_S * 16_000)
    assert not quotas.is_spent("/source/b")
    assert quotas.used_s("/source/a") == LIMIT_S
    assert quotas.used_s("/source/b") == 0


def test_who_has_no_quota_may_send_any() -> None:
    quotas = AudioQuotas(PolicyInForce(policy()), Clock())
    for path in ("/source/free", "/nobody"):
        quotas.spend(path, 10**12)
        assert not quotas.is_spent(path)
        assert not quotas.is_exceeded(path)


def test_midnight_makes_every_share_whole() -> None:
    clock = Clock(MIDNIGHT + DAY_S - 0.5)
    quotas = AudioQuotas(PolicyInForce(policy()), clock)
    quotas.spend("/source/a", LIMIT_S * 16_000)
    assert quotas.is_spent("/source/a")
    assert quotas.until_tomorrow_s() == 1
    clock.now_s += 0.5
    assert not quotas.is_spent("/source/a")
    assert quotas.until_tomorrow_s() == DAY_S


def test_another_policy_counts_at_once_with_what_was_sent() -> None:
    in_force = PolicyInForce(policy(20))
    quotas = AudioQuotas(in_force, Clock())
    quotas.spend("/source/a", 10 * 16_000)
    assert not quotas.is_spent("/source/a")
    in_force.current = policy(10)
    assert quotas.is_spent("/source/a")
    in_force.current = policy(None)
    assert not quotas.is_spent("/source/a")


@given(
    st.lists(
        st.tuples(st.integers(0, DAY_S // 2), st.sampled_from("ab"), st.integers(0, 4 * 16_000)), max_size=30
    )
)
def test_what_is_left_is_the_share_less_what_was_sent_this_day(sent: list[tuple[int, str, int]]) -> None:
    clock = Clock()
    quotas = AudioQuotas(PolicyInForce(policy()), clock)
    day, used = 0, {"a": 0, "b": 0}
    for pause_s, name, n_samples in sent:
        clock.now_s += pause_s
        if (today := int((clock.now_s - MIDNIGHT) // DAY_S)) != day:
            day, used = today, {"a": 0, "b": 0}
        quotas.spend(f"/source/{name}", n_samples)
        used[name] += n_samples
        for other, n_used in used.items():
            assert quotas.is_spent(f"/source/{other}") is (n_used >= LIMIT_S * 16_000)
            assert quotas.is_exceeded(f"/source/{other}") is (n_used > LIMIT_S * 16_000)
