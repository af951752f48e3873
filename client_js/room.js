/**
 * The captions of a room over `/v1/rooms/NAME`: what was said before, then what is said, without a gap
 * across lost connections for as long as the server keeps it.
 */

import { BROWSER, Connection } from "./connection.js";
import { LINK_INVALID, LINK_OVER, ProblemError } from "./problems.js";
import { socketUrl } from "./stream.js";
import { cleared, emptyTranscript, reduce } from "./transcript.js";
import { ROOMS_PATH, isObject } from "./wire.js";

/** A token with less time left is not used for another connection. */
const TOKEN_MS_MIN = 60_000;

/**
 * @typedef {object} RoomOptions
 * @property {string} room
 * @property {string} [server] Origin of the server, `https://HOST:PORT`; the page's own by default.
 * @property {string | null} [link] What a guest's link carries after `#link=`.
 * @property {number | null} [recent] At most so many of the last finals at first; null is all that are kept.
 * @property {number} [linesMax] Lines of the transcript kept.
 * @property {(transcript: import("./transcript.js").Transcript) => void} [onTranscript]
 * @property {(state: import("./connection.js").State) => void} [onState]
 * @property {(event: import("./wire.js").ServerEvent) => void} [onEvent]
 */

export class RoomReader {
  /** Where to go on. @type {{ life: string, after: number } | null} */
  #place = null;
  /** @type {{ text: string, endsAt: number } | null} */
  #token = null;

  /**
   * @param {RoomOptions} options
   * @param {import("./connection.js").Environment} [environment]
   */
  constructor(options, environment = BROWSER) {
    this.options = options;
    this.environment = environment;
    this.transcript = emptyTranscript(options.linesMax);
    this.connection = new Connection(
      {
        url: () => socketUrl(options.server, `${ROOMS_PATH}${options.room}`),
        first: () => this.#first(),
        onEvent: (event) => this.#take(event),
        onState: (state) => options.onState?.(state),
        wish: { right: "read", room: options.room, isGuest: (options.link ?? null) !== null },
        opening: new Set(["joined"]),
        recovers: () => this.#recovers(),
      },
      environment,
    );
  }

  /** @returns {import("./connection.js").State} */
  get state() {
    return this.connection.state;
  }

  /** Connect, or connect at once instead of waiting. */
  open() {
    this.connection.open();
  }

  close() {
    this.connection.close();
  }

  /** Forget the lines shown so far; the connection goes on. */
  clear() {
    this.#show(cleared(this.transcript));
  }

  /** @returns {Promise<import("./wire.js").ClientMessage>} */
  async #first() {
    const { link = null, recent = null } = this.options;
    const where = this.#place ?? (recent === null ? {} : { recent });
    return { type: "read", ...where, ...(link === null ? {} : { token: await this.#freshToken(link) }) };
  }

  /** A token that the server did not take is not used twice. */
  #recovers() {
    const hadToken = this.#token !== null;
    this.#token = null;
    return hadToken;
  }

  /** @param {string} link */
  async #freshToken(link) {
    if (this.#token === null || this.#token.endsAt - this.environment.now() < TOKEN_MS_MIN) {
      this.#token = await fetchToken(link, this.environment.now(), this.options.server);
    }
    return this.#token.text;
  }

  /** @param {import("./wire.js").ServerEvent} event */
  #take(event) {
    if (event.type === "joined") this.#place = { life: event.life, after: event.first - 1 };
    else if (this.#place !== null && "event" in event) this.#place.after = event.event;
    this.#show(reduce(this.transcript, event));
    this.options.onEvent?.(event);
  }

  /** @param {import("./transcript.js").Transcript} transcript */
  #show(transcript) {
    if (transcript === this.transcript) return;
    this.transcript = transcript;
    this.options.onTranscript?.(transcript);
  }
}

/**
 * Exchange a guest's link for a token.
 * @param {string} link
 * @param {number} now
 * @param {string} [server]
 * @throws {ProblemError} The link is over, damaged, or cannot be asked about at the moment.
 */
async function fetchToken(link, now, server) {
  const url = new URL("/v1/guest/token", server ?? globalThis.location?.href);
  const response = await fetch(url, { headers: { Authorization: `Bearer ${link}` }, cache: "no-store" }).catch(() => null);
  if (response?.status === 401) throw new ProblemError(LINK_INVALID);
  if (response?.status === 410) throw new ProblemError(LINK_OVER);
  /** @type {unknown} */
  const body = response?.ok ? await response.json() : null;
  if (!isObject(body) || typeof body.token !== "string" || typeof body.expires_in_seconds !== "number") {
    throw new ProblemError({
      code: "no_token",
      title: "The server does not answer.",
      advice: "Captions go on by themselves when it does.",
      isFinal: false,
    });
  }
  return { text: body.token, endsAt: now + body.expires_in_seconds * 1000 };
}
