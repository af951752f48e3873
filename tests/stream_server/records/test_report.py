from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from stream_server.core.audit import Actor, AuditAction, AuditEvent, Outcome
from stream_server.records import report as report_module
from stream_server.records.line import Entry, entry_of
from stream_server.records.report import Counted, Report, make_report

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ANNA = Actor("spiffe://stream-server.local/source/anna", "0a", "aa" * 32)
BOARD = Actor("spiffe://stream-server.local/reader/board", "0b", "bb" * 32)


def admitted(
    actor: Actor, source: str = "10.0.0.1", not_after: str = "2027-11-21T12:00:00+00:00"
) -> AuditEvent:
    return AuditEvent(
        AuditAction.AUTHORIZE,
        Outcome.SUCCESS,
        actor,
        source,
        "path:/v1/stream",
        detail={"not_after": not_after},
    )


def denied(reason: str = "not_allowed", source: str = "10.0.0.9", actor: Actor | None = None) -> AuditEvent:
    action = AuditAction.AUTHORIZE if actor else AuditAction.AUTHENTICATE
    return AuditEvent(action, Outcome.DENIED, actor, source, "path:/v1/stream", reason)


def repeated(n: int) -> AuditEvent:
    detail: dict[str, str | int] = {"suppressed": n, "of": "client.authenticate"}
    return AuditEvent(
        AuditAction.LOG_SUPPRESS, Outcome.DENIED, None, "10.0.0.9", reason="revoked", detail=detail
    )


def log_of(events: Iterable[tuple[float, AuditEvent]]) -> list[Entry]:
    """Entries at so many seconds from noon."""
    return [
        entry_of(event, seq=i, prev="", host="test", when=NOON + timedelta(seconds=at_s))
        for i, (at_s, event) in enumerate(events)
    ]


def report_of(events: Iterable[tuple[float, AuditEvent]]) -> Report:
    return make_report(log_of(events), NOON, NOON + timedelta(hours=24))


def rules(report: Report) -> list[str]:
    return [suspicion.rule for suspicion in report.suspicions]


def test_totals_are_of_the_period_only() -> None:
    ended = AuditEvent(AuditAction.SESSION_END, Outcome.SUCCESS, ANNA, detail={"audio_ms": 61_000})
    report = report_of([(-1, ended), (0, ended), (10, ended), (86_400, ended)])
    assert (report.n_entries, report.sessions, report.audio_s) == (2, 2, 122)
    assert report.identities == [Counted(ANNA.id, 2)]


def test_failures_are_counted_by_reason_address_and_identity() -> None:
    report = report_of([(0, denied("expired")), (400, denied("expired")), (800, denied(actor=BOARD))])
    assert report.failures_by_reason == [Counted("expired", 2), Counted("not_allowed", 1)]
    assert report.failures_by_address == [Counted("10.0.0.9", 3)]
    assert report.denied == [Counted(f"{BOARD.id} path:/v1/stream: not_allowed", 1)]


def test_what_was_counted_instead_of_written_counts() -> None:
    report = report_of([(0, denied("revoked")), (60, repeated(400))])
    assert report.failures_by_reason == [Counted("revoked", 401)]
    assert report.actions == [Counted("client.authenticate", 401)]


def test_quotas_and_loads() -> None:
    load = AuditEvent(AuditAction.TLS_LOAD, Outcome.FAILURE, reason="bad_file")
    report = report_of([(0, denied("too_many", actor=ANNA)), (1, load)])
    assert report.quota_hits == [Counted(f"{ANNA.id}: too_many", 1)]
    assert report.loads == [Counted("tls.load failure", 1)]


def test_certificates_that_end_within_30_days_are_named_by_their_latest() -> None:
    soon, later = "2026-12-01T00:00:00+00:00", "2027-12-01T00:00:00+00:00"
    events = [
        (0, admitted(ANNA, not_after=soon)),
        (1, admitted(BOARD, not_after=soon)),
        (2, admitted(BOARD, not_after=later)),
    ]
    report = report_of(events)
    assert [expiring.identity for expiring in report.expiring] == [ANNA.id]


def test_many_failures_from_one_address_are_suspicious() -> None:
    assert "many failures" not in rules(report_of((i * 80, denied()) for i in range(50)))
    assert rules(report_of((i * 70, denied()) for i in range(5))) == ["many failures"]
    assert "many failures" in rules(report_of([(0, repeated(400))]))


def test_a_revoked_certificate_is_suspicious() -> None:
    assert rules(report_of([(0, denied("certificate_revoked"))])) == ["revoked certificate used"]


def test_a_certificate_is_new_only_once() -> None:
    assert rules(report_of([(0, admitted(ANNA)), (1, admitted(ANNA))])) == [
        "certificate seen for the first time"
    ]
    assert rules(report_of([(-5, admitted(ANNA)), (1, admitted(ANNA))])) == []


def test_one_certificate_at_three_addresses_within_ten_minutes_is_suspicious() -> None:
    fast = [
        (-1, admitted(ANNA)),
        (0, admitted(ANNA, "10.0.0.1")),
        (1, admitted(ANNA, "10.0.0.2")),
        (2, admitted(ANNA, "10.0.0.3")),
    ]
    assert rules(report_of(fast)) == ["one certificate at many addresses"]
    slow = [(-1, admitted(ANNA)), *((i * 400, admitted(ANNA, f"10.0.0.{i}")) for i in range(9))]
    assert rules(report_of(slow)) == []


def by_token(token: str, source: str) -> AuditEvent:
    detail: dict[str, str | int] = {"token": token}
    return AuditEvent(AuditAction.AUTHORIZE, Outcome.SUCCESS, ANNA, source, "room:hall", detail=detail)


def test_a_token_at_three_addresses_is_suspicious_and_its_makers_certificate_is_not() -> None:
    shared = [(60 * i, by_token("t1", f"10.0.0.{i}")) for i in range(3)]
    [suspicion] = report_of(shared).suspicions
    assert suspicion.rule == "one token at many addresses"
    assert suspicion.detail.startswith(f"t1 of {ANNA.id} from 10.0.0.0")
    assert not report_of((60 * i, by_token(f"t{i}", f"10.0.0.{i}")) for i in range(9)).suspicions


def test_a_clock_that_goes_back_is_suspicious() -> None:
    assert rules(report_of([(10, denied()), (6, denied())])) == []
    assert rules(report_of([(10, denied()), (4, denied())])) == ["the clock went back"]


def test_a_server_that_ended_without_saying_so_is_suspicious() -> None:
    start = AuditEvent(AuditAction.SERVER_START, Outcome.SUCCESS)
    stop = AuditEvent(AuditAction.SERVER_STOP, Outcome.SUCCESS)
    assert rules(report_of([(0, start), (1, stop), (2, start)])) == []
    assert rules(report_of([(0, start), (2, start)])) == ["the server ended without saying so"]


def test_an_empty_log_makes_an_empty_report() -> None:
    report = report_of([])
    assert (report.n_entries, report.outcomes, report.suspicions) == (0, [], [])


def test_hours_tell_when_it_was_busy() -> None:
    report = report_of(
        [(0, admitted(ANNA)), (3_599, denied()), (3_600, repeated(7)), (86_399, admitted(ANNA))]
    )
    assert len(report.by_hour) == 24
    assert report.by_hour[1].begin == "2026-11-21T13:00:00+00:00"
    assert [(hour.admitted, hour.turned_away) for hour in report.by_hour[:2]] == [(1, 1), (0, 7)]
    assert (report.by_hour[23].admitted, report.admitted, report.turned_away) == (1, 2, 8)


def test_a_flood_of_addresses_takes_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "KINDS_MAX", 20)
    often = [(i, denied(source="10.0.0.9")) for i in range(60)]
    once = [(60 + i, denied(source=f"2001:db8::{i:x}")) for i in range(500)]
    making = report_module._Summary(NOON, NOON + timedelta(hours=24))
    suspect = report_module._Suspicions()
    for entry in log_of([*often, *once]):
        making.add(entry)
        suspect.follow(entry, is_within=True)
    report = making.report(suspect.found)
    assert report.failures_by_address[0] == Counted("10.0.0.9", 60), "the frequent ones are not forgotten"
    assert report.failures_by_reason == [Counted("not_allowed", 560)]
    assert len(making._counts["addresses"]._counts) <= 40
    assert len(suspect._failures) <= 20


def test_certificates_that_are_remembered_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "SERIALS_MAX", 3)
    monkeypatch.setattr(report_module, "KINDS_MAX", 3)
    suspect = report_module._Suspicions()
    names = ["0", "1", "2", "0", "3", "0", "1"]
    actors = [Actor(f"spiffe://stream-server.local/source/{name}", name, "cc" * 32) for name in names]
    for entry in log_of((i, admitted(actor)) for i, actor in enumerate(actors)):
        suspect.follow(entry, is_within=True)
    assert len(suspect._serials) == len(suspect._addresses) == 3
    new = [found.detail[-1] for found in suspect.found if "first" in found.rule]
    assert new == ["0", "1", "2", "3", "1"], "the one that was away for the longest is new again"


def test_only_the_soonest_ends_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "KINDS_MAX", 5)
    monkeypatch.setattr(report_module, "EXPIRING_MAX", 3)
    events = [
        (
            i,
            admitted(
                Actor(f"spiffe://a.b/source/{i:02}", f"{i:x}", ""), not_after=f"2026-12-{i:02}T00:00:00"
            ),
        )
        for i in range(20, 0, -1)
    ]
    assert [expiring.identity[-2:] for expiring in report_of(events).expiring] == ["01", "02", "03"]


def test_a_command_that_did_not_say_how_it_ended_is_suspicious() -> None:
    operator = Actor("user:anna", "", "")

    def command(action: AuditAction, session: str) -> AuditEvent:
        detail: dict[str, str | int] = {"action": "model.remove"}
        return AuditEvent(action, Outcome.SUCCESS, operator, None, "model:a", None, session, detail)

    events = [
        (-1, command(AuditAction.COMMAND_BEGIN, "before")),
        (0, command(AuditAction.COMMAND_BEGIN, "whole")),
        (1, command(AuditAction.MODEL_REMOVE, "whole")),
        (2, command(AuditAction.COMMAND_BEGIN, "killed")),
        (86_000, command(AuditAction.COMMAND_BEGIN, "at work")),
    ]
    [found] = report_of(events).suspicions
    assert found.rule == "a command did not say how it ended"
    assert found.detail == "user:anna: model.remove model:a"
