/** Shuffle servers of several TaskManagers in one process, over loopback. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { AttemptMember } from '../rpc/messages.ts';
import { realEnv } from '../runtime/env.ts';
import type { TriggerJobError } from '../runtime/errors.ts';
import type { Frame } from './frame.ts';
import type { ShuffleAttempt } from './shuffle-attempt.ts';
import { receiveHello } from './shuffle-handshake.ts';
import { ShuffleServer } from './shuffle-server.ts';
import { type Channel, encodeCredit, encodeFrame, encodeHello, type Hello } from './wire.ts';

const log = pino({ level: 'silent' });
const ATTEMPT = 5;
const CREDIT = 3;
const SECRET = 'the secret of attempt 5';

async function until(what: string, test: () => boolean): Promise<void> {
  for (let i = 0; i < 1_000; i += 1) {
    if (test()) return;
    await delay(5);
  }
  assert.fail(`never: ${what}`);
}

/** One TaskManager: what came in, what was lost. */
class End {
  readonly id: string;
  readonly server: ShuffleServer;
  readonly frames: { channel: Channel; frame: Frame }[] = [];
  readonly grants: { channel: Channel; bytes: Uint8Array | null }[] = [];
  readonly lost: string[] = [];
  attempt: ShuffleAttempt | null = null;

  constructor(id: string, server: ShuffleServer) {
    this.id = id;
    this.server = server;
  }

  begin(
    members: readonly AttemptMember[],
    change: { attempt?: number; attempts?: number[]; secret?: string } = {},
  ) {
    const subtasks = members.flatMap((member) => member.subtasks);
    this.attempt = this.server.begin({
      jobId: 'job',
      attempt: ATTEMPT,
      attempts: subtasks.map(() => change.attempt ?? ATTEMPT),
      secret: SECRET,
      self: this.id,
      members,
      credit: CREDIT,
      heartbeatMs: 50,
      timeoutMs: 1_000,
      deliver: (channel, frame) => this.frames.push({ channel, frame }),
      granted: (channel, bytes) => this.grants.push({ channel, bytes }),
      lost: (peer: string, error: TriggerJobError) => this.lost.push(`${peer} ${error.code}`),
      ...change,
    });
    return this.attempt;
  }

  get up(): boolean {
    return this.attempt!.peers.every(({ state }) => state === 'connected');
  }
}

/** `tm-a` has subtask 0 and 3, `tm-b` 1, `tm-c` 2. */
async function cluster(
  t: TestContext,
  ids = ['tm-a', 'tm-b', 'tm-c'],
): Promise<{ ends: End[]; members: AttemptMember[] }> {
  const ends: End[] = [];
  const members: AttemptMember[] = [];
  for (const [index, taskManagerId] of ids.entries()) {
    const host = '127.0.0.1';
    const server = await ShuffleServer.listen({ env: realEnv, log, host, port: 0 });
    t.after(() => server.close());
    ends.push(new End(taskManagerId, server));
    const subtasks = index === 0 ? [0, ids.length] : [index];
    members.push({ taskManagerId, host, port: server.port, subtasks });
  }
  return { ends, members };
}

function data(seq: number, fill: number, length = 100): Frame {
  const bytes = new Uint8Array(256).fill(fill);
  return { kind: 'data', seq, bytes, length, records: 2 };
}

const clock = (seq: number): Frame => ({ kind: 'clock', seq, time: Number.POSITIVE_INFINITY });
const BOTH = { sender: ATTEMPT, receiver: ATTEMPT };

/** A peer that speaks by hand: says hello as `from` to `to`, then whatever the test wants. */
async function stranger(
  port: number,
  change: Partial<Hello> = {},
): Promise<{ socket: Socket; answer: Hello }> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  const hello = { jobId: 'job', from: 'tm-a', to: 'tm-b', attempt: ATTEMPT, secret: SECRET };
  socket.write(encodeHello({ ...hello, refused: null, ...change }));
  const { hello: answer } = await receiveHello(realEnv, socket);
  socket.resume();
  return { socket, answer };
}

test('three TaskManagers, one late: frames in order, credit back with its buffer', async (t) => {
  const { ends, members } = await cluster(t);
  const [a, b, c] = ends as [End, End, End];
  a.begin(members);
  b.begin(members);
  const toC = { from: 0, to: 2 };
  a.attempt!.send(toC, data(0, 7), BOTH);
  a.attempt!.send(toC, clock(1), BOTH);
  a.attempt!.send({ from: 3, to: 1 }, data(0, 8), BOTH);
  await delay(120);
  assert.equal(a.up, false);
  c.begin(members);
  await until('all connections', () => ends.every((end) => end.up));
  a.attempt!.send(toC, data(2, 9, 256), BOTH);
  b.attempt!.send({ from: 1, to: 3 }, data(0, 1), BOTH);
  await until('frames at c', () => c.frames.length === 3);
  await until('frames elsewhere', () => b.frames.length === 1 && a.frames.length === 1);
  const [first, second, third] = c.frames;
  assert.deepEqual(first?.channel, toC);
  assert.ok(first?.frame.kind === 'data');
  assert.deepEqual([...first.frame.bytes], new Array(100).fill(7));
  assert.equal(first.frame.records, 2);
  assert.deepEqual(second?.frame, clock(1));
  assert.equal(third?.frame.kind === 'data' && third.frame.length, 256);
  c.attempt!.credit(toC, BOTH);
  await until('credit at a', () => a.grants.length === 1);
  assert.deepEqual(a.grants[0]?.channel, toC);
  // The sender's own buffer, filled up by it before: no copy is made for the wire.
  assert.equal(a.grants[0]?.bytes?.byteLength, 256);
  assert.deepEqual(
    ends.flatMap((end) => end.lost),
    [],
  );
  assert.equal(a.attempt!.stats.links, 2);
});

test('a connection that breaks is the loss of the peer for both ends (P51)', async (t) => {
  const { ends, members } = await cluster(t, ['tm-a', 'tm-b']);
  const [a, b] = ends as [End, End];
  a.begin(members);
  b.begin(members);
  await until('connection', () => a.up && b.up);
  a.attempt!.lose('tm-b', new Error('x') as TriggerJobError);
  await until('loss at b', () => b.lost.length === 1);
  assert.deepEqual(b.lost, ['tm-a LINK_CLOSED']);
  a.attempt!.send({ from: 0, to: 1 }, clock(0), BOTH);
  const { answer } = await stranger(members[1]!.port);
  assert.match(answer.refused ?? '', /had its connection/);
  // The next attempt begins with new connections.
  a.begin(members, { attempt: 6, secret: 'next' });
  b.begin(members, { attempt: 6, secret: 'next' });
  await until('next attempt', () => a.up && b.up);
});

test('who lacks the secret, or is of another attempt or job, gets no connection', async (t) => {
  const { ends, members } = await cluster(t, ['tm-a', 'tm-b']);
  const b = ends[1]!;
  const { port } = members[1]!;
  const refusal = async (change: Partial<Hello>) => (await stranger(port, change)).answer.refused;
  assert.match((await refusal({})) ?? '', /no job/);
  b.begin(members);
  assert.match((await refusal({ secret: 'guess' })) ?? '', /secret is wrong/);
  assert.match((await refusal({ attempt: ATTEMPT - 1 })) ?? '', /attempt 4 is not/);
  assert.match((await refusal({ jobId: 'other' })) ?? '', /another job/);
  assert.match((await refusal({ to: 'tm-c' })) ?? '', /looks for tm-c/);
  assert.match((await refusal({ from: 'tm-x' })) ?? '', /had its connection/);
  const noise = connect(port, '127.0.0.1');
  noise.on('error', () => undefined);
  noise.write('GET / HTTP/1.1\r\n\r\n');
  const closed = Promise.withResolvers<void>();
  noise.once('close', () => closed.resolve());
  noise.resume();
  await closed.promise;
  assert.equal(b.attempt!.expects('tm-a'), true);
  assert.equal(await refusal({}), null);
});

test('what is not the peer\u2019s to send breaks the link by name', async (t) => {
  const channel = { from: 0, to: 1 };
  const frames = (...some: Frame[]) =>
    Buffer.concat(some.flatMap((frame) => encodeFrame(channel, BOTH, frame)));
  const broken = frames(data(0, 1));
  broken.writeUInt8(0xee, 60);
  const newer = { sender: ATTEMPT + 1, receiver: ATTEMPT };
  const cases: [string, Buffer][] = [
    ['CHANNEL_GAP', frames(clock(0), clock(2))],
    ['WIRE_CHECKSUM', broken],
    ['WIRE_FORMAT', Buffer.from('garbage'.repeat(20))],
    ['WIRE_FOREIGN', Buffer.concat(encodeFrame({ from: 1, to: 0 }, BOTH, clock(0)))],
    ['WIRE_FOREIGN', encodeCredit({ from: 0, to: 1 }, BOTH, 1)],
    ['WIRE_FOREIGN', Buffer.concat(encodeFrame(channel, newer, clock(0)))],
    ['CREDIT_EXCEEDED', frames(...[0, 1, 2, 3, 4].map((seq) => data(seq, 1)))],
  ];
  for (const [code, bytes] of cases) {
    const { ends, members } = await cluster(t, ['tm-a', 'tm-b']);
    const b = ends[1]!;
    b.begin(members);
    const { socket } = await stranger(members[1]!.port);
    const closed = Promise.withResolvers<void>();
    socket.once('close', () => closed.resolve());
    socket.write(bytes);
    await until(code, () => b.lost.length === 1);
    assert.deepEqual(b.lost, [`tm-a ${code}`]);
    await closed.promise;
  }
});

test('frames of an older attempt are dropped and counted (P38)', async (t) => {
  const { ends, members } = await cluster(t, ['tm-a', 'tm-b']);
  const b = ends[1]!;
  b.begin(members);
  const { socket } = await stranger(members[1]!.port);
  const channel = { from: 0, to: 1 };
  for (const attempts of [
    { sender: ATTEMPT, receiver: ATTEMPT - 1 },
    { sender: ATTEMPT - 1, receiver: ATTEMPT },
  ]) {
    socket.write(Buffer.concat(encodeFrame(channel, attempts, clock(9))));
  }
  socket.write(Buffer.concat(encodeFrame(channel, BOTH, clock(0))));
  await until('the frame of this attempt', () => b.frames.length === 1);
  assert.equal(b.attempt!.stats.staleFrames, 2);
  assert.deepEqual(b.lost, []);
});

test('a peer that says nothing is lost after the timeout, a busy one is not', async (t) => {
  const { ends, members } = await cluster(t, ['tm-a', 'tm-b']);
  const b = ends[1]!;
  b.begin(members);
  const { socket } = await stranger(members[1]!.port);
  for (let seq = 0; seq < 15; seq++) {
    socket.write(Buffer.concat(encodeFrame({ from: 0, to: 1 }, BOTH, clock(seq))));
    await delay(100);
  }
  assert.deepEqual(b.lost, []);
  await until('silence', () => b.lost.length === 1);
  assert.deepEqual(b.lost, ['tm-a LINK_SILENT']);
});

test('a peer that never calls is lost, too', async (t) => {
  const { ends, members } = await cluster(t, ['tm-a', 'tm-b']);
  ends[1]!.begin(members);
  await until('loss', () => ends[1]!.lost.length === 1);
  assert.deepEqual(ends[1]!.lost, ['tm-a LINK_MISSING']);
});

test('a lost peer is replaced: new links for it alone, those of the others stay', async (t) => {
  const { ends, members } = await cluster(t);
  const [a, b, c] = ends as [End, End, End];
  for (const end of ends) end.begin(members);
  await until('all connections', () => ends.every((end) => end.up));
  const between = { from: 0, to: 1 };
  a.attempt!.send(between, data(0, 1), BOTH);
  a.attempt!.send({ from: 0, to: 2 }, data(0, 2), BOTH);
  await until('frames', () => b.frames.length === 1 && c.frames.length === 1);
  c.server.end();
  for (const end of [a, b]) {
    end.attempt!.detach([2]);
    end.attempt!.send({ from: 0, to: 2 }, data(1, 2), BOTH);
  }
  // Its successor takes its name and port.
  const next = ATTEMPT + 1;
  const attempts = [ATTEMPT, ATTEMPT, next, ATTEMPT];
  c.begin(members, { attempt: next, attempts });
  for (const end of [a, b]) {
    const fresh = end.attempt!.replace({ attempt: next, attempts, members });
    assert.deepEqual(
      fresh.map(({ member }) => member.taskManagerId),
      ['tm-c'],
    );
    end.server.connect(end.attempt!, fresh);
  }
  await until('the new connections', () => ends.every((end) => end.up));
  const toC = { sender: ATTEMPT, receiver: next };
  a.attempt!.send({ from: 0, to: 2 }, data(7, 3), BOTH);
  a.attempt!.send({ from: 0, to: 2 }, data(0, 4), toC);
  a.attempt!.send(between, data(1, 5), BOTH);
  c.attempt!.send({ from: 2, to: 1 }, data(0, 6), { sender: next, receiver: ATTEMPT });
  await until('frames after it', () => c.frames.length === 2 && b.frames.length === 3);
  const [, taken] = c.frames;
  assert.ok(taken?.frame.kind === 'data');
  assert.deepEqual([taken.frame.seq, taken.frame.bytes[0]], [0, 4], 'not that for the lost one');
  // Credit for a frame of before is none of the new channel's.
  b.attempt!.credit({ from: 2, to: 1 }, { sender: ATTEMPT, receiver: ATTEMPT });
  b.attempt!.credit({ from: 2, to: 1 }, { sender: ATTEMPT, receiver: next });
  await until('credit', () => c.grants.length > 0);
  assert.equal(c.grants.length, 1);
  assert.deepEqual([...a.lost, ...b.lost], []);
});
