import assert from "node:assert/strict";
import { test } from "node:test";

import { CaptionStream } from "../stream.js";
import { FakeNetwork, settle } from "./support/fake_network.js";

const LIMITS = { message_bytes: 65536, idle_seconds: 30, ahead_seconds: 10 };
const started = (session, features = []) => ({ type: "started", event: 1, session, model: "m", limits: LIMITS, features });
const final = (event, segment, start, end, text) => ({
  type: "final", event, segment, start, end, text, language: "en", utterance_end: true,
});

/** Samples from..to-1, each its own position, as far as 16 bits go. */
const ramp = (from, to) => Int16Array.from({ length: to - from }, (_, i) => (from + i) % 32768);
const positions = (from, to) => [...ramp(from, to)];

async function streaming(options = {}) {
  const network = new FakeNetwork();
  const stream = new CaptionStream({ server: "https://server:8443", ...options }, network.environment);
  stream.open();
  await settle();
  network.socket.open();
  return { network, stream };
}

/** Break the connection and have the next one opened. */
async function again(network) {
  network.socket.break();
  await settle();
  await network.pass(15_000);
  network.socket.open();
}

test("a stream says what it is, sends what it is given, and shows what comes back", async () => {
  const { network, stream } = await streaming({ language: "en", room: "hall", speaker: "Anna" });
  assert.equal(network.socket.url, "wss://server:8443/v1/stream");
  assert.deepEqual(network.socket.sent, [
    { type: "start", encoding: "pcm_s16le", sample_rate: 16000, language: "en", room: "hall", speaker: "Anna" },
  ]);
  stream.push(ramp(0, 800));
  assert.equal(network.socket.samples.length, 0, "not before it is live");
  network.socket.say(started("s"), final(2, 0, 0, 0.04, "Good morning."));
  assert.deepEqual(network.socket.samples, positions(0, 800));
  assert.deepEqual(stream.transcript.lines.map(({ text }) => text), ["Good morning."]);
});

test("a page with a token shows a fresh one with each connection, and never in an address", async () => {
  let n = 0;
  const { network } = await streaming({ token: async () => `t${(n += 1)}` });
  assert.deepEqual(network.socket.protocols, ["captions.v1", "bearer.t1"]);
  network.socket.say(started("one", ["resume"]));
  await again(network);
  assert.deepEqual(network.socket.protocols, ["captions.v1", "bearer.t2"]);
  assert.equal(network.socket.url, "wss://server:8443/v1/stream?resume");
  assert.deepEqual((await streaming()).network.socket.protocols, ["captions.v1"]);
});

test("a page that gets no token tries again, and a stream whose time is over goes on with another", async () => {
  let isDown = true;
  const network = new FakeNetwork();
  const token = async () => {
    if (isDown) throw new Error("the page's server is down");
    return "t";
  };
  const stream = new CaptionStream({ server: "https://server:8444", token }, network.environment);
  stream.open();
  await settle();
  assert.equal(network.sockets.length, 0);
  assert.equal(stream.state.name, "waiting");
  assert.equal(stream.state.problem.code, "no_token");
  isDown = false;
  await network.pass(15_000);
  network.socket.open();
  network.socket.say(started("one"), { type: "error", event: 2, code: "token_expired", message: "over" });
  await again(network);
  assert.equal(network.socket.sent[0].type, "start");
  network.socket.say(started("two"));
  assert.equal(stream.state.name, "live");
});

test("without a room no field of rooms is sent", async () => {
  const { network } = await streaming({ speaker: "Anna" });
  assert.deepEqual(Object.keys(network.socket.sent[0]), ["type", "encoding", "sample_rate", "language"]);
});

test("another session hears again what no final covers, and its times go on", async () => {
  const { network, stream } = await streaming();
  network.socket.say(started("one"));
  stream.push(ramp(0, 24_000));
  network.socket.say(final(2, 0, 0.1, 1.0, "One."));
  await again(network);
  assert.equal(network.socket.sent[0].type, "start");
  stream.push(ramp(24_000, 25_000));
  network.socket.say(started("two"));
  assert.deepEqual(network.socket.samples, positions(16_000, 25_000));
  network.socket.say(final(2, 0, 0.25, 0.5, "Two."));
  assert.deepEqual(stream.transcript.lines.map(({ begin }) => begin), [0.1, 1.25]);
});

test("a session is resumed where the server offers it, from the sample it names", async () => {
  const { network, stream } = await streaming();
  network.socket.say(started("one", ["resume"]));
  stream.push(ramp(0, 20_000));
  network.socket.say(final(2, 0, 0, 0.5, "One."));
  await again(network);
  assert.equal(network.socket.url, "wss://server:8443/v1/stream?resume");
  assert.deepEqual(network.socket.sent, [{ type: "resume", session: "one", event: 2 }]);
  network.socket.say({ type: "resumed", session: "one", samples: 12_000, flushes: 0, closing: false });
  assert.deepEqual(network.socket.samples, positions(12_000, 20_000));
  network.socket.say(final(3, 1, 0.5, 1.2, "Two."));
  assert.deepEqual(stream.transcript.lines.map(({ begin }) => begin), [0, 0.5]);
});

test("what is said while the server closes the socket waits for the next one", async () => {
  const { network, stream } = await streaming();
  network.socket.say(started("one", ["resume"]));
  stream.push(ramp(0, 800));
  network.socket.beginClose();
  stream.push(ramp(800, 1600));
  stream.flush();
  assert.deepEqual(network.socket.samples, positions(0, 800));
  assert.equal(network.socket.messages.length, 1);
  assert.equal(stream.behindSeconds, 0.05);
  await again(network);
  network.socket.say({ type: "resumed", session: "one", samples: 800, flushes: 0, closing: false });
  assert.deepEqual(network.socket.samples, positions(800, 1600));
  assert.deepEqual(network.socket.messages.map(({ type }) => type), ["resume", "flush"]);
});

test("a session that the server has forgotten is replaced by another one", async () => {
  const { network, stream } = await streaming();
  network.socket.say(started("one", ["resume"]));
  stream.push(ramp(0, 20_000));
  network.socket.say(final(2, 0, 0, 0.5, "One."));
  await again(network);
  network.socket.say({ type: "error", event: 1, code: "unknown_session", message: "no such session" });
  await again(network);
  assert.equal(network.socket.url, "wss://server:8443/v1/stream");
  assert.equal(network.socket.sent[0].type, "start");
  network.socket.say(started("two", ["resume"]));
  assert.deepEqual(network.socket.samples, positions(8_000, 20_000));
});

test("an error that will come back ends the stream, and says why", async () => {
  const { network, stream } = await streaming();
  network.socket.say(started("one"), { type: "error", event: 2, code: "not_allowed", message: "not you" });
  network.socket.break(1008);
  await settle();
  assert.equal(stream.state.name, "failed");
  await stream.finish();
});

test("while the socket is full the backlog waits, and ready holds a recording back", async () => {
  const { network, stream } = await streaming();
  network.socket.say(started("one"));
  network.socket.bufferedAmount = 65_536;
  stream.push(ramp(0, 40_000));
  assert.deepEqual([network.socket.samples.length, stream.behindSeconds], [0, 2.5]);
  let isReady = false;
  void stream.ready().then(() => (isReady = true));
  await network.pass(2_000);
  assert.equal(isReady, false);
  network.socket.bufferedAmount = 0;
  await network.pass(1_000);
  assert.deepEqual([isReady, network.socket.samples.length], [true, 40_000]);
  assert.ok(network.socket.sent.every((message) => !ArrayBuffer.isView(message) || message.byteLength <= 65_536));
});

test("two minutes without a connection lose nothing, the third minute loses what is oldest, counted", async () => {
  const { network, stream } = await streaming();
  for (let second = 0; second < 120; second += 1) stream.push(new Int16Array(16_000));
  assert.deepEqual([stream.behindSeconds, stream.lostSeconds], [120, 0]);
  stream.push(new Int16Array(16_000));
  assert.deepEqual([stream.behindSeconds, stream.lostSeconds], [120, 1]);
  network.socket.say(started("one"));
  assert.equal(stream.behindSeconds, 0);
});

test("finish is said after all audio, once a connection, and waits for the last final", async () => {
  const { network, stream } = await streaming();
  network.socket.say(started("one"));
  stream.push(ramp(0, 8_000));
  let isOver = false;
  void stream.finish().then(() => (isOver = true));
  stream.push(ramp(0, 100));
  assert.deepEqual(network.socket.messages.at(-1), { type: "finish" });
  assert.equal(network.socket.samples.length, 8_000);
  await again(network);
  network.socket.say(started("two"));
  assert.deepEqual(network.socket.messages.map(({ type }) => type), ["start", "finish"]);
  assert.equal(network.socket.samples.length, 8_000);
  network.socket.say(final(2, 0, 0, 0.5, "One."), { type: "finished", event: 3, audio_seconds: 0.5, segments: 1 });
  network.socket.break(1000);
  await settle();
  assert.deepEqual([isOver, stream.state.name, network.timers.size], [true, "ended", 0]);
});

test("a session resumed after its finish is not told again", async () => {
  const { network, stream } = await streaming();
  network.socket.say(started("one", ["resume"]));
  void stream.finish();
  await again(network);
  network.socket.say({ type: "resumed", session: "one", samples: 0, flushes: 0, closing: true });
  assert.deepEqual(network.socket.messages.map(({ type }) => type), ["resume"]);
});

test("flush is asked for again until it is answered", async () => {
  const { network, stream } = await streaming();
  network.socket.say(started("one"));
  stream.flush();
  await again(network);
  network.socket.say(started("two"));
  assert.deepEqual(network.socket.messages.map(({ type }) => type), ["start", "flush"]);
  network.socket.say({ type: "flushed", event: 2 });
  await again(network);
  network.socket.say(started("three"));
  assert.deepEqual(network.socket.messages.map(({ type }) => type), ["start"]);
});

test("a silent stream says every ten seconds that it is there", async () => {
  const { network } = await streaming();
  network.socket.say(started("one"));
  await network.pass(31_000);
  assert.deepEqual(network.socket.messages.map(({ type }) => type), ["start", "keepalive", "keepalive", "keepalive"]);
});

test("the next stream goes on behind the lines of the one before", async () => {
  const first = await streaming();
  first.network.socket.say(started("one"), final(2, 0, 0, 2.5, "One."));
  const { network, stream } = await streaming({ transcript: first.stream.transcript });
  network.socket.say(started("two"), final(2, 0, 0.5, 1, "Two."));
  assert.deepEqual(stream.transcript.lines.map(({ id, begin }) => [id, begin]), [[0, 0], [1, 3]]);
  stream.clear();
  assert.deepEqual(stream.transcript.lines, []);
});
