/** The mirror against a server that cuts, silences and forgets (rules R1 to R5 of reflector.ts). */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type Env, realEnv, sleep } from '../env.ts';
import { KubeClient } from './client.ts';
import { plainSource } from './connection.ts';
import { FakeApiServer } from './fake-api-server.ts';
import { ObjectStore } from './object-store.ts';
import { KINDS, type Pod } from './objects.ts';
import { Reflector, type ReflectorOptions } from './reflector.ts';

const PODS = '/api/v1/namespaces/ns/pods';
const WATCHDOG_MS = 10_000;
/** Seconds of the reflector are 10 ms here. */
const FASTER = 100;
const fastEnv: Env = {
  ...realEnv,
  monotonic: () => performance.now() * FASTER,
  timer: (delayMs, fn) => realEnv.timer(delayMs / FASTER, fn),
};

const pod = (name: string, labels: Record<string, string> = { app: 'x' }): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, labels },
  spec: { containers: [], nodeName: 'n1' },
});

class Mirror {
  readonly told: string[] = [];
  readonly failures: string[] = [];
  lists = 0;
  watches = 0;
  readonly store: ObjectStore<Pod>;
  readonly reflector: Reflector<Pod>;
  readonly #client: KubeClient;
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;

  constructor(server: FakeApiServer, options: Partial<ReflectorOptions<Pod>> = {}) {
    this.#client = KubeClient.open({
      env: realEnv,
      source: plainSource(server.url),
      limit: { perSecond: 1000, burst: 1000 },
      metrics: { request: () => {} },
    });
    this.store = new ObjectStore<Pod>(
      {
        added: (object) => this.told.push(`+${object.metadata.name}`),
        updated: (object, before) =>
          this.told.push(`${object === before ? '=' : '~'}${object.metadata.name}`),
        deleted: (object) => this.told.push(`-${object.metadata.name}`),
      },
      () => this.reflector.synced,
    );
    this.reflector = new Reflector<Pod>({
      env: fastEnv,
      api: this.#client,
      selection: { kind: KINDS.Pod },
      store: this.store,
      metrics: {
        listed: () => {
          this.lists += 1;
        },
        watchStarted: () => {
          this.watches += 1;
        },
        watchFailed: (_kind, reason) => this.failures.push(reason),
      },
      log: { info: () => {}, warn: () => {} },
      ...options,
    });
    this.#done = this.reflector.run(this.#abort.signal);
  }

  /** Waits, ended by a watchdog that says what it waited for. */
  async until(what: string, holds: () => boolean): Promise<void> {
    const end = performance.now() + WATCHDOG_MS;
    while (!holds()) {
      if (performance.now() > end) {
        assert.fail(`waited for ${what}; told: ${this.told}; failures: ${this.failures}`);
      }
      await sleep(realEnv, 2);
    }
  }

  knows(names: string): boolean {
    const known = [...this.store.list()].map((object) => object.metadata.name);
    return known.toSorted().join() === names;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#done;
    await this.#client.close();
  }
}

describe('a reflector', () => {
  let server: FakeApiServer;
  const mirrors: Mirror[] = [];
  const mirrorOf = (options: Partial<ReflectorOptions<Pod>> = {}) => {
    const mirror = new Mirror(server, options);
    mirrors.push(mirror);
    return mirror;
  };
  /** A mirror of a and b whose watch is running. */
  const synced = async (options: Partial<ReflectorOptions<Pod>> = {}) => {
    server.put(PODS, pod('a'));
    server.put(PODS, pod('b'));
    const mirror = mirrorOf(options);
    await mirror.until('the first list and watch', () => mirror.knows('a,b') && server.watches > 0);
    mirror.told.length = 0;
    return mirror;
  };
  beforeEach(async () => {
    server = await FakeApiServer.start();
  });
  afterEach(async () => {
    await Promise.all(mirrors.splice(0).map((mirror) => mirror.stop()));
    await server.stop();
  });

  it('lists in pages, then follows the watch', async () => {
    for (let i = 0; i < 7; i += 1) server.put(PODS, pod(`p${i}`));
    const mirror = mirrorOf({ pageSize: 3 });
    await mirror.until('all pages', () => mirror.store.size === 7 && server.watches === 1);
    assert.equal(mirror.reflector.synced, true);
    assert.equal(server.requests.filter((line) => line.includes('limit=3')).length, 3);
    server.put(PODS, pod('p7'));
    server.put(PODS, pod('p0', { app: 'y' }));
    server.remove(PODS, 'p1');
    await mirror.until('three events', () => mirror.told.length === 10);
    assert.deepEqual(mirror.told.slice(7), ['+p7', '~p0', '-p1']);
    assert.equal(mirror.lists, 1);
  });

  it('keeps only what is asked for, never who managed it', async () => {
    const full = pod('a');
    full.metadata.managedFields = [{ manager: 'kubectl' }];
    full.metadata.annotations = {
      'kubectl.kubernetes.io/last-applied-configuration': '{}',
      own: '1',
    };
    server.put(PODS, full);
    const mirror = mirrorOf({
      keep: ({ apiVersion, kind, metadata }) => ({ apiVersion, kind, metadata }),
    });
    await mirror.until('the list', () => mirror.knows('a'));
    const kept = mirror.store.get('ns', 'a');
    assert.equal(kept?.spec, undefined);
    assert.equal(kept?.kind, 'Pod', 'items of a list do not name their kind');
    assert.equal(kept?.metadata.managedFields, undefined);
    assert.deepEqual(kept?.metadata.annotations, { own: '1' });
  });

  it('narrows by namespace and labels', async () => {
    server.put(PODS, pod('in'));
    server.put(PODS, pod('other', { app: 'y' }));
    server.put('/api/v1/namespaces/else/pods', pod('elsewhere'));
    const selection = { kind: KINDS.Pod, namespace: 'ns', labelSelector: 'app=x' };
    const mirror = mirrorOf({ selection });
    await mirror.until('the list', () => mirror.knows('in') && server.watches === 1);
    server.put('/api/v1/namespaces/else/pods', pod('later'));
    server.put(PODS, pod('in2'));
    await mirror.until('one more', () => mirror.knows('in,in2'));
    assert.deepEqual(mirror.told, ['+in', '+in2']);
  });

  it('R3: goes on where it was when the watch ends or is cut, and misses nothing', async () => {
    const mirror = await synced();
    for (let round = 0; round < 5; round += 1) {
      if (round % 2 === 0) server.cutWatches();
      else server.endWatches();
      server.put(PODS, pod(`p${round}`));
      await mirror.until(`p${round}`, () => mirror.store.get('ns', `p${round}`) !== undefined);
    }
    assert.equal(mirror.lists, 1);
    assert.deepEqual(mirror.told, ['+p0', '+p1', '+p2', '+p3', '+p4']);
  });

  it('R1: gets through a burst of errors, in lists and watches', async () => {
    const mirror = await synced();
    server.fail(4, 500);
    server.cutWatches();
    server.put(PODS, pod('c'));
    await mirror.until('c', () => mirror.knows('a,b,c'));
    assert.ok(mirror.failures.length >= 4);
    server.fail(3, 503, /limit=/);
    server.compact();
    server.cutWatches();
    // Compacted beyond where the mirror stands, so that it has to list.
    server.put(PODS, pod('d'));
    server.compact();
    await mirror.until('d', () => mirror.knows('a,b,c,d'));
  });

  it('R4: 410 as status of the watch: lists again', async () => {
    const mirror = await synced();
    server.fail(1, 410, /watch=true/);
    server.cutWatches();
    server.put(PODS, pod('c'));
    server.remove(PODS, 'a');
    await mirror.until('c without a', () => mirror.knows('b,c'));
    assert.deepEqual(mirror.told.toSorted(), ['+c', '-a']);
    assert.equal(mirror.lists, 2);
    assert.ok(mirror.failures.includes('expired'));
  });

  it('R4: 410 as an event in the watch, after compaction', async () => {
    const mirror = await synced();
    server.errorEvent(410);
    server.put(PODS, pod('c'));
    await mirror.until('c', () => mirror.knows('a,b,c') && mirror.lists === 2);
    server.errorEvent(500);
    server.put(PODS, pod('d'));
    await mirror.until('d', () => mirror.knows('a,b,c,d'));
    assert.equal(mirror.lists, 2, 'any other error is no reason to list');
  });

  it('R4: a list that expires between two pages begins anew', async () => {
    for (let i = 0; i < 4; i += 1) server.put(PODS, pod(`p${i}`));
    server.before = (line) => {
      if (!line.includes('continue=')) return;
      server.before = () => {};
      server.put(PODS, pod('p9'));
      server.compact();
    };
    const mirror = mirrorOf({ pageSize: 3 });
    await mirror.until('the whole list', () => mirror.store.size === 5);
    assert.deepEqual(mirror.failures, ['expired']);
  });

  it('knows a recreated object by its uid, seen or unseen', async () => {
    const mirror = await synced();
    const uid = mirror.store.get('ns', 'a')?.metadata.uid;
    server.fail(1, 410, /watch=true/);
    server.cutWatches();
    server.remove(PODS, 'a');
    server.put(PODS, pod('a'));
    await mirror.until('the new a', () => mirror.store.get('ns', 'a')?.metadata.uid !== uid);
    assert.deepEqual(mirror.told, ['-a', '+a']);
    assert.equal(mirror.lists, 2);
  });

  it('R2: a half-open watch is found and resumed', async () => {
    const mirror = await synced();
    server.freezeWatches();
    server.put(PODS, pod('c'));
    await mirror.until('c, told to a connection that is gone', () => mirror.knows('a,b,c'));
    assert.ok(mirror.failures.includes('silent'));
    assert.equal(mirror.lists, 1);
  });

  it('R2: without that rule it would be deaf (the check can fail)', async () => {
    const mirror = await synced({ silenceMs: 0 });
    server.freezeWatches();
    server.put(PODS, pod('c'));
    // Three times the silence that the other test needs.
    await sleep(realEnv, (3 * 75_000) / FASTER);
    assert.ok(mirror.knows('a,b'), 'it heard of c');
    assert.ok(mirror.reflector.stalenessMs() > 2 * 75_000, 'and does not know how stale it is');
  });

  it('bookmarks keep a quiet watch alive, fresh and resumable', async () => {
    const mirror = await synced();
    const watches = mirror.watches;
    let sentAt = 0;
    for (let i = 0; i < 12; i += 1) {
      await sleep(realEnv, 20_000 / FASTER);
      sentAt = fastEnv.monotonic();
      server.bookmark();
    }
    const heard = () => mirror.reflector.stalenessMs() < fastEnv.monotonic() - sentAt;
    await mirror.until('the last bookmark', heard);
    assert.equal(mirror.watches, watches, 'no silence was found');
    server.compact();
    server.cutWatches();
    server.put(PODS, pod('c'));
    await mirror.until('c', () => mirror.knows('a,b,c'));
    assert.equal(mirror.lists, 1, 'the bookmark was young enough to go on from');
  });

  it('R3: a server that ends every watch at once is not stormed', async () => {
    const mirror = await synced();
    const before = mirror.watches;
    const end = performance.now() + 20_000 / FASTER;
    while (performance.now() < end) {
      server.endWatches();
      await sleep(realEnv, 1);
    }
    const watches = mirror.watches - before;
    assert.ok(watches <= 30, `${watches} watches in 20 s`);
  });

  it('R5: is listed again by and by; handlers hear of what did not change too', async () => {
    const mirror = await synced({ resyncMs: 30_000 });
    await mirror.until('a resync', () => mirror.told.length >= 2);
    assert.deepEqual(mirror.told.slice(0, 2).toSorted(), ['=a', '=b']);
    assert.equal(mirror.failures.length, 0);
    server.put(PODS, pod('c'));
    await mirror.until('c', () => mirror.knows('a,b,c'));
  });

  it('indexes by controller', async () => {
    const owned = pod('a');
    owned.metadata.ownerReferences = [
      { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 's', uid: 'u1', controller: true },
    ];
    server.put(PODS, owned);
    server.put(PODS, pod('b'));
    const mirror = mirrorOf();
    await mirror.until('the list', () => mirror.knows('a,b') && server.watches === 1);
    assert.deepEqual(
      mirror.store.ownedBy('u1').map((object) => object.metadata.name),
      ['a'],
    );
    server.put(PODS, pod('a'));
    await mirror.until('its release', () => mirror.store.ownedBy('u1').length === 0);
  });
});
