/**
 * A transcript in the page: what is final stays as it is, what is still being said stands dimmed behind
 * it, and the newest line is in view unless the reader has scrolled back.
 *
 * An utterance that was read once more changes where it stands only while it is the newest paragraph: the
 * eyes are on it, and nothing final below it moves. Older paragraphs stay as they were read; the transcript,
 * and what is saved of it, has the better text.
 *
 * It draws at most once a frame, and only what has changed; what the transcript has forgotten is taken
 * out of the page. Screen readers hear finals only: the rest is hidden from them.
 */

/** Pixels from the end that still count as being there. */
const END_PX = 24;

/** @typedef {import("./transcript.js").Transcript} Transcript */
/** @typedef {import("./transcript.js").TextLine} TextLine */

export class CaptionsView {
  /** @type {Transcript | null} */
  #wanted = null;
  #isDue = false;
  /** Elements of the lines shown, oldest first. @type {{ id: number, element: HTMLElement }[]} */
  #shown = [];
  /** @type {HTMLElement | null} */
  #paragraph = null;
  #lastSpeaker = "";
  #isFollowing = true;
  #unseen = 0;
  #observer = new ResizeObserver(() => this.#follow());

  /**
   * @param {HTMLElement} root Filled with the view; its height is the window onto the captions.
   * @param {{ empty?: string, onFollow?: (isFollowing: boolean, unseen: number) => void }} [options]
   *   `empty`: what stands there before the first line. `onFollow`: told when the reader leaves the newest
   *   line, when lines come that he does not see, and when he is back.
   */
  constructor(root, { empty = "", onFollow } = {}) {
    this.root = root;
    this.onFollow = onFollow;
    this.empty = element("p", "captions-empty", empty);
    this.text = element("div", "captions-text");
    // Around the log, not in it: what is said now would otherwise be announced at every change.
    this.text.setAttribute("role", "log");
    this.text.setAttribute("aria-live", "polite");
    this.text.setAttribute("aria-relevant", "additions");
    this.text.setAttribute("aria-label", "Captions");
    root.classList.add("captions");
    root.tabIndex = 0;
    root.setAttribute("role", "region");
    root.setAttribute("aria-label", "Captions, newest last");
    root.replaceChildren(this.empty, this.text);
    root.addEventListener("scroll", () => this.#notice(), { passive: true });
    this.#observer.observe(root);
    this.#observer.observe(this.text);
  }

  /**
   * Show a transcript with the next frame.
   * @param {Transcript} transcript
   */
  render(transcript) {
    this.#wanted = transcript;
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => this.#draw());
  }

  /** Go to the newest line and stay there. */
  toEnd() {
    this.#isFollowing = true;
    this.#unseen = 0;
    this.#follow();
    this.onFollow?.(true, 0);
  }

  /** Let go of the page. */
  disconnect() {
    this.#observer.disconnect();
  }

  // ---------------------------------------------------------------- drawing

  #draw() {
    this.#isDue = false;
    const transcript = this.#wanted;
    if (transcript === null) return;
    for (const tail of this.text.querySelectorAll(".open")) tail.remove();
    const nAdded = this.#append(transcript);
    this.#forget(transcript);
    this.#revise(transcript);
    this.#drawOpen(transcript);
    this.empty.hidden = this.text.childElementCount > 0;
    this.#follow();
    if (!this.#isFollowing && nAdded > 0) {
      this.#unseen += nAdded;
      this.onFollow?.(false, this.#unseen);
    }
  }

  /** @param {Transcript} transcript */
  #append(transcript) {
    const lastId = this.#shown.at(-1)?.id ?? -1;
    let first = transcript.lines.length;
    while (first > 0 && (transcript.lines[first - 1]?.id ?? -1) > lastId) first -= 1;
    for (const line of transcript.lines.slice(first)) {
      const shown = line.kind === "gap" ? this.#addGap() : this.#addText(line);
      this.#shown.push({ id: line.id, element: shown });
    }
    return transcript.lines.length - first;
  }

  #addGap() {
    const gap = element("p", "gap", "Some captions are missing here");
    this.text.append(gap);
    this.#paragraph = null;
    this.#lastSpeaker = "";
    return gap;
  }

  /** @param {TextLine} line */
  #addText(line) {
    if (line.opens || this.#paragraph === null) this.#paragraph = this.#addParagraph(line.source, line.speaker);
    else this.#paragraph.append(" ");
    const text = element("span", "final", line.text);
    if (line.language !== null) text.lang = line.language;
    text.dir = "auto";
    this.#paragraph.append(text);
    return text;
  }

  /**
   * @param {string} source
   * @param {string} speaker
   */
  #addParagraph(source, speaker) {
    const paragraph = element("p", "utterance");
    paragraph.dataset.source = source;
    if (speaker !== "" && speaker !== this.#lastSpeaker) paragraph.append(element("span", "speaker", speaker));
    this.#lastSpeaker = speaker;
    this.text.append(paragraph);
    return paragraph;
  }

  /** @param {Transcript} transcript */
  #forget(transcript) {
    const firstId = transcript.lines[0]?.id ?? Infinity;
    while (this.#shown.length > 0 && /** @type {{ id: number }} */ (this.#shown[0]).id < firstId) {
      const { element: old } = /** @type {{ element: HTMLElement }} */ (this.#shown.shift());
      const parent = old.parentElement;
      // The space before the next one: an utterance may go on for longer than lines are kept.
      if (old.nextSibling instanceof Text) old.nextSibling.remove();
      old.remove();
      if (parent?.classList.contains("utterance") && parent.querySelector(".final") === null) {
        parent.remove();
        if (parent === this.#paragraph) this.#paragraph = null;
      }
    }
  }

  /**
   * Take over what was read once more in the newest paragraph.
   * @param {Transcript} transcript
   */
  #revise(transcript) {
    let newest = transcript.lines.length - 1;
    for (let at = this.#shown.length - 1; at >= 0; at -= 1) {
      const { id, element: shown } = /** @type {{ id: number, element: HTMLElement }} */ (this.#shown[at]);
      if (this.#paragraph === null || shown.parentElement !== this.#paragraph) return;
      while ((transcript.lines[newest]?.id ?? -1) > id) newest -= 1;
      const line = transcript.lines[newest];
      if (line?.id !== id) {
        if (shown.previousSibling instanceof Text) shown.previousSibling.remove();
        shown.remove();
        this.#shown.splice(at, 1);
      } else if (line.kind === "text" && shown.textContent !== line.text && shown.firstChild instanceof Text) {
        // The node stays: another one would be read out as an addition.
        shown.firstChild.data = line.text;
      }
    }
  }

  /** @param {Transcript} transcript */
  #drawOpen(transcript) {
    /** @type {Map<string, HTMLElement>} */
    const bySource = new Map();
    for (const line of transcript.open) {
      let place = bySource.get(line.source);
      if (place === undefined) {
        place = this.#placeOpen(transcript, line.source, line.speaker);
        bySource.set(line.source, place);
      }
      const space = place.childElementCount > 0 || !place.classList.contains("utterance") ? " " : "";
      place.append(space, element("span", "stable", line.stable), element("span", "tentative", line.tentative));
    }
  }

  /**
   * Where a final of this source will stand: behind its utterance if that goes on, else in a paragraph of its own.
   * @param {Transcript} transcript
   * @param {string} source
   * @param {string} speaker
   */
  #placeOpen(transcript, source, speaker) {
    const goesOn = transcript.running.has(source) && this.#paragraph?.dataset.source === source;
    const place = element(goesOn ? "span" : "p", goesOn ? "open" : "open utterance");
    place.setAttribute("aria-hidden", "true");
    place.dir = "auto";
    if (!goesOn && speaker !== "" && speaker !== this.#lastSpeaker) place.append(element("span", "speaker", speaker));
    (goesOn && this.#paragraph !== null ? this.#paragraph : this.text).append(place);
    return place;
  }

  // ---------------------------------------------------------------- following

  #follow() {
    if (this.#isFollowing) this.root.scrollTop = this.root.scrollHeight;
  }

  #notice() {
    const isAtEnd = this.root.scrollHeight - this.root.scrollTop - this.root.clientHeight <= END_PX;
    if (isAtEnd === this.#isFollowing) return;
    this.#isFollowing = isAtEnd;
    this.#unseen = 0;
    this.onFollow?.(isAtEnd, 0);
  }
}

/**
 * @param {string} name
 * @param {string} className
 * @param {string} [text]
 */
function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
