import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { JobLog } from '../checkpoint/log.ts';
import { MemoryStore } from '../checkpoint/memory-store.ts';
import { leaderPath } from '../checkpoint/paths.ts';
import { type Env, realEnv, type Timer } from '../runtime/env.ts';
import type { TriggerJobError } from '../runtime/errors.ts';
import { StoreElection } from './store-election.ts';

const PLAN = { leaseMs: 10_000, renewDeadlineMs: 7_000, retryMs: 1_000, graceMs: 30_000 };
const turns = async () => {
  for (let i = 0; i < 20; i++) await new Promise<void>((resolve) => setImmediate(resolve));
};

/** A clock that moves only when told; each process may be stopped. */
class Clock {
  now = 0;
  #due: { at: number; fn: () => void; env: { stopped: boolean } }[] = [];

  process(): Env & { stopped: boolean } {
    const env = {
      ...realEnv,
      stopped: false,
      now: () => this.now,
      monotonic: () => this.now,
      timer: (delayMs: number, fn: () => void): Timer => {
        const due = { at: this.now + delayMs, fn, env };
        this.#due.push(due);
        const cancel = () => {
          this.#due = this.#due.filter((one) => one !== due);
        };
        return { cancel };
      },
    };
    return env;
  }

  /** In steps of 100 ms; timers of a stopped process wait for it. */
  async pass(ms: number): Promise<void> {
    for (const end = this.now + ms; this.now < end; ) {
      this.now += 100;
      const ready = this.#due.filter(({ at, env }) => at <= this.now && !env.stopped);
      this.#due = this.#due.filter((one) => !ready.includes(one));
      for (const { fn } of ready) fn();
      await turns();
    }
  }
}

function setUp(t: TestContext) {
  const clock = new Clock();
  const objects = new MemoryStore(realEnv).objects;
  const member = (name: string) => {
    const env = clock.process();
    const store = new MemoryStore(env, objects);
    const log = new JobLog({ store, env, writer: name, retained: 1 });
    const address = { rpc: `${name}:1`, rest: `http://${name}:2` };
    const election = new StoreElection({
      env,
      log: pino({ level: 'silent' }),
      store,
      plan: PLAN,
      address,
    });
    t.after(() => election.close());
    const lost: string[] = [];
    const abort = new AbortController();
    t.after(() => abort.abort());
    return {
      env,
      store,
      election,
      lost,
      /** Waits for its turn and claims; the epoch. */
      lead: async () => {
        const turn = await election.turn(abort.signal);
        assert.equal(turn.kind, 'claim');
        if (turn.kind !== 'claim') return 0;
        await log.takeover({ lineage: 'l', restoredFrom: null }, turn.after);
        await election.lead(
          log.leaderEpoch,
          () => log.confirmEnd(),
          (error) => lost.push((error as TriggerJobError).code),
        );
        return log.leaderEpoch;
      },
    };
  };
  return { clock, member, objects };
}

test('one leads, the other stands by for as long as that one lives', async (t) => {
  const { clock, member } = setUp(t);
  const [one, two] = [member('one'), member('two')];
  assert.equal(await one.lead(), 1);
  let epoch = 0;
  two.lead().then(
    (claimed) => {
      epoch = claimed;
    },
    () => undefined,
  );
  await clock.pass(60_000);
  assert.equal(epoch, 0);
  assert.deepEqual(two.election.leader, { rpc: 'one:1', rest: 'http://one:2' });
  assert.deepEqual(one.lost, []);
});

test('one that stood still is succeeded after its lease, and ends when it wakes', async (t) => {
  const { clock, member } = setUp(t);
  const [one, two] = [member('one'), member('two')];
  await one.lead();
  const second = two.lead();
  await clock.pass(3_000);
  one.env.stopped = true;
  await clock.pass(12_000);
  assert.equal(await second, 2);
  one.env.stopped = false;
  await clock.pass(1_000);
  assert.equal(one.lost.length, 1);
  assert.deepEqual(two.lost, []);
});

test('one that slept beyond the deadline ends before it renews, succeeded or not', async (t) => {
  const { clock, member, objects } = setUp(t);
  const one = member('one');
  await one.lead();
  await clock.pass(2_000);
  one.env.stopped = true;
  await clock.pass(7_500);
  const sign = String(objects.get(leaderPath(1))?.content);
  one.env.stopped = false;
  await clock.pass(2_000);
  assert.deepEqual(one.lost, ['LEASE_LOST']);
  assert.equal(String(objects.get(leaderPath(1))?.content), sign);
});

test('a leader that can not reach the store ends by its deadline', async (t) => {
  const { clock, member } = setUp(t);
  const one = member('one');
  await one.lead();
  one.store.onCall = () => {
    throw new Error('503');
  };
  await clock.pass(6_000);
  assert.deepEqual(one.lost, []);
  await clock.pass(3_000);
  assert.deepEqual(one.lost, ['LEASE_LOST']);
});

test('a released leadership is claimed at the next look', async (t) => {
  const { clock, member } = setUp(t);
  const [one, two] = [member('one'), member('two')];
  await one.lead();
  const second = two.lead();
  await clock.pass(2_000);
  await one.election.release(null);
  await clock.pass(400);
  assert.equal(await second, 2);
  assert.equal(two.election.leader?.rpc, 'two:1');
});

test('a leader whose epoch is over in the log ends at its next renewal', async (t) => {
  const { clock, member } = setUp(t);
  const [one, two] = [member('one'), member('two')];
  await one.lead();
  const log = new JobLog({ store: two.store, env: two.env, writer: 'two', retained: 1 });
  await log.takeover({ lineage: 'l', restoredFrom: null });
  await clock.pass(1_500);
  assert.deepEqual(one.lost, ['LEADERSHIP_LOST']);
});

test('of two that find nobody, the log lets one lead; the other goes on standing by', async (t) => {
  const { clock, member } = setUp(t);
  const members = [member('one'), member('two')];
  const claims = members.map((one) =>
    one.lead().catch((error: unknown) => (error as TriggerJobError).code),
  );
  await clock.pass(500);
  const outcomes = await Promise.all(claims);
  assert.deepEqual(outcomes.map(String).toSorted(), ['1', 'CLAIM_LOST']);
});
