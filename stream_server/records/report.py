"""The security report: what a day of the audit log comes to. Pure.

Memory has an end however long the log is and whatever stands in it: of very many different things of one
kind, the rarest are forgotten.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from stream_server.core.audit import AuditAction, Outcome
from stream_server.records.line import Entry

TOP = 10
FAILURES = 5
FAILURES_WITHIN = timedelta(minutes=5)
ADDRESSES = 3
ADDRESSES_WITHIN = timedelta(minutes=10)
EXPIRES_WITHIN = timedelta(days=30)
COMMAND_TAKES = timedelta(hours=6)
"""Longer than a command is at work; the largest download is one."""
CLOCK_STEP = timedelta(seconds=5)
SUSPICIONS_MAX = 200
"""Of a kind; a report is read by a person."""
EXPIRING_MAX = 200
KINDS_MAX = 10_000
"""Different addresses, identities or reasons that are kept apart; see ``_Tally``."""
SERIALS_MAX = 200_000
"""Certificates that are remembered; the one that was not shown for the longest is forgotten first."""

_Value = TypeVar("_Value")
_ACCESS = (AuditAction.AUTHENTICATE, AuditAction.AUTHORIZE)
_QUOTA = ("too_many", "quota_exceeded", "overloaded")
_HOUR = timedelta(hours=1)


class Counted(msgspec.Struct, frozen=True):
    """Something and how often it occurred."""

    what: str
    n: int


class Expiring(msgspec.Struct, frozen=True):
    """A certificate that was shown and ends soon."""

    identity: str
    not_after: str
    """UTC, ISO 8601."""


class Hour(msgspec.Struct, frozen=True):
    """How busy an hour was."""

    begin: str
    """UTC, ISO 8601."""
    admitted: int
    """Requests that went ahead."""
    turned_away: int
    """Handshakes and requests that did not."""


class Suspicion(msgspec.Struct, frozen=True):
    """Something that a person should look at."""

    rule: str
    ts: str
    detail: str


class Report(msgspec.Struct, frozen=True):
    """See the module; lists are sorted, the largest first."""

    since: str
    until: str
    n_entries: int
    sessions: int
    audio_s: int
    admitted: int
    """Requests that went ahead."""
    turned_away: int
    """Handshakes and requests that did not."""
    by_hour: list[Hour]
    """The whole period in its order; the last hour may be shorter."""
    outcomes: list[Counted]
    actions: list[Counted]
    failures_by_reason: list[Counted]
    failures_by_address: list[Counted]
    denied: list[Counted]
    """Identity, what it asked for, and why it was denied."""
    quota_hits: list[Counted]
    identities: list[Counted]
    loads: list[Counted]
    """Configuration, certificates, policy and models read, by outcome."""
    expiring: list[Expiring]
    suspicions: list[Suspicion]


def make_report(entries: Iterable[Entry], since: datetime, until: datetime) -> Report:
    """Sum up a period.

    Args:
        entries: The whole log in its order: what lies before the period tells what is new in it.
        since: Begin of the period, UTC.
        until: End of the period, UTC.
    """
    summary = _Summary(since, until)
    suspect = _Suspicions()
    for entry in entries:
        is_within = since <= entry.time < until
        suspect.follow(entry, is_within=is_within)
        if is_within:
            summary.add(entry)
    suspect.finish(since, until)
    return summary.report(suspect.found)


class _Tally:
    """Counts by kind. Of more than twice ``KINDS_MAX`` kinds, the rarest are forgotten."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, what: str, n: int = 1) -> None:
        self._counts[what] += n
        if len(self._counts) > 2 * KINDS_MAX:
            self._counts = Counter(dict(self._counts.most_common(KINDS_MAX)))

    def top(self) -> list[Counted]:
        ranked = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [Counted(what, n) for what, n in ranked[:TOP]]


class _Summary:
    def __init__(self, since: datetime, until: datetime) -> None:
        self._since, self._until = since, until
        self._n, self._sessions, self._audio_ms = 0, 0, 0
        names = ("outcomes", "actions", "reasons", "addresses", "denied", "quota", "identities", "loads")
        self._counts = {name: _Tally() for name in names}
        n_hours = -(-(until - since) // _HOUR)
        self._admitted, self._turned_away = [0] * n_hours, [0] * n_hours
        self._not_after: dict[str, str] = {}
        """By identity, of those that end soon."""

    def add(self, entry: Entry) -> None:
        n = _suppressed(entry) or 1
        counts, who = self._counts, entry.actor.id if entry.actor else None
        self._n += 1
        counts["outcomes"].add(entry.outcome, n)
        counts["actions"].add(_action(entry), n)
        if _action(entry) in _ACCESS:
            self._add_access(entry, who, n)
        if entry.reason in _QUOTA:
            counts["quota"].add(f"{who or entry.src}: {entry.reason}", n)
        if entry.outcome == Outcome.SUCCESS and who is not None:
            counts["identities"].add(who)
            self._note_end(who, entry.detail.get("not_after"))
        if entry.action.endswith(".load"):
            counts["loads"].add(f"{entry.action} {entry.outcome}")
        if entry.action == AuditAction.SESSION_END:
            self._sessions += 1
            self._audio_ms += int(entry.detail.get("audio_ms", 0))

    def _add_access(self, entry: Entry, who: str | None, n: int) -> None:
        hour = (entry.time - self._since) // _HOUR
        if entry.outcome == Outcome.SUCCESS:
            self._admitted[hour] += n
            return
        self._turned_away[hour] += n
        self._counts["reasons"].add(entry.reason or "unknown", n)
        self._counts["addresses"].add(entry.src or "unknown", n)
        if who is not None:
            self._counts["denied"].add(f"{who} {entry.object}: {entry.reason}", n)

    def _note_end(self, who: str, not_after: object) -> None:
        if not isinstance(not_after, str):
            return
        if not_after >= (self._until + EXPIRES_WITHIN).isoformat():
            self._not_after.pop(who, None)
            return
        self._not_after[who] = not_after
        if len(self._not_after) > 2 * KINDS_MAX:
            soonest = sorted(self._not_after.items(), key=lambda item: item[1])
            self._not_after = dict(soonest[:KINDS_MAX])

    def report(self, suspicions: list[Suspicion]) -> Report:
        counts = {name: tally.top() for name, tally in self._counts.items()}
        return Report(
            since=self._since.isoformat(timespec="seconds"),
            until=self._until.isoformat(timespec="seconds"),
            n_entries=self._n,
            sessions=self._sessions,
            audio_s=round(self._audio_ms / 1000),
            admitted=sum(self._admitted),
            turned_away=sum(self._turned_away),
            by_hour=[
                Hour((self._since + i * _HOUR).isoformat(timespec="seconds"), admitted, turned_away)
                for i, (admitted, turned_away) in enumerate(
                    zip(self._admitted, self._turned_away, strict=True)
                )
            ],
            outcomes=counts["outcomes"],
            actions=counts["actions"],
            failures_by_reason=counts["reasons"],
            failures_by_address=counts["addresses"],
            denied=counts["denied"],
            quota_hits=counts["quota"],
            identities=counts["identities"],
            loads=counts["loads"],
            expiring=self._expiring(),
            suspicions=suspicions,
        )

    def _expiring(self) -> list[Expiring]:
        soonest = sorted(self._not_after.items(), key=lambda item: (item[1], item[0]))
        return [Expiring(who, when) for who, when in soonest[:EXPIRING_MAX]]


class _Suspicions:
    """The rules, each fed with every entry; only what happens within the period is told."""

    def __init__(self) -> None:
        self.found: list[Suspicion] = []
        self._failures: OrderedDict[str, deque[datetime]] = OrderedDict()
        """Latest failures by address; the address that failed last stands last. As are the two below."""
        self._addresses: OrderedDict[str, dict[str, datetime]] = OrderedDict()
        """When a certificate was last shown from where, by serial."""
        self._serials: OrderedDict[str, None] = OrderedDict()
        self._begun: OrderedDict[str, Entry] = OrderedDict()
        """Commands that have not said how they ended, by their session."""
        self._before: Entry | None = None
        self._is_running = False
        self._told: Counter[str] = Counter()

    def follow(self, entry: Entry, *, is_within: bool) -> None:
        found = [*self._access(entry), *self._time(entry), *self._running(entry)]
        self._follow_command(entry)
        self._before = entry
        for rule, detail in found:
            if is_within:
                self._tell(rule, entry.ts, detail)

    def finish(self, since: datetime, until: datetime) -> None:
        """Tell of commands that began within the period and should have ended."""
        for entry in self._begun.values():
            if since <= entry.time < until - COMMAND_TAKES:
                who = entry.actor.id if entry.actor else "somebody"
                told = f"{who}: {entry.detail.get('action')} {entry.object}"
                self._tell("a command did not say how it ended", entry.ts, told)

    def _tell(self, rule: str, ts: str, detail: str) -> None:
        if self._told[rule] < SUSPICIONS_MAX:
            self._told[rule] += 1
            self.found.append(Suspicion(rule, ts, detail))

    def _follow_command(self, entry: Entry) -> None:
        if entry.session is None:
            return
        if entry.action == AuditAction.COMMAND_BEGIN:
            _latest(self._begun, entry.session, entry, KINDS_MAX)
        else:
            self._begun.pop(entry.session, None)

    def _access(self, entry: Entry) -> Iterable[tuple[str, str]]:
        if _action(entry) not in _ACCESS:
            return
        if entry.outcome != Outcome.SUCCESS:
            yield from self._failure(entry)
        elif entry.actor is not None and "token" in entry.detail:
            # Whoever uses it has no certificate: that of its maker is nowhere near.
            token = f"{entry.detail['token']} of {entry.actor.id}"
            yield from self._addresses_of(entry, "token", token, token)
        elif entry.actor is not None:
            yield from self._certificate(entry, entry.actor.id, entry.actor.serial)

    def _failure(self, entry: Entry) -> Iterable[tuple[str, str]]:
        address = entry.src or "unknown"
        if entry.reason is not None and "revoked" in entry.reason:
            yield "revoked certificate used", f"from {address}"
        recent = _latest(self._failures, address, deque(maxlen=FAILURES), KINDS_MAX)
        recent.extend([entry.time] * min(_suppressed(entry) or 1, FAILURES))
        if len(recent) == FAILURES and recent[-1] - recent[0] <= FAILURES_WITHIN:
            recent.clear()
            yield "many failures", f"{FAILURES} or more within 5 minutes from {address}"

    def _certificate(self, entry: Entry, who: str, serial: str) -> Iterable[tuple[str, str]]:
        is_new = serial not in self._serials
        _latest(self._serials, serial, None, SERIALS_MAX)
        if is_new:
            yield "certificate seen for the first time", f"{who}, serial {serial}"
        yield from self._addresses_of(entry, "certificate", serial, who)

    def _addresses_of(self, entry: Entry, kind: str, key: str, who: str) -> Iterable[tuple[str, str]]:
        seen = _latest(self._addresses, key, {}, KINDS_MAX)
        seen[entry.src or "unknown"] = entry.time
        for address in [old for old, when in seen.items() if entry.time - when > ADDRESSES_WITHIN]:
            del seen[address]
        if len(seen) >= ADDRESSES:
            addresses = ", ".join(sorted(seen))
            seen.clear()
            yield f"one {kind} at many addresses", f"{who} from {addresses}"

    def _time(self, entry: Entry) -> Iterable[tuple[str, str]]:
        if self._before is not None and self._before.time - entry.time > CLOCK_STEP:
            yield "the clock went back", f"from {self._before.ts} to {entry.ts}"

    def _running(self, entry: Entry) -> Iterable[tuple[str, str]]:
        if entry.action == AuditAction.SERVER_START:
            if self._is_running:
                last = self._before.ts if self._before else "the log's begin"
                yield "the server ended without saying so", f"after {last}"
            self._is_running = True
        elif entry.action == AuditAction.SERVER_STOP:
            self._is_running = False


def _action(entry: Entry) -> str:
    """What was done; for a count of repetitions, what was repeated."""
    return str(entry.detail.get("of", entry.action)) if _suppressed(entry) else entry.action


def _suppressed(entry: Entry) -> int:
    return int(entry.detail.get("suppressed", 0)) if entry.action == AuditAction.LOG_SUPPRESS else 0


def _latest(memory: OrderedDict[str, _Value], key: str, value: _Value, n_max: int) -> _Value:
    """The value of a key, which is made the latest; beyond ``n_max`` keys the earliest is forgotten."""
    value = memory.setdefault(key, value)
    memory.move_to_end(key)
    if len(memory) > n_max:
        memory.popitem(last=False)
    return value
