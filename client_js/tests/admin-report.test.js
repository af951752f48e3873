/** The security report in words. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { count, daysUntil, deniedOf, durationOf, groupsOf, isSummary, plain, reasonOf, verdictOf } from "../pages/admin-report.js";

const INTACT = { integrity: 0, n_entries: 1200, n_checkpoints: 1, n_uncovered: 7, has_second_place: true, problem: null };

test("a log that agrees with its copies is good, one without copies is only as good as this machine", () => {
  assert.equal(verdictOf(INTACT, null).kind, "good");
  assert.match(verdictOf(INTACT, null).detail, /^1,200 entries in order, 1 signed checkpoint, 7 waiting/);
  const alone = verdictOf({ ...INTACT, has_second_place: false }, null);
  assert.equal(alone.kind, "warning");
  assert.match(alone.detail, /audit\.checkpoint_folder/);
});

test("a log that is not in order says what is wrong and what to run", () => {
  const edited = verdictOf({ ...INTACT, integrity: 2, n_entries: 1, problem: "file 000001, entry 1: it does not follow" }, null);
  assert.deepEqual(
    [edited.kind, edited.title, edited.command],
    ["bad", "The audit log was edited.", "stream-server audit verify"],
  );
  assert.equal(edited.detail, "File 000001, entry 1: it does not follow. 1 entry before that is in order.");
  assert.equal(verdictOf({ ...INTACT, integrity: 99 }, null).kind, "bad");
});

test("the log of commands counts too", () => {
  const both = verdictOf(INTACT, { ...INTACT, n_entries: 12 });
  assert.equal(both.kind, "good");
  assert.match(both.detail, /of commands on the machine 12 entries\./);
  const cut = verdictOf(INTACT, { ...INTACT, integrity: 3 });
  assert.deepEqual([cut.kind, cut.title], ["bad", "The audit log of commands is shorter than it was."]);
});

test("suspicions stand in groups, the gravest first, harmless ones last", () => {
  const found = (/** @type {string} */ rule) => ({ rule, ts: "2026-11-21T12:00:00.000+00:00", detail: "from 10.0.0.9" });
  const groups = groupsOf(
    ["certificate seen for the first time", "many failures", "revoked certificate used", "many failures", "a rule of tomorrow"].map(found),
  );
  assert.deepEqual(
    groups.map(({ title, isNotice, found: of }) => [title, isNotice, of.length]),
    [
      ["Revoked certificate used", false, 1],
      ["Many failures", false, 2],
      ["Certificate seen for the first time", true, 1],
      ["A rule of tomorrow", false, 1],
    ],
  );
  assert.deepEqual(groupsOf([]), []);
});

test("codes and names are put in words", () => {
  assert.equal(reasonOf("old_tls"), "TLS older than 1.3");
  assert.equal(reasonOf("code_of_tomorrow"), "code of tomorrow");
  assert.equal(
    deniedOf("spiffe://stream-server.local/reader/bo path:/v1/stream: not_allowed"),
    "/reader/bo /v1/stream — Not allowed by the policy",
  );
  assert.equal(deniedOf("spiffe://a.b/reader/bo room:hall: too_many"), "/reader/bo room hall — Too many connections");
  assert.equal(deniedOf("10.0.0.9: overloaded"), "10.0.0.9 — Server was full");
  assert.equal(plain("path:?"), "an unknown path");
});

test("lengths and ends of time", () => {
  assert.deepEqual([0, 59, 61, 3_569, 3_600, 45_360].map(durationOf), ["0 s", "59 s", "1 min", "59 min", "1.0 h", "12.6 h"]);
  const now = Date.parse("2026-11-21T12:00:00Z");
  const days = ["2026-11-21T11:00:00Z", "2026-11-22T11:00:00Z", "2026-11-22T13:00:00Z", "2026-12-01T13:00:00Z"];
  assert.deepEqual(days.map((end) => daysUntil(end, now)), ["has ended", "ends today", "ends in 1 day", "ends in 10 days"]);
  assert.deepEqual([count(1, "day"), count(2, "entry", "entries")], ["1 day", "2 entries"]);
});

test("what is no report is told from one", () => {
  assert.ok(isSummary({ report: { by_hour: [] }, integrity: { integrity: 0 } }));
  for (const other of [null, [], {}, { state: "reading" }, { report: {}, integrity: {} }]) assert.ok(!isSummary(other));
});
