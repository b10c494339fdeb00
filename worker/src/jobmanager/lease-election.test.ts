/** Election by a Lease, over HTTP against a fake API server, in real time. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { JobLog } from '../checkpoint/log.ts';
import { MemoryStore } from '../checkpoint/memory-store.ts';
import { type Env, realEnv, sleep, type Timer } from '../runtime/env.ts';
import type { TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject } from '../runtime/json.ts';
import { FakeApiServer } from './fake-api-server.ts';
import { apiServerOf, KubeLeases } from './kube-leases.ts';
import { LeaseElection } from './lease-election.ts';
import { standingOf } from './standing.ts';
import { until } from './test-cluster.ts';

const PLAN = { leaseMs: 2_000, renewDeadlineMs: 1_400, retryMs: 50, graceMs: 10_000 };
const NAME = 'job-leader';

/** The real clock; while it is `stopped` no timer fires, as in a process that was stopped. */
function stoppable(): Env & { stop(): void; go(): void } {
  let stopped = false;
  const held: (() => void)[] = [];
  return {
    ...realEnv,
    stop: () => {
      stopped = true;
    },
    go: () => {
      stopped = false;
      for (const fn of held.splice(0)) fn();
    },
    timer: (delayMs, fn): Timer => {
      let cancelled = false;
      const due = () => {
        if (cancelled) return;
        if (stopped) held.push(due);
        else fn();
      };
      const timer = realEnv.timer(delayMs, due);
      return {
        cancel: () => {
          cancelled = true;
          timer.cancel();
        },
      };
    },
  };
}

async function setUp(t: TestContext) {
  const api = await FakeApiServer.start(t);
  const store = new MemoryStore(realEnv);
  const member = (name: string, run = 1) => {
    const env = stoppable();
    const log = new JobLog({
      store,
      env,
      writer: name,
      retained: 1,
      run: { number: run, start: null, first: true },
    });
    const { url, serviceAccountDir } = api;
    const leases = new KubeLeases({
      owner: { name: 'job', uid: 'uid-of-the-job' },
      ...{ env, url, serviceAccountDir, namespace: 'default', name: NAME, timeoutMs: 400 },
    });
    const address = { rpc: `${name}:1`, rest: `http://${name}:2` };
    const election = new LeaseElection({
      env,
      log: pino({ level: 'silent' }),
      leases,
      plan: PLAN,
      address,
      standing: () => standingOf(store, env, { number: run, start: null }),
    });
    const lost: string[] = [];
    const abort = new AbortController();
    t.after(() => {
      abort.abort();
      election.close();
    });
    const lead = async (): Promise<number> => {
      const turn = await election.turn(abort.signal);
      if (turn.kind !== 'claim') return 0;
      await log.takeover({ lineage: 'l', restoredFrom: null }, turn.after);
      const confirm = () => log.confirmEnd();
      await election.lead(log.leaderEpoch, confirm, (error) =>
        lost.push((error as TriggerJobError).code),
      );
      return log.leaderEpoch;
    };
    /** As a standby: its epoch once it leads. */
    const follow = () => {
      const state = { epoch: 0, ended: false };
      lead().then(
        (epoch) => {
          state.epoch = epoch;
          state.ended = epoch === 0;
        },
        () => undefined,
      );
      return state;
    };
    return { env, log, election, lost, lead, follow };
  };
  const renewals = () => api.requests.filter((request) => request.startsWith('PUT')).length;
  const more = async (n: number) => {
    const before = renewals();
    await until(`${n} renewals`, () => renewals() >= before + n, 4_000);
  };
  return { api, store, member, more };
}

test('the first one creates the Lease and leads; the other follows, told where', async (t) => {
  const { api, member, more } = await setUp(t);
  const [one, two] = [member('one'), member('two')];
  assert.equal(await one.lead(), 1);
  const standby = two.follow();
  await more(60);
  assert.equal(standby.epoch, 0);
  assert.deepEqual(two.election.leader, { rpc: 'one:1', rest: 'http://one:2' });
  assert.deepEqual(one.election.leader, { rpc: 'one:1', rest: 'http://one:2' });
  const { holderIdentity, leaseDurationSeconds, leaseTransitions } = api.spec(NAME);
  assert.deepEqual([holderIdentity, leaseDurationSeconds, leaseTransitions], ['one:1', 2, 0]);
  assert.match(String(api.spec(NAME)['renewTime']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  assert.deepEqual(one.lost, []);
});

test('a leader that gives it up is followed at once, and the Lease is counted on', async (t) => {
  const { api, member } = await setUp(t);
  const [one, two] = [member('one'), member('two')];
  await one.lead();
  const standby = two.follow();
  await until('the first sight', () => two.election.leader !== null);
  await one.election.release(null);
  assert.equal(api.spec(NAME)['holderIdentity'], '');
  await until('the second leader', () => standby.epoch === 2);
  assert.equal(api.spec(NAME)['leaseTransitions'], 1);
  assert.deepEqual(one.lost, []);
});

test('one that stood still is succeeded, and finds it when it wakes', async (t) => {
  const { member } = await setUp(t);
  const [one, two] = [member('one'), member('two')];
  await one.lead();
  const standby = two.follow();
  await until('the first sight', () => two.election.leader !== null);
  one.env.stop();
  await until('the second leader', () => standby.epoch === 2, 4_000);
  one.env.go();
  await until('the first one to end', () => one.lost.length === 1);
  assert.deepEqual(one.lost, ['LEASE_LOST']);
  await assert.rejects(one.log.confirmEnd(), { code: 'LEADERSHIP_LOST' });
  assert.deepEqual(two.lost, []);
});

test('500s, hanging and lost answers do not end a leader that the log confirms', async (t) => {
  const { api, member, more } = await setUp(t);
  const one = member('one');
  await one.lead();
  for (const fault of [500, 429, 'hang', 'lose'] as const) {
    api.fault = () => fault;
    await sleep(realEnv, PLAN.renewDeadlineMs + 600);
    assert.deepEqual(one.lost, [], `${fault}`);
  }
  api.fault = () => null;
  await more(2);
  assert.equal(api.spec(NAME)['holderIdentity'], 'one:1');
});

test('without the API server a leader still ends by what the log says', async (t) => {
  const { api, store, member } = await setUp(t);
  const one = member('one');
  await one.lead();
  api.fault = () => 503;
  const other = new JobLog({ store, env: realEnv, writer: 'other', retained: 1 });
  await other.takeover({ lineage: 'l', restoredFrom: null });
  await until('the end', () => one.lost.length === 1);
  assert.deepEqual(one.lost, ['LEADERSHIP_LOST']);
});

test('a conflict that is only an annotation is written over, and keeps what it has', async (t) => {
  const { api, member, more } = await setUp(t);
  const one = member('one');
  await one.lead();
  api.change(NAME, ({ metadata }) => {
    assert.ok(isJsonObject(metadata));
    metadata['annotations'] = { note: 'mine' };
    metadata['labels'] = { team: 'mine' };
    const gone = { kind: 'TriggerJob', name: 'job', uid: 'of-the-one-before' };
    metadata['ownerReferences'] = [{ name: 'another' }, gone];
  });
  await more(3);
  assert.deepEqual(one.lost, []);
  const { annotations, labels, ownerReferences } = api.metadata(NAME);
  assert.deepEqual(labels, { team: 'mine', 'triggerjob.io/job': 'job' });
  assert.ok(isJsonObject(annotations));
  assert.equal(annotations['note'], 'mine');
  assert.equal(annotations['triggerjob.io/leader-epoch'], '1');
  const kind = { apiVersion: 'triggerjob.io/v1alpha1', kind: 'TriggerJob' };
  const own = { ...kind, name: 'job', uid: 'uid-of-the-job' };
  assert.deepEqual(ownerReferences, [{ name: 'another' }, own]);
});

test('a Lease that is deleted under its holder comes back, and nobody else takes it', async (t) => {
  const { api, member, more } = await setUp(t);
  const [one, two] = [member('one'), member('two')];
  await one.lead();
  const standby = two.follow();
  await until('the first sight', () => two.election.leader !== null);
  for (let i = 0; i < 3; i++) {
    api.leases.delete(NAME);
    await more(3);
    assert.equal(api.spec(NAME)['holderIdentity'], 'one:1');
  }
  assert.equal(standby.epoch, 0);
  assert.deepEqual(one.lost, []);
});

test('a holder that finds another one there ends', async (t) => {
  const { api, member } = await setUp(t);
  const one = member('one');
  await one.lead();
  api.change(NAME, ({ spec }) => {
    assert.ok(isJsonObject(spec));
    spec['holderIdentity'] = 'thief:1';
  });
  await until('the end', () => one.lost.length === 1);
  assert.deepEqual(one.lost, ['LEASE_LOST']);
});

test('started again in its place it need not wait for its own lease', async (t) => {
  const { member } = await setUp(t);
  const one = member('one');
  await one.lead();
  one.env.stop();
  const again = member('one');
  assert.equal(await again.lead(), 2);
});

test('of two that want a free Lease one gets it', async (t) => {
  const { member, more } = await setUp(t);
  const members = ['one', 'two', 'three'].map((name) => member(name));
  const states = members.map(({ follow }) => follow());
  await until('a leader', () => states.some(({ epoch }) => epoch > 0));
  await more(20);
  assert.equal(states.filter(({ epoch }) => epoch > 0).length, 1);
  assert.deepEqual(
    members.flatMap(({ lost }) => lost),
    [],
  );
});

test('a superseded run leaves the Lease alone; an ended one ends its standbys', async (t) => {
  const { api, member, more } = await setUp(t);
  const newer = member('newer', 2);
  await newer.lead();
  const old = member('old', 1);
  const standby = old.follow();
  await more(5);
  await newer.election.release(null);
  const before = api.requests.length;
  await until('looks', () => api.requests.length > before + 5);
  assert.equal(standby.epoch, 0);
  assert.equal(api.spec(NAME)['holderIdentity'], '', 'not taken by the old run');
  await newer.log.append({
    kind: 'end',
    run: 2,
    outcome: { kind: 'canceled' },
    savepoint: null,
  });
  const late = member('late', 2).follow();
  await until('the end', () => late.ended && standby.ended, 4_000);
});

test('a rotated token is used at the next request; a wrong one is a passing fault', async (t) => {
  const { api, member, more } = await setUp(t);
  const one = member('one');
  await one.lead();
  api.rotate('second');
  await more(3);
  api.token = 'third';
  await sleep(realEnv, 300);
  assert.deepEqual(one.lost, []);
  api.rotate('third');
  const renewed = api.spec(NAME)['renewTime'];
  await until('a renewal', () => api.spec(NAME)['renewTime'] !== renewed);
});

test('where a pod finds its API server', () => {
  assert.equal(apiServerOf({}), null);
  const at = (host: string) => ({ KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: '6443' });
  assert.equal(apiServerOf(at('10.0.0.1')), 'https://10.0.0.1:6443');
  assert.equal(apiServerOf(at('fd00::1')), 'https://[fd00::1]:6443');
});
