/** Against a broker that a test plays, byte by byte; kafka-source.int.test.ts has a real one. */
import assert from 'node:assert/strict';
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type Env, realEnv } from '../runtime/env.ts';
import { type ConnectionOptions, KafkaConnection, type KafkaRequest } from './kafka-connection.ts';
import { AUTHENTICATION_FAILED, type SaslCredentials } from './kafka-sasl.ts';
import { WireReader, WireWriter } from './kafka-wire.ts';

const OPTIONS: ConnectionOptions = {
  clientId: 'test',
  connectTimeout: 60_000,
  requestTimeout: 60_000,
};
const FAILED = { code: 'KAFKA_REQUEST_FAILED', retryable: true };

interface Asked {
  api: number;
  body: WireReader;
  /** Sends the answer to it, cut into pieces of so many bytes. */
  answer(body: (writer: WireWriter) => void, pieceBytes?: number): Promise<void>;
  socket: Socket;
}

/** Reads whole requests, whose headers have no tagged fields. */
async function play(t: TestContext, onRequest: (asked: Asked) => unknown) {
  const server = createServer((socket) => {
    let seen = Buffer.alloc(0);
    socket
      .on('error', () => undefined)
      .on('data', (chunk: Buffer) => {
        seen = Buffer.concat([seen, chunk]);
        while (seen.length >= 4 && seen.length >= 4 + seen.readInt32BE(0)) {
          const request = seen.subarray(4, 4 + seen.readInt32BE(0));
          seen = seen.subarray(4 + request.length);
          const body = new WireReader(request);
          const api = body.int16();
          body.int16();
          const id = body.int32();
          body.string();
          onRequest({ api, body, socket, answer: (write, size) => send(socket, id, write, size) });
        }
      });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return { host: '127.0.0.1', port: address.port };
}

async function send(
  socket: Socket,
  id: number,
  write: (writer: WireWriter) => void,
  pieceBytes = 1 << 20,
): Promise<void> {
  const writer = new WireWriter().int32(id);
  write(writer);
  const bytes = writer.framed();
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const piece = bytes.subarray(at, at + pieceBytes);
    await new Promise<void>((done) => socket.write(piece, () => setImmediate(done)));
  }
}

/** Sends a number; the answer is a number. */
function question(value: number): KafkaRequest<number> {
  const read = (answer: WireReader) => answer.int32();
  return { name: 'Test', api: 3, version: 1, flexible: false, read, write: (b) => b.int32(value) };
}

async function open(
  t: TestContext,
  port: number,
  more: Partial<ConnectionOptions> = {},
  env: Env = realEnv,
) {
  const broker = { host: '127.0.0.1', port };
  const connection = await KafkaConnection.open(env, broker, { ...OPTIONS, ...more });
  t.after(() => connection.close());
  return connection;
}

test('answers find their requests in whatever order and pieces they come', async (t) => {
  const waiting: Asked[] = [];
  const { port } = await play(t, async (asked) => {
    waiting.push(asked);
    if (waiting.length < 3) return;
    for (const one of waiting.toReversed()) {
      const value = one.body.int32();
      await one.answer((writer) => writer.int32(value * 10), 3);
    }
  });
  const connection = await open(t, port);
  const answers = [1, 2, 3].map((value) => connection.send(question(value)));
  assert.deepEqual(await Promise.all(answers), [10, 20, 30]);
});

test('a broken connection fails what waits and stays broken', async (t) => {
  const { port } = await play(t, ({ socket }) => socket.destroy());
  const connection = await open(t, port);
  await assert.rejects(connection.send(question(1)), FAILED);
  assert.equal(connection.usable, false);
  await assert.rejects(connection.send(question(1)), FAILED);
});

test('a request without an answer in time ends the connection', async (t) => {
  const timers: { ms: number; fire: () => void }[] = [];
  const env: Env = {
    ...realEnv,
    timer: (ms, fire) => {
      timers.push({ ms, fire });
      return { cancel: () => undefined };
    },
  };
  const { port } = await play(t, () => undefined);
  const connection = await open(t, port, { requestTimeout: 7_000 }, env);
  const answer = connection.send(question(1));
  timers.find(({ ms }) => ms === 7_000)?.fire();
  await assert.rejects(answer, { ...FAILED, message: /no answer to Test in 7000 ms/ });
  assert.equal(connection.usable, false);
});

test('who is no broker is told from one that wants TLS', async (t) => {
  const talk = async (bytes: string): Promise<unknown> => {
    const { port } = await play(t, ({ socket }) => socket.write(bytes, 'latin1'));
    const connection = await open(t, port);
    return connection.send(question(1)).catch((error: Error) => error.message);
  };
  assert.match(
    String(await talk('HTTP/1.1 400 Bad Request\r\n\r\n')),
    /no answer of a Kafka broker/,
  );
  assert.match(String(await talk('\x15\x03\x03\x00\x02\x02\x46\x00')), /the broker wants TLS/);
});

test('an answer that can not be read fails its request alone', async (t) => {
  const { port } = await play(t, ({ answer, body }) => {
    const value = body.int32();
    return answer((writer) => (value === 1 ? writer.int8(0) : writer.int32(value)));
  });
  const connection = await open(t, port);
  await assert.rejects(connection.send(question(1)), FAILED);
  assert.equal(await connection.send(question(2)), 2);
});

test('retired, it closes with the last answer', async (t) => {
  const { port } = await play(t, ({ answer }) => answer((writer) => writer.int32(5)));
  const connection = await open(t, port);
  const last = connection.send(question(1));
  connection.retire();
  assert.equal(await last, 5);
  assert.equal(connection.usable, false);
});

const credentials = (mechanism: SaslCredentials['mechanism'], password = 'pen=cil,') => ({
  mechanism,
  username: async () => 'us,er=1',
  password: async () => password,
});

/** A broker's side of SASL; the password that it knows. */
function saslBroker(password: string, sessionMs = 0) {
  const salt = Buffer.from('salt of the test');
  let first = '';
  let challenge = '';
  return async ({ api, body, answer }: Asked): Promise<void> => {
    if (api === 17) {
      const isKnown = /^(PLAIN|SCRAM-SHA-256)$/.test(body.string() ?? '');
      await answer((writer) => {
        writer
          .int16(isKnown ? 0 : 33)
          .int32(2)
          .string('PLAIN')
          .string('SCRAM-SHA-256');
      });
      return;
    }
    if (api !== 36) return answer((writer) => writer.int32(1));
    const text = body.bytes().toString();
    const reply = (bytes: string) => (writer: WireWriter) => {
      writer.int16(0).int16(-1).bytes(Buffer.from(bytes)).int64(sessionMs);
    };
    const refuse = (writer: WireWriter) => {
      writer.int16(58).string('wrong credentials').int32(0).int64(0);
    };
    if (text.startsWith('\0')) {
      return answer(text === `\0us,er=1\0${password}` ? reply('') : refuse);
    }
    if (text.startsWith('n,,')) {
      first = text.slice(3);
      challenge = `${/r=.*/.exec(first)?.[0]}more,s=${salt.toString('base64')},i=4096`;
      return answer(reply(challenge));
    }
    const [last = '', proof = ''] = text.split(',p=');
    const salted = pbkdf2Sync(password, salt, 4_096, 32, 'sha256');
    const hmac = (key: Buffer, what: string) => createHmac('sha256', key).update(what).digest();
    const signed = `${first},${challenge},${last}`;
    const storedKey = createHash('sha256').update(hmac(salted, 'Client Key')).digest();
    const signature = hmac(storedKey, signed);
    const key = Buffer.from(proof, 'base64').map((byte, at) => byte ^ signature[at]!);
    const isRight = createHash('sha256').update(key).digest().equals(storedKey);
    const isNamed = first.startsWith('n=us=2Cer=3D1,r=');
    const answered = hmac(hmac(salted, 'Server Key'), signed).toString('base64');
    return answer(isRight && isNamed ? reply(`v=${answered}`) : refuse);
  };
}

test('PLAIN and SCRAM get in with the password, and are refused with another one', async (t) => {
  for (const mechanism of ['PLAIN', 'SCRAM-SHA-256'] as const) {
    const { port } = await play(t, saslBroker('pen=cil,'));
    const connection = await open(t, port, { sasl: credentials(mechanism) });
    assert.equal(await connection.send(question(1)), 1);
    const wrong = open(t, port, { sasl: credentials(mechanism, 'other') });
    await assert.rejects(wrong, { code: AUTHENTICATION_FAILED, message: /wrong credentials/ });
  }
});

test('a broker that does not know the password is no broker of ours', async (t) => {
  const broker = saslBroker('pen=cil,');
  const { port } = await play(t, async (asked) => {
    const forged: Asked['answer'] = (write, size) =>
      asked.answer((writer) => {
        const probe = new WireWriter();
        write(probe);
        const isProof = probe.framed().includes('v=');
        if (!isProof) return write(writer);
        writer
          .int16(0)
          .int16(-1)
          .bytes(Buffer.from(`v=${'A'.repeat(43)}=`))
          .int64(0);
      }, size);
    await broker({ ...asked, answer: forged });
  });
  const opened = open(t, port, { sasl: credentials('SCRAM-SHA-256') });
  await assert.rejects(opened, { code: AUTHENTICATION_FAILED, message: /does not know/ });
});

test('what the broker takes in place of an unknown mechanism is said', async (t) => {
  const { port } = await play(t, saslBroker('pen=cil,'));
  const opened = open(t, port, { sasl: credentials('SCRAM-SHA-512') });
  await assert.rejects(opened, { message: /takes PLAIN, SCRAM-SHA-256, not SCRAM-SHA-512/ });
});

test('before its session ends no further request is sent', async (t) => {
  let now = 0;
  const env: Env = { ...realEnv, monotonic: () => now };
  const { port } = await play(t, saslBroker('pen=cil,', 10_000));
  const connection = await open(t, port, { sasl: credentials('PLAIN') }, env);
  now = 7_999;
  assert.equal(connection.usable, true);
  now = 8_000;
  assert.equal(connection.usable, false);
});
