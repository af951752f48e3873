import assert from "node:assert/strict";
import { test } from "node:test";

import { Connection, delay } from "../connection.js";
import { LINK_OVER, ProblemError } from "../problems.js";
import { FakeNetwork, settle } from "./support/fake_network.js";

const JOINED = { type: "joined", room: "a", life: "f", gap: false, first: 1, last: 0, sources: [] };

async function connected(plan = {}) {
  const network = new FakeNetwork();
  const states = [];
  const events = [];
  const connection = new Connection(
    {
      url: () => "wss://server/v1/rooms/a",
      first: () => ({ type: "read" }),
      onEvent: (event) => events.push(event.type),
      onState: (state) => states.push(state),
      wish: { right: "read", room: "a" },
      opening: new Set(["joined"]),
      ...plan,
    },
    network.environment,
  );
  connection.open();
  await settle();
  network.socket?.open();
  return { network, connection, states, events, names: () => states.map(({ name }) => name) };
}

test("a connection sends its first message, and is live when that is answered", async () => {
  const { network, events, names } = await connected();
  assert.deepEqual(network.socket.sent, [{ type: "read" }]);
  assert.deepEqual(names(), ["connecting"]);
  network.socket.say(JOINED);
  assert.deepEqual([names(), events], [["connecting", "live"], ["joined"]]);
});

test("a broken connection is opened again, later each time, until it has been good for a while", async () => {
  const { network, states } = await connected();
  network.facts.health = "silent";
  for (const seconds of [1, 1, 2, 4, 8, 15, 15]) {
    network.socket.break();
    await settle();
    assert.deepEqual([states.at(-1).name, states.at(-1).seconds], ["waiting", seconds]);
    await network.pass(seconds * 1000);
    assert.equal(states.at(-1).name, "connecting");
  }
  network.socket.open();
  network.socket.say(JOINED);
  await network.pass(6000);
  network.socket.break();
  await settle();
  assert.equal(states.at(-1).seconds, 1);
});

test("delays are drawn between a half and the whole, and a full server is asked less often", () => {
  assert.deepEqual([delay(0, 0), delay(0, 1), delay(3, 0), delay(3, 1)], [250, 500, 2000, 4000]);
  assert.deepEqual([delay(50, 1), delay(0, 0, "busy"), delay(9, 1, "overloaded")], [15000, 10000, 15000]);
});

test("an attempt without an answer is given up after 15 s", async () => {
  const { network, states } = await connected();
  const first = network.socket;
  await network.pass(15_000);
  assert.ok(first.isClosed);
  assert.equal(states.at(-1).name, "waiting");
});

test("what an older socket says is not heard", async () => {
  const { network, events, connection } = await connected();
  const first = network.socket;
  network.facts.health = "silent";
  first.break();
  await network.pass(1000);
  first.say(JOINED);
  first.break();
  await settle();
  assert.deepEqual([events, connection.state.name, network.sockets.length], [[], "connecting", 2]);
});

test("an error that will come back is final, one that passes is not", async () => {
  for (const [code, name] of [["not_allowed", "failed"], ["protocol_violation", "failed"], ["slow_reader", "waiting"]]) {
    const { network, states } = await connected();
    network.socket.say(JOINED, { type: "error", code, message: "because of this" });
    network.socket.break(1008);
    await settle();
    assert.equal(states.at(-1).name, name);
    assert.deepEqual([states.at(-1).problem.code, states.at(-1).problem.advice], [code, "Because of this."]);
  }
});

test("a problem found before connecting is told, and no socket is opened", async () => {
  const { network, states } = await connected({
    first: () => {
      throw new ProblemError(LINK_OVER);
    },
  });
  assert.deepEqual([states.at(-1), network.sockets.length], [{ name: "failed", problem: LINK_OVER }, 0]);
});

test("a live connection that is quiet is asked after; a dead one is left", async () => {
  const { network, connection } = await connected();
  network.socket.say(JOINED);
  await network.pass(60_000);
  assert.deepEqual([network.probes, connection.state.name], [1, "live"]);
  network.facts.health = "silent";
  await network.pass(60_000);
  assert.ok(network.sockets[0].isClosed);
  assert.notEqual(connection.state.name, "live");
});

test("open goes on at once when waiting", async () => {
  const { network, connection } = await connected();
  network.socket.break();
  await settle();
  connection.open();
  await settle();
  assert.equal(network.sockets.length, 2);
  assert.equal(connection.state.name, "connecting");
});

test("close ends it for good, also while waiting", async () => {
  const { network, connection, names } = await connected();
  network.socket.break();
  await settle();
  connection.close();
  await network.pass(60_000);
  assert.deepEqual([names().at(-1), network.sockets.length, network.timers.size], ["ended", 1, 0]);
});

test("who does not speak the protocol is left", async () => {
  const { network, states } = await connected();
  network.socket.onmessage({ data: "<html>" });
  await settle();
  assert.deepEqual([states.at(-1).name, states.at(-1).problem.code], ["failed", "bad_server"]);
});

test("nothing is sent without a live connection", async () => {
  const { network, connection } = await connected();
  assert.equal(connection.send({ type: "keepalive" }), false);
  network.socket.say(JOINED);
  assert.equal(connection.send({ type: "keepalive" }), true);
  assert.deepEqual(network.socket.sent.at(-1), { type: "keepalive" });
});

test("nothing is sent into a socket that the server is closing", async () => {
  const { network, connection } = await connected();
  network.socket.say(JOINED);
  network.socket.beginClose();
  assert.equal(connection.send({ type: "keepalive" }), false);
  assert.equal(network.socket.sent.length, 1);
  assert.equal(connection.state.name, "live");
});
