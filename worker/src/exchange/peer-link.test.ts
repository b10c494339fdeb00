/** One link over a pair of streams in memory, under a clock that the test moves. */
import assert from 'node:assert/strict';
import { Duplex, duplexPair } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Env } from '../runtime/env.ts';
import { PeerLink } from './peer-link.ts';
import { encodeCredit, encodeFrame, encodePing, type WireMessage } from './wire.ts';
import { WireDecoder } from './wire-decoder.ts';

const HEARTBEAT_MS = 100;
const TIMEOUT_MS = 1_000;
const CHANNEL = { from: 0, to: 1 };
const ATTEMPTS = { sender: 1, receiver: 1 };

/** Timers fire when the test says so. */
class HandClock {
  nowMs = 0;
  #timers: { at: number; fn: () => void }[] = [];

  readonly env: Env = {
    now: () => this.nowMs,
    monotonic: () => this.nowMs,
    random: () => 0,
    id: () => 'x',
    timer: (delayMs, fn) => {
      const timer = { at: this.nowMs + delayMs, fn };
      this.#timers.push(timer);
      const cancel = () => {
        this.#timers = this.#timers.filter((one) => one !== timer);
      };
      return { cancel };
    },
  };

  /** Late: by then all that was due before fires at once, as after a sleep of the process. */
  jump(ms: number): void {
    this.nowMs += ms;
    const due = this.#timers.filter(({ at }) => at <= this.nowMs);
    this.#timers = this.#timers.filter(({ at }) => at > this.nowMs);
    for (const { fn } of due) fn();
  }
}

function linked(socket: Duplex, maxQueued = 100) {
  const clock = new HandClock();
  const lost: string[] = [];
  const got: WireMessage[] = [];
  const link = new PeerLink({
    env: clock.env,
    socket,
    heartbeatMs: HEARTBEAT_MS,
    timeoutMs: TIMEOUT_MS,
    maxQueued,
    onMessage: (message) => got.push(message),
    onLost: ({ code }) => lost.push(code),
  });
  return { clock, lost, got, link };
}

function pair(maxQueued?: number) {
  const [socket, peer] = duplexPair();
  const made = linked(socket, maxQueued);
  made.link.start(Buffer.alloc(0));
  const sent: WireMessage[] = [];
  const decoder = new WireDecoder();
  peer.on('data', (chunk: Buffer) => sent.push(...decoder.push(chunk)));
  return { ...made, peer, sent };
}

const data = (seq: number, length = 40_000) =>
  encodeFrame(CHANNEL, ATTEMPTS, {
    kind: 'data',
    seq,
    bytes: new Uint8Array(length),
    length,
    records: 1,
  });

/** A socket whose other end takes nothing until `open`. */
class StuckSocket extends Duplex {
  readonly written: WireMessage[] = [];
  readonly #decoder = new WireDecoder();
  #waiting: (() => void) | null = null;
  #isOpen = false;

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    const take = () => {
      this.written.push(...this.#decoder.push(chunk));
      done();
    };
    if (this.#isOpen) take();
    else this.#waiting = take;
  }

  open(): void {
    this.#isOpen = true;
    this.#waiting?.();
  }
}

test('frames wait for a full socket, credit and pings overtake them, order is kept', async () => {
  const socket = new StuckSocket();
  const { link, clock, lost } = linked(socket);
  link.start(Buffer.alloc(0));
  let freed = 0;
  for (let seq = 0; seq < 6; seq++) link.sendFrame(data(seq), () => freed++);
  await turn();
  assert.ok(link.queuedBytes > 200_000, `${link.queuedBytes}`);
  assert.equal(freed, 0);
  link.sendCredit(encodeCredit(CHANNEL, ATTEMPTS, 1));
  // Not one ping a tick: the socket is full, more of them would only pile up.
  for (let tick = 0; tick < 5; tick++) clock.jump(HEARTBEAT_MS);
  socket.open();
  while (freed < 6) await turn();
  const order = socket.written.map((one) =>
    one.kind === 'frame' ? `frame ${one.frame.seq}` : one.kind,
  );
  const frames = order.filter((one) => one.startsWith('frame'));
  assert.deepEqual(frames, ['frame 0', 'frame 1', 'frame 2', 'frame 3', 'frame 4', 'frame 5']);
  assert.ok(order.indexOf('credit') < order.indexOf('frame 3'), order.join());
  assert.ok(order.filter((one) => one === 'ping').length <= 3, order.join());
  assert.equal(link.queuedBytes, 0);
  assert.deepEqual(lost, []);
  link.close();
});

test('more frames than all credit allows break the link instead of growing (I7)', async () => {
  const socket = new StuckSocket();
  const { link, lost } = linked(socket, 4);
  link.start(Buffer.alloc(0));
  for (let seq = 0; seq < 5; seq++) link.sendFrame(data(seq), () => undefined);
  assert.deepEqual(lost, ['LINK_QUEUE_FULL']);
  assert.equal(socket.destroyed, true);
});

test('silence is judged by the time that passed while we were awake', async () => {
  const { clock, lost, peer, link } = pair();
  clock.jump(TIMEOUT_MS * 20);
  assert.deepEqual(lost, [], 'our own sleep says nothing of the peer');
  peer.write(encodePing());
  await turn();
  for (let ms = 0; ms < TIMEOUT_MS; ms += HEARTBEAT_MS) clock.jump(HEARTBEAT_MS);
  assert.deepEqual(lost, []);
  clock.jump(HEARTBEAT_MS);
  assert.deepEqual(lost, ['LINK_SILENT']);
  link.close();
});

test('a ping goes out each interval, and any byte is a sign of life', async () => {
  const { clock, lost, sent, got, peer, link } = pair();
  const part = encodeCredit(CHANNEL, ATTEMPTS, 2);
  for (let tick = 0; tick < 30; tick++) {
    peer.write(part.subarray(tick, tick + 1));
    await turn();
    clock.jump(HEARTBEAT_MS);
  }
  await turn();
  assert.deepEqual([lost, got], [[], []]);
  assert.equal(sent.length, 31);
  peer.write(part.subarray(30));
  await turn();
  assert.equal(got.length, 1);
  link.close();
  await turn();
  assert.deepEqual(lost, [], 'our own close is no loss');
});

test('reset, end and garbage are told once, by name', async () => {
  const cases: [string, (peer: Duplex, socket: Duplex) => void][] = [
    ['LINK_RESET', (_, socket) => socket.destroy(new Error('ECONNRESET'))],
    ['LINK_CLOSED', (peer) => peer.end()],
    ['WIRE_FORMAT', (peer) => void peer.write(Buffer.alloc(100, 0xff))],
  ];
  for (const [code, act] of cases) {
    const [socket, peer] = duplexPair();
    peer.on('error', () => undefined);
    const { lost, link } = linked(socket);
    link.start(Buffer.alloc(0));
    act(peer, socket);
    while (lost.length === 0) await turn();
    await turn();
    assert.deepEqual(lost, [code]);
    link.sendFrame(data(0), () => undefined);
    assert.equal(link.queuedBytes, 0);
  }
});
