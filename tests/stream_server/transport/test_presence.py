import dataclasses
from datetime import UTC, datetime

from certs.identity import Identity
from stream_server.core.policy import Right
from stream_server.errors import NotAllowed
from stream_server.transport.presence import End, Objection, Presence, Present

ANNA = Identity(
    "spiffe://x/source/anna", "x", "/source/anna", 1, bytes(32), b"ca", datetime(2027, 1, 1, tzinfo=UTC)
)
BOB = dataclasses.replace(ANNA, uri="spiffe://x/source/bob", serial=2)
REVOKED = Objection("revoked", NotAllowed("revoked"))


def present(identity: Identity, end: End) -> Present:
    return Present(identity, "10.0.0.1", Right.STREAM, end)


def objection(who: Present) -> Objection | None:
    return REVOKED if who.identity == ANNA else None


def test_those_objected_to_are_ended_once_and_the_others_stay() -> None:
    presence, ended = Presence(), []
    anna = present(ANNA, lambda error: ended.append(("anna", error)))
    presence.enter(anna)
    presence.enter(present(BOB, lambda error: ended.append(("bob", error))))
    assert presence.review(objection) == [(anna, REVOKED)]
    assert presence.review(objection) == []
    assert ended == [("anna", REVOKED.error)]


def test_one_certificate_may_have_several_connections() -> None:
    presence, ended = Presence(), []
    for name in "abc":
        presence.enter(present(ANNA, lambda error, name=name: ended.append(name)))
    presence.review(objection)
    assert sorted(ended) == ["a", "b", "c"]


def test_who_has_gone_is_not_ended() -> None:
    presence, ended = Presence(), []
    anna = present(ANNA, ended.append)
    presence.enter(anna)
    presence.leave(anna)
    assert len(presence) == 0
    assert presence.review(objection) == []
    assert ended == []


def test_ending_may_make_one_leave_at_once() -> None:
    presence = Presence()
    anna = present(ANNA, lambda error: presence.leave(anna))
    presence.enter(anna)
    presence.enter(present(ANNA, lambda error: None))
    assert len(presence.review(objection)) == 2
    assert len(presence) == 1
