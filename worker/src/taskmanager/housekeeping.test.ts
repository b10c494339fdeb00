import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HandEnv } from '../action/test-loopback.ts';
import { MemoryStore } from '../checkpoint/memory-store.ts';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { planOf } from '../plan/job-for-tests.ts';
import { MemoryBackend } from '../state/memory-backend.ts';
import { Housekeeping } from './housekeeping.ts';
import { buildSlotParts, type SlotConfig, type SlotParts, type SlotPorts } from './slot-parts.ts';

const GROUPS = 8;
const WHOLE = { first: 0, last: GROUPS - 1 };
const T0 = 1_800_000_000_000;
const PERIOD_MS = 250;
const PLAN = planOf({ maxParallelism: GROUPS, parallelism: 2 });
const { ttlMs, ttlGraceMs } = PLAN.state;
const SCRIPT = { version: 'v', text: 'event.triggerable', language: 'aviator' } as const;

class WatchedBackend extends MemoryBackend {
  isStalled = false;
  scans = 0;
  override stalled(): boolean {
    return this.isStalled;
  }
  override scan(options: Parameters<MemoryBackend['scan']>[0]) {
    this.scans++;
    return super.scan(options);
  }
}

/** Two channels, so that the slower source holds the purge back. */
function rig() {
  const env = new HandEnv();
  const backend = new WatchedBackend();
  const faults: unknown[] = [];
  const never = new Promise<never>(() => {});
  const ports: SlotPorts = {
    env,
    store: new MemoryStore(env),
    backend,
    profileApi: null,
    action: { maxInFlight: 1, deliver: () => never, stats: () => ({}), close: async () => {} },
    deadLetter: { write: async () => {}, close: async () => {} },
    reader: { assign: () => {}, poll: () => never, close: async () => {} },
    openReader: () => never,
    report: () => {},
    send: () => {},
    credit: () => {},
    fault: (fault) => faults.push(fault),
  };
  const task = { subtask: 0, slot: 0, attempt: 1, range: WHOLE, splits: [], restore: [] };
  const config: SlotConfig = {
    jobId: 'job',
    lineage: 'lineage',
    plan: PLAN,
    script: SCRIPT,
    ranges: [WHOLE, WHOLE],
    attempts: [1, 1],
    task: { ...task, restoredId: 0, replaces: false },
    spoolPath: null,
    mutant: null,
  };
  const fault = (thrown: unknown) => faults.push(thrown);
  const parts = buildSlotParts(ports, config, {
    progress: () => {},
    fault,
    attemptOf: () => 1,
    caughtUp: () => {},
  });
  let rounds = 0;
  const done = () => {
    rounds++;
  };
  const housekeeping = new Housekeeping({ ports, config, parts, done, fault });
  housekeeping.start();
  return { env, backend, faults, parts, housekeeping, rounds: () => rounds };
}

const split = { index: 0, id: 's', sourceId: 's', partition: 0 };

function events(parts: SlotParts, ...given: { user: string; time: number; match?: boolean }[]) {
  parts.processor.handle(
    given.map(({ user, time, match }, offset) => ({
      split,
      keyGroup: keyGroupOf(user, GROUPS),
      offset,
      time,
      timestamp: time,
      value: Buffer.from(JSON.stringify({ user_id: user, triggerable: match === true })),
    })),
  );
}

/** Written out, as after a checkpoint: only then is there a mark. */
function written({ manager }: SlotParts): void {
  manager.freeze();
  while (!manager.flushSlice(1));
  manager.takeClosedDelta();
}

test('users leave ttl + grace after their last access, on the slowest channel', async () => {
  const { env, parts, housekeeping, faults } = rig();
  events(parts, { user: 'a', time: T0 }, { user: 'b', time: T0 + 120_000 });
  written(parts);
  const due = T0 + ttlMs + ttlGraceMs;
  housekeeping.clock(0, due + 60_000);
  await env.advance(PERIOD_MS);
  assert.equal(parts.manager.stats.users, 2, 'channel 1 has not spoken');
  housekeeping.clock(1, due - 60_000);
  await env.advance(PERIOD_MS);
  assert.equal(parts.manager.stats.users, 2);
  housekeeping.clock(1, due + 60_000);
  await env.advance(PERIOD_MS);
  assert.equal(parts.manager.stats.users, 1);
  assert.ok(parts.manager.cached('b'));
  housekeeping.clock(0, due + 200_000);
  housekeeping.clock(1, Number.POSITIVE_INFINITY);
  await env.advance(PERIOD_MS);
  assert.equal(parts.manager.stats.users, 0, 'a source without splits holds nobody back');
  assert.deepEqual(faults, []);
});

test('without any time nothing is purged, nor looked for', async () => {
  const { env, backend, parts, housekeeping } = rig();
  events(parts, { user: 'a', time: T0 });
  written(parts);
  for (const time of [-1, Number.POSITIVE_INFINITY]) {
    housekeeping.clock(0, time);
    housekeeping.clock(1, time);
    await env.advance(10 * PERIOD_MS);
  }
  assert.equal(parts.manager.stats.users, 1);
  assert.equal(backend.scans, 0);
});

test('a time that was looked at, or one that goes back, is not looked at again', async () => {
  const { env, backend, housekeeping } = rig();
  for (const time of [T0, T0, T0 - 5000, T0]) {
    housekeeping.clock(0, time);
    housekeeping.clock(1, time);
    await env.advance(2 * PERIOD_MS);
  }
  assert.equal(backend.scans, 1);
});

test('a user in the outbox stays, and goes in a later round', async () => {
  const { env, parts, housekeeping } = rig();
  events(parts, { user: 'busy', time: T0, match: true }, { user: 'idle', time: T0 });
  written(parts);
  const at = (time: number) => {
    housekeeping.clock(0, time);
    housekeeping.clock(1, time);
    return env.advance(PERIOD_MS);
  };
  await at(T0 + ttlMs + ttlGraceMs + 120_000);
  assert.ok(parts.manager.cached('busy'));
  assert.equal(parts.manager.cached('idle'), undefined);
  assert.equal(parts.processor.isBusy('busy'), true);
  await at(T0 + ttlMs + ttlGraceMs + 240_000);
  assert.ok(parts.manager.cached('busy'), 'its mark is still there, and it is still busy');
});

test("the backend's brake is read each round, and the round is told", async () => {
  const { env, backend, housekeeping, rounds } = rig();
  assert.equal(housekeeping.backendStalled, false);
  backend.isStalled = true;
  await env.advance(PERIOD_MS);
  assert.equal(housekeeping.backendStalled, true);
  backend.isStalled = false;
  await env.advance(PERIOD_MS);
  assert.equal(housekeeping.backendStalled, false);
  assert.equal(rounds(), 2);
});

test('a scan that fails is a fault; after close there is no further round', async () => {
  const { env, backend, faults, housekeeping, rounds } = rig();
  const broken = new Error('disk');
  backend.scan = () => {
    throw broken;
  };
  housekeeping.clock(0, T0);
  housekeeping.clock(1, T0);
  await env.advance(PERIOD_MS);
  assert.deepEqual(faults, [broken]);
  const other = rig();
  other.housekeeping.close();
  await other.env.advance(10 * PERIOD_MS);
  assert.deepEqual([other.rounds(), rounds()], [0, 1]);
});
