/** How a reader wants captions to look; kept in this browser. */

const KEY = "stream-server.reading";

/**
 * @typedef {object} Reading
 * @property {string} size Factor on the page's own size.
 * @property {string} lines How many are in view; "all" fills the page.
 * @property {string} look
 * @property {string} aloud Whether screen readers announce finals.
 */

/** @type {Reading} */
const DEFAULT = { size: "1", lines: "all", look: "system", aloud: "polite" };

/** @type {Record<keyof Reading, { legend: string, options: Record<string, string> }>} */
const CHOICES = {
  size: { legend: "Size", options: { "0.8": "Small", 1: "Medium", 1.4: "Large", 2: "Huge" } },
  lines: { legend: "Lines in view", options: { 2: "2", 3: "3", 4: "4", all: "All" } },
  look: {
    legend: "Colours",
    options: { system: "As the system", light: "Light", dark: "Dark", contrast: "High contrast" },
  },
  aloud: { legend: "Screen reader", options: { polite: "Reads new captions", off: "Stays quiet" } },
};

/**
 * Put the choices into a menu, and follow them.
 * @param {HTMLElement} menu A `details` with its summary.
 * @param {HTMLElement} captions The window onto the captions.
 */
export function offerReading(menu, captions) {
  const reading = stored();
  const sheet = document.createElement("div");
  sheet.className = "sheet";
  for (const [name, { legend, options }] of entries(CHOICES)) {
    sheet.append(choice(name, legend, options, reading[name], (value) => {
      reading[name] = value;
      apply(reading, captions);
      store(reading);
    }));
  }
  menu.append(sheet);
  apply(reading, captions);
}

/**
 * @param {Reading} reading
 * @param {HTMLElement} captions
 */
function apply({ size, lines, look, aloud }, captions) {
  const page = document.documentElement;
  page.dataset.look = look;
  page.style.setProperty("--reading-size", size);
  captions.classList.toggle("windowed", lines !== "all");
  captions.style.setProperty("--captions-lines", lines);
  captions.querySelector("[role=log]")?.setAttribute("aria-live", aloud);
}

/** @returns {Reading} */
function stored() {
  const reading = { ...DEFAULT };
  try {
    /** @type {unknown} */
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    for (const [name, { options }] of entries(CHOICES)) {
      const value = /** @type {Record<string, unknown>} */ (kept ?? {})[name];
      if (typeof value === "string" && value in options) reading[name] = value;
    }
  } catch {
    // Storage is off, or holds something else: the page works with what it would begin with.
  }
  return reading;
}

/** @param {Reading} reading */
function store(reading) {
  try {
    localStorage.setItem(KEY, JSON.stringify(reading));
  } catch {
    // Storage is off or full: the choice holds until the page is closed.
  }
}

/**
 * @param {string} name
 * @param {string} legend
 * @param {Record<string, string>} options
 * @param {string} chosen
 * @param {(value: string) => void} onChoose
 */
function choice(name, legend, options, chosen, onChoose) {
  const field = document.createElement("fieldset");
  field.className = "choice";
  const title = document.createElement("legend");
  title.textContent = legend;
  field.append(title);
  for (const [value, label] of Object.entries(options).sort(byOrder(options))) {
    const row = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name, value });
    input.checked = value === chosen;
    input.addEventListener("change", () => onChoose(value));
    const text = document.createElement("span");
    text.textContent = label;
    row.append(input, text);
    field.append(row);
  }
  return field;
}

/**
 * JavaScript puts keys that are numbers first; sizes are wanted in rising order, words behind them.
 * @param {Record<string, string>} options
 * @returns {(a: [string, string], b: [string, string]) => number}
 */
const byOrder = (options) => ([a], [b]) => {
  const keys = Object.keys(options);
  const rank = (/** @type {string} */ key) => (Number.isNaN(Number(key)) ? 100 + keys.indexOf(key) : Number(key));
  return rank(a) - rank(b);
};

/**
 * @template {string} K
 * @template V
 * @param {Record<K, V>} object
 */
const entries = (object) => /** @type {[K, V][]} */ (Object.entries(object));
