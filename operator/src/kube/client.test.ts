/** The client against a server that speaks HTTP: verbs, errors, deadlines, limits, credentials. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Agent } from 'undici';
import { type Env, realEnv } from '../env.ts';
import { ManualEnv } from '../manual-env.ts';
import { KubeClient, type KubeClientOptions } from './client.ts';
import { type CredentialSource, kubeconfigSource, plainSource } from './connection.ts';
import { FakeApiServer } from './fake-api-server.ts';
import { KubeError, type KubeErrorCode } from './kube-error.ts';
import { type ConfigMap, KINDS } from './objects.ts';
import { RequestLimit } from './request-limit.ts';

const MAPS = '/api/v1/namespaces/ns/configmaps';
const ref = (name: string) => ({ apiVersion: 'v1', kind: 'ConfigMap', namespace: 'ns', name });
const map = (name: string, data: Record<string, string> = {}): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { namespace: 'ns', name },
  data,
});

/** A real clock on which everything that waits is `times` as fast. */
const fastEnv = (times: number): Env => ({
  ...realEnv,
  monotonic: () => performance.now() * times,
  timer: (delayMs, fn) => realEnv.timer(delayMs / times, fn),
});

const rejectsWith = (code: KubeErrorCode, call: Promise<unknown>): Promise<void> =>
  assert.rejects(call, (error) => error instanceof KubeError && error.code === code);

describe('the client', () => {
  let server: FakeApiServer;
  const clients: KubeClient[] = [];
  const codes: string[] = [];
  const clientOf = (options: Partial<KubeClientOptions> = {}) => {
    const client = KubeClient.open({
      env: realEnv,
      source: plainSource(server.url),
      limit: { perSecond: 1000, burst: 1000 },
      metrics: { request: ({ method, code }) => codes.push(`${method} ${code}`) },
      ...options,
    });
    clients.push(client);
    return client;
  };
  beforeEach(async () => {
    server = await FakeApiServer.start();
    codes.length = 0;
  });
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close()));
    await server.stop();
  });

  it('speaks every verb of the port', async () => {
    const client = clientOf();
    await client.create(map('a', { x: '1' }));
    await client.patch(ref('a'), { data: { y: '2' } });
    await client.apply(map('b', { z: '3' }), { fieldManager: 'triggerjob-operator', force: true });
    assert.deepEqual((await client.get<ConfigMap>(ref('a')))?.data, { x: '1', y: '2' });
    await client.patch(ref('a'), { status: {} }, 'status');
    const read = await client.get<ConfigMap>(ref('b'));
    assert.ok(read);
    await client.replace({ ...read, data: {} });
    await rejectsWith('KUBE_CONFLICT', client.replace({ ...read, data: { old: 'one' } }));
    await client.delete(ref('a'), { propagation: 'Foreground' });
    await client.delete(ref('a'));
    assert.equal(await client.get(ref('a')), null);
    assert.deepEqual(server.requests.slice(0, 3), [
      `POST ${MAPS}?fieldManager=triggerjob-operator&timeout=10s`,
      `PATCH ${MAPS}/a?fieldManager=triggerjob-operator&timeout=10s`,
      `PATCH ${MAPS}/b?fieldManager=triggerjob-operator&force=true&timeout=10s`,
    ]);
    assert.equal(codes[0], 'POST 201');
  });

  it('only deletes the object that was seen', async () => {
    const client = clientOf();
    const seen = await client.create(map('a'));
    server.remove(MAPS, 'a');
    const next = server.put(MAPS, map('a'));
    const { uid = '' } = seen.metadata;
    await rejectsWith('KUBE_CONFLICT', client.delete(ref('a'), { uid }));
    assert.equal((await client.get(ref('a')))?.metadata.uid, next.metadata.uid);
  });

  it('tells an object that is not there from a kind that is not there', async () => {
    const client = clientOf();
    assert.equal(await client.get(ref('none')), null);
    server.fail(2, 404);
    await rejectsWith('KUBE_NOT_FOUND', client.get(ref('none')));
    await rejectsWith('KUBE_NOT_FOUND', client.delete(ref('none')));
  });

  it('gives every status its code', async () => {
    const client = clientOf();
    const expected: [number, KubeErrorCode][] = [
      [400, 'KUBE_INVALID'],
      [403, 'KUBE_FORBIDDEN'],
      [409, 'KUBE_CONFLICT'],
      [410, 'KUBE_EXPIRED'],
      [415, 'KUBE_INVALID'],
      [422, 'KUBE_INVALID'],
      [500, 'KUBE_UNAVAILABLE'],
      [503, 'KUBE_UNAVAILABLE'],
      [504, 'KUBE_UNAVAILABLE'],
    ];
    for (const [status, code] of expected) {
      server.fail(1, status);
      await rejectsWith(code, client.create(map('a')));
    }
    assert.equal(server.read(MAPS, 'a'), undefined);
    const gone = clientOf({ source: plainSource('http://127.0.0.1:1') });
    await rejectsWith('KUBE_UNAVAILABLE', gone.get(ref('a')));
    assert.equal(codes.at(-1), 'GET <error>');
  });

  it('ends every call at its deadline', async () => {
    const client = clientOf({ env: fastEnv(50) });
    server.before = () => new Promise<void>(() => {});
    await assert.rejects(client.get(ref('a')), /no answer in time/);
    await assert.rejects(client.create(map('a')), /no answer in time/);
  });

  it('waits as long as a 429 asks, all calls together, within the deadline', async () => {
    const client = clientOf({ env: fastEnv(20) });
    server.fail(1, 429, /./, { 'retry-after': '2' });
    const startedAt = performance.now();
    await client.create(map('a'));
    const waited = performance.now() - startedAt;
    assert.ok(waited >= 2000 / 20, `only ${waited} ms of 100`);
    server.fail(99, 429, /./, { 'retry-after': '60' });
    await assert.rejects(client.create(map('b')), (error) => {
      assert.ok(error instanceof KubeError);
      assert.equal(error.status, 429);
      assert.equal(error.retryAfterMs, 60_000);
      return true;
    });
  });

  it('reads its credentials again after a 401, once', async () => {
    const tokens = ['old', 'new', 'newer'];
    let reads = 0;
    const source: CredentialSource = async () => ({
      server: server.url,
      headers: { authorization: `Bearer ${tokens[reads++]}` },
      tlsIdentity: '',
      dispatcher: () => new Agent(),
    });
    const client = clientOf({ source });
    server.fail(1, 401);
    assert.equal(await client.get(ref('a')), null);
    assert.equal(reads, 2);
    server.fail(2, 401);
    await rejectsWith('KUBE_FORBIDDEN', client.get(ref('a')));
    assert.equal(reads, 3);
  });

  it('reads tokens again each minute, and keeps the old one while there is no file', async () => {
    const env = new ManualEnv();
    let reads = 0;
    const source: CredentialSource = async () => {
      reads += 1;
      if (reads === 2) throw new Error('ENOENT');
      const dispatcher = () => new Agent();
      return { server: server.url, headers: {}, tlsIdentity: '', dispatcher };
    };
    const client = clientOf({ env, source });
    await client.get(ref('a'));
    await client.get(ref('a'));
    assert.equal(reads, 1);
    await env.advance(61_000);
    await client.get(ref('a'));
    await client.get(ref('a'));
    assert.ok(reads >= 2);
  });

  it('sends no write that its fence forbids, at whatever moment', async () => {
    let open = true;
    const fenced = clientOf().fencedBy(() => {
      if (!open) throw new KubeError('KUBE_FENCED', 'not the leader');
      return 3_000;
    });
    await fenced.create(map('a'));
    assert.match(server.requests.at(-1) ?? '', /timeout=3s/);
    open = false;
    const writes = server.requests.length;
    await rejectsWith('KUBE_FENCED', fenced.create(map('b')));
    await rejectsWith('KUBE_FENCED', fenced.delete(ref('a')));
    await rejectsWith('KUBE_FENCED', fenced.patch(ref('a'), {}));
    const opts = { fieldManager: 'triggerjob-operator', force: true };
    await rejectsWith('KUBE_FENCED', fenced.apply(map('a'), opts));
    assert.equal(server.requests.length, writes);
    assert.ok(await fenced.get(ref('a')), 'reading is free');
  });

  it('asks the fence again after the wait for the rate limit', async () => {
    let open = true;
    const client = clientOf({ limit: { perSecond: 20, burst: 1 } });
    const fenced = client.fencedBy(() => {
      if (!open) throw new KubeError('KUBE_FENCED', 'not the leader');
      return 3_000;
    });
    await fenced.create(map('a'));
    const second = fenced.create(map('b'));
    open = false;
    await rejectsWith('KUBE_FENCED', second);
    assert.equal(server.read(MAPS, 'b'), undefined);
  });

  it('pages lists', async () => {
    const client = clientOf();
    for (let i = 0; i < 5; i += 1) server.put(MAPS, map(`m${i}`));
    const first = await client.list({ kind: KINDS.ConfigMap, namespace: 'ns' }, { limit: 3 });
    assert.equal(first.items.length, 3);
    assert.ok(first.continue);
    const next = { limit: 3, continue: first.continue };
    const second = await client.list({ kind: KINDS.ConfigMap }, next);
    assert.equal(second.items.length, 2);
    assert.equal(second.continue, undefined);
    assert.equal(second.resourceVersion, first.resourceVersion);
  });

  it('reads a kubeconfig through @kubernetes/client-node', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'kubeconfig-'));
    const file = join(directory, 'config');
    const config = `
apiVersion: v1
kind: Config
current-context: c
clusters:
  - { name: k, cluster: { server: "https://127.0.0.1:6443/", certificate-authority-data: "" } }
users: [{ name: u, user: { token: secret } }]
contexts: [{ name: c, context: { cluster: k, user: u } }]
`;
    await writeFile(file, config);
    const credentials = await (await kubeconfigSource(file))();
    await rm(directory, { recursive: true });
    assert.equal(credentials.server, 'https://127.0.0.1:6443');
    assert.equal(credentials.headers['Authorization'], 'Bearer secret');
  });
});

describe('the rate limit', () => {
  it('lets a burst go, then a request per interval, in order', async () => {
    const env = new ManualEnv();
    const limit = new RequestLimit(env, { perSecond: 10, burst: 3 });
    const { signal } = new AbortController();
    const gone: number[] = [];
    for (let i = 0; i < 6; i += 1) void limit.take(signal).then(() => gone.push(i));
    await env.settle();
    assert.deepEqual(gone, [0, 1, 2]);
    await env.advance(100);
    assert.deepEqual(gone, [0, 1, 2, 3]);
    await env.advance(200);
    assert.deepEqual(gone, [0, 1, 2, 3, 4, 5]);
    await env.advance(10_000);
    for (let i = 6; i < 12; i += 1) void limit.take(signal).then(() => gone.push(i));
    await env.settle();
    assert.equal(gone.length, 9, 'a quiet time saves no more than a burst');
  });

  it('stops for all while the server asks for it', async () => {
    const env = new ManualEnv();
    const limit = new RequestLimit(env, { perSecond: 10, burst: 3 });
    const abort = new AbortController();
    limit.stopFor(1_000);
    const gone: boolean[] = [];
    const go = () => void limit.take(abort.signal).then((may) => gone.push(may));
    go();
    await env.advance(999);
    assert.equal(gone.length, 0);
    await env.advance(1);
    assert.deepEqual(gone, [true]);
    limit.stopFor(1_000);
    go();
    abort.abort();
    await env.settle();
    assert.deepEqual(gone, [true, false]);
  });
});
