/**
 * Speech to captions over `/v1/stream`, across lost connections and restarts of the server.
 *
 * Audio is kept until captions have come back for it. When a connection breaks, the session is resumed
 * where the server offers that and still has it; otherwise another session hears again what no final
 * covers. Either way nothing that was said is lost, up to `BACKLOG_S` seconds without a connection.
 */

import { Backlog } from "./backlog.js";
import { BROWSER, Connection } from "./connection.js";
import { SAMPLE_RATE } from "./resample.js";
import { cleared, emptyTranscript, endOf, reduce } from "./transcript.js";
import { ProblemError } from "./problems.js";
import { STREAM_PATH } from "./wire.js";

/** Seconds of audio kept: 3.8 MB. */
const BACKLOG_S = 120;
/** Bytes the socket may hold unsent: two seconds. Beyond it the backlog waits, which can be sent again. */
const BUFFERED_MAX = 65_536;
/** Samples of one message at most. */
const MESSAGE_SAMPLES = 8_000;
/** Samples ahead of the socket that a recording may be; a microphone is never ahead. */
const AHEAD_SAMPLES = 2 * SAMPLE_RATE;
const TICK_MS = 1_000;
/** Nothing sent for so long: tell the server that we are there. It waits 30 s by default. */
const KEEPALIVE_MS = 10_000;

/**
 * @typedef {object} StreamOptions
 * @property {string} [server] Origin of the server, `https://HOST:PORT`; the page's own by default.
 * @property {string | null} [language] Code such as `"de"`; null lets the model decide.
 * @property {string | null} [room] Publish the captions in this room.
 * @property {string | null} [speaker] Name shown in the room.
 * @property {() => Promise<string>} [token] Gives a writer token, asked before each connection, for pages at a
 *   server's listener for guests; without it the browser shows a certificate.
 * @property {boolean} [tentative] Show words, too, that may still change.
 * @property {boolean} [revise] Have utterances of several segments read once more; where servers have `revise`.
 * @property {number} [linesMax] Lines of the transcript kept.
 * @property {import("./transcript.js").Transcript} [transcript] Of an earlier stream, to go on with.
 * @property {(transcript: import("./transcript.js").Transcript) => void} [onTranscript]
 * @property {(state: import("./connection.js").State) => void} [onState]
 * @property {(event: import("./wire.js").ServerEvent) => void} [onEvent]
 *
 * @typedef {object} Session
 * @property {string} id
 * @property {number} base Position in the backlog of its first sample.
 * @property {number} event Last durable event.
 * @property {boolean} resumes Whether it may be gone on with.
 */

export class CaptionStream {
  #backlog = new Backlog(BACKLOG_S * SAMPLE_RATE);
  /** @type {Session | null} */
  #session = null;
  #isResuming = false;
  /** End of the last final: from here on audio is heard again by another session. */
  #covered = 0;
  #offset = 0;
  #wantsFinish = false;
  #wantsFlush = false;
  /** Closing words that went over the present connection. */
  #said = new Set();
  #sentAt = 0;
  /** @type {number | null} */
  #ticker = null;
  /** @type {(() => void)[]} */
  #waiting = [];

  /**
   * @param {StreamOptions} [options]
   * @param {import("./connection.js").Environment} [environment]
   */
  constructor(options = {}, environment = BROWSER) {
    this.options = options;
    this.environment = environment;
    this.transcript = options.transcript ?? emptyTranscript(options.linesMax);
    /** Seconds at which this stream's first sample stands in the transcript. */
    this.#offset = endOf(this.transcript);
    this.connection = new Connection(
      {
        url: () => socketUrl(options.server, this.#session?.resumes ? `${STREAM_PATH}?resume` : STREAM_PATH),
        first: () => this.#first(),
        onEvent: (event) => this.#take(event),
        onState: (state) => this.#stand(state),
        ...(options.token === undefined ? {} : { token: given(options.token) }),
        wish: { right: "stream", room: options.room ?? null, isGuest: options.token !== undefined },
        opening: new Set(["started", "resumed"]),
        recovers: () => this.#recovers(),
      },
      environment,
    );
  }

  /** @returns {import("./connection.js").State} */
  get state() {
    return this.connection.state;
  }

  /** Seconds of audio that wait to be sent. */
  get behindSeconds() {
    return this.#backlog.nUnsent / SAMPLE_RATE;
  }

  /** Seconds of audio that could not be sent for too long and are gone. */
  get lostSeconds() {
    return this.#backlog.nLost / SAMPLE_RATE;
  }

  /** Connect, or connect at once instead of waiting. */
  open() {
    this.connection.open();
    if (this.#ticker === null) this.#tick();
  }

  /**
   * Say something: 16-bit mono at 16 kHz. Before `finish`; also while there is no connection.
   * @param {Int16Array} samples
   */
  push(samples) {
    if (this.#wantsFinish) return;
    this.#backlog.push(samples);
    this.#pump();
  }

  /** Resolves when more of a recording may be pushed without filling memory, or when all is over. */
  async ready() {
    while (this.#backlog.nUnsent > AHEAD_SAMPLES && !isOver(this.state)) {
      await new Promise((resolve) => this.#waiting.push(() => resolve(null)));
    }
  }

  /** Have everything said so far made final now, such as when a microphone is switched off. */
  flush() {
    this.#wantsFlush = true;
    this.#said.delete("flush");
    this.#pump();
  }

  /** Nothing more will be said; resolves when the last final is here, or the stream has failed. */
  async finish() {
    this.#wantsFinish = true;
    this.#pump();
    while (!isOver(this.state)) await new Promise((resolve) => this.#waiting.push(() => resolve(null)));
  }

  /** End at once, without the last finals. */
  close() {
    this.connection.close();
  }

  /** Forget the lines shown so far; the stream goes on. */
  clear() {
    this.#show(cleared(this.transcript));
  }

  // ---------------------------------------------------------------- connection

  /** @returns {import("./wire.js").ClientMessage} */
  #first() {
    this.#said.clear();
    this.#isResuming = this.#session?.resumes ?? false;
    if (this.#isResuming && this.#session !== null) {
      return { type: "resume", session: this.#session.id, event: this.#session.event };
    }
    const { language = null, room = null, speaker = null, revise = false, tentative = false } = this.options;
    return {
      type: "start",
      encoding: "pcm_s16le",
      sample_rate: SAMPLE_RATE,
      language,
      ...(revise ? { revise } : {}),
      ...(tentative ? { tentative } : {}),
      // Servers without rooms refuse the fields.
      ...(room === null ? {} : { room }),
      ...(room === null || speaker === null ? {} : { speaker }),
    };
  }

  /** A session that is gone is no reason to give up: another one can begin. */
  #recovers() {
    const wasResuming = this.#isResuming;
    this.#isResuming = false;
    return wasResuming;
  }

  /** @param {import("./connection.js").State} state */
  #stand(state) {
    if (isOver(state)) this.#stopTicking();
    this.#release();
    this.options.onState?.(state);
    this.#pump();
  }

  /** @param {import("./wire.js").ServerEvent} event */
  #take(event) {
    if (event.type === "started") this.#begin(event);
    const session = this.#session;
    if (session !== null) {
      if ("event" in event) session.event = event.event;
      if (event.type === "resumed") this.#goOn(session, event);
      if (event.type === "final") this.#cover(session.base + Math.round(event.end * SAMPLE_RATE));
      if (event.type === "flushed") this.#wantsFlush = false;
      // The session ended with this; what no final covers is said again in the next one.
      if (event.type === "error") this.#session = null;
    }
    this.#show(reduce(this.transcript, event, this.#offset + (session?.base ?? 0) / SAMPLE_RATE));
    this.options.onEvent?.(event);
    this.#pump();
  }

  /** @param {import("./wire.js").Started} event */
  #begin(event) {
    const base = this.#backlog.seek(this.#covered);
    this.#session = { id: event.session, base, event: event.event, resumes: event.features.includes("resume") };
  }

  /**
   * @param {Session} session
   * @param {import("./wire.js").Resumed} event
   */
  #goOn(session, event) {
    this.#isResuming = false;
    if (event.closing) this.#said.add("finish");
    // Where audio was lost in between, the session's clock stood still.
    session.base = this.#backlog.seek(session.base + event.samples) - event.samples;
  }

  /** @param {number} sample */
  #cover(sample) {
    this.#covered = Math.max(this.#covered, sample);
    this.#backlog.release(this.#covered);
  }

  /** @param {import("./transcript.js").Transcript} transcript */
  #show(transcript) {
    if (transcript === this.transcript) return;
    this.transcript = transcript;
    this.options.onTranscript?.(transcript);
  }

  // ---------------------------------------------------------------- sending

  #pump() {
    if (!this.connection.canSend) return;
    while (this.connection.bufferedAmount < BUFFERED_MAX) {
      const piece = this.#backlog.next(MESSAGE_SAMPLES);
      if (piece === null) {
        this.#sayLastWords();
        break;
      }
      this.#send(/** @type {Int16Array<ArrayBuffer>} */ (piece));
    }
    this.#release();
  }

  #sayLastWords() {
    if (this.#wantsFlush && !this.#said.has("flush")) {
      this.#said.add("flush");
      this.#send({ type: "flush" });
    }
    if (this.#wantsFinish && !this.#said.has("finish")) {
      this.#said.add("finish");
      this.#send({ type: "finish" });
    }
  }

  /** @param {import("./wire.js").ClientMessage | Int16Array<ArrayBuffer>} message */
  #send(message) {
    this.connection.send(message);
    this.#sentAt = this.environment.now();
  }

  #tick() {
    this.#ticker = this.environment.setTimer(() => this.#tick(), TICK_MS);
    this.#pump();
    const isQuiet = this.environment.now() - this.#sentAt >= KEEPALIVE_MS;
    if (isQuiet && this.connection.canSend && this.#backlog.nUnsent === 0) this.#send({ type: "keepalive" });
  }

  #stopTicking() {
    if (this.#ticker !== null) this.environment.clearTimer(this.#ticker);
    this.#ticker = null;
  }

  /** Let those go on who wait for the state or the backlog to change. */
  #release() {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** @param {import("./connection.js").State} state */
const isOver = (state) => state.name === "ended" || state.name === "failed";

/**
 * @param {string | undefined} server
 * @param {string} path
 */
export function socketUrl(server, path) {
  const url = new URL(path, server ?? globalThis.location?.href);
  url.protocol = url.protocol === "http:" ? "ws:" : "wss:";
  return url.href;
}

/**
 * What asks a page's own source for a token; whatever that throws is no reason to give up.
 * @param {() => Promise<string>} source
 */
function given(source) {
  return async () => {
    try {
      return await source();
    } catch (error) {
      if (error instanceof ProblemError) throw error;
      throw new ProblemError({
        code: "no_token",
        title: "This page got no leave to speak.",
        advice: "Captions go on by themselves when it does; reload the page if it takes longer.",
        isFinal: false,
      });
    }
  };
}
