/**
 * What anybody who reaches the ports can send, plain and TLS, from outside and with the job's
 * secret: it never ends the process, never makes it hold much, and the job's good connections go
 * on. Attackers, servers and good connections share this process.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { pino } from 'pino';
import { RpcClient } from '../rpc/client.ts';
import { encodeFrame as encodeRpc, FrameDecoder } from '../rpc/frame.ts';
import type { AttemptMember } from '../rpc/messages.ts';
import { RpcServer } from '../rpc/server.ts';
import { call, TransportServer } from '../rpc/transport.ts';
import type { Purpose, TransportKeys } from '../rpc/transport-secret.ts';
import { realEnv } from '../runtime/env.ts';
import { PeerLink } from './peer-link.ts';
import type { ShuffleAttempt, ShuffleAttemptOptions } from './shuffle-attempt.ts';
import { ShuffleServer } from './shuffle-server.ts';
import { encodeFrame, encodeHello, type Hello } from './wire.ts';

const log = pino({ level: 'silent' });
const HOST = '127.0.0.1';
const ATTEMPT = 5;
const CREDIT = 3;
const SECRET = 'the secret of attempt 5';
const TIMEOUT_MS = 1_000;
/** Heap and buffers of attackers and attacked together; most of it is what the attackers send. */
const MAX_GROWTH_BYTES = 48 * 1024 * 1024;
/** As in rpc/transport.ts. */
const MAX_STRANGERS = 256;
const FLOOD = 600;
const WAYS = ['plain', 'TLS'] as const;

const KEYS: TransportKeys = {
  own: (purpose) => ({ identity: purpose, key: keyOf(purpose) }),
  find: (purpose, identity) => (identity === purpose ? keyOf(purpose) : null),
};

function keyOf(purpose: Purpose): Buffer {
  return Buffer.alloc(32, purpose);
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heldBytes(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function until(what: string, done: () => boolean): Promise<void> {
  for (let i = 0; i < 2_000; i++) {
    if (done()) return;
    await delay(5);
  }
  assert.fail(`never: ${what}`);
}

/** One port under attack, with a good connection that was there before. */
interface Target {
  port: number;
  purpose: Purpose;
  keys: TransportKeys | null;
  strangers(): { open: number; dropped: number };
  /** Something goes over the good connection, and arrives. */
  alive(): Promise<void>;
  /** Somebody of the job still gets in. */
  enter(): Promise<void>;
}

async function rpcTarget(t: TestContext, keys: TransportKeys | null): Promise<Target> {
  let heard = 0;
  const server = await RpcServer.listen({
    ...{ host: HOST, port: 0, keys },
    onConnection: (connection) => connection.onMessage(() => heard++),
  });
  t.after(() => server.close());
  const address = { host: HOST, port: server.port, timeoutMs: 5_000, keys };
  const speak = async (client: RpcClient) => {
    const before = heard;
    client.send({ type: 'canceled', taskManagerId: 'tm', attempt: 1 });
    await until('a report', () => heard > before);
  };
  const good = await RpcClient.connect(realEnv, address);
  t.after(() => good.close());
  await speak(good);
  return {
    ...{ port: server.port, purpose: 'rpc', keys },
    strangers: () => server.strangers,
    alive: () => speak(good),
    enter: async () => {
      const client = await RpcClient.connect(realEnv, address);
      await speak(client);
      client.close();
    },
  };
}

async function shuffleServer(t: TestContext, keys: TransportKeys | null): Promise<ShuffleServer> {
  const server = await ShuffleServer.listen({ env: realEnv, log, host: HOST, port: 0, keys });
  t.after(() => server.close());
  return server;
}

function begin(
  server: ShuffleServer,
  self: string,
  members: readonly AttemptMember[],
  change: { attempt?: number; deliver?(): void; lost?: ShuffleAttemptOptions['lost'] } = {},
): ShuffleAttempt {
  return server.begin({
    attempts: members.map(() => change.attempt ?? ATTEMPT),
    ...{ jobId: 'job', attempt: ATTEMPT, secret: SECRET, self, members, credit: CREDIT },
    ...{ heartbeatMs: 50, timeoutMs: TIMEOUT_MS },
    ...{ deliver: () => undefined, granted: () => undefined, lost: () => undefined },
    ...change,
  });
}

async function shuffleTarget(t: TestContext, keys: TransportKeys | null): Promise<Target> {
  const servers = [await shuffleServer(t, keys), await shuffleServer(t, keys)] as const;
  const members = servers.map(({ port }, index) => {
    return { taskManagerId: `tm-${index}`, host: HOST, port, subtasks: [index] };
  });
  let heard = 0;
  let seq = 0;
  const lost: string[] = [];
  const change = { deliver: () => heard++, lost: (peer: string) => lost.push(peer) };
  const caller = begin(servers[0], 'tm-0', members);
  const called = begin(servers[1], 'tm-1', members, change);
  await until('a connection', () => called.peers.every(({ state }) => state === 'connected'));
  return {
    ...{ port: servers[1].port, purpose: 'shuffle', keys },
    strangers: () => servers[1].strangers,
    alive: async () => {
      const before = heard;
      const attempts = { sender: ATTEMPT, receiver: ATTEMPT };
      caller.send({ from: 0, to: 1 }, { kind: 'clock', seq: seq++, time: 1 }, attempts);
      await until('a frame', () => heard > before);
      assert.deepEqual(lost, []);
    },
    enter: async () => {
      begin(servers[0], 'tm-0', members, { attempt: ATTEMPT + 1 });
      const next = begin(servers[1], 'tm-1', members, { attempt: ATTEMPT + 1 });
      await until('the next one', () => next.peers.every(({ state }) => state === 'connected'));
    },
  };
}

const TARGETS = { RPC: rpcTarget, shuffle: shuffleTarget };

/** A connection from outside; with the secret if `inside`. */
async function dial(target: Target, inside: boolean): Promise<Socket> {
  const { port, purpose, keys } = target;
  if (inside) return call(realEnv, { host: HOST, port, purpose, keys, timeoutMs: 10_000 });
  const socket = connect(port, HOST);
  socket.on('error', () => undefined);
  await Promise.race([once(socket, 'connect'), once(socket, 'close')]);
  return socket;
}

/** Sends, then waits for the end of it, or `ms`; cuts it off. */
async function throwAt(target: Target, inside: boolean, bytes: Uint8Array, ms: number) {
  const socket = await dial(target, inside);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('error', () => undefined);
  socket.resume();
  socket.write(bytes);
  await Promise.race([closed, delay(ms)]);
  socket.destroy();
  await closed;
}

const HELLO: Hello = {
  ...{ jobId: 'job', from: 'tm-0', to: 'tm-1', attempt: ATTEMPT, secret: SECRET, refused: null },
};

function deep(levels: number): Buffer {
  const text = `{"type":${'['.repeat(levels)}${']'.repeat(levels)}}`;
  const frame = Buffer.alloc(4 + text.length);
  frame.writeUInt32BE(text.length, 0);
  frame.write(text, 4);
  return frame;
}

function headed(length: number, bytes: number): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(length, 0);
  return Buffer.concat([header, Buffer.alloc(bytes, 0x20)]);
}

/** Made to break the decoders of either port, or what stands behind them. */
const CRAFTED: readonly Buffer[] = [
  headed(0xffffffff, 100),
  headed(0, 0),
  headed(60 * 1024 * 1024, 1024 * 1024),
  headed(200 * 1024, 100 * 1024),
  headed(3, 2),
  deep(60_000),
  deep(100),
  encodeRpc({ type: 'x'.repeat(100_000) }),
  encodeRpc({ type: 'heartbeat', taskManagerId: 'tm', leaderEpoch: 1, metrics: null }),
  encodeRpc({ type: '__proto__' }),
  Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
  Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]),
  Buffer.from([21, 3, 3, 0, 2, 2, 70]),
  encodeHello({ ...HELLO, secret: 'guess' }),
  encodeHello({ ...HELLO, attempt: ATTEMPT - 1 }),
  encodeHello({ ...HELLO, from: 'tm-1', to: 'tm-0' }),
  encodeHello({ jobId: 1 } as unknown as Hello),
  encodeHello(HELLO).subarray(0, 20),
  Buffer.concat([
    encodeHello({ ...HELLO, from: 'tm-9' }),
    ...encodeFrame({ from: 7, to: 9 }, { sender: 1, receiver: 1 }, clockFrame()),
  ]),
];

function clockFrame() {
  return { kind: 'clock' as const, seq: 0, time: 0 };
}

/** The first bytes of what would be right. */
function beginningOf({ keys, purpose }: Target): Buffer {
  if (keys !== null) return Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
  return purpose === 'rpc' ? headed(50_000, 12) : encodeHello(HELLO).subarray(0, 16);
}

for (const [name, open] of Object.entries(TARGETS)) {
  for (const way of WAYS) {
    const keys = way === 'TLS' ? KEYS : null;

    test(`${name}, ${way}: random and crafted bytes, cut anywhere`, async (t) => {
      const target = await open(t, keys);
      const before = heldBytes();
      const random = fc.sample(fc.uint8Array({ minLength: 1, maxLength: 3_000 }), {
        seed: 23,
        numRuns: 60,
      });
      const insides = way === 'TLS' ? [false, true] : [false];
      for (const inside of insides) {
        const some = [...random, ...CRAFTED].map((bytes) => throwAt(target, inside, bytes, 200));
        await Promise.all(some);
        await target.alive();
      }
      await until('all strangers gone', () => target.strangers().open === 0);
      const growth = heldBytes() - before;
      assert.ok(growth < MAX_GROWTH_BYTES, `${growth} bytes more`);
    });

    test(`${name}, ${way}: ${FLOOD} connections that are never done`, async (t) => {
      const target = await open(t, keys);
      const before = heldBytes();
      const rss = process.memoryUsage.rss();
      const sockets: Socket[] = [];
      t.after(() => {
        for (const socket of sockets) socket.destroy();
      });
      while (sockets.length < FLOOD) {
        // No faster than the kernel's queue: what it drops would come again a second later.
        const some = Array.from({ length: 100 }, () => dial(target, false));
        sockets.push(...(await Promise.all(some)));
      }
      const room = FLOOD - MAX_STRANGERS;
      await until('strangers make room', () => target.strangers().dropped >= room);
      for (const byte of beginningOf(target)) {
        for (const socket of sockets) if (!socket.destroyed) socket.write(Buffer.of(byte));
        await delay(5);
        assert.ok(target.strangers().open <= MAX_STRANGERS);
      }
      assert.ok(target.strangers().open > 0, 'nobody has a reason to hang up yet');
      await target.alive();
      await target.enter();
      const growth = heldBytes() - before;
      const resident = Math.round((process.memoryUsage.rss() - rss) / 1024 / 1024);
      t.diagnostic(`${growth} bytes of heap and buffers more, ${resident} MiB resident`);
      assert.ok(growth < MAX_GROWTH_BYTES, `${growth} bytes more`);
    });
  }
}

test('who is slow to say who he is, is cut off', async (t) => {
  // The RPC port leaves it to the JobManager (RPC_NOT_REGISTERED) once the handshake is over.
  const targets = [
    await rpcTarget(t, KEYS),
    await shuffleTarget(t, KEYS),
    await shuffleTarget(t, null),
  ];
  const startedAt = performance.now();
  for (const [index, target] of targets.entries()) {
    const socket = (await dial(target, false)).resume();
    const bytes = beginningOf(target);
    let at = 0;
    const drip = setInterval(() => socket.write(bytes.subarray(at, ++at)), 700);
    t.after(() => clearInterval(drip));
    await until(`stranger ${index}`, () => target.strangers().open === 1);
  }
  await until('all cut off', () => targets.every((target) => target.strangers().open === 0));
  t.diagnostic(`after ${Math.round(performance.now() - startedAt)} ms, limit 5000`);
  for (const target of targets) {
    assert.equal(target.strangers().open, 0);
    await target.alive();
  }
});

test('any bytes at all are RPC messages or a typed fault, and cost what has come', () => {
  const CODES = new Set(['RPC_FRAME_TOO_LARGE', 'RPC_BAD_FRAME', 'RPC_PEER_TLS']);
  const whole = fc.object().map((value) => encodeRpc(value));
  const part = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    whole,
    fc.tuple(whole, fc.nat()).map(([frame, at]) => frame.subarray(0, at % (frame.length + 1))),
    fc.nat({ max: 70_000_000 }).map((length) => headed(length, 3)),
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
      const decoder = new FrameDecoder(64 * 1024 * 1024, 1_000);
      let received = 0;
      try {
        for (const bytes of parts) {
          received += bytes.length;
          decoder.push(bytes);
          assert.ok(decoder.heldBytes <= 4_096 + 2 * received);
        }
      } catch (fault) {
        const { code } = fault as { code?: string };
        assert.ok(code !== undefined && CODES.has(code), String(fault));
      }
    }),
    { seed: 29, numRuns: 1_000 },
  );
});

test('a peer that froze is found within the timeout, over TLS', async (t) => {
  const [one, two] = [await shuffleServer(t, KEYS), await shuffleServer(t, KEYS)];
  const pipes: Socket[] = [];
  // Its kernel still answers, so no reset ever comes.
  const cable = createServer((socket) => {
    const beyond = connect(two.port, HOST);
    for (const end of [socket, beyond]) {
      end.on('error', () => undefined);
      pipes.push(end);
    }
    socket.pipe(beyond).pipe(socket);
  });
  await new Promise<void>((resolve) => cable.listen(0, HOST, resolve));
  t.after(() => {
    cable.close();
    for (const end of pipes) end.destroy();
  });
  const address = cable.address();
  assert.ok(address !== null && typeof address === 'object');
  const members = [
    { taskManagerId: 'tm-0', host: HOST, port: one.port, subtasks: [0] },
    { taskManagerId: 'tm-1', host: HOST, port: address.port, subtasks: [1] },
  ];
  const lost: string[] = [];
  const noted: ShuffleAttemptOptions['lost'] = (peer, { code }) => lost.push(`${peer} ${code}`);
  const change = { lost: noted };
  const attempts = [begin(one, 'tm-0', members, change), begin(two, 'tm-1', members, change)];
  const up = () => attempts.every(({ peers }) => peers[0]?.state === 'connected');
  await until('a connection', up);
  await delay(200);
  assert.ok(up());
  const frozenAt = performance.now();
  for (const end of pipes) {
    end.unpipe();
    end.pause();
  }
  await until('both ends have noticed', () => lost.length === 2);
  t.diagnostic(
    `noticed after ${Math.round(performance.now() - frozenAt)} ms, timeout ${TIMEOUT_MS}`,
  );
  assert.deepEqual(lost.toSorted(), ['tm-0 LINK_SILENT', 'tm-1 LINK_SILENT']);
});

test('the bytes of a peer that does not read stay where their number is known', async (t) => {
  const FRAMES = 1_000;
  const FRAME_BYTES = 64 * 1024;
  /** Of both kernels; loopback has 4 + 6 MiB at most. */
  const KERNEL_BYTES = 16 * 1024 * 1024;
  const ends: Socket[] = [];
  const server = await TransportServer.listen({
    ...{ host: HOST, port: 0, purpose: 'shuffle', keys: KEYS },
    onSocket: (socket) => ends.push(socket.pause()),
  });
  t.after(() => server.close());
  const target = { host: HOST, port: server.port, timeoutMs: 5_000, keys: KEYS };
  const socket = await call(realEnv, { ...target, purpose: 'shuffle' });
  let sent = 0;
  const link = new PeerLink({
    ...{ env: realEnv, socket, heartbeatMs: 60_000, timeoutMs: 600_000, maxQueued: FRAMES },
    onMessage: () => undefined,
    onLost: () => undefined,
  });
  t.after(() => link.close());
  link.start(Buffer.alloc(0));
  const bytes = new Uint8Array(FRAME_BYTES);
  const before = heldBytes();
  for (let seq = 0; seq < FRAMES; seq++) {
    const frame = { kind: 'data' as const, seq, bytes, length: FRAME_BYTES, records: 1 };
    const attempts = { sender: 1, receiver: 1 };
    link.sendFrame(encodeFrame({ from: 0, to: 1 }, attempts, frame), () => sent++);
  }
  await delay(300);
  assert.ok(sent * FRAME_BYTES <= KERNEL_BYTES, `${sent} frames are said to be gone`);
  assert.ok(link.queuedBytes >= (FRAMES - sent) * FRAME_BYTES);
  assert.ok(socket.writableLength <= 4 * FRAME_BYTES, `${socket.writableLength} in the socket`);
  assert.ok(heldBytes() - before < KERNEL_BYTES, 'no copy of what waits');
  for (const end of ends) end.resume();
  await until('all of it', () => sent === FRAMES);
});
