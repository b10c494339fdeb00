/** Who gets a connection, over loopback; red with authentication turned off in three ways. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  connect as connectTls,
  createServer as createTlsServer,
  getCACertificates,
  setDefaultCACertificates,
  type TLSSocket,
} from 'node:tls';
import { realEnv } from '../runtime/env.ts';
import { type CallOptions, call, TransportServer } from './transport.ts';
import {
  ensureSecretFile,
  keysFor,
  type Purpose,
  SecretFile,
  type TransportKeys,
} from './transport-secret.ts';

const HOST = '127.0.0.1';
const PROBE_MS = 2_000;

/** Of nobody: made for this test, valid for 127.0.0.1 until 2126. */
const CERTIFICATE = {
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgIClKV4bp8bwG0jw4
3+BHBpgyYfOtWCOm+vX0R61yhOihRANCAARu0NlwODb5JusOvU/h5pVcULxbjB5T
q71Qxz5gUXbIBtRsO4hZBz7S7XU0Wm1bOvBqLqE+Vp4w/SV4PNAgEhqO
-----END PRIVATE KEY-----`,
  cert: `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUGHMGvP+akD/nB2EVu4cgFkk8bhMwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNTIyMzcyOFoYDzIxMjYxMTAx
MjIzNzI4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARu0NlwODb5JusOvU/h5pVcULxbjB5Tq71Qxz5gUXbIBtRsO4hZBz7S
7XU0Wm1bOvBqLqE+Vp4w/SV4PNAgEhqOo28wbTAdBgNVHQ4EFgQUWsKX5osHxoVC
6p5m97PNa/poPewwHwYDVR0jBBgwFoAUWsKX5osHxoVC6p5m97PNa/poPewwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgJGKR+WEsHPjvHa/KGZEHWPymduLVFJEb1xxQ5TAxOn0CIQC3
F+WrLe7n++JrL123ICUZsHd05jzm7qPaDOPKHcuaZg==
-----END CERTIFICATE-----`,
};

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'secret-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A secret of its own each time. */
function keysOf(t: TestContext): SecretFile {
  const path = join(folderOf(t), 'secret');
  ensureSecretFile(path, realEnv);
  return new SecretFile(path, realEnv);
}

/** Answers 'in' to whoever has got in and said something. */
async function gate(t: TestContext, keys: TransportKeys | null, purpose: Purpose = 'rpc') {
  const refused: string[] = [];
  const server = await TransportServer.listen({
    ...{ host: HOST, port: 0, purpose, keys },
    onSocket: (socket, admit) => {
      admit();
      socket.once('data', () => socket.end('in'));
    },
    onRefused: (_remote, reason) => refused.push(reason),
  });
  t.after(() => server.close());
  const target: CallOptions = { host: HOST, port: server.port, timeoutMs: PROBE_MS, purpose, keys };
  return { server, target, refused };
}

/** What the other end says to 'hello'; '' = it hung up. */
async function answerOf(socket: Socket): Promise<string> {
  let text = '';
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  socket.write('hello');
  await closed;
  return text;
}

function fixed(key: Buffer, identityOf: (purpose: Purpose) => string): TransportKeys {
  return { own: (purpose) => ({ identity: identityOf(purpose), key }), find: () => key };
}

const NO_KEY = Buffer.alloc(32);

/** Ways to get into a port without the job's secret; those that worked. */
async function intrusions(t: TestContext, keys: TransportKeys | null): Promise<string[]> {
  const { target } = await gate(t, keys);
  const identity = keys?.own('rpc').identity ?? 'x';
  const otherPort = keys?.own('shuffle').key ?? NO_KEY;
  const ways: Record<string, () => Promise<Socket>> = {
    'no TLS': async () => connect(target.port, HOST),
    'TLS without a key': async () =>
      connectTls({ host: HOST, port: target.port, rejectUnauthorized: false }),
    'the secret of another job': () => call(realEnv, { ...target, keys: keysOf(t) }),
    'a key of zeros, by the right name': () =>
      call(realEnv, { ...target, keys: fixed(NO_KEY, () => identity) }),
    "the other port's key": () =>
      call(realEnv, { ...target, keys: fixed(otherPort, () => identity) }),
  };
  const worked: string[] = [];
  for (const [way, open] of Object.entries(ways)) {
    const socket = await open().catch(() => null);
    if (socket !== null && (await answerOf(socket)) === 'in') worked.push(way);
  }
  return worked;
}

test('both ends know the secret: TLS 1.3 with an ephemeral key on top', async (t) => {
  const { server, target } = await gate(t, keysOf(t));
  const socket = (await call(realEnv, target)) as TLSSocket;
  assert.equal(socket.getProtocol(), 'TLSv1.3');
  assert.equal(socket.getCipher().name, 'TLS_AES_128_GCM_SHA256');
  // Without one (psk_ke) who learns the secret later reads what was recorded.
  assert.notDeepEqual(socket.getEphemeralKeyInfo(), {});
  assert.equal(await answerOf(socket), 'in');
  assert.equal(server.strangers.open, 0);
});

test('nobody gets in without the secret', async (t) => {
  assert.deepEqual(await intrusions(t, keysOf(t)), []);
});

test('red: authentication turned off is found', async (t) => {
  const keys = keysOf(t);
  const oneKey = (purpose: Purpose) => keys.own('rpc').identity + purpose;
  assert.deepEqual(await intrusions(t, null), ['no TLS']);
  const anybody = fixed(NO_KEY, () => 'x');
  assert.deepEqual(await intrusions(t, anybody), [
    'a key of zeros, by the right name',
    "the other port's key",
  ]);
  const shared = await intrusions(t, fixed(keys.own('rpc').key, oneKey));
  assert.deepEqual(shared, ["the other port's key"]);
});

/** Somebody else at the JobManager's address. */
async function impostor(t: TestContext, server: Server): Promise<number> {
  server.on('error', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  const sockets: Socket[] = [];
  server.on('connection', (socket) => sockets.push(socket));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}

test('a caller trusts nobody without the secret, and says what to do', async (t) => {
  const keys = keysOf(t);
  const { target, refused } = await gate(t, keys);
  const fails = async (change: Partial<CallOptions>, code: string, message: RegExp) =>
    assert.rejects(call(realEnv, { ...target, ...change }), { code, message, retryable: true });
  await fails({ keys: keysOf(t) }, 'TLS_SECRET', /does not know .* the same --secret-file/);
  assert.match(refused.at(-1) ?? '', /does not know this job's secret: .*--secret-file/);
  const echo = createServer((socket) => socket.on('error', () => undefined).end('hello'));
  await fails({ port: await impostor(t, echo) }, 'TLS_PLAIN', /speaks no TLS: .*--secret-file/);
  const mute = createServer((socket) => void socket.on('error', () => undefined));
  await fails({ port: await impostor(t, mute), timeoutMs: 100 }, 'CONNECT', /100 ms/);
  const gone = createServer();
  const port = await impostor(t, gone);
  await new Promise((resolve) => gone.close(resolve));
  await fails({ port }, 'CONNECT', /ECONNREFUSED/);
});

test('a certificate is not the secret, not even one that the machine trusts', async (t) => {
  const trusted = getCACertificates('default');
  t.after(() => setDefaultCACertificates(trusted));
  setDefaultCACertificates([CERTIFICATE.cert]);
  const said: string[] = [];
  const server = createTlsServer(CERTIFICATE, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => said.push(String(chunk)));
  });
  const port = await impostor(t, server);
  const known = connectTls({ host: HOST, port });
  await new Promise<void>((resolve) => known.once('secureConnect', () => resolve()));
  assert.equal(known.authorized, true, 'the certificate of this test is good by itself');
  known.destroy();
  const timeoutMs = PROBE_MS;
  const target = { host: HOST, port, timeoutMs, purpose: 'rpc' as const, keys: keysOf(t) };
  await assert.rejects(call(realEnv, target), { code: 'TLS_SECRET' });
  assert.deepEqual(said, []);
});

test('a secret is replaced while connections are made', async (t) => {
  const path = join(folderOf(t), 'secret');
  const [old, fresh] = ['o'.repeat(40), 'n'.repeat(40)];
  const stages = [`${old}\n`, `${old}\n${fresh}\n`, `${fresh}\n${old}\n`, `${fresh}\n`];
  const reader = (text: string) => {
    writeFileSync(path, text, { mode: 0o600 });
    return new SecretFile(path, realEnv);
  };
  for (const [index, text] of stages.entries()) {
    const { target } = await gate(t, reader(text));
    // Its neighbours in time: processes read the file at different moments.
    for (const other of stages.slice(Math.max(0, index - 1), index + 2)) {
      const socket = await call(realEnv, { ...target, keys: reader(other) });
      assert.equal(await answerOf(socket), 'in');
    }
  }
  const { target } = await gate(t, reader(stages[0]!));
  await assert.rejects(call(realEnv, { ...target, keys: reader(stages[3]!) }));
});

test('the file is read again after a second; what can not be read changes nothing', (t) => {
  const path = join(folderOf(t), 'secret');
  let nowMs = 0;
  const env = { ...realEnv, monotonic: () => nowMs };
  ensureSecretFile(path, realEnv);
  const first = readFileSync(path, 'utf8');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  ensureSecretFile(path, realEnv);
  assert.equal(readFileSync(path, 'utf8'), first);
  const faults: string[] = [];
  const file = new SecretFile(path, env, (reason) => faults.push(reason));
  const { identity } = file.own('rpc');
  writeFileSync(path, 'x'.repeat(40));
  assert.equal(file.own('rpc').identity, identity);
  nowMs = 1_000;
  const next = file.own('rpc').identity;
  assert.notEqual(next, identity);
  rmSync(path);
  nowMs = 2_000;
  assert.equal(file.own('rpc').identity, next);
  nowMs = 3_000;
  assert.equal(file.own('rpc').identity, next);
  assert.equal(faults.length, 1);
  assert.match(faults[0] ?? '', /can't be read/);
  assert.notEqual(file.own('shuffle').key.compare(file.own('rpc').key), 0);
});

test('a file that is missing, open to all, empty or weak is refused by name', (t) => {
  const path = join(folderOf(t), 'secret');
  const refused = (message: RegExp) =>
    assert.throws(() => new SecretFile(path, realEnv), { code: 'SECRET_FILE', message });
  refused(/--secret-file \S+ can't be read: ENOENT.* openssl rand -hex 32/);
  writeFileSync(path, 's'.repeat(40));
  chmodSync(path, 0o644);
  refused(/open to every user of the machine \(mode 0644\): chmod 600, or defaultMode: 0440/);
  chmodSync(path, 0o440);
  assert.ok(new SecretFile(path, realEnv).own('rpc'));
  chmodSync(path, 0o600);
  writeFileSync(path, '\n \n');
  refused(/is empty/);
  writeFileSync(path, 'password\n');
  refused(/a secret of 8 characters, needs at least 32/);
  writeFileSync(path, `${'s'.repeat(32)}\n`.repeat(5));
  refused(/has 5 secrets, one a line, at most 4/);
  writeFileSync(path, 's'.repeat(5_000));
  refused(/has 5000 bytes, at most 4096/);
  const keys = (enabled: boolean, given: string | null) => () => keysFor(enabled, given, realEnv);
  assert.throws(keys(true, null), { message: /security\.internal\.enabled is true/ });
  assert.throws(keys(false, path), { message: /security\.internal\.enabled is false/ });
  assert.equal(keys(false, null)(), null);
});
