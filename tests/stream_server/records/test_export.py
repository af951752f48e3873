import csv
import json
from dataclasses import replace
from datetime import UTC, datetime

from stream_server.core.audit import Actor, AuditAction, AuditEvent, Outcome
from stream_server.records.export import csv_lines, ocsf_lines, to_ocsf
from stream_server.records.line import Entry, entry_of

EVENT = AuditEvent(
    AuditAction.AUTHENTICATE,
    Outcome.DENIED,
    Actor("spiffe://stream-server.local/source/anna", "0a", "aa" * 32),
    "10.0.0.9",
    reason="revoked",
    detail={"n": 1},
)


def entry(event: AuditEvent) -> Entry:
    when = datetime(2026, 11, 21, 12, 0, 0, 5_000, tzinfo=UTC)
    return entry_of(event, seq=7, prev="", host="caption-1", when=when)


def test_a_handshake_is_an_ocsf_logon() -> None:
    event = to_ocsf(entry(EVENT))
    assert (event["class_uid"], event["category_uid"], event["type_uid"]) == (3002, 3, 300_201)
    assert event["time"] == 1_795_262_400_005
    assert (event["status_id"], event["status_detail"]) == (2, "revoked")
    assert event["user"] == {"name": EVENT.actor.id, "uid": "0a", "type_id": 99}
    assert event["src_endpoint"] == {"ip": "10.0.0.9"}


def test_everything_else_is_ocsf_api_activity() -> None:
    event = to_ocsf(entry(AuditEvent(AuditAction.SESSION_START, Outcome.SUCCESS, session="s-1")))
    assert (event["class_uid"], event["category_uid"], event["type_uid"]) == (6003, 6, 600_301)
    assert event["api"] == {"operation": "session.start"}
    assert event["session"] == {"uid": "s-1"}
    assert event["actor"] == {"app_name": "stream-server"}


def test_every_action_and_outcome_has_its_type() -> None:
    for action in AuditAction:
        for outcome in Outcome:
            (line,) = ocsf_lines([entry(AuditEvent(action, outcome))])
            event = json.loads(line)
            assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
            assert None not in event.values()


def test_csv_has_a_header_and_a_row_each() -> None:
    rows = list(csv.DictReader("".join(csv_lines([entry(EVENT)])).splitlines()))
    assert len(rows) == 1
    assert (rows[0]["seq"], rows[0]["identity"], rows[0]["detail"]) == ("7", EVENT.actor.id, '{"n": 1}')
    assert rows[0]["session"] == ""


def test_no_cell_is_a_formula() -> None:
    rows = list(csv.DictReader("".join(csv_lines([entry(replace(EVENT, source="=1+1"))])).splitlines()))
    assert rows[0]["address"] == "'=1+1"
