/** Rules E1 to E4: electors with clocks of their own around one Lease. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualEnv } from '../manual-env.ts';
import { KubeError } from './kube-error.ts';
import { LeaderElection } from './leader-election.ts';
import type { Lease } from './objects.ts';
import type { KubeObject } from './port.ts';

/** One Lease with the API server's rules for writing it. */
class LeaseServer {
  lease: Lease | null = null;
  #version = 1;
  /** What is thrown in place of an answer. */
  down = false;
  /** What is written, though the answer is lost. */
  answersLost = false;
  readonly watchers: ((lease: Lease) => void)[] = [];

  async get<T extends KubeObject>(): Promise<T | null> {
    this.#check();
    return structuredClone(this.lease) as T | null;
  }

  async create<T extends KubeObject>(object: T): Promise<T> {
    this.#check();
    if (this.lease !== null) throw new KubeError('KUBE_CONFLICT', 'exists', { status: 409 });
    return this.#write(object);
  }

  async replace<T extends KubeObject>(object: T): Promise<T> {
    this.#check();
    if (this.lease === null) throw new KubeError('KUBE_NOT_FOUND', 'gone', { status: 404 });
    if (object.metadata.resourceVersion !== this.lease.metadata.resourceVersion) {
      throw new KubeError('KUBE_CONFLICT', 'stale', { status: 409 });
    }
    return this.#write(object);
  }

  #check(): void {
    if (this.down) throw new KubeError('KUBE_UNAVAILABLE', 'down');
  }

  #write<T extends KubeObject>(object: T): T {
    this.#version += 1;
    const written = structuredClone(object);
    written.metadata.resourceVersion = String(this.#version);
    written.metadata.uid = 'u';
    this.lease = written as unknown as Lease;
    for (const tell of this.watchers) tell(structuredClone(this.lease));
    if (this.answersLost) throw new KubeError('KUBE_UNAVAILABLE', 'answer lost');
    return structuredClone(written);
  }
}

class Elector {
  readonly env: ManualEnv;
  readonly election: LeaderElection;
  readonly #stop = new AbortController();
  /** waits, leads, lost, stopped. */
  state = 'waits';

  constructor(server: LeaseServer, identity: string, env: ManualEnv, watches = false) {
    this.env = env;
    this.election = new LeaderElection({
      env,
      api: server,
      namespace: 'ns',
      name: 'lease',
      identity,
      log: { info: () => {} },
    });
    if (watches) server.watchers.push((lease) => this.election.observe(lease));
    void this.#run();
  }

  async #run(): Promise<void> {
    if (await this.election.acquire(this.#stop.signal)) {
      this.state = 'leads';
      this.state = (await this.election.hold(this.#stop.signal)) ? 'stopped' : 'lost';
    } else this.state = 'stopped';
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.env.settle();
    await this.election.release();
  }

  mayWrite(): boolean {
    try {
      return this.election.fence() > 0;
    } catch (error) {
      assert.ok(error instanceof KubeError && error.code === 'KUBE_FENCED');
      return false;
    }
  }
}

async function pair(watches = false) {
  const server = new LeaseServer();
  const [env, other] = [new ManualEnv(), new ManualEnv()];
  env.chance = other.chance = 0;
  const a = new Elector(server, 'a', env);
  await env.settle();
  const b = new Elector(server, 'b', other, watches);
  await other.settle();
  assert.deepEqual([a.state, b.state], ['leads', 'waits']);
  return { server, a, b };
}

/** Both clocks go on, in steps. */
async function pass(ms: number, ...envs: ManualEnv[]): Promise<void> {
  const step = Math.min(ms, 500);
  for (let passed = 0; passed < ms; passed += step) {
    for (const env of envs) await env.advance(step);
  }
}

describe('leader election', () => {
  it('one leads, renews, and stays', async () => {
    const { server, a, b } = await pair();
    const first = server.lease?.spec?.renewTime;
    await pass(60_000, a.env, b.env);
    assert.deepEqual([a.state, b.state], ['leads', 'waits']);
    assert.equal(a.mayWrite(), true);
    assert.equal(b.mayWrite(), false);
    assert.notEqual(server.lease?.spec?.renewTime, first);
    assert.match(String(first), /\.\d{6}Z$/, 'the API server wants six digits');
    assert.equal(server.lease?.spec?.leaseTransitions, 0);
  });

  it('E1: clocks that differ by years change nothing', async () => {
    const { server, a, b } = await pair();
    const wall = b.env.now.bind(b.env);
    b.env.now = () => wall() + 10 ** 12;
    await pass(60_000, a.env, b.env);
    assert.deepEqual([a.state, b.state], ['leads', 'waits']);
    assert.equal(server.lease?.spec?.holderIdentity, 'a');
  });

  it('E1, E2: a frozen leader is followed after its lease, then wakes and is still', async () => {
    const { server, a, b } = await pair();
    await pass(14_500, b.env);
    assert.equal(b.state, 'waits');
    await pass(2_500, b.env);
    assert.equal(b.state, 'leads');
    assert.equal(server.lease?.spec?.leaseTransitions, 1);
    // It wakes: its monotonic clock has gone on, no timer of it has run yet.
    const { monotonic } = a.env;
    a.env.monotonic = () => monotonic.call(a.env) + 17_000;
    assert.equal(a.mayWrite(), false, 'the fence must not need a timer');
    a.env.monotonic = monotonic;
    await pass(17_000, a.env, b.env);
    assert.deepEqual([a.state, b.state], ['lost', 'leads']);
    await pass(60_000, a.env, b.env);
    assert.equal(a.state, 'lost', 'it never leads again');
  });

  it('E2: there is no moment at which both may write', async () => {
    const { server, a, b } = await pair();
    // a's writes of the lease fail from now on, b sees the API server.
    const { replace, get } = server;
    server.replace = (object) =>
      (object as unknown as Lease).spec?.holderIdentity === 'a'
        ? Promise.reject(new KubeError('KUBE_UNAVAILABLE', 'cut off'))
        : (replace.call(server, object) as Promise<typeof object>);
    server.get = get;
    let handedOver = false;
    for (let ms = 0; ms < 30_000; ms += 100) {
      await a.env.advance(100);
      assert.ok(!(a.mayWrite() && b.mayWrite()), `both at ${ms} ms`);
      await b.env.advance(100);
      assert.ok(!(a.mayWrite() && b.mayWrite()), `both at ${ms} ms`);
      handedOver ||= b.mayWrite();
    }
    assert.ok(handedOver);
    assert.equal(a.state, 'lost');
  });

  it('E2: acts until the deadline while the API server is away, and no longer', async () => {
    const { server, a, b } = await pair();
    await pass(2_000, a.env, b.env);
    server.down = true;
    await pass(9_500, a.env, b.env);
    assert.equal(a.mayWrite(), true);
    await pass(1_000, a.env, b.env);
    assert.deepEqual([a.mayWrite(), a.state, b.state], [false, 'lost', 'waits']);
    server.down = false;
    await pass(10_000, b.env);
    assert.equal(b.state, 'leads');
  });

  it('E3: a renewal whose answer was lost is found and gone on from', async () => {
    const { server, a, b } = await pair();
    server.answersLost = true;
    await pass(4_000, a.env, b.env);
    server.answersLost = false;
    await pass(20_000, a.env, b.env);
    assert.deepEqual([a.state, b.state], ['leads', 'waits']);
  });

  it('E3: a lease that another one took is not taken back', async () => {
    for (const watches of [false, true]) {
      const server = new LeaseServer();
      const env = new ManualEnv();
      const a = new Elector(server, 'a', env, watches);
      await env.settle();
      const { lease } = server;
      assert.ok(lease);
      // By hand, or by an operator of another build: with a version that a has not written.
      await server.replace({ ...lease, spec: { ...lease.spec, holderIdentity: 'thief' } });
      await env.settle();
      if (watches) assert.equal(a.mayWrite(), false, 'it heard of it');
      await pass(2_500, env);
      assert.equal(a.state, 'lost');
      assert.equal(server.lease?.spec?.holderIdentity, 'thief');
    }
  });

  it('E3: of two who see it free, one gets it', async () => {
    const server = new LeaseServer();
    const env = new ManualEnv();
    const electors = ['a', 'b', 'c'].map((name) => new Elector(server, name, env));
    await pass(5_000, env);
    assert.equal(electors.filter(({ state }) => state === 'leads').length, 1);
  });

  it('E4: a released lease is taken at once by who watches it', async () => {
    const { a, b } = await pair(true);
    await a.stop();
    assert.equal(a.mayWrite(), false);
    await b.env.settle();
    assert.equal(b.state, 'leads', 'with no time passed');
    assert.equal(b.mayWrite(), true);
  });

  it('E4: and within a retry period by who does not', async () => {
    const { a, b } = await pair();
    await a.stop();
    await b.env.advance(2_000);
    assert.equal(b.state, 'leads');
  });

  it('E2: a deleted lease is made again by its leader, and nobody else acts', async () => {
    const { server, a, b } = await pair(true);
    await pass(1_000, b.env, a.env);
    server.lease = null;
    for (let ms = 0; ms < 30_000; ms += 100) {
      // The other one looks first.
      await pass(100, b.env);
      assert.equal(b.mayWrite(), false);
      await pass(100, a.env);
    }
    assert.deepEqual([a.state, b.state], ['leads', 'waits']);
    assert.equal(a.mayWrite(), true);
    assert.equal((server.lease as Lease | null)?.spec?.holderIdentity, 'a');
  });
});
