"""The security report: what a day of the audit log comes to. Pure."""

from collections import Counter, deque
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from stream_server.core.audit import AuditAction, Outcome
from stream_server.records.line import Entry

TOP = 10
FAILURES = 5
FAILURES_WITHIN = timedelta(minutes=5)
ADDRESSES = 3
ADDRESSES_WITHIN = timedelta(minutes=10)
EXPIRES_WITHIN = timedelta(days=30)
CLOCK_STEP = timedelta(seconds=5)
SUSPICIONS_MAX = 200
"""Of a kind; a report is read by a person."""

_ACCESS = (AuditAction.AUTHENTICATE, AuditAction.AUTHORIZE)
_QUOTA = ("too_many", "overloaded")


class Counted(msgspec.Struct, frozen=True):
    """Something and how often it occurred."""

    what: str
    n: int


class Expiring(msgspec.Struct, frozen=True):
    """A certificate that was shown and ends soon."""

    identity: str
    not_after: str
    """UTC, ISO 8601."""


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
    summary = _Summary(until)
    suspect = _Suspicions()
    for entry in entries:
        is_within = since <= entry.time < until
        suspect.follow(entry, is_within=is_within)
        if is_within:
            summary.add(entry)
    return summary.report(since, until, suspect.found)


class _Summary:
    def __init__(self, until: datetime) -> None:
        self._until = until
        self._n, self._sessions, self._audio_ms = 0, 0, 0
        names = ("outcomes", "actions", "reasons", "addresses", "denied", "quota", "identities", "loads")
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in names}
        self._not_after: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        n = _suppressed(entry) or 1
        counts, who = self._counts, entry.actor.id if entry.actor else None
        self._n += 1
        counts["outcomes"][entry.outcome] += n
        counts["actions"][_action(entry)] += n
        if entry.outcome != Outcome.SUCCESS and _action(entry) in _ACCESS:
            counts["reasons"][entry.reason or "unknown"] += n
            counts["addresses"][entry.src or "unknown"] += n
            if who is not None:
                counts["denied"][f"{who} {entry.object}: {entry.reason}"] += n
        if entry.reason in _QUOTA:
            counts["quota"][f"{who or entry.src}: {entry.reason}"] += n
        if entry.outcome == Outcome.SUCCESS and who is not None:
            counts["identities"][who] += 1
            not_after = entry.detail.get("not_after")
            if isinstance(not_after, str):
                self._not_after[who] = not_after
        if entry.action.endswith(".load"):
            counts["loads"][f"{entry.action} {entry.outcome}"] += 1
        if entry.action == AuditAction.SESSION_END:
            self._sessions += 1
            self._audio_ms += int(entry.detail.get("audio_ms", 0))

    def report(self, since: datetime, until: datetime, suspicions: list[Suspicion]) -> Report:
        counts = {name: _top(counter) for name, counter in self._counts.items()}
        return Report(
            since=since.isoformat(timespec="seconds"),
            until=until.isoformat(timespec="seconds"),
            n_entries=self._n,
            sessions=self._sessions,
            audio_s=round(self._audio_ms / 1000),
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
        limit = (self._until + EXPIRES_WITHIN).isoformat()
        soon = [Expiring(who, when) for who, when in self._not_after.items() if when < limit]
        return sorted(soon, key=lambda expiring: expiring.not_after)


class _Suspicions:
    """The rules, each fed with every entry; only what happens within the period is told."""

    def __init__(self) -> None:
        self.found: list[Suspicion] = []
        self._failures: dict[str, deque[datetime]] = {}
        self._addresses: dict[str, deque[tuple[datetime, str]]] = {}
        self._serials: set[str] = set()
        self._before: Entry | None = None
        self._is_running = False
        self._told: Counter[str] = Counter()

    def follow(self, entry: Entry, *, is_within: bool) -> None:
        found = [*self._access(entry), *self._time(entry), *self._running(entry)]
        self._before = entry
        for rule, detail in found:
            if is_within and self._told[rule] < SUSPICIONS_MAX:
                self._told[rule] += 1
                self.found.append(Suspicion(rule, entry.ts, detail))

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
        recent = self._failures.setdefault(address, deque(maxlen=FAILURES))
        recent.extend([entry.time] * min(_suppressed(entry) or 1, FAILURES))
        if len(recent) == FAILURES and recent[-1] - recent[0] <= FAILURES_WITHIN:
            recent.clear()
            yield "many failures", f"{FAILURES} or more within 5 minutes from {address}"

    def _certificate(self, entry: Entry, who: str, serial: str) -> Iterable[tuple[str, str]]:
        if serial not in self._serials:
            self._serials.add(serial)
            yield "certificate seen for the first time", f"{who}, serial {serial}"
        yield from self._addresses_of(entry, "certificate", serial, who)

    def _addresses_of(self, entry: Entry, kind: str, key: str, who: str) -> Iterable[tuple[str, str]]:
        seen = self._addresses.setdefault(key, deque())
        seen.append((entry.time, entry.src or "unknown"))
        while entry.time - seen[0][0] > ADDRESSES_WITHIN:
            seen.popleft()
        addresses = {address for _, address in seen}
        if len(addresses) >= ADDRESSES:
            seen.clear()
            yield f"one {kind} at many addresses", f"{who} from {', '.join(sorted(addresses))}"

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


def _top(counter: Counter[str]) -> list[Counted]:
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return [Counted(what, n) for what, n in ranked[:TOP]]
