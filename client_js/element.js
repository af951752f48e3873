/**
 * `<live-captions room="board-301">`: the captions of a room in a page of one's own.
 *
 * Attributes: `room`; `server`, the origin of the server when it is not the page's own (its operator must
 * allow the page's origin); `lines`, how many lines are in view (all that fit by default); `link`, for
 * guests. Styled from outside by `font`, `color` and the custom properties of `captions.css`.
 */

import { RoomReader } from "./room.js";
import { modelNote } from "./transcript.js";
import { CaptionsView } from "./view.js";

/** Lines kept by an element that may stand in a page for weeks. */
const LINES_MAX = 500;

export class LiveCaptions extends HTMLElement {
  static observedAttributes = ["room", "server", "link", "lines"];

  /** @type {RoomReader | null} */
  #reader = null;
  /** @type {CaptionsView | null} */
  #view = null;
  #state = document.createElement("p");

  /** Called by the browser when the element comes into a page. */
  connectedCallback() {
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("captions.css", import.meta.url).href;
    this.#state.className = "captions-state";
    this.#state.setAttribute("role", "status");
    const box = document.createElement("div");
    root.replaceChildren(style, this.#state, box);
    this.#view = new CaptionsView(box);
    this.#open();
  }

  /** Called by the browser when the element leaves the page. */
  disconnectedCallback() {
    this.#reader?.close();
    this.#view?.disconnect();
    this.#reader = this.#view = null;
  }

  /**
   * Called by the browser when an attribute changes.
   * @param {string} name
   */
  attributeChangedCallback(name) {
    if (this.#view === null) return;
    if (name === "lines") this.#size();
    else this.#open();
  }

  #open() {
    this.#reader?.close();
    this.#size();
    const room = this.getAttribute("room");
    if (room === null) return;
    this.#reader = new RoomReader({
      room,
      server: this.getAttribute("server") ?? undefined,
      link: this.getAttribute("link"),
      linesMax: LINES_MAX,
      onTranscript: (transcript) => {
        this.#view?.render(transcript);
        this.#say();
      },
      onState: (state) => {
        this.#say();
        this.dispatchEvent(new CustomEvent("state", { detail: state }));
      },
    });
    this.#view?.render(this.#reader.transcript);
    this.#reader.open();
  }

  #size() {
    const lines = Number(this.getAttribute("lines"));
    if (lines > 0) this.style.setProperty("--captions-lines", String(lines));
    else this.style.removeProperty("--captions-lines");
    this.toggleAttribute("windowed", lines > 0);
  }

  /** What is wrong, or what a reader should know of the captions. */
  #say() {
    if (this.#reader === null) return;
    const { state, transcript } = this.#reader;
    const note = state.name === "live" ? modelNote(transcript) : "";
    const words = "problem" in state ? `${state.problem.title} ${state.problem.advice}` : note;
    if (this.#state.textContent !== words) this.#state.textContent = words;
  }
}

customElements.define("live-captions", LiveCaptions);
