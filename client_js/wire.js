/**
 * The protocol `captions.v1`: messages to text and text to events, both checked. Pure.
 *
 * What is sent is checked as strictly as the server checks it, so that a mistake is found where it is
 * made. What is received is checked only in the fields read here: events and fields that are not known
 * come from a newer server and are ignored.
 */

export const SUBPROTOCOL = "captions.v1";
/** Before a writer token among the subprotocols. */
export const BEARER_PREFIX = "bearer.";
export const STREAM_PATH = "/v1/stream";
export const ROOMS_PATH = "/v1/rooms/";

/** Bytes of one message, text or binary. */
export const MESSAGE_BYTES_MAX = 65_536;

/**
 * First message on `/v1/stream`; what is left out has the server's default.
 * @typedef {object} Start
 * @property {"start"} type
 * @property {"pcm_s16le" | "pcm_f32le" | "mulaw" | "alaw"} [encoding]
 * @property {number} [sample_rate] Hz, 8000 to 48000.
 * @property {number} [channels] 1, or 2 interleaved.
 * @property {string | null} [language] Code such as `"de"`; null lets the model decide.
 * @property {"transcribe" | "translate"} [task]
 * @property {boolean} [partials]
 * @property {boolean} [tentative] Whether partials show words, too, that a later one may change.
 * @property {boolean} [words] Whether finals tell when each word was said; where `started.features` has it.
 * @property {boolean | null} [context] Whether finals are read on from those before; null leaves it to the server.
 * @property {Beam | null} [beam] Beam search for finals; where `started.features` has it.
 * @property {"live" | "files"} [tier] `files` for recordings that nobody waits for.
 * @property {boolean} [trace] Whether finals tell where the time went.
 * @property {boolean} [revise] Whether utterances of several segments are read once more, see `Utterance`.
 * @property {boolean} [transcript] Whether `finished` carries the text of the whole stream.
 * @property {string | null} [room] Publish the captions there.
 * @property {string | null} [speaker] Name shown in the room; only together with `room`.
 * @property {Endpointing | null} [endpointing] Where utterances end; refused by servers that do not offer it.
 *
 * @typedef {{ size: number, patience?: number, length_penalty?: number | null }} Beam
 *   1 to 16; above 0 to 4; 0 to 1. See `beam` in docs/protocol.md.
 *
 * @typedef {{ preset?: string | null, silence_ms?: number | null, silence_ms_min?: number | null,
 *   speech_threshold?: number | null }} Endpointing
 *
 * @typedef {{ type: "flush" } | { type: "finish" } | { type: "keepalive" }} Bare
 *
 * @typedef {object} Resume
 * @property {"resume"} type
 * @property {string} session
 * @property {number} event Last durable event seen.
 *
 * First message on `/v1/rooms/NAME`.
 * @typedef {object} Read
 * @property {"read"} type
 * @property {string | null} [life] With `after`: go on after that event of that life of the room.
 * @property {number | null} [after]
 * @property {number | null} [recent] At most so many of the last durable events; null is all that are kept.
 * @property {string | null} [token] Of a guest.
 *
 * @typedef {Start | Bare | Resume | Read} ClientMessage
 */

/**
 * @typedef {object} Limits
 * @property {number} message_bytes
 * @property {number} idle_seconds
 * @property {number} ahead_seconds
 *
 * @typedef {{ type: "started", event: number, session: string, model: string, limits: Limits,
 *   features: string[] }} Started
 * @typedef {{ type: "resumed", session: string, samples: number, flushes: number, closing: boolean }} Resumed
 * @typedef {{ type: "speech_started", event: number, at: number }} SpeechStarted
 * @typedef {{ type: "partial", source?: string, segment: number, revision: number, start: number,
 *   end: number, text: string, stable: number, model?: string }} Partial
 * @typedef {{ type: "final", event: number, source?: string, speaker?: string, time?: number,
 *   segment: number, start: number, end: number, text: string, language: string | null,
 *   words?: Word[] | null, utterance_end: boolean, model?: string }} Final
 * @typedef {{ text: string, start: number, end: number }} Word Joined, the texts of all words are the final's.
 * @typedef {{ type: "utterance", event: number, source?: string, speaker?: string, time?: number,
 *   first_segment: number, last_segment: number, start: number, end: number, text: string,
 *   language: string | null, words?: Word[] | null, model?: string }} Utterance Replaces the text of its segments' finals.
 * @typedef {{ type: "flushed", event: number }} Flushed
 * @typedef {{ type: "ack", samples: number }} Ack
 * @typedef {{ type: "lag", behind: number }} Lag
 * @typedef {{ type: "warning", code: string, message: string }} Warning
 * @typedef {{ type: "finished", event: number, audio_seconds: number, segments: number,
 *   transcript?: { text: string, first_segment: number } }} Finished
 * @typedef {{ type: "error", code: string, message: string }} Failure
 * @typedef {{ source: string, speaker: string }} Source
 * @typedef {{ type: "joined", room: string, life: string, gap: boolean, first: number, last: number,
 *   sources: Source[] }} Joined
 * @typedef {{ type: "source_joined", event: number, source: string, speaker: string, time: number }} SourceJoined
 * @typedef {{ type: "source_left", event: number, source: string, speaker: string, time: number }} SourceLeft
 *
 * @typedef {Started | Resumed | SpeechStarted | Partial | Final | Utterance | Flushed | Ack | Lag | Warning
 *   | Finished | Failure | Joined | SourceJoined | SourceLeft} ServerEvent
 */

/** A message that breaks the protocol: ours before it is sent, or the server's. */
export class WireError extends Error {
  /** @override */
  name = "WireError";
}

/** @typedef {(value: unknown) => boolean} Check */

/** @type {Check} */
const text = (value) => typeof value === "string";
/** @type {Check} */
const flag = (value) => typeof value === "boolean";
/** @type {Check} */
const number = (value) => typeof value === "number" && Number.isFinite(value);
/** @type {Check} */
const count = (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;
/** @type {(check: Check) => Check} */
const orNull = (check) => (value) => value === null || check(value);
/** @type {(check: Check) => Check} */
const maybe = (check) => (value) => value === undefined || check(value);
/** @type {(...allowed: unknown[]) => Check} */
const oneOf = (...allowed) => (value) => allowed.includes(value);
/** @type {(low: number, high: number) => Check} */
const between = (low, high) => (value) =>
  count(value) && /** @type {number} */ (value) >= low && /** @type {number} */ (value) <= high;
/** @type {(check: Check) => Check} */
const listOf = (check) => (value) => Array.isArray(value) && value.every(check);
/** @type {(fields: Record<string, Check>) => Check} */
const record = (fields) => (value) =>
  isObject(value) && Object.entries(fields).every(([name, check]) => check(value[name]));

/**
 * An object with some of these fields and no others, null standing for one left out.
 * @type {(fields: Record<string, Check>) => Check}
 */
const only = (fields) => (value) =>
  isObject(value) && Object.entries(value).every(([name, given]) => name in fields && (given === null || fields[name]?.(given)));

/** Rooms have one spelling, so that a link is a link. */
export const ROOM_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** @type {Check} */
const room = (value) => typeof value === "string" && ROOM_PATTERN.test(value);
/** @type {Check} */
const speaker = (value) => typeof value === "string" && isSpeakerName(value);

/** @type {Check} */
const beam = (value) => {
  if (!only({ size: between(1, 16), patience: number, length_penalty: number })(value)) return false;
  const { size, patience = 1, length_penalty = null } = /** @type {Beam} */ (value);
  // A half is rounded to the even number, as in Python: to none.
  const lets_one_end = patience <= 4 && size * patience > 0.5;
  return count(size) && lets_one_end && (length_penalty === null || (length_penalty >= 0 && length_penalty <= 1));
};

/**
 * Whether a name may be shown in a room: 1 to 64 printable characters without space at either end.
 * @param {string} name
 */
export function isSpeakerName(name) {
  const length = Array.from(name).length;
  return length >= 1 && length <= 64 && name === name.trim() && !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(name);
}

/** @type {Record<string, Record<string, Check>>} */
const CLIENT = {
  start: {
    encoding: oneOf("pcm_s16le", "pcm_f32le", "mulaw", "alaw"),
    sample_rate: between(8000, 48000),
    channels: between(1, 2),
    language: orNull(text),
    task: oneOf("transcribe", "translate"),
    partials: flag,
    tentative: flag,
    words: flag,
    context: orNull(flag),
    tier: oneOf("live", "files"),
    trace: flag,
    beam: orNull(beam),
    revise: flag,
    transcript: flag,
    room: orNull(room),
    speaker: orNull(speaker),
    endpointing: orNull(only({ preset: text, silence_ms: number, silence_ms_min: number, speech_threshold: number })),
    hotwords: orNull(listOf(text)),
    prompt: orNull(text),
  },
  flush: {},
  finish: {},
  keepalive: {},
  resume: { session: text, event: count },
  read: {
    life: orNull(text),
    after: orNull(count),
    recent: orNull(between(0, 10_000)),
    token: orNull(text),
  },
};

const REQUIRED = new Set(["resume.session", "resume.event"]);

/** What makes no sense without another field of the message. @type {[string, string, string][]} */
const NEEDS = [
  ["start", "speaker", "room"],
  ["read", "life", "after"],
  ["read", "after", "life"],
];

/** @type {Record<string, Record<string, Check>>} */
const SERVER = {
  started: {
    event: count,
    session: text,
    model: text,
    limits: record({ message_bytes: count, idle_seconds: number, ahead_seconds: number }),
    features: listOf(text),
  },
  resumed: { session: text, samples: count, flushes: count, closing: flag },
  speech_started: { event: count, at: number },
  partial: { segment: count, revision: count, start: number, end: number, text, stable: count, model: maybe(text) },
  final: {
    event: count,
    segment: count,
    start: number,
    end: number,
    text,
    language: orNull(text),
    words: maybe(orNull(listOf(record({ text, start: number, end: number })))),
    utterance_end: flag,
    model: maybe(text),
  },
  utterance: {
    event: count,
    first_segment: count,
    last_segment: count,
    start: number,
    end: number,
    text,
    language: orNull(text),
    words: maybe(orNull(listOf(record({ text, start: number, end: number })))),
    model: maybe(text),
  },
  flushed: { event: count },
  ack: { samples: count },
  lag: { behind: number },
  warning: { code: text, message: text },
  finished: {
    event: count,
    audio_seconds: number,
    segments: count,
    transcript: maybe(record({ text, first_segment: count })),
  },
  error: { code: text, message: text },
  joined: {
    room: text,
    life: text,
    gap: flag,
    first: count,
    last: count,
    sources: listOf(record({ source: text, speaker: text })),
  },
  source_joined: { event: count, source: text, speaker: text, time: number },
  source_left: { event: count, source: text, speaker: text, time: number },
};

/**
 * Text of a client's message.
 * @param {ClientMessage} message
 * @returns {string}
 * @throws {WireError} An unknown type or field, a missing one, or a value the server refuses; names it.
 */
export function encode(message) {
  const { type, ...rest } = message;
  const fields = /** @type {Record<string, unknown>} */ (rest);
  const checks = CLIENT[type];
  if (checks === undefined) throw new WireError(`no message has the type ${JSON.stringify(type)}`);
  for (const [name, value] of Object.entries(fields)) {
    const check = checks[name];
    if (check === undefined) throw new WireError(`${type} has no field ${name}`);
    if (!check(value)) throw new WireError(`${type}.${name} may not be ${JSON.stringify(value)}`);
  }
  for (const name of Object.keys(checks)) {
    if (REQUIRED.has(`${type}.${name}`) && !(name in fields)) throw new WireError(`${type} needs ${name}`);
  }
  for (const [of, field, other] of NEEDS) {
    if (type === of && (fields[field] ?? null) !== null && (fields[other] ?? null) === null) {
      throw new WireError(`${type}.${field} needs ${type}.${other}`);
    }
  }
  const line = JSON.stringify(message);
  if (new TextEncoder().encode(line).length > MESSAGE_BYTES_MAX) {
    throw new WireError(`a message may have ${MESSAGE_BYTES_MAX} bytes`);
  }
  return line;
}

/**
 * The event a text frame carries.
 * @param {string} line
 * @returns {ServerEvent | null} null for an event that is not known here.
 * @throws {WireError} Not an event, or one whose fields are not what the protocol says.
 */
export function decode(line) {
  /** @type {unknown} */
  let value;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new WireError("the server sent text that is not JSON", { cause });
  }
  if (!isObject(value) || typeof value.type !== "string") {
    throw new WireError("the server sent JSON that is no event");
  }
  const checks = Object.hasOwn(SERVER, value.type) ? SERVER[value.type] : undefined;
  if (checks === undefined) return null;
  for (const [name, check] of Object.entries(checks)) {
    if (!check(value[name])) throw new WireError(`the server's ${value.type} has no valid ${name}`);
  }
  return /** @type {ServerEvent} */ (/** @type {unknown} */ (value));
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
