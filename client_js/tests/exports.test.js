import assert from "node:assert/strict";
import { test } from "node:test";

import { cues, toSrt, toText, toVtt } from "../exports.js";

let id = 0;
const line = (text, begin, end, more = {}) => ({
  kind: "text", id: (id += 1), source: "", speaker: "", text, begin, end, language: "en", opens: true, ...more,
});

test("text has a paragraph an utterance, names, and marks where something is missing", () => {
  const lines = [
    line("Good morning,", 0, 2, { speaker: "Anna" }),
    line("everyone.", 2, 3, { speaker: "Anna", opens: false }),
    { kind: "gap", id: 99 },
    line("Hello.", 9, 10),
  ];
  assert.equal(toText(lines), "Anna: Good morning, everyone.\n\n[…]\n\nHello.\n");
  assert.equal(toText([]), "");
});

test("SubRip numbers its cues and counts hours", () => {
  const srt = toSrt([line("Good morning.", 0.32, 2.24), line("Late.", 3725.5, 3728)]);
  assert.equal(
    srt,
    "1\n00:00:00,320 --> 00:00:02,240\nGood morning.\n\n2\n01:02:05,500 --> 01:02:08,000\nLate.\n",
  );
});

test("WebVTT escapes what would be markup and gives speakers a voice", () => {
  const vtt = toVtt([line("1 < 2 & so on -->", 0, 2, { speaker: "R&D" })]);
  assert.equal(vtt, "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n<v R&amp;D>1 &lt; 2 &amp; so on --&gt;\n");
});

test("a room's times count from its first line", () => {
  assert.equal(cues([line("One.", 1_763_705_400, 1_763_705_402), line("Two.", 1_763_705_405, 1_763_705_406)])[1].begin, 5);
});

test("cues have two rows of 42 characters at most, lose no word and share the time out", () => {
  const text = Array.from({ length: 60 }, (_, i) => `word${i}`).join(" ");
  const all = cues([line(text, 10, 30)]);
  assert.equal(all.flatMap(({ rows }) => rows).join(" "), text);
  for (const { rows } of all) {
    assert.ok(rows.length <= 2);
    for (const row of rows) assert.ok(row.length <= 42);
  }
  assert.deepEqual([all[0].begin, all.at(-1).end], [10, 30]);
  for (let i = 1; i < all.length; i += 1) assert.ok(Math.abs(all[i].begin - all[i - 1].end) < 1e-9);
});

test("a short cue stays a second unless the next one is due", () => {
  const [first, second] = cues([line("Yes.", 1, 1.2), line("No.", 1.7, 1.9)]);
  assert.deepEqual([first.end, second.end], [1.7, 2.7]);
});
