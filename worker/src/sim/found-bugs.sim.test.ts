/** What the simulation found, each as the smallest scenario that shows it. */
import './quiet-zstd.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Hits } from '../rehearsal/seeded.ts';
import { viewOf } from '../runtime/copy-words.ts';
import { MemoryBackend } from '../state/memory-backend.ts';
import type { UserRow } from '../state/rows.ts';
import { UserStateManager } from '../state/user-state-manager.ts';
import type { Action } from './actions.ts';
import { type Scenario, scenarioOf } from './scenario.ts';
import { runScenario } from './world.ts';

/** Nothing goes wrong but what is named; users expire after four seconds. */
function calm(seed: number, atMs: number, action: Action): Scenario {
  const scenario = scenarioOf(seed);
  scenario.plan.state.ttlMs = 4_000;
  scenario.plan.checkpointing.tolerableFailures = 100;
  scenario.plan.checkpointing.timeoutMs = 5_000;
  scenario.plan.checkpointing.intervalMs = 500;
  return {
    ...scenario,
    users: 18,
    events: 120,
    newSplitAtMs: null,
    storeFaults: { slow: 0, throws: 0, lostReply: 0 },
    webhookMayFail: false,
    profileMayFail: false,
    actions: [{ atMs, action }],
    crashPoints: [],
  };
}

test('a clock never overtakes deferred records: their users stay (P17, P37)', async () => {
  const hits = new Hits();
  // The last slot reads no split, so only the others' clocks count for it, and they go on.
  const action = { do: 'outage', service: 'webhook', ms: 15_000, subtask: 3 } as const;
  for (let seed = 1; seed <= 4; seed++) {
    const scenario = calm(seed, 6_000, action);
    scenario.plan.memory.slotOutboxBytes = 600;
    await runScenario({ ...scenario, parallelism: 4 }, hits);
  }
  assert.ok((hits.counts.get('barrier at a full outbox (P17)') ?? 0) > 0);
});

for (const service of ['source', 'webhook'] as const) {
  // Unread for as long: the broker is away, or the slot is full and its source pauses.
  const name = `a split is read up to when its broker last answered, ${service} away (P37)`;
  test(name, async () => {
    for (let seed = 1; seed <= 2; seed++) {
      const scenario = calm(seed, 9_000, { do: 'outage', service, ms: 9_000 });
      scenario.plan.memory.slotOutboxBytes = 2_000;
      const size = { users: 18, events: 200, parallelism: 3 };
      await runScenario({ ...scenario, ...size }, new Hits());
    }
  });
}

test('a split that is released while its task restores is read from there on (P26)', async () => {
  for (const [seed, atMs] of [
    [1, 10_100],
    [2, 11_300],
  ] as const) {
    const crash = { do: 'crash', role: 'taskmanager', silent: false } as const;
    const scenario = { ...calm(seed, atMs, crash), productionMs: 9_000, newSplitAtMs: 8_000 };
    scenario.storeFaults.slow = 0.5;
    await runScenario({ ...scenario, taskManagers: 1, parallelism: 2 }, new Hits());
  }
});

test('a clock that is set back while tasks run makes no record older (P36)', async () => {
  // Seeds 16, 32, 109, 195: users were last seen an hour ago, so their next event began anew.
  const jump = { do: 'jump', role: 'taskmanager', ms: -3_600_000 } as const;
  for (let seed = 1; seed <= 2; seed++) {
    const hits = new Hits();
    await runScenario({ ...calm(seed, 6_000, jump), taskManagers: 1 }, hits);
    assert.equal(hits.counts.get('clock of a taskmanager jumps back'), 1);
  }
});

test('clocks of leader and tasks that are set forward purge nobody early (P37)', async () => {
  // Seed 1938: both said that an hour had passed, so idle users were gone before their time.
  const forward = (role: 'jobmanager' | 'taskmanager') =>
    ({ do: 'jump', role, ms: 3_600_000 }) as const;
  for (let seed = 1; seed <= 3; seed++) {
    const scenario = { ...calm(seed, 6_000, forward('taskmanager')), taskManagers: 1 };
    scenario.actions.push({ atMs: 6_100, action: forward('jobmanager') });
    await runScenario(scenario, new Hits());
  }
});

test('red: a job that stays degraded when its slots are back', async () => {
  const action = { do: 'stay away', ms: 4_000, silent: false } as const;
  const scenario = { ...calm(1, 6_000, action), parallelism: 4, taskManagers: 2 };
  scenario.plan.scaling.resourceWaitMs = 1_000;
  const hits = new Hits();
  await runScenario(scenario, hits);
  for (const what of ['deployed: degraded parallelism', 'rescaled up']) {
    assert.equal(hits.counts.get(what), 1, what);
  }
  scenario.plan.scaling.stabilizationMs = 600_000;
  await assert.rejects(runScenario(scenario, new Hits()), /not at the wanted parallelism/);
});

test('a user with two expiry marks is purged once, and counted once', () => {
  const backend = new MemoryBackend();
  const env = { ...timeless };
  const manager = new UserStateManager(backend, env, {
    limits: { historyMaxEvents: 5, maxBytesPerUser: 1 << 20 },
    ttlMs: 10_000,
    cacheBytes: 0,
    delta: { range: { first: 0, last: 0 }, limitBytes: 1 << 20, spoolPath: null },
  });
  const answer = { kind: 'found', profile: '{}', visit: '{}', history: [] } as const;
  const user = manager.create('u1', 0, { ...answer, history: [] }, 1_000);
  const marks: UserRow[] = [];
  for (const time of [1_000, 3_000]) {
    const source = Buffer.from('{}');
    const text = { source, view: viewOf(source), start: 0, end: 2 };
    manager.append(user, { ...text, parsed: {}, timestamp: time, time });
    marks.push(manager.expiry.markRow(user)!);
  }
  manager.create('u2', 0, { ...answer, history: [] }, 90_000);
  manager.settle();
  assert.equal(manager.cached('u1'), undefined, 'u1 is cold');
  manager.purge(
    marks.map(({ key }) => manager.expiry.parse(key)),
    60_000,
    () => false,
  );
  assert.equal(manager.stats.users, 1);
  assert.equal(manager.stats.expired, 1);
});

const timeless = {
  now: () => 0,
  monotonic: () => 0,
  random: () => 0,
  id: () => '0',
  timer: () => ({ cancel: () => undefined }),
};
