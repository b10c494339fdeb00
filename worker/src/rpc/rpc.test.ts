import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { realEnv } from '../runtime/env.ts';
import { RpcClient } from './client.ts';
import { RpcConnection } from './connection.ts';
import { encodeFrame, FrameDecoder } from './frame.ts';
import type { Command, Report } from './messages.ts';
import { RpcServer, type TaskManagerConnection } from './server.ts';
import { readCommand, readReport } from './shape.ts';
import type { TransportKeys } from './transport-secret.ts';

const REGISTER: Report = {
  type: 'register',
  version: 1,
  taskManagerId: 'tm',
  host: 'h',
  pid: 1,
  slots: 4,
  shuffleHost: 'h',
  shufflePort: 7,
};

async function pair(t: { after(fn: () => Promise<void>): void }) {
  const accepted = Promise.withResolvers<TaskManagerConnection>();
  const server = await RpcServer.listen({
    host: '127.0.0.1',
    port: 0,
    onConnection: (connection) => accepted.resolve(connection),
  });
  t.after(() => server.close());
  const address = { host: '127.0.0.1', port: server.port, timeoutMs: 5_000 };
  return { server, accepted: accepted.promise, address };
}

test('frames survive any split of the byte stream', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record(
          { text: fc.string({ unit: 'grapheme', maxLength: 300 }) },
          { noNullPrototype: true },
        ),
        {
          maxLength: 8,
        },
      ),
      fc.array(fc.integer({ min: 1, max: 700 }), { maxLength: 20 }),
      (messages, cuts) => {
        let stream = Buffer.concat(messages.map((message) => encodeFrame(message)));
        const decoder = new FrameDecoder();
        const seen: unknown[] = [];
        for (const cut of [...cuts, stream.length]) {
          seen.push(...decoder.push(stream.subarray(0, cut)));
          stream = stream.subarray(cut);
        }
        assert.deepEqual(seen, messages);
        assert.equal(decoder.heldBytes, 0);
      },
    ),
    { seed: 3, numRuns: 200 },
  );
});

test('a header that promises much takes memory only for what arrives (I7)', () => {
  const decoder = new FrameDecoder();
  const header = Buffer.alloc(4);
  header.writeUInt32BE(60 * 1024 * 1024, 0);
  decoder.push(header);
  for (let i = 0; i < 10_000; i += 1) decoder.push(Buffer.from([0x20]));
  assert.ok(decoder.heldBytes < 64 * 1024, `${decoder.heldBytes} bytes for 10 KB received`);
});

test('oversized, empty and garbage frames are refused by name', () => {
  const big = Buffer.alloc(4);
  big.writeUInt32BE(0xffffffff, 0);
  assert.throws(() => new FrameDecoder().push(big), { code: 'RPC_FRAME_TOO_LARGE' });
  assert.throws(() => new FrameDecoder().push(Buffer.alloc(8)), { code: 'RPC_BAD_FRAME' });
  const garbage = Buffer.from('\0\0\0\x03{{{', 'latin1');
  assert.throws(() => new FrameDecoder().push(garbage), { code: 'RPC_BAD_FRAME' });
  assert.throws(() => encodeFrame({ text: 'x'.repeat(50) }, 20), { code: 'RPC_FRAME_TOO_LARGE' });
});

test('messages with a missing or wrong field are refused by name', () => {
  assert.match(String(readReport({ ...REGISTER, slots: '4' })), /register\.slots/);
  assert.match(String(readReport({ type: 'toString' })), /unknown message type/);
  assert.match(String(readReport(null)), /no JSON object/);
  assert.match(String(readCommand({ type: 'deploy', leaderEpoch: 1 })), /deploy\.jobId/);
  assert.deepEqual(readReport(REGISTER), REGISTER);
});

test('both directions over loopback, in order; both sides see the close', async (t) => {
  const { accepted, address } = await pair(t);
  const client = await RpcClient.connect(realEnv, address);
  client.send(REGISTER);
  for (let i = 0; i < 100; i += 1) {
    client.send({ type: 'canceled', taskManagerId: 'tm', attempt: i });
  }
  const connection = await accepted;
  const got: Report[] = [];
  const all = Promise.withResolvers<void>();
  connection.onMessage((report) => {
    got.push(report);
    if (got.length === 101) all.resolve();
  });
  await all.promise;
  assert.deepEqual(
    got.slice(1).map((report) => report.type === 'canceled' && report.attempt),
    Array.from({ length: 100 }, (_, i) => i),
  );
  const command = Promise.withResolvers<Command>();
  connection.send({ type: 'notify', leaderEpoch: 1, attempt: 1, checkpointId: 9 });
  client.onCommand(command.resolve);
  assert.deepEqual(await command.promise, {
    type: 'notify',
    leaderEpoch: 1,
    attempt: 1,
    checkpointId: 9,
  });
  const closed = Promise.withResolvers<Error | null>();
  connection.onClose(closed.resolve);
  client.close();
  assert.equal(await closed.promise, null);
  assert.equal(connection.send({ type: 'refused', reason: 'x' }), false);
});

test('a peer that talks something else is dropped, the server goes on', async (t) => {
  const { accepted, address } = await pair(t);
  const stranger = connect(address.port, address.host);
  stranger.on('error', () => undefined);
  stranger.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  const connection = await accepted;
  const closed = Promise.withResolvers<Error | null>();
  connection.onClose(closed.resolve);
  connection.onMessage(() => assert.fail('no message must come of it'));
  assert.equal(((await closed.promise) as { code?: string } | null)?.code, 'RPC_FRAME_TOO_LARGE');
  const client = await RpcClient.connect(realEnv, address);
  client.close();
});

test('one side plain, the other TLS: the plain one is told what to do', async (t) => {
  const keys: TransportKeys = {
    own: () => ({ identity: 'x', key: Buffer.alloc(32, 1) }),
    find: () => Buffer.alloc(32, 1),
  };
  const refused = Promise.withResolvers<string>();
  const server = await RpcServer.listen({
    ...{ host: '127.0.0.1', port: 0, keys },
    onConnection: () => assert.fail('it spoke no TLS'),
    onRefused: (_remote, reason) => refused.resolve(reason),
  });
  t.after(() => server.close());
  const address = { host: '127.0.0.1', port: server.port, timeoutMs: 5_000 };
  const client = await RpcClient.connect(realEnv, address);
  const closed = Promise.withResolvers<Error | null>();
  client.onClose(closed.resolve);
  client.onCommand(() => undefined);
  client.send(REGISTER);
  assert.match((await closed.promise)?.message ?? '', /speak TLS\? .*--secret-file/);
  assert.match(await refused.promise, /speaks no TLS: .*--secret-file/);
  const plain = await pair(t);
  await assert.rejects(RpcClient.connect(realEnv, { ...plain.address, keys, timeoutMs: 200 }), {
    code: 'RPC_CONNECT',
  });
  const connection = await plain.accepted;
  const reason = Promise.withResolvers<Error | null>();
  connection.onClose(reason.resolve);
  connection.onMessage(() => undefined);
  assert.match((await reason.promise)?.message ?? '', /the peer speaks TLS.*--secret-file/);
});

test('a large frame is for those who have registered', async (t) => {
  const large: Report = { ...REGISTER, host: 'h'.repeat(300 * 1024) };
  for (const [first, code] of [
    [large, 'RPC_FRAME_TOO_LARGE'],
    [REGISTER, undefined],
  ] as const) {
    const { accepted, address } = await pair(t);
    const client = await RpcClient.connect(realEnv, address);
    const connection = await accepted;
    const end = Promise.withResolvers<Error | null>();
    connection.onClose(end.resolve);
    const got: Report[] = [];
    connection.onMessage((report) => {
      if (got.push(report) === 2) connection.close();
    });
    client.send(first);
    client.send(large);
    assert.equal(((await end.promise) as { code?: string } | null)?.code, code);
    assert.equal(got.length, code === undefined ? 2 : 0);
  }
});

test('a peer that does not read is closed when its queue is full', async (t) => {
  const { server, accepted, address } = await pair(t);
  const socket = connect(address.port, address.host);
  t.after(async () => void socket.destroy());
  socket.pause();
  await accepted;
  assert.ok(server.port > 0);
  const writer = new RpcConnection<Command, Report>(socket, readReport, {
    maxQueuedBytes: 1 << 20,
  });
  const closed = Promise.withResolvers<Error | null>();
  writer.onClose(closed.resolve);
  const reason = 'x'.repeat(100_000);
  let sent = 0;
  while (writer.send({ type: 'refused', reason })) sent += 1;
  assert.ok(sent > 0 && sent < 100_000);
  assert.equal(((await closed.promise) as { code?: string } | null)?.code, 'RPC_QUEUE_FULL');
});

test('connect fails by name, and with backoff reaches a server that comes later', async (t) => {
  const { server, address } = await pair(t);
  await server.close();
  await assert.rejects(RpcClient.connect(realEnv, address), { code: 'RPC_CONNECT' });
  const abort = new AbortController();
  const connecting = RpcClient.connectWithBackoff(
    realEnv,
    address,
    { initialMs: 5, maxMs: 20 },
    abort.signal,
  );
  const later = await RpcServer.listen({
    host: '127.0.0.1',
    port: address.port,
    onConnection: (connection) => connection.onMessage(() => undefined),
  });
  t.after(() => later.close());
  const client = await connecting;
  assert.equal(client.closed, false);
  client.close();
});
