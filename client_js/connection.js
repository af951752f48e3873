/**
 * A socket that is opened again when it breaks, and says at every moment how it stands.
 *
 * It knows nothing of audio or captions: whoever uses it gives the first message of each attempt and
 * takes the events. Clock, network and chance come in as an environment, so that tests need none.
 */

import { ProblemError, explain, explainFailure, probe, probeHealth } from "./problems.js";
import { BEARER_PREFIX, SUBPROTOCOL, WireError, decode, encode } from "./wire.js";

/** Back-off doubles from the first to the second, each drawn anew between a half and the whole of it. */
const DELAY_MS_MIN = 500;
const DELAY_MS_MAX = 15_000;
/** A certificate is let in ten times a minute by default: a server that is full is asked less often. */
const BUSY_MS_MIN = 10_000;
/** A connection that lived so long was a good one: the next failure is the first again. */
const STABLE_MS = 5_000;
/** An attempt that brings no event within this time is given up. */
const OPEN_MS = 15_000;
/** No event for so long: ask whether the server is still there, for a dead network closes no socket. */
const QUIET_MS = 60_000;
/** `WebSocket.OPEN`: before it nothing can be sent, and behind it a browser writes down each attempt as an error. */
const OPEN = 1;

/**
 * @typedef {import("./problems.js").Problem} Problem
 * @typedef {import("./problems.js").Facts} Facts
 *
 * @typedef {{ name: "idle" } | { name: "connecting" } | { name: "live" }
 *   | { name: "waiting", problem: Problem, seconds: number }
 *   | { name: "failed", problem: Problem } | { name: "ended" }} State
 *
 * @typedef {object} Plan What to connect to, and what for.
 * @property {() => string} url Of the next attempt.
 * @property {() => import("./wire.js").ClientMessage | Promise<import("./wire.js").ClientMessage>} first
 *   First message of the next attempt; may throw `ProblemError`.
 * @property {() => Promise<string>} [token] Shown when the socket of the next attempt is opened, in place of
 *   a certificate; may throw `ProblemError`.
 * @property {(event: import("./wire.js").ServerEvent) => void} onEvent
 * @property {(state: State) => void} onState
 * @property {import("./problems.js").Wish} wish
 * @property {ReadonlySet<string>} opening Types of the event that answers the first message.
 * @property {() => boolean} [recovers] Asked when an attempt ends by an error that would be final: true
 *   when the next first message will be another one.
 *
 * @typedef {Pick<WebSocket, "send" | "close" | "bufferedAmount" | "readyState" | "binaryType" | "onopen"
 *   | "onmessage" | "onclose">} Socket
 *
 * @typedef {object} Environment
 * @property {(url: string, protocols: string[]) => Socket} connect
 * @property {(callback: () => void, ms: number) => number} setTimer
 * @property {(timer: number) => void} clearTimer
 * @property {() => number} now Milliseconds.
 * @property {() => number} random From 0 to 1.
 * @property {() => Promise<Facts>} probe
 * @property {() => Promise<Facts["health"]>} probeHealth
 */

/** @type {Environment} */
export const BROWSER = {
  connect: (url, protocols) => new WebSocket(url, protocols),
  setTimer: (callback, ms) => Number(setTimeout(callback, ms)),
  clearTimer: (timer) => clearTimeout(timer),
  now: () => performance.now(),
  random: () => Math.random(),
  probe,
  probeHealth,
};

export class Connection {
  /** @type {Socket | null} */
  #socket = null;
  /** @type {State} */
  #state = { name: "idle" };
  /** Rises with each attempt; what comes from an older one is not heard. */
  #attempt = 0;
  #nFailures = 0;
  #liveAt = 0;
  /** @type {number | null} */
  #timer = null;
  /** @type {import("./wire.js").Failure | null} */
  #failure = null;
  #isFinished = false;

  /**
   * @param {Plan} plan
   * @param {Environment} [environment]
   */
  constructor(plan, environment = BROWSER) {
    this.plan = plan;
    this.environment = environment;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** Whether `send` sends: a socket that the server is closing is live until it is closed, and takes nothing. */
  get canSend() {
    return this.#state.name === "live" && this.#socket?.readyState === OPEN;
  }

  /** Bytes given to `send` and not yet to the network. */
  get bufferedAmount() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** Begin; connect at once when waiting. */
  open() {
    if (this.#state.name === "connecting" || this.#state.name === "live") return;
    this.#isFinished = false;
    void this.#try();
  }

  /**
   * Send on a live connection.
   * @param {import("./wire.js").ClientMessage | ArrayBufferView<ArrayBuffer>} message
   * @returns {boolean} Whether there was one.
   */
  send(message) {
    if (!this.canSend) return false;
    this.#socket?.send(ArrayBuffer.isView(message) ? message : encode(message));
    return true;
  }

  /** End for good, as wished. */
  close() {
    this.#drop();
    this.#say({ name: "ended" });
  }

  /** Ask whether a connection that looks alive is: after sleep, or when the network has changed. */
  async check() {
    if (this.#state.name === "waiting") return this.open();
    if (this.#state.name !== "live") return;
    const attempt = this.#attempt;
    const health = await this.environment.probeHealth();
    if (attempt === this.#attempt && health === "silent") await this.#broken();
  }

  // ---------------------------------------------------------------- one attempt

  async #try() {
    this.#drop();
    const attempt = this.#attempt;
    this.#say({ name: "connecting" });
    try {
      const first = await this.plan.first();
      const token = await this.plan.token?.();
      if (attempt !== this.#attempt) return;
      // A page can set no header of a socket, and an address is written down by whatever it passes.
      const protocols = [SUBPROTOCOL, ...(token === undefined ? [] : [`${BEARER_PREFIX}${token}`])];
      this.#listen(this.environment.connect(this.plan.url(), protocols), first);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (attempt === this.#attempt) this.#judge(error.problem);
    }
  }

  /**
   * @param {Socket} socket
   * @param {import("./wire.js").ClientMessage} first
   */
  #listen(socket, first) {
    this.#socket = socket;
    const attempt = this.#attempt;
    const isOurs = () => attempt === this.#attempt;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (isOurs()) socket.send(encode(first));
    };
    socket.onmessage = ({ data }) => {
      if (isOurs()) this.#take(data);
    };
    socket.onclose = ({ code }) => {
      if (!isOurs()) return;
      if (this.#isFinished && code === 1000) this.close();
      else void this.#broken();
    };
    this.#wake(OPEN_MS, () => void this.#broken());
  }

  /** @param {unknown} data */
  #take(data) {
    const event = this.#decoded(data);
    if (event === null) return;
    this.#wake(QUIET_MS, () => void this.#ask());
    if (event.type === "error") this.#failure = event;
    if (event.type === "finished") this.#isFinished = true;
    this.plan.onEvent(event);
    // After the event: whoever sends on a live connection must know from where on.
    if (this.plan.opening.has(event.type)) {
      this.#liveAt = this.environment.now();
      this.#say({ name: "live" });
    }
  }

  /** @param {unknown} data */
  #decoded(data) {
    try {
      if (typeof data !== "string") throw new WireError("the server sent bytes");
      return decode(data);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      // Not a server of ours, or one that is broken: what follows cannot be trusted either.
      this.#failure = { type: "error", code: "bad_server", message: error.message };
      void this.#broken();
      return null;
    }
  }

  async #ask() {
    this.#wake(QUIET_MS, () => void this.#ask());
    await this.check();
  }

  // ---------------------------------------------------------------- after it

  async #broken() {
    const failure = this.#failure;
    const wasGood = this.#state.name === "live" && this.environment.now() - this.#liveAt >= STABLE_MS;
    this.#drop();
    if (wasGood) this.#nFailures = 0;
    this.#say({ name: "connecting" });
    const attempt = this.#attempt;
    const problem =
      failure === null ? explain(await this.environment.probe(), this.plan.wish) : explainFailure(failure);
    if (attempt === this.#attempt) this.#judge(problem);
  }

  /** @param {Problem} problem */
  #judge(problem) {
    if (problem.isFinal && !this.plan.recovers?.()) {
      this.#say({ name: "failed", problem });
      return;
    }
    const ms = delay(this.#nFailures, this.environment.random(), problem.code);
    this.#nFailures += 1;
    this.#say({ name: "waiting", problem, seconds: Math.ceil(ms / 1000) });
    this.#wake(ms, () => void this.#try());
  }

  /** Leave the socket, if any; nothing it says is heard any more. */
  #drop() {
    this.#attempt += 1;
    if (this.#timer !== null) this.environment.clearTimer(this.#timer);
    this.#timer = null;
    this.#failure = null;
    this.#socket?.close();
    this.#socket = null;
  }

  /**
   * @param {number} ms
   * @param {() => void} callback
   */
  #wake(ms, callback) {
    if (this.#timer !== null) this.environment.clearTimer(this.#timer);
    this.#timer = this.environment.setTimer(callback, ms);
  }

  /** @param {State} state */
  #say(state) {
    this.#state = state;
    this.plan.onState(state);
  }
}

/**
 * How long to wait before trying again, so that a server that comes back is not met by everybody at once.
 * @param {number} nFailures Before this one, in a row.
 * @param {number} random From 0 to 1.
 * @param {string} [code] Of the problem.
 * @returns {number} Milliseconds.
 */
export function delay(nFailures, random, code = "") {
  const isFull = code === "busy" || code === "overloaded";
  const most = isFull ? DELAY_MS_MAX : Math.min(DELAY_MS_MAX, DELAY_MS_MIN * 2 ** nFailures);
  const least = isFull ? BUSY_MS_MIN : most / 2;
  return least + random * (most - least);
}
