/** What both pages have: the state of the connection, problems, menus, copying and downloading. */

import { toSrt, toText, toVtt } from "../exports.js";
import { modelNote } from "../transcript.js";

/**
 * The element with an id that the page is known to have.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {{ new (): T }} [kind]
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  const wanted = /** @type {{ new (): HTMLElement }} */ (kind ?? HTMLElement);
  if (!(element instanceof wanted)) throw new Error(`the page has no ${wanted.name} #${id}`);
  return /** @type {T} */ (element);
}

/**
 * Say how the connection stands, and what to do when it does not.
 * @param {import("../connection.js").State} state
 * @param {string} live Words for when all is well.
 */
export function showState(state, live) {
  const words = {
    idle: "Not started",
    connecting: "Connecting …",
    live,
    waiting: "Connecting again …",
    failed: "Not connected",
    ended: "Ended",
  }[state.name];
  const line = byId("state");
  line.dataset.state = state.name;
  if (line.textContent !== words) line.textContent = words;
  // A problem stays in view while the next attempt is under way: it would flicker otherwise.
  if ("problem" in state) showProblem(state.problem.title, state.problem.advice, !state.problem.isFinal);
  else if (state.name !== "connecting") hideProblem();
}

/**
 * Say beside the state of the connection what a reader should know of the captions that come.
 * @param {import("../connection.js").State} state
 * @param {import("../transcript.js").Transcript} transcript
 */
export function showNote(state, transcript) {
  const words = state.name === "live" ? modelNote(transcript) : "";
  const line = byId("note");
  // A screen reader would say the same again.
  if (line.textContent !== words) line.textContent = words;
}

/**
 * @param {string} title
 * @param {string} advice
 * @param {boolean} [canRetry]
 */
export function showProblem(title, advice, canRetry = false) {
  byId("problem-title").textContent = title;
  byId("problem-advice").textContent = advice;
  byId("retry").hidden = !canRetry;
  byId("problem").hidden = false;
}

export function hideProblem() {
  byId("problem").hidden = true;
}

/** Close menus as people expect: with Escape, and when something else is pressed. */
export function tameMenus() {
  const open = () => /** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("details.menu[open]"));
  document.addEventListener("click", ({ target }) => {
    for (const menu of open()) if (target instanceof Node && !menu.contains(target)) menu.open = false;
  });
  document.addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    for (const menu of open()) {
      menu.open = false;
      menu.querySelector("summary")?.focus();
    }
  });
}

/**
 * Buttons that take the transcript along.
 * @param {() => readonly import("../transcript.js").Line[]} lines
 * @param {() => string} name Of the file, without its ending.
 */
export function offerSaving(lines, name) {
  const copy = byId("copy", HTMLButtonElement);
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(toText(lines())).then(
      () => flash(copy, "Copied"),
      () => flash(copy, "Not allowed"),
    );
  });
  const formats = { txt: toText, srt: toSrt, vtt: toVtt };
  const types = { txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt" };
  byId("downloads").addEventListener("click", ({ target }) => {
    const button = target instanceof Element ? target.closest("button") : null;
    const format = /** @type {keyof typeof formats | undefined} */ (button?.dataset.format);
    if (format === undefined) return;
    download(new Blob([formats[format](lines())], { type: types[format] }), `${name()}.${format}`);
    button?.closest("details")?.removeAttribute("open");
  });
}

/** A date and time that a file may be called by, such as `2026-11-21-1405`. */
export function stamp() {
  const now = new Date();
  const pad = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const day = [now.getFullYear(), pad(now.getMonth() + 1), pad(now.getDate())].join("-");
  return `${day}-${pad(now.getHours())}${pad(now.getMinutes())}`;
}

/**
 * A button back to the newest line, shown while the reader is elsewhere.
 * @param {(isFollowing: boolean, unseen: number) => void} [onFollow]
 */
export function newestButton(onFollow) {
  const button = byId("live", HTMLButtonElement);
  return {
    button,
    /** @type {(isFollowing: boolean, unseen: number) => void} */
    show(isFollowing, unseen) {
      button.hidden = isFollowing;
      button.textContent = unseen === 0 ? "Newest" : `Newest (${unseen})`;
      onFollow?.(isFollowing, unseen);
    },
  };
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * @param {HTMLButtonElement} button
 * @param {string} words
 */
function flash(button, words) {
  button.dataset.words ??= button.textContent ?? "";
  button.textContent = words;
  setTimeout(() => (button.textContent = button.dataset.words ?? ""), 1_500);
}
