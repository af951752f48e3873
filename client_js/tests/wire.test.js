import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { MESSAGE_BYTES_MAX, WireError, decode, encode, isSpeakerName } from "../wire.js";

/** @param {string} name */
const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../tests/vectors/captions_v1/${name}.json`, import.meta.url), "utf8"));

const client = vectors("client");
const server = vectors("server");
const rooms = vectors("rooms");

for (const { name, text } of [...client.valid, ...rooms.valid]) {
  test(`encode writes a valid message: ${name}`, () => {
    const message = JSON.parse(text);
    assert.deepEqual(JSON.parse(encode(message)), message);
  });
}

/** @type {(text: string, key: string) => boolean} */
const hasTwice = (text, key) => text.split(key).length > 2;

// What JSON.parse cannot represent, or what a server refuses for being not offered, is no mistake of a message object.
const expressible = [
  ...client.invalid,
  // The rest are messages of a stream, which are no mistake of theirs but of the place they are sent to.
  ...rooms.invalid.filter(({ text }) => text.includes('"type":"read"')),
].filter(({ text, code }) => {
  if (!["protocol_violation", "unsupported_audio"].includes(code)) return false;
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) && !hasTwice(text, '"type"') && !/\d\.0/.test(text);
  } catch {
    return false;
  }
});

for (const { name, text } of expressible) {
  test(`encode refuses an invalid message: ${name}`, () => {
    assert.throws(() => encode(JSON.parse(text)), WireError);
  });
}

test("encode refuses a resume without its session, a blank speaker and a room of another spelling", () => {
  assert.throws(() => encode(/** @type {any} */ ({ type: "resume", event: 3 })), /resume needs session/);
  assert.throws(() => encode({ type: "start", room: "a", speaker: " " }), /start.speaker/);
  assert.throws(() => encode({ type: "start", room: "Board 301" }), /start.room/);
});

test("encode writes a message of the limit and refuses a byte more", () => {
  const room = JSON.stringify({ type: "read", token: "" }).length;
  const token = "t".repeat(MESSAGE_BYTES_MAX - room);
  assert.equal(encode({ type: "read", token }).length, MESSAGE_BYTES_MAX);
  assert.throws(() => encode({ type: "read", token: `${token}t` }), /65536 bytes/);
});

for (const { name, text } of [...server.sent, ...(server.later ?? []), ...rooms.sent]) {
  test(`decode reads what the server sends: ${name}`, () => {
    assert.deepEqual(decode(text), JSON.parse(text));
  });
}

test("decode ignores events and fields that a newer server sends", () => {
  assert.equal(decode('{"type":"weather","seq":1}'), null);
  assert.equal(decode('{"type":"constructor"}'), null);
  assert.deepEqual(decode('{"type":"flushed","event":1,"mood":"good"}'), { type: "flushed", event: 1, mood: "good" });
});

test("decode refuses what is no event, and fields of another type", () => {
  for (const text of ["", "{", "[]", "null", "3", "{}", '{"type":3}', '{"type":"final","event":"1"}']) {
    assert.throws(() => decode(text), WireError, text);
  }
});

test("a speaker's name is 1 to 64 printable characters", () => {
  assert.ok(isSpeakerName("Anna Ö. 👩‍🚀".replace(/\u200d/g, "")));
  assert.ok(isSpeakerName("😀".repeat(64)));
  for (const name of ["", " ", " Anna", "Anna ", "a\nb", "x".repeat(65)]) assert.ok(!isSpeakerName(name), name);
});
