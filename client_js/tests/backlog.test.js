import assert from "node:assert/strict";
import { test } from "node:test";

import { Backlog } from "../backlog.js";

/** Samples from..to-1, each its own position. */
const ramp = (from, to) => Int16Array.from({ length: to - from }, (_, i) => from + i);
const drain = (backlog, samples) => {
  const all = [];
  for (let piece; (piece = backlog.next(samples)) !== null; ) all.push(...piece);
  return all;
};

test("what goes in comes out once, in order, in pieces of at most the size asked for", () => {
  const backlog = new Backlog(1000);
  backlog.push(ramp(0, 7));
  backlog.push(ramp(7, 20));
  assert.equal(backlog.next(5).length, 5);
  assert.deepEqual(drain(backlog, 5), [...ramp(5, 20)]);
  assert.equal(backlog.next(5), null);
  assert.equal(backlog.nUnsent, 0);
});

test("audio is sent again from where it is asked for, as long as it was not released", () => {
  const backlog = new Backlog(1000);
  backlog.push(ramp(0, 30));
  drain(backlog, 8);
  backlog.release(11);
  assert.equal(backlog.begin, 11);
  assert.equal(backlog.seek(4), 11);
  assert.deepEqual(drain(backlog, 100), [...ramp(11, 30)]);
  assert.equal(backlog.seek(20), 20);
  assert.deepEqual(drain(backlog, 100), [...ramp(20, 30)]);
  assert.equal(backlog.seek(99), 30);
});

test("what was not sent is never released", () => {
  const backlog = new Backlog(1000);
  backlog.push(ramp(0, 30));
  backlog.next(10);
  backlog.release(20);
  assert.equal(backlog.begin, 10);
  assert.equal(backlog.nLost, 0);
});

test("at the limit the oldest goes; only what was never sent counts as lost", () => {
  const backlog = new Backlog(20);
  backlog.push(ramp(0, 20));
  backlog.next(6);
  assert.deepEqual([backlog.room, backlog.nLost], [6, 0]);
  backlog.push(ramp(20, 26));
  assert.deepEqual([backlog.begin, backlog.nLost, backlog.room], [6, 0, 0]);
  backlog.push(ramp(26, 29));
  assert.deepEqual([backlog.begin, backlog.nLost], [9, 3]);
  assert.deepEqual(drain(backlog, 4), [...ramp(9, 29)]);
});

test("an empty chunk is nothing", () => {
  const backlog = new Backlog(5);
  backlog.push(new Int16Array(0));
  assert.equal(backlog.next(1), null);
});
