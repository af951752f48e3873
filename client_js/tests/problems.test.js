import assert from "node:assert/strict";
import { test } from "node:test";

import { explain, explainFailure } from "../problems.js";

const who = {
  identity: "/source/board-301",
  fingerprint: "1a2b3c4d",
  expires: "2026-12-31T23:59:59Z",
  rights: ["stream"],
  publish: ["board-*", "hall"],
  read: [],
};
const IN_TIME = Date.parse("2026-12-01T00:00:00Z");
const facts = (more) => ({ isOnline: true, health: "ready", who, refusal: null, now: IN_TIME, ...more });
const wish = (more) => ({ right: "stream", room: null, ...more });

const CASES = [
  ["a device without a network", facts({ health: "silent", isOnline: false }), wish(), "offline"],
  ["a certificate that has ended", facts({ health: "silent", now: Date.parse("2027-01-01") }), wish(), "expired"],
  ["a server that is gone, or lets this browser in no more", facts({ health: "silent" }), wish(), "unreachable"],
  ["nobody known yet", facts({ health: "silent", who: null }), wish(), "unreachable"],
  ["a server that is starting", facts({ health: "busy" }), wish(), "not_ready"],
  ["a role that may not", facts(), wish({ right: "read", room: "hall" }), "not_allowed"],
  ["a room that may not be spoken in", facts(), wish({ room: "cellar" }), "room_not_allowed"],
  ["all is well but there is no place", facts(), wish({ room: "board-301" }), "busy"],
  ["all is well in a room by its name", facts(), wish({ room: "hall" }), "busy"],
  ["a network where the certificate may not be used", facts({ refusal: { code: "address_not_allowed", message: "no" } }), wish(), "address_not_allowed"],
  ["a certificate of no use here", facts({ refusal: { code: "not_allowed", message: "no" } }), wish(), "not_allowed"],
  ["a guest", facts({ who: null }), wish({ right: "read", room: "hall", isGuest: true }), "busy"],
];

for (const [name, given, wanted, code] of CASES) {
  test(`${name}: ${code}`, () => {
    const problem = explain(given, wanted);
    assert.equal(problem.code, code);
    assert.ok(problem.title.endsWith(".") && problem.advice.endsWith("."));
  });
}

test("only what a person must change is final", () => {
  const final = CASES.filter(([, given, wanted]) => explain(given, wanted).isFinal).map(([, , , code]) => code);
  assert.deepEqual(final, ["not_allowed", "room_not_allowed", "not_allowed"]);
});

test("a certificate's end is told by its date", () => {
  const { title } = explain(facts({ health: "silent", now: Date.parse("2027-01-01") }), wish());
  assert.match(title, /2026-12-31/);
});

test("an error of the server is told in its own words", () => {
  const problem = explainFailure({ type: "error", code: "idle_timeout", message: "nothing for 30 s" });
  assert.deepEqual([problem.advice, problem.isFinal], ["Nothing for 30 s.", false]);
  assert.equal(explainFailure({ type: "error", code: "link_expired", message: "x" }).isFinal, true);
});
