"""A stream whose owner has sent all that it may send today: it ends, and nothing accepted is lost."""

from driver import RESUMABLE, SETTINGS, Client, HubWorld

from stream_server.core.messages import Failed, Finish, Finished
from stream_server.core.policy import Policy, PolicyInForce, Quota, Right, Rule
from stream_server.core.quotas import DAY_S, AudioQuotas
from stream_server.core.settings import SessionSettings
from stream_server.engine.fake import numbered_speech
from stream_server.errors import QuotaExceeded

N_FRAMES = 125
"""Numbered frames of 32 ms: 4 s."""


def world(limit_s: int, settings: SessionSettings = SETTINGS) -> tuple[HubWorld, AudioQuotas]:
    policy = Policy((Rule("/source/*", frozenset({Right.STREAM}), quota=Quota(audio_s_per_day=limit_s)),))
    quotas = AudioQuotas(PolicyInForce(policy), lambda: 0.0)
    return HubWorld(settings, quotas=quotas), quotas


def is_over_quota(client: Client) -> bool:
    """Whether the last that it was told is that."""
    last = client.read()[-1]
    return isinstance(last, Failed) and isinstance(last.error, QuotaExceeded)


def test_a_stream_of_exactly_its_quota_finishes() -> None:
    hub, quotas = world(4)
    client = hub.open("a").speak(numbered_speech(range(N_FRAMES))).say(Finish())
    hub.settle()
    assert client.numbers == list(range(N_FRAMES))
    assert isinstance(client.events[-1], Finished)
    assert quotas.is_spent("/source/me")


def test_what_goes_beyond_it_is_still_delivered_before_the_error() -> None:
    hub, _ = world(3)
    client = hub.open("a").speak(numbered_speech(range(N_FRAMES)))
    client.speak(numbered_speech(range(N_FRAMES, 2 * N_FRAMES)))
    hub.settle()
    assert client.numbers == list(range(N_FRAMES)), "all of the first chunk, none of what came after it"
    assert is_over_quota(client)
    assert client.seat.close_code == 1008


def test_all_streams_of_one_identity_count_together_and_those_of_others_do_not() -> None:
    hub, _ = world(5)
    first, second, other = hub.open("a"), hub.open("b"), hub.open("c", owner="you")
    for client in (first, second, other):
        client.speak(numbered_speech(range(N_FRAMES)))
    first.speak(numbered_speech(range(1)))
    other.say(Finish())
    hub.settle()
    for client in (first, second):
        assert is_over_quota(client)
        assert client.numbers[:N_FRAMES] == list(range(N_FRAMES))
    assert isinstance(other.read()[-1], Finished)


def test_a_stream_may_go_on_over_midnight() -> None:
    clock = [float(DAY_S) - 1]
    policy = Policy((Rule("/source/*", frozenset({Right.STREAM}), quota=Quota(audio_s_per_day=5)),))
    hub = HubWorld(quotas=AudioQuotas(PolicyInForce(policy), lambda: clock[0]))
    client = hub.open("a").speak(numbered_speech(range(N_FRAMES)))
    clock[0] += 1
    client.speak(numbered_speech(range(N_FRAMES, 2 * N_FRAMES))).say(Finish())
    hub.settle()
    assert client.numbers == list(range(2 * N_FRAMES))
    assert isinstance(client.events[-1], Finished)


def test_a_stream_that_was_resumed_counts_each_sample_once() -> None:
    hub, quotas = world(4, settings=RESUMABLE)
    client = hub.open("a").speak(numbered_speech(range(60)))
    client.read()
    client.leave(None)
    again = hub.resume(client)
    assert quotas.used_s("/source/me") == 60 * 512 / 16_000
    again.speak(numbered_speech(range(60, N_FRAMES))).say(Finish())
    hub.settle()
    assert isinstance(again.read()[-1], Finished)
    assert quotas.used_s("/source/me") == 4
