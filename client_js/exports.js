/** A transcript as a file: plain text, SubRip and WebVTT. Pure. */

/** Characters of a row and rows of a cue: what captioning guides agree on. */
const ROW_CHARS = 42;
const CUE_ROWS = 2;
/** Seconds a cue stays at least, when nothing follows sooner. */
const CUE_S_MIN = 1;

/** @typedef {import("./transcript.js").Line} Line */
/** @typedef {import("./transcript.js").TextLine} TextLine */
/** @typedef {{ begin: number, end: number, speaker: string, rows: string[] }} Cue */

/**
 * Paragraphs as they stand on the page, each with its speaker's name when there is one.
 * @param {readonly Line[]} lines
 */
export function toText(lines) {
  /** @type {string[]} */
  const paragraphs = [];
  for (const line of lines) {
    if (line.kind === "gap") paragraphs.push("[…]");
    else if (line.opens || paragraphs.length === 0) paragraphs.push(named(line.speaker, line.text));
    else paragraphs.push(`${paragraphs.pop()} ${line.text}`);
  }
  return paragraphs.map((paragraph) => `${paragraph}\n`).join("\n");
}

/** @param {readonly Line[]} lines */
export function toSrt(lines) {
  return cues(lines)
    .map(({ begin, end, speaker, rows }, index) => {
      const [first = "", ...more] = rows;
      const times = `${clock(begin, ",")} --> ${clock(end, ",")}`;
      return [index + 1, times, named(speaker, first), ...more].join("\n") + "\n";
    })
    .join("\n");
}

/** @param {readonly Line[]} lines */
export function toVtt(lines) {
  const blocks = cues(lines).map(({ begin, end, speaker, rows }) => {
    const voice = speaker === "" ? "" : `<v ${escaped(speaker)}>`;
    return `${clock(begin, ".")} --> ${clock(end, ".")}\n${voice}${rows.map(escaped).join("\n")}\n`;
  });
  return ["WEBVTT\n", ...blocks].join("\n");
}

/**
 * Cues of two rows at most; times count from the first line of a room, from the first sample of a stream.
 * @param {readonly Line[]} lines
 * @returns {Cue[]}
 */
export function cues(lines) {
  const spoken = lines.filter((line) => line.kind === "text").sort((a, b) => a.begin - b.begin);
  const zero = (spoken[0]?.begin ?? 0) > DAY_S * 365 ? /** @type {TextLine} */ (spoken[0]).begin : 0;
  const all = spoken.flatMap((line) => split(line, zero));
  return all.map((cue, index) => {
    const next = all[index + 1]?.begin ?? Infinity;
    return { ...cue, end: Math.max(cue.end, Math.min(next, cue.begin + CUE_S_MIN)) };
  });
}

/** A stream lasts hours; seconds beyond a year are Unix time. */
const DAY_S = 86_400;

/**
 * One line as one cue or more, its time shared out by characters.
 * @param {TextLine} line
 * @param {number} zero
 * @returns {Cue[]}
 */
function split(line, zero) {
  const all = wrapped(line.text);
  const total = all.join("").length;
  const list = [];
  let done = 0;
  for (let at = 0; at < all.length; at += CUE_ROWS) {
    const rows = all.slice(at, at + CUE_ROWS);
    const begin = line.begin - zero + ((line.end - line.begin) * done) / total;
    done += rows.join("").length;
    const end = line.begin - zero + ((line.end - line.begin) * done) / total;
    list.push({ begin, end, speaker: line.speaker, rows });
  }
  return list;
}

/**
 * Rows of at most `ROW_CHARS`, filled from the left; a longer word has a row of its own.
 * @param {string} text
 */
function wrapped(text) {
  /** @type {string[]} */
  const rows = [];
  for (const word of text.split(/\s+/u).filter(Boolean)) {
    const row = rows.at(-1);
    if (row !== undefined && row.length + 1 + word.length <= ROW_CHARS) rows[rows.length - 1] = `${row} ${word}`;
    else rows.push(word);
  }
  return rows;
}

/** @type {(speaker: string, text: string) => string} */
const named = (speaker, text) => (speaker === "" ? text : `${speaker}: ${text}`);

/** @type {(text: string) => string} */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/**
 * @param {number} seconds
 * @param {string} point
 */
function clock(seconds, point) {
  const ms = Math.round(seconds * 1000);
  /** @type {(value: number, digits?: number) => string} */
  const padded = (value, digits = 2) => String(Math.floor(value)).padStart(digits, "0");
  const time = [ms / 3_600_000, (ms / 60_000) % 60, (ms / 1000) % 60].map((value) => padded(value)).join(":");
  return `${time}${point}${padded(ms % 1000, 3)}`;
}
