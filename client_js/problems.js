/**
 * Why there is no connection, and what a person can do about it.
 *
 * A browser reports every failed socket as close code 1006 and every failed request as a TypeError. So
 * after a failure the server is asked plain questions, and `explain` draws the conclusion. `explain` is
 * pure; `probe` asks.
 */

import { isObject } from "./wire.js";

/**
 * @typedef {object} Problem
 * @property {string} code Short name.
 * @property {string} title What is wrong, in a sentence.
 * @property {string} advice What to do about it.
 * @property {boolean} isFinal Whether trying again is of no use.
 *
 * What a certificate is worth, as `/v1/whoami` tells it.
 * @typedef {object} WhoAmI
 * @property {string} identity Path of the certificate's name, such as `/source/board-301`.
 * @property {string} fingerprint
 * @property {string} expires ISO 8601.
 * @property {string[]} rights
 * @property {string[]} publish Rooms: exact names, or the beginning of names and `*`.
 * @property {string[]} read
 *
 * @typedef {object} Refusal Why a certificate is worth nothing here, as `/v1/whoami` tells it.
 * @property {string} code
 * @property {string} message
 *
 * @typedef {object} Wish What the connection was for.
 * @property {"stream" | "read"} right
 * @property {string | null} room
 * @property {boolean} [isGuest] With a link or a token in place of a certificate.
 *
 * @typedef {object} Facts
 * @property {boolean} isOnline What the browser says of its network.
 * @property {"ready" | "busy" | "silent"} health
 * @property {WhoAmI | null} who As far as it is known, possibly from an earlier time.
 * @property {Refusal | null} refusal The server's answer in place of `who`.
 * @property {number} now Unix time in milliseconds.
 */

/** Errors of the server after which connecting again is worth it. */
const PASSING = new Set([
  "overloaded",
  "shutting_down",
  "engine_failed",
  "internal_error",
  "slow_reader",
  "idle_timeout",
  // Another token opens another stream.
  "token_expired",
]);

/** A problem that was found before a socket was opened. */
export class ProblemError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.title);
    this.problem = problem;
  }
}

/**
 * The problem behind an `error` event.
 * @param {import("./wire.js").Failure} failure
 * @returns {Problem}
 */
export function explainFailure({ code, message }) {
  if (code === "link_expired") return LINK_OVER;
  const isFinal = !PASSING.has(code);
  const title = FAILURES[code] ?? "The server ended the connection.";
  return { code, title, advice: sentence(message), isFinal };
}

/** @type {Record<string, string>} */
const FAILURES = {
  overloaded: "The server is full.",
  shutting_down: "The server is being restarted.",
  engine_failed: "The speech recogniser stopped and is being restarted.",
  internal_error: "The server made a mistake.",
  slow_reader: "This device could not keep up with the captions.",
  idle_timeout: "The connection was quiet for too long.",
  token_expired: "The time of this stream is over.",
  not_allowed: "This is not allowed.",
  quota_exceeded: "This certificate has been heard for as long as it may be today.",
};

/** @type {Problem} */
export const LINK_OVER = {
  code: "link_expired",
  title: "This link is over.",
  advice: "Ask whoever gave it to you for another one.",
  isFinal: true,
};

/** @type {Problem} */
export const LINK_INVALID = {
  code: "link_invalid",
  title: "This link does not open the room.",
  advice: "Check that it was copied whole, to its very end, or ask for another one.",
  isFinal: true,
};

/**
 * The problem behind a socket that closed without a word.
 * @param {Facts} facts
 * @param {Wish} wish
 * @returns {Problem}
 */
export function explain(facts, wish) {
  const { isOnline, health, who, refusal, now } = facts;
  if (health === "silent") {
    if (!isOnline) return OFFLINE;
    if (who !== null && Date.parse(who.expires) <= now) return expired(who);
    return wish.isGuest ? UNREACHABLE_GUEST : UNREACHABLE;
  }
  if (health === "busy") return NOT_READY;
  if (refusal !== null) return explainRefusal(refusal);
  return (who && notAllowed(who, wish)) ?? BUSY;
}

/**
 * The problem of somebody whom TLS has let in and the server has not.
 * @param {Refusal} refusal
 * @returns {Problem}
 */
export function explainRefusal({ code, message }) {
  if (code === "address_not_allowed") return ELSEWHERE;
  return { code, title: "Your certificate is not one for this server.", advice: sentence(message), isFinal: true };
}

/** @type {Problem} */
const ELSEWHERE = {
  code: "address_not_allowed",
  title: "Your certificate may not be used from this network.",
  advice:
    "Connect over a network where it may, such as the one at work or its VPN, or ask whoever looks after the captions to " +
    "allow this one.",
  isFinal: false,
};

/** @type {Problem} */
const OFFLINE = {
  code: "offline",
  title: "This device has no network.",
  advice: "Captions go on by themselves once it is connected again.",
  isFinal: false,
};

/** @type {Problem} */
const UNREACHABLE = {
  code: "unreachable",
  title: "The server does not answer.",
  advice:
    "Captions go on by themselves when it does. If it takes longer, reload this page: when the browser then " +
    "complains about a certificate, yours was withdrawn, and you need another one.",
  isFinal: false,
};

/** @type {Problem} */
const UNREACHABLE_GUEST = { ...UNREACHABLE, advice: "Captions go on by themselves when it does." };

/** @type {Problem} */
const NOT_READY = {
  code: "not_ready",
  title: "The server is starting or stopping.",
  advice: "Captions go on by themselves when it is ready.",
  isFinal: false,
};

/** @type {Problem} */
const BUSY = {
  code: "busy",
  title: "The server has no place free at the moment.",
  advice: "It may be full, or too many pages are open with your certificate. Close those you do not need; this one keeps trying.",
  isFinal: false,
};

/** @type {(who: WhoAmI) => Problem} */
const expired = (who) => ({
  code: "expired",
  title: `Your certificate ended on ${who.expires.slice(0, 10)}.`,
  advice: "Ask for a new one, import it into the browser, close all its windows and open this page again.",
  isFinal: false,
});

/**
 * @param {WhoAmI} who
 * @param {Wish} wish
 * @returns {Problem | null}
 */
function notAllowed(who, { right, room }) {
  const deed = right === "stream" ? "speak" : "read captions";
  const advice = `You are ${who.identity}. Ask whoever looks after the captions for this right, or for another certificate.`;
  if (!who.rights.includes(right)) {
    return { code: "not_allowed", title: `Your certificate does not allow you to ${deed}.`, advice, isFinal: true };
  }
  const rooms = right === "stream" ? who.publish : who.read;
  if (room !== null && !rooms.some((pattern) => matches(pattern, room))) {
    const title = `Your certificate does not allow you to ${deed} in the room ${room}.`;
    return { code: "room_not_allowed", title, advice, isFinal: true };
  }
  return null;
}

/** @type {(pattern: string, room: string) => boolean} */
const matches = (pattern, room) =>
  pattern.endsWith("*") ? room.startsWith(pattern.slice(0, -1)) : room === pattern;

/** @type {(message: string) => string} */
const sentence = (message) => message.charAt(0).toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");

// ------------------------------------------------------------------ asking

const PROBE_MS = 10_000;

/** Whether the server answers, and is ready. @returns {Promise<Facts["health"]>} */
export async function probeHealth() {
  try {
    const response = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(PROBE_MS) });
    return response.ok ? "ready" : "busy";
  } catch {
    // Refused by TLS, unreachable, or too slow: the browser does not tell which.
    return "silent";
  }
}

/** @type {WhoAmI | null} */
let lastKnown = null;

/**
 * Who the server takes this browser for: the last answer when there is none now; and why for nobody.
 * @returns {Promise<{ who: WhoAmI | null, refusal: Refusal | null }>}
 */
export async function whoAmI() {
  let refusal = null;
  try {
    const response = await fetch("/v1/whoami", { cache: "no-store", signal: AbortSignal.timeout(PROBE_MS) });
    /** @type {unknown} */
    const value = response.ok || response.status === 403 ? await response.json() : null;
    if (response.ok && isWhoAmI(value)) lastKnown = value;
    if (!response.ok && isRefusal(value)) refusal = value;
  } catch {
    // Told by probeHealth, which asks at the same time.
  }
  return { who: lastKnown, refusal };
}

/** @returns {Promise<Facts>} */
export async function probe() {
  const [health, answer] = await Promise.all([probeHealth(), whoAmI()]);
  return { isOnline: navigator.onLine, health, ...answer, now: Date.now() };
}

/**
 * @param {unknown} value
 * @returns {value is Refusal}
 */
function isRefusal(value) {
  return isObject(value) && typeof value.code === "string" && typeof value.message === "string";
}

/**
 * @param {unknown} value
 * @returns {value is WhoAmI}
 */
function isWhoAmI(value) {
  const isTexts = (/** @type {unknown} */ list) => Array.isArray(list) && list.every((item) => typeof item === "string");
  return (
    isObject(value) &&
    typeof value.identity === "string" &&
    typeof value.expires === "string" &&
    isTexts(value.rights) &&
    isTexts(value.publish) &&
    isTexts(value.read)
  );
}
