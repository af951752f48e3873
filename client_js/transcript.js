/**
 * From events to lines: what a page shows of one stream or one room. Pure.
 *
 * A transcript is a value: `reduce` returns another one and changes nothing. Lines are fixed once they
 * are there, but for an utterance that was read once more: one line takes the place of its lines. What is
 * still being said stands apart in `open`, with how much of it is stable. The number of lines is bounded,
 * so that a page that is open for weeks stays as small as on its first day.
 */

/**
 * What a final said, or several that were read once more together. Finals of one utterance follow each other in one paragraph.
 * @typedef {object} TextLine
 * @property {"text"} kind
 * @property {number} id Rises; never used twice in a transcript.
 * @property {string} source Who in the room; "" in a stream of one's own.
 * @property {string} speaker Name shown; "" when there is none.
 * @property {string} text
 * @property {number} begin Seconds: Unix time in a room, since the first sample in a stream.
 * @property {number} end
 * @property {string | null} language
 * @property {boolean} opens Whether a paragraph begins here.
 * @property {string} origin The stream's session, or the life of the room: segments are numbered anew in each.
 * @property {number} segment Number of the first segment in it.
 * @property {number} lastSegment And of the last one.
 *
 * Something is missing before the next line.
 * @typedef {{ kind: "gap", id: number }} GapLine
 *
 * @typedef {TextLine | GapLine} Line
 *
 * What an open segment says so far.
 * @typedef {object} OpenLine
 * @property {string} source
 * @property {string} speaker
 * @property {number} segment
 * @property {string} stable What no later partial of the segment changes.
 * @property {string} tentative The rest.
 *
 * Which model has read the newest segment of a source.
 * @typedef {{ segment: number, model: string | null }} Reading `model`: the lighter one; null for the usual one.
 *
 * @typedef {object} Transcript
 * @property {readonly Line[]} lines Oldest first.
 * @property {readonly OpenLine[]} open In the order of their segments.
 * @property {Readonly<Record<string, string>>} speakers Name by source, of those present.
 * @property {ReadonlySet<string>} running Sources in the middle of an utterance.
 * @property {Readonly<Record<string, Reading>>} readings By source: what reads it.
 * @property {string} origin Of the lines that come.
 * @property {number} nextId
 * @property {number} linesMax
 * @property {number} nDropped Lines forgotten at the beginning.
 */

/** About six hours of lively talk. */
export const LINES_MAX = 10_000;

/**
 * @param {number} [linesMax] How many lines are kept.
 * @returns {Transcript}
 */
export function emptyTranscript(linesMax = LINES_MAX) {
  return {
    lines: [], open: [], speakers: {}, running: new Set(), readings: {}, origin: "", nextId: 0, linesMax, nDropped: 0,
  };
}

/**
 * The transcript after an event; events that change nothing shown return the same object.
 * @param {Transcript} transcript
 * @param {import("./wire.js").ServerEvent} event
 * @param {number} [offset] Seconds added to the times of a stream's event.
 * @returns {Transcript}
 */
export function reduce(transcript, event, offset = 0) {
  switch (event.type) {
    case "started":
      return { ...withoutOpen(transcript, ""), origin: event.session };
    case "joined":
      return joined(transcript, event);
    case "source_joined":
      return { ...transcript, speakers: { ...transcript.speakers, [event.source]: event.speaker } };
    case "source_left":
      return left(transcript, event.source);
    case "partial":
      return withPartial(readBy(transcript, event), event);
    case "final":
      return withFinal(readBy(transcript, event), event, offset);
    case "utterance":
      return withUtterance(transcript, event);
    default:
      return transcript;
  }
}

/**
 * The transcript with a mark that something is missing; two marks in a row are one.
 * @param {Transcript} transcript
 * @returns {Transcript}
 */
export function withGap(transcript) {
  if (transcript.lines.at(-1)?.kind === "gap") return transcript;
  const gap = { kind: /** @type {const} */ ("gap"), id: transcript.nextId };
  return appended({ ...transcript, running: new Set() }, gap);
}

/**
 * The transcript without its lines, as a reader wants it who clears the page.
 * @param {Transcript} transcript
 * @returns {Transcript}
 */
export function cleared(transcript) {
  return { ...transcript, lines: [], running: new Set(), nDropped: 0 };
}

/**
 * Where the last line ends, in its seconds; 0 when there is none.
 * @param {Transcript} transcript
 */
export function endOf(transcript) {
  return transcript.lines.reduce((end, line) => (line.kind === "text" ? Math.max(end, line.end) : end), 0);
}

/**
 * What a reader should know of the text that comes: that a lighter model reads some of it. "" when none does.
 * @param {Transcript} transcript
 */
export function modelNote(transcript) {
  const models = new Set(Object.values(transcript.readings).flatMap(({ model }) => model ?? []));
  return models.size === 0 ? "" : `Lighter model while the server is busy: ${[...models].sort().join(", ")}`;
}

/**
 * The final of a segment may come after a partial of the next one, which tells more of what comes.
 * @param {Transcript} transcript
 * @param {import("./wire.js").Partial | import("./wire.js").Final} event
 * @returns {Transcript}
 */
function readBy(transcript, { source = "", segment, model }) {
  if (segment < (transcript.readings[source]?.segment ?? 0)) return transcript;
  return { ...transcript, readings: { ...transcript.readings, [source]: { segment, model: model ?? null } } };
}

/**
 * @param {Transcript} transcript
 * @param {import("./wire.js").Joined} event
 * @returns {Transcript}
 */
function joined(transcript, event) {
  const base = event.gap ? withGap(transcript) : transcript;
  const speakers = Object.fromEntries(event.sources.map(({ source, speaker }) => [source, speaker]));
  // Of a source that left meanwhile nobody is told.
  const running = new Set([...base.running].filter((source) => source in speakers));
  return { ...base, speakers, running, open: [], readings: {}, origin: event.life };
}

/**
 * @param {Transcript} transcript
 * @param {string} source
 * @returns {Transcript}
 */
function left(transcript, source) {
  const { [source]: _, ...speakers } = transcript.speakers;
  return { ...withoutOpen(transcript, source), speakers };
}

/**
 * @param {Transcript} transcript
 * @param {string} source
 * @returns {Transcript}
 */
function withoutOpen(transcript, source) {
  const running = new Set(transcript.running);
  running.delete(source);
  const { [source]: _, ...readings } = transcript.readings;
  return { ...transcript, running, readings, open: transcript.open.filter((line) => line.source !== source) };
}

/**
 * @param {Transcript} transcript
 * @param {import("./wire.js").Partial} event
 * @returns {Transcript}
 */
function withPartial(transcript, event) {
  const source = event.source ?? "";
  // The protocol counts code points, a string's index UTF-16 units.
  const points = Array.from(event.text);
  const line = {
    source,
    speaker: transcript.speakers[source] ?? "",
    segment: event.segment,
    stable: points.slice(0, event.stable).join(""),
    tentative: points.slice(event.stable).join(""),
  };
  const others = transcript.open.filter((other) => other.source !== source || other.segment !== event.segment);
  return { ...transcript, open: [...others, line].sort((a, b) => a.segment - b.segment) };
}

/**
 * @param {Transcript} transcript
 * @param {import("./wire.js").Final} event
 * @param {number} offset
 * @returns {Transcript}
 */
function withFinal(transcript, event, offset) {
  const source = event.source ?? "";
  const opens = !transcript.running.has(source) || lastSource(transcript) !== source;
  const running = new Set(transcript.running);
  if (event.utterance_end) running.delete(source);
  else running.add(source);
  const open = transcript.open.filter((line) => line.source !== source || line.segment > event.segment);
  const base = { ...transcript, running, open };
  const text = event.text.trim();
  if (text === "") return base;
  const length = event.end - event.start;
  const begin = event.time === undefined ? event.start + offset : event.time - length;
  return appended(base, {
    kind: "text",
    id: transcript.nextId,
    source,
    speaker: event.speaker ?? transcript.speakers[source] ?? "",
    text,
    begin,
    end: begin + length,
    language: event.language,
    opens,
    origin: transcript.origin,
    segment: event.segment,
    lastSegment: event.segment,
  });
}

/**
 * One line in the place of those that it replaces, as far as they are still there.
 * @param {Transcript} transcript
 * @param {import("./wire.js").Utterance} event
 * @returns {Transcript}
 */
function withUtterance(transcript, event) {
  const source = event.source ?? "";
  const replaced = transcript.lines
    .filter((line) => line.kind === "text")
    .filter(
      ({ origin, segment, lastSegment, ...line }) =>
        line.source === source &&
        origin === transcript.origin &&
        segment >= event.first_segment &&
        lastSegment <= event.last_segment,
    );
  const first = replaced[0];
  if (first === undefined) return transcript;
  const line = {
    ...first,
    text: event.text.trim(),
    end: replaced.at(-1)?.end ?? first.end,
    language: event.language,
    segment: event.first_segment,
    lastSegment: event.last_segment,
  };
  const further = new Set(replaced.slice(1).map(({ id }) => id));
  const lines = transcript.lines.filter(({ id }) => !further.has(id)).map((old) => (old === first ? line : old));
  return { ...transcript, lines };
}

/** @param {Transcript} transcript */
function lastSource(transcript) {
  const last = transcript.lines.at(-1);
  return last?.kind === "text" ? last.source : null;
}

/**
 * @param {Transcript} transcript
 * @param {Line} line
 * @returns {Transcript}
 */
function appended(transcript, line) {
  const lines = [...transcript.lines, line].slice(-transcript.linesMax);
  const nDropped = transcript.nDropped + transcript.lines.length + 1 - lines.length;
  return { ...transcript, lines, nDropped, nextId: transcript.nextId + 1 };
}
