/** A network, a clock and a server that do what a test says: nothing here waits. */

/** `WebSocket.OPEN` and `WebSocket.CLOSING`, which not every Node has. */
const OPEN = 1;
const CLOSING = 2;

/** One socket as the page sees it, with what the server does to it. */
export class FakeSocket {
  binaryType = "";
  bufferedAmount = 0;
  readyState = OPEN;
  sent = [];
  isClosed = false;

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  send(data) {
    this.sent.push(typeof data === "string" ? JSON.parse(data) : data);
  }

  close() {
    this.isClosed = true;
  }

  open() {
    this.onopen?.();
  }

  say(...events) {
    for (const event of events) this.onmessage?.({ data: JSON.stringify(event) });
  }

  /** The server's close has come, and the page has not been told yet. */
  beginClose() {
    this.readyState = CLOSING;
  }

  break(code = 1006) {
    this.onclose?.({ code });
  }

  /** Samples sent, as one list. */
  get samples() {
    return this.sent.filter(ArrayBuffer.isView).flatMap((chunk) => [...chunk]);
  }

  get messages() {
    return this.sent.filter((message) => !ArrayBuffer.isView(message));
  }
}

export class FakeNetwork {
  sockets = [];
  timers = new Map();
  nowMs = 0;
  nTimers = 0;
  facts = { isOnline: true, health: "ready", who: null, refusal: null, now: 0 };
  probes = 0;

  get environment() {
    return {
      connect: (url, protocols) => {
        this.sockets.push(new FakeSocket(url, protocols));
        return this.socket;
      },
      setTimer: (callback, ms) => {
        this.nTimers += 1;
        this.timers.set(this.nTimers, { callback, at: this.nowMs + ms });
        return this.nTimers;
      },
      clearTimer: (timer) => this.timers.delete(timer),
      now: () => this.nowMs,
      random: () => 1,
      probe: async () => this.facts,
      probeHealth: async () => {
        this.probes += 1;
        return this.facts.health;
      },
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Let time pass, and everything that was due happen. */
  async pass(ms) {
    const end = this.nowMs + ms;
    for (;;) {
      await settle();
      const due = [...this.timers].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (due === undefined) break;
      this.timers.delete(due[0]);
      this.nowMs = Math.max(this.nowMs, due[1].at);
      due[1].callback();
    }
    this.nowMs = end;
  }
}

/** Until every promise that can go on has gone on. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));
