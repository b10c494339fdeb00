/**
 * Promise: whatever happens to the API server or the way to it, the operator's mirror is true again
 * soon, and its calls mean what they say. On a real kube-apiserver and etcd.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, afterEach, before, describe, it } from 'node:test';
import { type Env, realEnv, sleep } from '../../operator/src/env.ts';
import { KubeClient } from '../../operator/src/kube/client.ts';
import { type CredentialSource, kubeconfigSource } from '../../operator/src/kube/connection.ts';
import { EventRecorder } from '../../operator/src/kube/events.ts';
import { isKubeError } from '../../operator/src/kube/kube-error.ts';
import { ObjectStore } from '../../operator/src/kube/object-store.ts';
import { type ConfigMap, type Event, KINDS } from '../../operator/src/kube/objects.ts';
import { Reflector } from '../../operator/src/kube/reflector.ts';
import { type ControlPlane, startControlPlane } from '../testbed/kubernetes/control-plane.ts';
import { TcpProxy } from './tcp-proxy.ts';

const WATCHDOG_MS = 60_000;
const SILENCE_MS = 1_000;
const NAMESPACE = 'default';
const ref = (name: string) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  namespace: NAMESPACE,
  name,
});
const map = (name: string, data: Record<string, string> = {}): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { namespace: NAMESPACE, name, labels: { test: 'mirror' } },
  data,
});

async function until(what: string, holds: () => boolean): Promise<number> {
  const startedAt = performance.now();
  while (!holds()) {
    if (performance.now() - startedAt > WATCHDOG_MS) assert.fail(`waited for ${what}`);
    await sleep(realEnv, 5);
  }
  return performance.now() - startedAt;
}

const print = (what: string, ms: number, goalMs: number): void => {
  const verdict = ms <= goalMs ? 'reached' : 'missed';
  console.log(`${what}: ${(ms / 1000).toFixed(2)} s; goal ${goalMs / 1000} s: ${verdict}`);
};

let plane: ControlPlane;
let proxy: TcpProxy;
/** To the server itself, as another client. */
let direct: KubeClient;
let proxied: CredentialSource;

const open = (source: CredentialSource): KubeClient =>
  KubeClient.open({
    env: realEnv,
    source,
    limit: { perSecond: 1000, burst: 1000 },
    metrics: { request: () => {} },
  });

before(async () => {
  plane = await startControlPlane();
  const port = Number(new URL(plane.server).port);
  proxy = await TcpProxy.start(port);
  direct = open(await kubeconfigSource(plane.kubeconfig));
  const file = `${plane.kubeconfig}-proxied`;
  const text = await readFile(plane.kubeconfig, 'utf8');
  await writeFile(file, text.replaceAll(`:${port}`, `:${proxy.port}`));
  proxied = await kubeconfigSource(file);
});
after(async () => {
  proxy?.stop();
  await direct?.close();
  await plane?.stop();
});

class Mirror {
  readonly told: string[] = [];
  readonly failures: string[] = [];
  lists = 0;
  readonly store: ObjectStore<ConfigMap>;
  readonly reflector: Reflector<ConfigMap>;
  readonly #client = open(proxied);
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;

  constructor(silenceMs = SILENCE_MS, env: Env = realEnv) {
    this.store = new ObjectStore<ConfigMap>(
      {
        added: ({ metadata }) => this.told.push(`+${metadata.name}`),
        updated: ({ metadata }) => this.told.push(`~${metadata.name}`),
        deleted: ({ metadata }) => this.told.push(`-${metadata.name}`),
      },
      () => this.reflector.synced,
    );
    this.reflector = new Reflector<ConfigMap>({
      env,
      api: this.#client,
      selection: { kind: KINDS.ConfigMap, namespace: NAMESPACE, labelSelector: 'test=mirror' },
      store: this.store,
      silenceMs,
      metrics: {
        listed: () => {
          this.lists += 1;
        },
        watchStarted: () => {},
        watchFailed: (_kind, reason) => this.failures.push(reason),
      },
      log: { info: () => {}, warn: () => {} },
    });
    this.#done = this.reflector.run(this.#abort.signal);
  }

  knows(name: string): boolean {
    return this.store.get(NAMESPACE, name) !== undefined;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#done;
    await this.#client.close();
  }
}

describe('the mirror of a real API server', () => {
  let mirror: Mirror;
  const synced = async (silenceMs?: number) => {
    await direct.apply(map('base'), { fieldManager: 'e2e', force: true });
    mirror = new Mirror(silenceMs);
    await until('the first list', () => mirror.knows('base'));
    await direct.create(map('first'));
    await until('the watch', () => mirror.knows('first'));
    await direct.delete(ref('first'));
    await until('the deletion', () => !mirror.knows('first'));
  };
  afterEach(async () => {
    await mirror.stop();
    for (const { metadata } of mirror.store.list()) await direct.delete(ref(metadata.name));
  });

  it('the API server is killed and comes back', async () => {
    await synced(60_000);
    await plane.apiServerDown();
    await until('the news', () => mirror.failures.length > 0);
    await plane.apiServerUp();
    const startedAt = performance.now();
    await direct.create(map('after'));
    await until('what was made afterwards', () => mirror.knows('after'));
    print('seen after the API server is back', performance.now() - startedAt, 6_000);
  });

  it('the watch is cut: resumed without a list', async () => {
    await synced();
    const { lists } = mirror;
    proxy.cut();
    await direct.create(map('cut'));
    print('seen after a cut', await until('cut', () => mirror.knows('cut')), 1_000);
    assert.equal(mirror.lists, lists);
  });

  it('the connection is half-open: found by its silence', async () => {
    await synced();
    proxy.freeze();
    await direct.create(map('silent'));
    print('seen after silence', await until('silent', () => mirror.knows('silent')), 4_000);
    assert.ok(mirror.failures.includes('silent'));
  });

  it('without looking for silence it is deaf (the check can fail)', async () => {
    await synced(0);
    proxy.freeze();
    await direct.create(map('unheard'));
    await sleep(realEnv, 3 * SILENCE_MS);
    assert.equal(mirror.knows('unheard'), false);
    proxy.cut();
    await until('it, once the connection is gone', () => mirror.knows('unheard'));
  });

  const twin = async (which: string) => {
    await direct.create(map('twin', { which }));
  };
  const tellsOfTwo = async () => {
    await until('the second', () => mirror.told.length >= 2 && mirror.knows('twin'));
    const told = mirror.told.filter((entry) => entry.endsWith('twin'));
    assert.deepEqual(told, ['-twin', '+twin']);
  };

  it('410: lists again and compares, also one that was deleted and made again', async () => {
    await synced(60_000);
    await direct.create(map('goes'));
    await twin('first');
    await until('both', () => mirror.knows('goes') && mirror.knows('twin'));
    proxy.cut(true);
    await direct.delete(ref('goes'));
    await direct.create(map('comes'));
    await direct.delete(ref('twin'));
    await twin('second');
    // Its history, and with it the place where the watch would go on, is forgotten.
    await plane.forgetHistory();
    mirror.told.length = 0;
    proxy.up();
    await until('comes without goes', () => mirror.knows('comes') && !mirror.knows('goes'));
    assert.ok(mirror.failures.includes('expired'), `only ${mirror.failures}`);
    assert.ok(mirror.told.includes('-goes'));
    await tellsOfTwo();
  });

  it('deleted and made again while nobody watched: a deletion and a creation', async () => {
    await synced(60_000);
    await twin('first');
    await until('the first', () => mirror.knows('twin'));
    const uid = mirror.store.get(NAMESPACE, 'twin')?.metadata.uid;
    proxy.cut(true);
    await direct.delete(ref('twin'));
    await twin('second');
    mirror.told.length = 0;
    proxy.up();
    await tellsOfTwo();
    assert.notEqual(mirror.store.get(NAMESPACE, 'twin')?.metadata.uid, uid);
  });
});

describe('calls on a real API server', () => {
  it('apply takes its fields over and leaves the others alone', async () => {
    const options = { fieldManager: 'triggerjob-operator', force: true };
    await direct.apply(map('ssa', { ours: '1' }), options);
    await direct.patch(ref('ssa'), { data: { ours: 'drifted', theirs: '2' } });
    const back = await direct.apply(map('ssa', { ours: '1' }), options);
    assert.deepEqual(back.data, { ours: '1', theirs: '2' });
    await direct.delete(ref('ssa'));
    assert.equal(await direct.get(ref('ssa')), null);
  });

  it('a stale write and a wrong uid are refused; a missing kind is no missing object', async () => {
    const { metadata } = await direct.create(map('stale'));
    const { resourceVersion = '', uid = '' } = metadata;
    await direct.patch(ref('stale'), { metadata: { resourceVersion }, data: { a: '1' } });
    const again = direct.patch(ref('stale'), { metadata: { resourceVersion }, data: { a: '2' } });
    await assert.rejects(again, (error) => isKubeError(error, 'KUBE_CONFLICT'));
    await assert.rejects(direct.create(map('stale')), { reason: 'AlreadyExists' });
    const other = direct.delete(ref('stale'), { uid: `${uid.slice(0, -4)}0000` });
    await assert.rejects(other, (error) => isKubeError(error, 'KUBE_CONFLICT'));
    await direct.delete(ref('stale'), { uid });
    const { apiVersion, kind } = KINDS.TriggerJob;
    const unknown = direct.get({ apiVersion, kind, namespace: NAMESPACE, name: 'x' });
    await assert.rejects(unknown, (error) => isKubeError(error, 'KUBE_NOT_FOUND'));
    const nowhere = { ...map('lost'), metadata: { namespace: 'no-such', name: 'lost' } };
    await assert.rejects(direct.create(nowhere), (error) => isKubeError(error, 'KUBE_NOT_FOUND'));
    const bad = direct.create(map('Not A Name'));
    await assert.rejects(bad, (error) => isKubeError(error, 'KUBE_INVALID'));
  });

  it('events are accepted, and so is their series', async () => {
    const dropped: string[] = [];
    // Half a minute of the recorder passes in a tenth of a second.
    const env: Env = { ...realEnv, timer: (ms, fn) => realEnv.timer(ms / 300, fn) };
    const recorder = new EventRecorder({
      env,
      api: direct,
      controller: 'triggerjob.io/operator',
      instance: 'e2e',
      onDropped: (reason) => dropped.push(reason),
    });
    const about = await direct.create(map('eventful'));
    const { uid = '' } = about.metadata;
    for (let i = 0; i < 3; i += 1) {
      recorder.record({
        about: { ...ref('eventful'), uid },
        type: 'Warning',
        reason: 'Tested',
        action: 'Test',
        note: 'é'.repeat(2_000),
      });
    }
    const end = performance.now() + WATCHDOG_MS;
    let events: Event[] = [];
    while (!events.some(({ series }) => series?.count === 3)) {
      assert.deepEqual(dropped, []);
      assert.ok(performance.now() < end, `waited for the series: ${JSON.stringify(events)}`);
      await sleep(realEnv, 50);
      const page = await direct.list(
        { kind: KINDS.Event, namespace: NAMESPACE, fieldSelector: 'reason=Tested' },
        { limit: 10 },
      );
      events = page.items as Event[];
    }
    assert.equal(events.length, 1);
    await direct.delete(ref('eventful'));
  });
});
