import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.core.admission import WINDOW_S, Admission, AdmissionLimits, Refused
from stream_server.core.policy import Quota
from stream_server.errors import NotAllowed, Overloaded, UnknownSession

LIMITS = AdmissionLimits(sessions_max=3, sessions_per_identity=2, connects_per_minute=5)


def refused(answer: Refused | None) -> tuple[type[Exception], int, int | None]:
    assert answer is not None
    return type(answer.error), answer.status, answer.retry_after_s


def test_a_session_is_let_in_until_its_identity_has_its_share() -> None:
    admission = Admission(LIMITS)
    assert admission.admit("a", 0.0) is None
    assert admission.admit("a", 0.0) is None
    assert refused(admission.admit("a", 0.0)) == (NotAllowed, 429, 10)
    admission.release("a")
    assert admission.admit("a", 0.0) is None


def test_a_full_server_says_when_to_come_back() -> None:
    admission = Admission(LIMITS)
    for name in "abc":
        assert admission.admit(name, 0.0) is None
    assert admission.n_sessions == 3
    assert refused(admission.admit("d", 0.0)) == (Overloaded, 503, 10)
    admission.release("b")
    assert admission.admit("d", 0.0) is None


def test_too_many_connects_in_a_minute_are_refused_until_the_first_is_a_minute_old() -> None:
    admission = Admission(LIMITS)
    for second in range(5):
        assert admission.admit("a", second) is None
        admission.release("a")
    assert refused(admission.admit("a", 10.0)) == (NotAllowed, 429, 51)
    assert admission.admit("b", 10.0) is None
    assert admission.admit("a", 61.0) is None


def test_connects_that_found_no_room_count_as_connects() -> None:
    admission = Admission(LIMITS)
    for _ in range(2):
        admission.admit("a", 0.0)
    for _ in range(3):
        assert admission.admit("a", 1.0) is not None
    admission.release("a")
    assert "in a minute" in str(admission.admit("a", 2.0).error)  # type: ignore[union-attr]  it is refused


def test_a_release_without_an_admission_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="more often"):
        Admission(LIMITS).release("a")


def test_identities_silent_for_a_minute_are_forgotten() -> None:
    admission = Admission(LIMITS)
    for number in range(1_000):
        admission.admit(str(number), number * WINDOW_S)
    assert len(admission._connects) == 1


def test_who_resumes_is_let_in_beyond_the_limits_because_its_session_has_its_place() -> None:
    admission = Admission(LIMITS)
    for name in "aab":
        assert admission.admit(name, 0.0) is None
    admission.hold("a")  # A connection breaks: its session takes a place of its own,
    admission.release("a")  # and the connection gives its place back.
    assert admission.admit("a", 1.0) is not None
    assert admission.admit_resuming("a", 1.0) is None
    assert admission.n_sessions == 4
    admission.release("a")  # The session is given to the connection.
    assert admission.n_sessions == 3
    assert refused(admission.admit("c", 1.0)) == (Overloaded, 503, 10)


def test_who_has_no_session_has_nothing_to_resume() -> None:
    answer = Admission(LIMITS).admit_resuming("a", 0.0)
    assert answer is not None
    assert (type(answer.error), answer.status, answer.retry_after_s) == (UnknownSession, 404, None)


def test_resumes_have_a_limit_of_their_own() -> None:
    admission = Admission(AdmissionLimits(connects_per_minute=1, resumes_per_minute=3))
    assert admission.admit("a", 0.0) is None
    for second in range(3):
        assert admission.admit_resuming("a", second) is None
        admission.release("a")
    assert refused(admission.admit_resuming("a", 10.0)) == (NotAllowed, 429, 51)
    assert admission.admit_resuming("a", 61.0) is None


steps = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 40)), max_size=60)


@given(steps)
def test_the_limits_hold_and_a_refusal_tells_the_truth(script: list[tuple[str, bool, float]]) -> None:
    admission, now_s = Admission(LIMITS), 0.0
    inside: list[str] = []
    connects: list[tuple[str, float]] = []
    for name, leaves, wait_s in script:
        now_s += wait_s
        if leaves and name in inside:
            inside.remove(name)
            admission.release(name)
            continue
        answer = admission.admit(name, now_s)
        if answer is None:
            inside.append(name)
            connects.append((name, now_s))
        elif "in a minute" in str(answer.error):
            assert 1 <= answer.retry_after_s <= WINDOW_S + 1
    assert admission.n_sessions == len(inside) <= LIMITS.sessions_max
    assert all(inside.count(name) <= LIMITS.sessions_per_identity for name in inside)
    for name, at_s in connects:
        in_window = [other for other in connects if other[0] == name and at_s - WINDOW_S < other[1] <= at_s]
        assert len(in_window) <= LIMITS.connects_per_minute


# Eighths of a second are exact, so that a minute later is a minute later.
@given(st.lists(st.integers(0, 240), min_size=5, max_size=5), st.integers(0, 400))
def test_whoever_waits_as_told_finds_the_door_open(gaps: list[int], wait: int) -> None:
    admission, now_s = Admission(LIMITS), 0.0
    for gap in gaps:
        now_s += gap / 8
        if admission.admit("a", now_s) is None:
            admission.release("a")
    now_s += wait / 8
    answer = admission.admit("a", now_s)
    if answer is not None:
        assert admission.admit("a", now_s + answer.retry_after_s) is None


def test_an_identitys_quota_wins_over_the_limits_for_one() -> None:
    admission = Admission(AdmissionLimits(sessions_per_identity=2, connects_per_minute=3))
    narrow, wide = Quota(sessions=1), Quota(sessions=4, connects_per_minute=5)
    assert admission.admit("a", 0.0, narrow) is None
    refused = admission.admit("a", 0.0, narrow)
    assert isinstance(refused, Refused)
    assert "1 sessions" in str(refused.error)
    assert [admission.admit("b", 0.0, wide) is None for _ in range(6)] == [True] * 4 + [False] * 2
    refused = admission.admit("b", 0.0, wide)
    assert isinstance(refused, Refused)
    assert "more than 5 connections" in str(refused.error)


def test_no_quota_lets_more_in_than_the_server_holds() -> None:
    admission = Admission(AdmissionLimits(sessions_max=2))
    answers = [admission.admit("a", 0.0, Quota(sessions=10, connects_per_minute=10)) for _ in range(3)]
    assert [refused and refused.status for refused in answers] == [None, None, 503]
