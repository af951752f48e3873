import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { toText } from "../exports.js";
import { cleared, emptyTranscript, modelNote, reduce, withGap } from "../transcript.js";
import { decode } from "../wire.js";

/** @type {(events: object[], linesMax?: number) => import("../transcript.js").Transcript} */
const told = (events, linesMax) =>
  events.reduce((transcript, event) => reduce(transcript, /** @type {any} */ (event)), emptyTranscript(linesMax));

const final = (segment, text, more = {}) => ({
  type: "final", event: segment + 1, segment, start: segment * 2, end: segment * 2 + 1.5, text,
  language: "en", utterance_end: true, ...more,
});
const partial = (segment, text, stable, more = {}) => ({
  type: "partial", segment, revision: 1, start: segment * 2, end: segment * 2 + 1, text, stable, ...more,
});
const utterance = (first, last, text, more = {}) => ({
  type: "utterance", event: 90, first_segment: first, last_segment: last, start: first * 2, end: last * 2 + 1.5, text,
  language: "en", ...more,
});
const texts = (transcript) => transcript.lines.map((line) => (line.kind === "text" ? line.text : "…"));
const shown = (transcript) => transcript.open.map(({ stable, tentative }) => [stable, tentative]);

test("a partial is replaced by the next one and ended by its final", () => {
  const first = told([partial(0, "Good", 0), partial(0, "Good morning", 4)]);
  assert.deepEqual(shown(first), [["Good", " morning"]]);
  const last = reduce(first, final(0, "Good morning."));
  assert.deepEqual([shown(last), texts(last)], [[], ["Good morning."]]);
});

test("stable counts code points, not UTF-16 units", () => {
  const server = JSON.parse(
    readFileSync(new URL("../../tests/vectors/captions_v1/server.json", import.meta.url), "utf8"),
  );
  const { text } = server.sent.find(({ name }) => name.includes("code points"));
  assert.deepEqual(shown(told([decode(text)])), [["😀 one", " two"]]);
});

test("a partial of the next segment may come before the final of this one", () => {
  const both = told([partial(0, "one", 0), partial(1, "two", 0)]);
  assert.deepEqual(shown(both), [["", "one"], ["", "two"]]);
  const after = reduce(both, final(0, "One", { utterance_end: false }));
  assert.deepEqual([texts(after), shown(after)], [["One"], [["", "two"]]]);
});

test("words that a final leaves to the next segment are shown on", () => {
  const transcript = told([
    partial(0, "one two three", 13), final(0, "One two", { utterance_end: false }), partial(1, "three", 5),
  ]);
  assert.deepEqual([texts(transcript), shown(transcript)], [["One two"], [["three", ""]]]);
});

test("finals of one utterance share a paragraph, the next utterance opens another", () => {
  const transcript = told([
    final(0, "One two", { utterance_end: false }), final(1, "three."), final(2, "Four."),
  ]);
  assert.deepEqual(transcript.lines.map((line) => line.opens), [true, false, true]);
});

test("an empty final takes its partial away, shows nothing, and still ends its utterance", () => {
  const transcript = told([
    final(0, "One", { utterance_end: false }), partial(1, "uh", 0), final(1, " "), final(2, "Two."),
  ]);
  assert.deepEqual([texts(transcript), shown(transcript)], [["One", "Two."], []]);
  assert.equal(transcript.lines[1].opens, true);
});

test("two speakers of a room do not mix, and another one speaking opens a paragraph", () => {
  const transcript = told([
    { type: "joined", room: "a", life: "0", gap: false, first: 1, last: 0, sources: [{ source: "1", speaker: "Anna" }] },
    { type: "source_joined", event: 1, source: "2", speaker: "Bo", time: 100 },
    partial(0, "I say", 0, { source: "1" }),
    partial(0, "No", 0, { source: "2" }),
    final(0, "No.", { source: "2", speaker: "Bo", time: 110, utterance_end: false }),
    final(0, "I say", { source: "1", speaker: "Anna", time: 111, utterance_end: false }),
    final(1, "Never.", { source: "2", speaker: "Bo", time: 112 }),
  ]);
  assert.deepEqual(transcript.lines.map(({ speaker, opens }) => [speaker, opens]), [["Bo", true], ["Anna", true], ["Bo", true]]);
  assert.deepEqual(transcript.speakers, { 1: "Anna", 2: "Bo" });
  assert.equal(transcript.lines[0].begin, 108.5);
});

test("who leaves takes his partial along", () => {
  const transcript = told([
    { type: "source_joined", event: 1, source: "2", speaker: "Bo", time: 100 },
    partial(0, "No", 0, { source: "2" }),
    { type: "source_left", event: 2, source: "2", speaker: "Bo", time: 101 },
  ]);
  assert.deepEqual([transcript.open, transcript.speakers], [[], {}]);
});

test("joining after something was missed shows one mark", () => {
  const joined = { type: "joined", room: "a", life: "0", gap: true, first: 1, last: 0, sources: [] };
  assert.deepEqual(texts(told([final(0, "One."), joined, joined, final(1, "Two.")])), ["One.", "…", "Two."]);
  assert.equal(withGap(withGap(emptyTranscript())).lines.length, 1);
});

test("a session started again forgets the open line of the one before", () => {
  const started = { type: "started", event: 1, session: "s", model: "m", limits: {}, features: [] };
  assert.deepEqual(told([partial(3, "half a", 0), started]).open, []);
});

test("a stream's times are moved by its offset", () => {
  const { lines } = reduce(emptyTranscript(), /** @type {any} */ (final(1, "One.")), 60);
  assert.deepEqual([lines[0].begin, lines[0].end], [62, 63.5]);
});

test("lines are kept up to the limit, and ids are never used twice", () => {
  const transcript = told(Array.from({ length: 5 }, (_, i) => final(i, `line ${i}`)), 3);
  assert.deepEqual(texts(transcript), ["line 2", "line 3", "line 4"]);
  assert.deepEqual([transcript.nDropped, transcript.lines.map(({ id }) => id)], [2, [2, 3, 4]]);
  const again = reduce(cleared(transcript), final(5, "line 5"));
  assert.deepEqual(again.lines.map(({ id }) => id), [5]);
});

test("an event that shows nothing changes nothing", () => {
  const transcript = told([final(0, "One.")]);
  assert.equal(reduce(transcript, { type: "lag", behind: 3 }), transcript);
});

test("an utterance read once more takes the place of its finals, in the lines and in what is saved", () => {
  const transcript = told([
    final(0, "Before."), final(1, "Good mourning", { utterance_end: false }), final(2, "every one."), final(3, "After."),
    utterance(1, 2, "Good morning, everyone."),
  ]);
  assert.deepEqual(texts(transcript), ["Before.", "Good morning, everyone.", "After."]);
  assert.deepEqual(transcript.lines.map(({ id, opens }) => [id, opens]), [[0, true], [1, true], [3, true]]);
  assert.deepEqual([transcript.lines[1].begin, transcript.lines[1].end], [2, 5.5]);
  assert.equal(toText(transcript.lines), "Before.\n\nGood morning, everyone.\n\nAfter.\n");
});

test("a final that said nothing has no line, and its utterance stands where the others do", () => {
  const transcript = told([
    final(0, " ", { utterance_end: false }), final(1, "two", { utterance_end: false }), final(2, "three"),
    utterance(0, 2, "One two three."),
  ]);
  assert.deepEqual(texts(transcript), ["One two three."]);
});

test("an utterance is its source's, and its session's", () => {
  const started = (session) => ({ type: "started", event: 1, session, model: "m", limits: {}, features: [] });
  const again = told([
    started("a"), final(0, "old", { utterance_end: false }), final(1, "words"),
    started("b"), final(0, "new"), utterance(0, 1, "Other words."),
  ]);
  assert.deepEqual(texts(again), ["old", "words", "Other words."]);
  const room = told([
    { type: "joined", room: "a", life: "0", gap: false, first: 1, last: 0, sources: [] },
    final(0, "mine", { source: "1", speaker: "Anna", time: 10 }), final(0, "yours", { source: "2", speaker: "Bo", time: 11 }),
    utterance(0, 1, "Mine.", { source: "1", speaker: "Anna", time: 12 }),
  ]);
  assert.deepEqual(texts(room), ["Mine.", "yours"]);
  const later = reduce(room, { type: "joined", room: "a", life: "1", gap: false, first: 1, last: 0, sources: [] });
  assert.equal(reduce(later, utterance(0, 1, "No.", { source: "1", speaker: "Cy", time: 90 })), later);
});

test("an utterance whose finals are forgotten changes nothing; one of which a part is left says all of it", () => {
  const said = [final(0, "one", { utterance_end: false }), final(1, "two", { utterance_end: false }), final(2, "three")];
  const gone = told([...said, final(3, "four"), final(4, "five")], 2);
  assert.equal(reduce(gone, utterance(0, 2, "One two three.")), gone);
  assert.deepEqual(texts(reduce(told(said, 1), utterance(0, 2, "One two three."))), ["One two three."]);
});

test("a note tells of the lighter model from the utterance that it reads to the one that it does not", () => {
  const model = "base.en";
  const before = told([partial(0, "one", 0), final(0, "One.")]);
  assert.equal(modelNote(before), "");
  const stepped = reduce(before, partial(1, "two", 0, { model }));
  assert.equal(modelNote(stepped), "Lighter model while the server is busy: base.en");
  const back = reduce(reduce(stepped, partial(2, "three", 0)), final(1, "Two.", { model }));
  assert.equal(modelNote(back), "");
});

test("a note tells of every source of a room, until it leaves or the stream begins anew", () => {
  const both = told([
    final(4, "One.", { source: "1", speaker: "Anna", time: 9, model: "base.en" }),
    final(7, "Two.", { source: "2", speaker: "Bo", time: 9, model: "base.en" }),
    final(8, "Three.", { source: "2", speaker: "Bo", time: 9 }),
  ]);
  assert.match(modelNote(both), /base\.en$/);
  assert.equal(modelNote(reduce(both, /** @type {any} */ ({ type: "source_left", event: 9, source: "1", speaker: "Anna", time: 9 }))), "");
  const mine = told([final(4, "One.", { model: "base.en" }), { type: "started", event: 1, session: "b" }, partial(0, "a", 0)]);
  assert.equal(modelNote(mine), "");
});

test("a note stays when the reader clears the page", () => {
  assert.match(modelNote(cleared(told([final(0, "One.", { model: "tiny" })]))), /tiny$/);
});

test("a room's screen that is open for weeks is as small as on its first day", () => {
  const joined = (sources) => ({
    type: "joined", room: "hall", life: "1", gap: false, sources: sources.map((source) => ({ source, speaker: "Ada" })),
  });
  const size = (transcript) =>
    JSON.stringify({ ...transcript, running: [...transcript.running], nextId: 0, nDropped: 0 }).length;
  let transcript = reduce(emptyTranscript(40), /** @type {any} */ (joined(["a0"])));
  const sizes = [];
  // 100,000 finals of 5 s are six days of speech without a pause. Each hour another source; each day a new connection,
  // during which one leaves in the middle of its utterance.
  for (let n = 0; n < 100_000; n += 1) {
    const source = `a${Math.floor(n / 720)}`;
    if (n % 720 === 0 && n > 0) {
      const before = `a${n / 720 - 1}`;
      const change = n % 17_280 === 0
        ? [joined([source])]
        : [{ type: "source_left", source: before }, { type: "source_joined", source, speaker: "Ada" }];
      for (const event of change) transcript = reduce(transcript, /** @type {any} */ (event));
    }
    const text = `${10_000 + (n % 10_000)} words`;
    const more = { source, time: 1_700_000_000 + n, utterance_end: n % 3 === 0 };
    transcript = reduce(transcript, /** @type {any} */ (partial(n % 720, text, 5, { source })));
    transcript = reduce(transcript, /** @type {any} */ (final(n % 720, text, more)));
    if (n % 7_200 === 719) sizes.push(size(transcript));
    assert.ok(transcript.running.size <= 1);
  }
  assert.equal(transcript.lines.length, 40);
  const [first, ...later] = sizes;
  // Numbers of segments and names of sources have more digits; nothing else grows.
  for (const one of later) assert.ok(one - first < 40 * 8, `${first} then ${one}`);
});
