/**
 * The security report in words: what `/v1/admin/report` says, as a person reads it.
 *
 * Knows no browser. The report itself is made by `stream_server/records/report.py`.
 */

import { isObject } from "../wire.js";

/**
 * @typedef {{ what: string, n: number }} Counted
 * @typedef {{ begin: string, admitted: number, turned_away: number }} Hour
 * @typedef {{ identity: string, not_after: string }} Expiring
 * @typedef {{ rule: string, ts: string, detail: string }} Suspicion
 *
 * @typedef {object} Report Times are ISO 8601 in UTC; lists of counts begin with the largest.
 * @property {string} since
 * @property {string} until
 * @property {number} n_entries
 * @property {number} sessions
 * @property {number} audio_s
 * @property {number} admitted
 * @property {number} turned_away
 * @property {Hour[]} by_hour
 * @property {Counted[]} actions
 * @property {Counted[]} failures_by_reason
 * @property {Counted[]} failures_by_address
 * @property {Counted[]} denied
 * @property {Counted[]} quota_hits
 * @property {Counted[]} identities
 * @property {Counted[]} loads
 * @property {Expiring[]} expiring
 * @property {Suspicion[]} suspicions
 *
 * @typedef {object} Integrity
 * @property {number} integrity 0 intact, 2 edited, 3 shorter than it was, 4 unreadable.
 * @property {number} n_entries
 * @property {number} n_checkpoints
 * @property {number} n_uncovered
 * @property {boolean} has_second_place
 * @property {string | null} problem
 *
 * @typedef {object} Summary
 * @property {Report} report
 * @property {Integrity} integrity
 * @property {Integrity | null} commands Of the log of commands, where there is one.
 *
 * @typedef {object} Verdict Whether the log can be believed.
 * @property {"good" | "warning" | "bad"} kind
 * @property {string} title
 * @property {string} detail
 * @property {string | null} command What to run next, if anything.
 *
 * @typedef {object} Group Suspicions of one rule.
 * @property {string} title
 * @property {string} advice
 * @property {boolean} isNotice Whether it is likely harmless.
 * @property {Suspicion[]} found
 */

const INTACT = 0;

/** @type {Record<number, string>} */
const FAULTS = { 2: "was edited", 3: "is shorter than it was", 4: "cannot be read" };

/** @type {Record<string, string>} */
const REASONS = {
  address_not_allowed: "Address not allowed",
  audit_unavailable: "Audit log could not be used",
  authority_certificate: "Certificate of an authority",
  bad_chain: "Signed by another client’s certificate",
  bad_name: "Name that cannot be",
  bad_room_name: "No such name for a room",
  bad_signature: "Signature is wrong",
  bad_uri: "Name in the certificate breaks the pattern",
  crl_expired: "Revocation list has ended",
  crl_invalid: "Revocation list is not valid",
  crl_missing: "Revocation list is missing",
  expired: "Certificate has ended",
  foreign_trust_domain: "Certificate of another installation",
  link_expired: "Guest’s link is over",
  link_invalid: "Guest’s link is not ours",
  method_not_allowed: "Wrong HTTP method",
  no_certificate: "No certificate was shown",
  not_allowed: "Not allowed by the policy",
  not_for_clients: "Certificate does not say it is for clients",
  not_found: "No such path",
  not_one_uri: "Certificate has not exactly one name",
  not_tls: "Did not speak TLS",
  not_yet_valid: "Certificate is not valid yet",
  old_tls: "TLS older than 1.3",
  origin_required: "No browser, where one is required",
  overloaded: "Server was full",
  policy: "Policy changed while connected",
  quota_exceeded: "Audio of the day is used up",
  reset: "Client broke the connection off",
  revoked: "Certificate was revoked",
  server_not_trusted: "Client does not trust this server",
  subprotocol_required: "Not our WebSocket protocol",
  timeout: "Handshake took too long",
  too_many: "Too many connections",
  too_many_handshakes: "Too many handshakes at once",
  too_many_handshakes_of_address: "Too many handshakes of one address",
  unknown_ca: "Certificate of another authority",
  unknown_extension: "Certificate has an unknown extension",
  unprintable_subject: "Control characters in the certificate",
  unreadable_certificate: "Certificate cannot be read",
  upgrade_required: "Not a WebSocket request",
  wrong_purpose: "Certificate is not for clients",
};

/** By rule of the report, the gravest first. @type {Record<string, { advice: string, isNotice?: true }>} */
const RULES = {
  "revoked certificate used": {
    advice: "Somebody holds a certificate that was withdrawn. Find the device at this address.",
  },
  "one certificate at many addresses": {
    advice: "Copies of one key may be about. Revoke it and issue another, if its owner was not travelling.",
  },
  "one token at many addresses": {
    advice: "Its network may be wider than it needs to be, or others have it too. Its minter is named.",
  },
  "many failures": { advice: "A device that is set up wrongly, or somebody who tries doors." },
  "a command did not say how it ended": { advice: "It was killed, or could not write its last entry. Ask who ran it." },
  "the clock went back": { advice: "Times before and after do not compare. Check the machine’s clock." },
  "the server ended without saying so": { advice: "A crash, a loss of power, or a kill. Its own log may tell more." },
  "certificate seen for the first time": { advice: "Is each of them one that you issued?", isNotice: true },
};

/** @type {(value: unknown) => value is Summary} */
export function isSummary(value) {
  return (
    isObject(value) &&
    isObject(value.report) &&
    isObject(value.integrity) &&
    Array.isArray(value.report.by_hour) &&
    typeof value.integrity.integrity === "number"
  );
}

/** @type {(integrity: Integrity, commands: Integrity | null) => Verdict} */
export function verdictOf(integrity, commands) {
  if (integrity.integrity !== INTACT) return faultOf("The audit log", integrity);
  if (commands !== null && commands.integrity !== INTACT) return faultOf("The audit log of commands", commands);
  const { n_entries, n_checkpoints, n_uncovered, has_second_place } = integrity;
  const figures =
    `${count(n_entries, "entry", "entries")} in order, ${count(n_checkpoints, "signed checkpoint")}, ` +
    `${n_uncovered} waiting for a signature` +
    (commands === null ? "." : `; of commands on the machine ${count(commands.n_entries, "entry", "entries")}.`);
  if (has_second_place) {
    return { kind: "good", title: "The audit log is intact.", detail: `${figures} Compared with the copies kept elsewhere.`, command: null };
  }
  return {
    kind: "warning",
    title: "The audit log is intact, as far as this machine can tell.",
    detail: `${figures} There are no copies of the checkpoints elsewhere, so an old copy of the whole log would pass too: set audit.checkpoint_folder.`,
    command: null,
  };
}

/** @type {(what: string, integrity: Integrity) => Verdict} */
function faultOf(what, { integrity, n_entries, problem }) {
  const before = `${count(n_entries, "entry", "entries")} before that ${n_entries === 1 ? "is" : "are"} in order.`;
  return {
    kind: "bad",
    title: `${what} ${FAULTS[integrity] ?? "is not in order"}.`,
    detail: `${sentence(problem ?? "Nothing more is known")} ${before}`,
    command: "stream-server audit verify",
  };
}

/** Suspicions by rule, the gravest first. @type {(found: readonly Suspicion[]) => Group[]} */
export function groupsOf(found) {
  const known = Object.keys(RULES);
  const rules = [...new Set([...known, ...found.map(({ rule }) => rule)])];
  return rules
    .map((rule) => {
      const { advice = "", isNotice = false } = RULES[rule] ?? {};
      const of = found.filter((one) => one.rule === rule).map((one) => ({ ...one, detail: plain(one.detail) }));
      return { title: sentence(rule).slice(0, -1), advice, isNotice, found: of };
    })
    .filter(({ found: of }) => of.length > 0);
}

/** A reason's code in words; one that is not known stays a code. @type {(code: string) => string} */
export const reasonOf = (code) => REASONS[code] ?? code.replaceAll("_", " ");

/** `identity resource: reason`, as the report writes what was denied. @type {(what: string) => string} */
export function deniedOf(what) {
  const end = what.lastIndexOf(": ");
  return end < 0 ? plain(what) : `${plain(what.slice(0, end))} — ${reasonOf(what.slice(end + 2))}`;
}

/** Without what every identity and resource begins with. @type {(text: string) => string} */
export const plain = (text) =>
  text
    .replaceAll(/spiffe:\/\/[^/\s]+/g, "")
    .replaceAll(/\bpath:(?=\/)/g, "")
    .replaceAll("path:?", "an unknown path")
    .replaceAll(/\broom:(?=\S)/g, "room ");

/** @type {(seconds: number) => string} */
export function durationOf(seconds) {
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3_570 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3_600).toFixed(1)} h`;
}

/** How long until a moment, in whole days. @type {(until: string, now: number) => string} */
export function daysUntil(until, now) {
  const days = Math.floor((Date.parse(until) - now) / 86_400_000);
  if (days < 0) return "has ended";
  return days === 0 ? "ends today" : `ends in ${count(days, "day")}`;
}

/** @type {(n: number, one: string, many?: string) => string} */
export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** @type {(text: string) => string} */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
