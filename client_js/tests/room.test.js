import assert from "node:assert/strict";
import { test } from "node:test";

import { RoomReader } from "../room.js";
import { FakeNetwork, settle } from "./support/fake_network.js";

const joined = (life, first, last, gap = false) => ({
  type: "joined", room: "hall", life, gap, first, last, sources: [{ source: "1", speaker: "Anna" }],
});
const final = (event, text) => ({
  type: "final", event, source: "1", speaker: "Anna", segment: event, start: event, end: event + 1, text,
  language: "en", utterance_end: true, time: 1_763_705_400 + event,
});

async function reading(options = {}) {
  const network = new FakeNetwork();
  const reader = new RoomReader({ room: "hall", server: "https://server:8443", ...options }, network.environment);
  reader.open();
  await settle();
  network.socket?.open();
  return { network, reader, texts: () => reader.transcript.lines.map((line) => (line.kind === "gap" ? "…" : line.text)) };
}

async function again(network, code = 1006) {
  network.socket.break(code);
  await settle();
  await network.pass(15_000);
  network.socket.open();
}

test("a reader gets what was said before, then what is said", async () => {
  const { network, texts } = await reading({ recent: 50 });
  assert.equal(network.socket.url, "wss://server:8443/v1/rooms/hall");
  assert.deepEqual(network.socket.sent, [{ type: "read", recent: 50 }]);
  network.socket.say(joined("aa", 3, 3), final(3, "Before."), final(4, "Now."));
  assert.deepEqual(texts(), ["Before.", "Now."]);
});

test("a reader goes on after the last event he has, and marks what is gone", async () => {
  const { network, texts } = await reading();
  network.socket.say(joined("aa", 1, 1), final(1, "One."), final(2, "Two."));
  await again(network);
  assert.deepEqual(network.socket.sent, [{ type: "read", life: "aa", after: 2 }]);
  network.socket.say(joined("aa", 3, 3), final(3, "Three."));
  await again(network);
  network.socket.say(joined("bb", 1, 1, true), final(1, "Another life."));
  assert.deepEqual(texts(), ["One.", "Two.", "Three.", "…", "Another life."]);
  await again(network);
  assert.deepEqual(network.socket.sent, [{ type: "read", life: "bb", after: 1 }]);
});

test("a room with nothing to read yet is resumed from where it begins", async () => {
  const { network } = await reading();
  network.socket.say(joined("aa", 1, 0));
  await again(network);
  assert.deepEqual(network.socket.sent, [{ type: "read", life: "aa", after: 0 }]);
});

test("a reader who clears his page keeps his place", async () => {
  const { network, reader, texts } = await reading();
  network.socket.say(joined("aa", 1, 1), final(1, "One."));
  reader.clear();
  network.socket.say(final(2, "Two."));
  assert.deepEqual(texts(), ["Two."]);
});

/** Answers of the guest listener, in order; what was asked is kept. */
function guestListener(t, ...answers) {
  const asked = [];
  t.mock.method(globalThis, "fetch", async (url, { headers }) => {
    asked.push([String(url), headers.Authorization]);
    const [status, body] = answers.shift() ?? [503, {}];
    return new Response(JSON.stringify(body), { status });
  });
  return asked;
}

test("a guest's link is exchanged for a token, which is kept while it has time left", async (t) => {
  const token = (text) => [200, { token: text, expires_in_seconds: 900, room: "hall", link_expires_in_seconds: 9999 }];
  const asked = guestListener(t, token("t1"), token("t2"));
  const { network } = await reading({ link: "LINK" });
  assert.deepEqual(asked, [["https://server:8443/v1/guest/token", "Bearer LINK"]]);
  assert.deepEqual(network.socket.sent, [{ type: "read", token: "t1" }]);
  network.socket.say(joined("aa", 1, 0));
  await again(network);
  assert.deepEqual(network.socket.sent, [{ type: "read", life: "aa", after: 0, token: "t1" }]);
  await network.pass(14 * 60_000);
  await again(network);
  assert.equal(network.socket.sent[0].token, "t2");
});

test("a token that is refused is replaced; a link that is over is told and not tried again", async (t) => {
  const token = [200, { token: "t1", expires_in_seconds: 900 }];
  guestListener(t, token, [410, { code: "link_expired" }]);
  const { network, reader } = await reading({ link: "LINK" });
  network.socket.say(joined("aa", 1, 0), { type: "error", code: "link_expired", message: "over" });
  network.socket.break(1008);
  await network.pass(60_000);
  assert.deepEqual([reader.state.name, reader.state.problem.code], ["failed", "link_expired"]);
  assert.equal(network.sockets.length, 1);
});

test("a damaged link is told", async (t) => {
  guestListener(t, [401, { code: "link_invalid" }]);
  const { reader } = await reading({ link: "LIN" });
  await settle();
  assert.deepEqual([reader.state.name, reader.state.problem.code], ["failed", "link_invalid"]);
});
