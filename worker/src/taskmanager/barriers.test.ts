import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HandEnv } from '../action/test-loopback.ts';
import { MemoryStore } from '../checkpoint/memory-store.ts';
import type { BarrierFrame, Frame } from '../exchange/frame.ts';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { planOf } from '../plan/job-for-tests.ts';
import { ChainTracker } from '../state/chain-tracker.ts';
import { MemoryBackend } from '../state/memory-backend.ts';
import { TaskBarriers } from './barriers.ts';
import { type BarrierCapture, baseBudget, Checkpointer, type TaskReport } from './checkpointer.ts';
import { buildSlotParts, type SlotConfig, type SlotPorts } from './slot-parts.ts';
import type { VolatileRecord } from './volatile.ts';

const GROUPS = 8;
const WHOLE = { first: 0, last: GROUPS - 1 };
const PLAN = planOf({ maxParallelism: GROUPS, parallelism: 2 });
const LIMIT_MS = PLAN.checkpointing.timeoutMs;
const SCRIPT = { version: 'v1', text: 'event.triggerable', language: 'aviator' } as const;
const OTHER = { version: 'v2', text: 'event.other', language: 'aviator' } as const;
const split = { index: 0, id: 's', sourceId: 's', partition: 0 };

class WatchedCheckpointer extends Checkpointer {
  readonly captures: BarrierCapture[] = [];
  override begin(capture: BarrierCapture): void {
    this.captures.push(capture);
    super.begin(capture);
  }
}

const refuse = (fault: unknown) => {
  throw fault;
};

function portsOf(env: HandEnv, reports: TaskReport[], sent: Frame[][]): SlotPorts {
  const never = new Promise<never>(() => {});
  return {
    env,
    store: new MemoryStore(env),
    backend: new MemoryBackend(),
    profileApi: { fetch: () => never, stats: () => ({}), close: async () => {} },
    action: { maxInFlight: 1, deliver: () => never, stats: () => ({}), close: async () => {} },
    deadLetter: { write: () => never, close: async () => {} },
    reader: { assign: () => {}, poll: () => never, close: async () => {} },
    openReader: () => never,
    report: (report) => reports.push(report),
    send: (target, frame) => sent[target]!.push(frame),
    credit: () => {},
    fault: refuse,
  };
}

function configOf(mutant: string | null): SlotConfig {
  const task = { subtask: 1, slot: 0, attempt: 4, range: WHOLE, splits: [], restore: [] };
  return {
    jobId: 'job',
    lineage: 'lineage',
    plan: PLAN,
    script: SCRIPT,
    ranges: [
      { first: 0, last: 3 },
      { first: 4, last: 7 },
    ],
    attempts: [4, 4],
    task: { ...task, restoredId: 0, replaces: false },
    spoolPath: null,
    mutant,
  };
}

/** A task with two input channels; channel 0 is its own source's. */
function rig(mutant: string | null = null) {
  const env = new HandEnv();
  const reports: TaskReport[] = [];
  const sent: Frame[][] = [[], []];
  const ports = portsOf(env, reports, sent);
  const config = configOf(mutant);
  const parts = buildSlotParts(ports, config, {
    progress: () => {},
    fault: refuse,
    attemptOf: () => 4,
    caughtUp: () => {},
  });
  const checkpointer = new WatchedCheckpointer({
    env,
    store: ports.store,
    backend: ports.backend,
    chain: new ChainTracker(WHOLE),
    heads: { writeHeads: () => true },
    range: WHOLE,
    subtask: 1,
    attempt: 4,
    baseBudgetBytes: baseBudget({ slotDeltaBytes: 0 }),
    lastBarrier: 0,
    report: ports.report,
    onFault: refuse,
  });
  let openings = 0;
  const deferred: VolatileRecord[] = [];
  const barriers = new TaskBarriers({
    ports,
    config,
    parts,
    checkpointer,
    deferred: () => deferred,
    opened: () => {
      openings++;
    },
  });
  const arrive = (channel: number, checkpointId: number, script: BarrierFrame['script'] = SCRIPT) =>
    barriers.arrived(channel, {
      kind: 'barrier',
      seq: 0,
      checkpointId,
      triggeredAt: env.now() - 7,
      script,
    });
  const drain = () => {
    while (!parts.manager.flushSlice(1));
    checkpointer.drained(parts.manager.takeClosedDelta());
  };
  const { captures } = checkpointer;
  const opened = () => openings;
  return { env, reports, sent, parts, barriers, captures, deferred, arrive, drain, opened };
}

function eventOf(user: string, offset: number, fields = {}) {
  const place = { split, keyGroup: keyGroupOf(user, GROUPS), offset, time: 5, timestamp: 5 };
  return { ...place, value: Buffer.from(JSON.stringify({ user_id: user, ...fields })) };
}

const declines = (reports: readonly TaskReport[]) =>
  reports.flatMap((report) =>
    report.type === 'decline' ? [`${report.checkpointId}: ${report.reason}`] : [],
  );

test('a trigger sends the barrier on every channel and keeps the positions of that moment', () => {
  const { env, sent, parts, barriers, captures, arrive } = rig();
  parts.source.assign([{ split, offset: 40, clock: 9 }]);
  barriers.trigger(3, env.now(), OTHER);
  for (const frames of sent) {
    assert.deepEqual(
      frames.map((frame) => frame.kind === 'barrier' && [frame.checkpointId, frame.script]),
      [[3, OTHER]],
    );
  }
  parts.source.assign([{ split, offset: 99, clock: 9 }]);
  arrive(0, 3, OTHER);
  arrive(1, 3, OTHER);
  assert.deepEqual(captures[0]!.splits(), [{ split, offset: 40, clock: 9 }]);
});

test('the snapshot is taken with the last barrier, by reference, with its figures', async () => {
  const { env, parts, captures, deferred, arrive, drain } = rig();
  parts.processor.handle([eventOf('parked', 1), { ...eventOf('x', 2), value: null }]);
  parts.ledger.add('accepted', 3, 3);
  deferred.push(eventOf('deferred', 3));
  arrive(0, 1);
  assert.equal(captures.length, 0);
  await env.advance(40);
  arrive(1, 1);
  const [capture] = captures;
  assert.ok(capture);
  assert.deepEqual(
    capture.volatile.parked.map(({ offset }) => offset),
    [1, 3],
    'parked first, deferred input after it',
  );
  assert.deepEqual(
    capture.volatile.outbox.map(({ delivery: { offset } }) => offset),
    [2],
  );
  const { accepted, parked, inOutbox } = capture.ledger;
  assert.deepEqual([accepted, parked, inOutbox], [3, 2, 1], 'conserved, deferred included');
  assert.deepEqual(capture.figures, { alignmentMs: 40, syncMs: 0, startDelayMs: 7 });
  deferred[0]!.value!.fill(0);
  assert.match(capture.volatile.parked[1]!.value!.toString(), /deferred/, 'a copy (P18)');
  drain();
  assert.equal(parts.manager.frozenUsers, 0);
});

test('the version that a barrier carries rules from there on', () => {
  const { parts, captures, arrive } = rig();
  const before = parts.processor.filter;
  arrive(0, 1, OTHER);
  assert.equal(parts.processor.filter, before, 'not before the last barrier');
  arrive(1, 1, OTHER);
  assert.equal(parts.processor.filter.script, OTHER.text);
  assert.deepEqual(captures[0]!.script, OTHER);
});

test('an abort before the last barrier is declined and opens the channels', () => {
  const { reports, parts, barriers, captures, arrive, opened } = rig();
  arrive(0, 1);
  assert.equal(parts.aligner.isBlocked(0), true);
  barriers.abort(1);
  assert.equal(parts.aligner.isBlocked(0), false);
  assert.equal(opened(), 1);
  arrive(1, 1);
  assert.equal(captures.length, 0, 'late barriers of it are ignored');
  assert.deepEqual(declines(reports), ['1: aborted before the barrier was complete']);
  arrive(0, 2);
  arrive(1, 2);
  assert.equal(captures.length, 1);
});

test('an abort of a checkpoint that never came is answered too, one that was taken is not', () => {
  const { reports, barriers, arrive } = rig();
  barriers.abort(1);
  assert.equal(declines(reports).length, 1, 'the coordinator waits for a word of every task');
  arrive(0, 1);
  arrive(1, 1);
  arrive(0, 2);
  arrive(1, 2);
  barriers.abort(2);
  assert.equal(declines(reports).length, 1, 'it will report drained');
});

test('a later barrier supersedes an unfinished one, which is declined', () => {
  const { reports, barriers, captures, env, arrive } = rig();
  barriers.trigger(1, env.now(), SCRIPT);
  arrive(0, 1);
  arrive(1, 2);
  assert.deepEqual(declines(reports), ['1: superseded by checkpoint 2']);
  arrive(1, 1);
  arrive(0, 2);
  assert.deepEqual(
    captures.map(({ checkpointId }) => checkpointId),
    [2],
  );
});

test('an alignment that takes too long gives itself up; one that is done does not', async () => {
  const { env, reports, parts, captures, arrive, drain } = rig();
  arrive(0, 1);
  arrive(1, 1);
  drain();
  await env.advance(LIMIT_MS - 1);
  arrive(0, 2);
  await env.advance(LIMIT_MS - 1);
  assert.deepEqual(declines(reports), []);
  await env.advance(1);
  assert.deepEqual(declines(reports), [`2: not aligned within ${LIMIT_MS} ms`]);
  assert.equal(parts.aligner.pending, null);
  arrive(1, 2);
  assert.equal(captures.length, 1);
});

test('events after the barrier are not in its image', () => {
  const { parts, arrive, drain } = rig();
  const { manager } = parts;
  const answer = { kind: 'found', profile: '{}', visit: '{}', history: [] } as const;
  const user = manager.create('u', 1, { ...answer, history: [] }, 5);
  arrive(0, 1);
  arrive(1, 1);
  assert.equal(manager.isFrozen(user), true);
  assert.equal(manager.stats.dirty, 0);
  parts.processor.handle([{ ...eventOf('u', 9) }]);
  drain();
  assert.equal(manager.isFrozen(user), false);
});

test('a barrier before the last frozen set is out is refused loudly (P7)', () => {
  const { arrive } = rig();
  arrive(0, 1);
  arrive(1, 1);
  arrive(0, 2);
  assert.throws(() => arrive(1, 2), { code: 'INVARIANT' });
});

test('the two defects for the checkers are defects', () => {
  const offsets = rig('offsets-before-snapshot');
  offsets.parts.source.assign([{ split, offset: 40, clock: 9 }]);
  offsets.barriers.trigger(1, 0, SCRIPT);
  offsets.arrive(0, 1);
  offsets.arrive(1, 1);
  offsets.parts.source.assign([{ split: { ...split, index: 7 }, offset: 99, clock: 9 }]);
  assert.equal(offsets.captures[0]!.splits()[1]?.offset, 99);
  const alignment = rig('alignment-off');
  alignment.arrive(1, 1);
  assert.equal(alignment.captures.length, 1);
});
