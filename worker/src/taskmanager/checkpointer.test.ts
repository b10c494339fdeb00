import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { MemoryStore } from '../checkpoint/memory-store.ts';
import { openStored } from '../checkpoint/segment-reader.ts';
import type { SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import { type Env, realEnv } from '../runtime/env.ts';
import { ChainTracker } from '../state/chain-tracker.ts';
import { DeltaLog, type DeltaLogOptions } from '../state/delta-log.ts';
import { ExpiryIndex } from '../state/expiry-index.ts';
import { MemoryBackend } from '../state/memory-backend.ts';
import { restoreState } from '../state/restore.ts';
import { PROFILE, parseKey, rowKey, userPrefix } from '../state/rows.ts';
import { type BarrierCapture, baseBudget, Checkpointer, type TaskReport } from './checkpointer.ts';

const RANGE = { first: 0, last: 3 };
const NO_LEDGER = {
  accepted: 0,
  noMatch: 0,
  delivered: 0,
  deadLettered: 0,
  parked: 0,
  inOutbox: 0,
};

class Rig {
  readonly store = new MemoryStore(realEnv);
  readonly backend = new MemoryBackend();
  readonly chain = new ChainTracker(RANGE);
  readonly reports: TaskReport[] = [];
  readonly faults: unknown[] = [];
  now = 0;
  readonly checkpointer: Checkpointer;

  constructor(lastBarrier = 0) {
    const env: Env = { ...realEnv, monotonic: () => this.now };
    this.checkpointer = new Checkpointer({
      env,
      store: this.store,
      backend: this.backend,
      chain: this.chain,
      heads: { writeHeads: () => true },
      range: RANGE,
      subtask: 2,
      attempt: 7,
      baseBudgetBytes: baseBudget({ slotDeltaBytes: 0 }),
      lastBarrier,
      report: (report) => this.reports.push(report),
      onFault: (fault) => this.faults.push(fault),
    });
  }

  /** What the barrier's turn captures; a delta of `rows` (group:user=value) follows. */
  begin(checkpointId: number, more: Partial<BarrierCapture> = {}): void {
    this.checkpointer.begin({
      checkpointId,
      volatile: { ledger: [], parked: [], outbox: [] },
      splits: () => [],
      script: { version: 'v', text: 'true', language: 'aviator' },
      ledger: NO_LEDGER,
      users: 1,
      figures: { alignmentMs: 1, syncMs: 2, startDelayMs: 3 },
      ...more,
    });
  }

  delta(options: Partial<DeltaLogOptions> = {}): DeltaLog {
    return new DeltaLog({ range: RANGE, limitBytes: 1 << 20, spoolPath: null, ...options });
  }

  drained(...rows: string[]): void {
    const delta = this.delta();
    for (const row of rows) {
      const [, group, user, value] = /(\d):(.*)=(.*)/.exec(row)!;
      const key = rowKey(userPrefix(Number(group), user!), PROFILE);
      const op = { key, value: value === '' ? null : Buffer.from(value!) };
      delta.add(Number(group), op);
      this.backend.write([op]);
    }
    this.checkpointer.drained(delta);
  }

  async checkpoint(checkpointId: number, ...rows: string[]): Promise<void> {
    this.begin(checkpointId);
    this.drained(...rows);
    await this.said('ack', checkpointId, 'decline');
  }

  async checkpointOf(checkpointId: number, delta: DeltaLog): Promise<void> {
    this.begin(checkpointId);
    this.checkpointer.drained(delta);
    await this.said('ack', checkpointId, 'decline');
  }

  /** Waits until the checkpoint was acknowledged or declined. */
  async said(...wanted: (string | number)[]): Promise<void> {
    const id = wanted.find((one) => typeof one === 'number');
    for (let n = 0; n < 100_000; n++) {
      const found = this.reports.some(
        (report) =>
          wanted.includes(report.type) && 'checkpointId' in report && report.checkpointId === id,
      );
      if (found) return;
      await turn();
    }
    assert.fail(`no ${wanted.join(' ')} among ${this.types().join(', ')}`);
  }

  types(): string[] {
    return this.reports.map((report) =>
      'checkpointId' in report ? `${report.type} ${report.checkpointId}` : report.type,
    );
  }

  snapshot(checkpointId: number): SubtaskSnapshot {
    const ack = this.reports.find(
      (report) => report.type === 'ack' && report.checkpointId === checkpointId,
    );
    assert.ok(ack?.type === 'ack', `checkpoint ${checkpointId} was not acknowledged`);
    return ack.snapshot;
  }

  /** Tails of a checkpoint, restored from its objects alone. */
  async restored(checkpointId: number): Promise<Record<string, string>> {
    const backend = new MemoryBackend();
    await restoreState({
      store: this.store,
      backend,
      expiry: new ExpiryIndex(1000),
      range: RANGE,
      snapshots: [this.snapshot(checkpointId)],
      checkpointId,
    });
    const found: Record<string, string> = {};
    const all = { gte: Buffer.from([0]), lt: Buffer.from([9]), maxRows: 1000, maxBytes: 1 << 20 };
    for await (const batch of backend.scan(all)) {
      for (const { key, value } of batch) {
        found[parseKey(key).userId] = value.toString();
      }
    }
    return found;
  }
}

const spans = ({ deltas }: SubtaskSnapshot) =>
  deltas.map(({ from, to, object }) => `(${from},${to}]${object === null ? ' none' : ''}`);

test('drained is reported in its turn, the ack once everything is stored', async () => {
  const rig = new Rig();
  assert.equal(rig.checkpointer.draining, false);
  rig.begin(3);
  assert.equal(rig.checkpointer.draining, true);
  assert.deepEqual(rig.types(), []);
  rig.now = 40;
  rig.drained('1:a=x');
  assert.equal(rig.checkpointer.draining, false);
  assert.deepEqual(rig.types(), ['drained 3']);
  await rig.said('ack', 3);
  const { subtask, attempt, range, figures, volatile, deltas } = rig.snapshot(3);
  assert.deepEqual([subtask, attempt, range, volatile], [2, 7, RANGE, null]);
  assert.equal(figures.asyncMs, 40);
  assert.deepEqual([figures.alignmentMs, figures.syncMs, figures.startDelayMs], [1, 2, 3]);
  assert.equal(figures.uploadedBytes, deltas[0]!.object!.bytes);
  assert.equal(figures.stateBytes, rig.checkpointer.stateBytes);
  assert.deepEqual(await rig.restored(3), { a: 'x' });
});

test('an idle interval is a continuity entry, and the chain has no gap', async () => {
  const rig = new Rig();
  await rig.checkpoint(2, '1:a=x');
  await rig.checkpoint(5);
  await rig.checkpoint(9, '1:a=y', '2:b=z');
  assert.deepEqual(spans(rig.snapshot(9)), ['(0,2]', '(2,5] none', '(5,9]']);
  assert.deepEqual(await rig.restored(9), { a: 'y', b: 'z' });
  assert.deepEqual(await rig.restored(5), { a: 'x' });
});

test('what a failed checkpoint could not store is owed, idle intervals too, in order', async () => {
  const rig = new Rig();
  await rig.checkpoint(1, '1:a=1', '1:gone=1');
  rig.store.onCall = () => {
    throw new Error('503 slow down');
  };
  await rig.checkpoint(2, '1:a=2', '1:gone=');
  const owed = rig.checkpointer.owedBytes;
  assert.ok(owed > 0);
  await rig.checkpoint(4);
  assert.equal(rig.checkpointer.owedBytes, owed, 'an idle interval owes no bytes');
  await rig.checkpoint(5, '2:b=5');
  assert.ok(rig.checkpointer.owedBytes > owed);
  const declined = rig.reports.find((report) => report.type === 'decline');
  assert.ok(declined?.type === 'decline');
  assert.match(declined.reason, /store: 503 slow down/);
  rig.store.onCall = null;
  await rig.checkpoint(8);
  assert.deepEqual(spans(rig.snapshot(8)), ['(0,1]', '(1,2]', '(2,4] none', '(4,5]', '(5,8] none']);
  assert.equal(rig.checkpointer.owedBytes, 0);
  assert.deepEqual(await rig.restored(8), { a: '2', b: '5' });
  assert.deepEqual(rig.faults, []);
});

test('a store that fails halfway leaves the rest owed, and nothing is stored twice', async () => {
  const rig = new Rig();
  rig.store.onCall = () => {
    throw new Error('down');
  };
  await rig.checkpoint(1, '1:a=1');
  await rig.checkpoint(2, '1:a=2');
  let puts = 0;
  rig.store.onCall = ({ when }) => {
    if (when === 'before' && ++puts > 1) throw new Error('down again');
  };
  await rig.checkpoint(3, '1:a=3');
  assert.equal(rig.types().at(-1), 'decline 3');
  rig.store.onCall = null;
  await rig.checkpoint(4);
  const { deltas } = rig.snapshot(4);
  assert.deepEqual(spans(rig.snapshot(4)), ['(0,1]', '(1,2]', '(2,3]', '(3,4] none']);
  const names = deltas.flatMap(({ object }) => (object === null ? [] : [object.name]));
  assert.equal(new Set(names).size, 3);
  assert.equal(rig.store.objects.size, 3, 'the one that was stored is not stored again');
  assert.deepEqual(await rig.restored(4), { a: '3' });
});

test('a lost reply: the retry has a name of its own', async () => {
  const rig = new Rig();
  rig.store.onCall = ({ when }) => {
    if (when === 'after') throw new Error('connection reset');
  };
  await rig.checkpoint(1, '1:a=1');
  rig.store.onCall = null;
  await rig.checkpoint(2);
  assert.equal(rig.store.objects.size, 2, 'P46: never "exists, so skip"');
  assert.deepEqual(await rig.restored(2), { a: '1' });
});

test('checkpoints are finished one after the other, however slow the store is', async () => {
  const rig = new Rig();
  const held: (() => void)[] = [];
  rig.store.onCall = ({ when }) =>
    when === 'before' ? new Promise<void>((resolve) => held.push(resolve)) : undefined;
  rig.begin(1);
  rig.drained('1:a=1');
  await turn();
  rig.begin(2);
  rig.drained('1:a=2');
  for (let n = 0; n < 50; n++) await turn();
  assert.deepEqual(rig.types(), ['drained 1', 'drained 2']);
  assert.equal(held.length, 1);
  rig.store.onCall = null;
  held[0]!();
  await rig.said('ack', 2);
  assert.deepEqual(rig.types(), ['drained 1', 'drained 2', 'ack 1', 'ack 2']);
  assert.deepEqual(spans(rig.snapshot(1)), ['(0,1]'], 'nothing of 2 is in 1');
  assert.deepEqual(await rig.restored(1), { a: '1' });
  assert.deepEqual(await rig.restored(2), { a: '2' });
});

test('a base enters no checkpoint before its epoch, and the ones after it are whole', async () => {
  const rig = new Rig();
  let id = 0;
  const rows = () => ['0:a', '1:b', '2:c', '3:d'].map((row) => `${row}=${id}`);
  for (let n = 0; n < 40; n++) {
    id += 1 + (n % 3);
    await rig.checkpoint(id, ...rows());
    for (let wait = 0; wait < 30; wait++) await turn();
    for (const base of rig.snapshot(id).bases) {
      assert.ok(base.epoch <= id, `base of ${base.epoch} in checkpoint ${id}`);
    }
    const wanted = { a: `${id}`, b: `${id}`, c: `${id}`, d: `${id}` };
    assert.deepEqual(await rig.restored(id), wanted);
  }
  const { bases, deltas } = rig.snapshot(id);
  assert.ok(bases.length > 0, 'no base was ever built');
  assert.ok(deltas.length < 40, 'the old deltas were not dropped');
});

test('a base that could not be stored joins a later checkpoint', async () => {
  const rig = new Rig();
  for (let id = 1; id <= 25; id++) await rig.checkpoint(id, `0:a=${id}`);
  for (let wait = 0; wait < 30; wait++) await turn();
  rig.store.onCall = ({ name }) => {
    if (name.includes('-base-')) throw new Error('down');
  };
  await rig.checkpoint(26, '0:a=26');
  assert.equal(rig.types().at(-1), 'decline 26');
  rig.store.onCall = null;
  await rig.checkpoint(27, '0:a=27');
  const { bases } = rig.snapshot(27);
  assert.deepEqual(
    bases.map(({ groups }) => groups),
    [[0]],
  );
  assert.ok(bases[0]!.epoch === 26 || bases[0]!.epoch === 27);
  assert.deepEqual(await rig.restored(27), { a: '27' });
});

/** Builds what is due, until `checkpoints` have passed; the bases that were uploaded in the end. */
async function basesAfter(rig: Rig, checkpoints: number): Promise<string[]> {
  for (let id = 26; id < 26 + checkpoints; id++) {
    await rig.checkpoint(id, '0:a=x');
    for (let wait = 0; wait < 30; wait++) await turn();
  }
  rig.store.onCall = null;
  await rig.checkpoint(26 + checkpoints);
  return [...rig.store.objects.keys()].filter((name) => name.includes('-base-'));
}

test('a group gets one base when it is due', async () => {
  const rig = new Rig();
  const big = 'x'.repeat(400);
  for (let id = 1; id <= 25; id++) await rig.checkpoint(id, `0:a=${id}${big}`);
  for (let wait = 0; wait < 30; wait++) await turn();
  const bases = await basesAfter(rig, 2);
  assert.equal(bases.length, 1, bases.join(', '));
});

/** I7: bases that wait for the store are in memory, up to 64 MiB each, and not in `owedBytes`. */
test('while the store is down no further base of the same group is built', async () => {
  const rig = new Rig();
  for (let id = 1; id <= 25; id++) await rig.checkpoint(id, `0:a=${id}`);
  for (let wait = 0; wait < 30; wait++) await turn();
  rig.store.onCall = () => {
    throw new Error('down');
  };
  const bases = await basesAfter(rig, 10);
  assert.ok(bases.length <= 2, `${bases.length} bases of one group`);
});

test('a base whose scan is under way at the barrier is of the interval before', async () => {
  const rig = new Rig();
  for (let id = 1; id <= 24; id++) await rig.checkpoint(id, `0:a=${id}`, `1:b=${id}`);
  rig.begin(25);
  rig.drained('0:a=25', '1:b=25');
  // The build has begun in that turn; the next barrier comes before it could go on.
  rig.begin(26);
  rig.drained('0:a=26', '1:b=26');
  await rig.said('ack', 26);
  await rig.checkpoint(27, '0:a=27');
  const bases = rig.snapshot(27).bases.map(({ epoch, groups }) => [epoch, groups]);
  assert.deepEqual(bases, [[26, [0]]], 'group 1 was not begun before the barrier');
  assert.deepEqual(await rig.restored(27), { a: '27', b: '26' });
});

test('the volatile part is stored as captured, positions are those of the barrier', async () => {
  const rig = new Rig();
  const split = { index: 0, id: 's', sourceId: 's', partition: 0 };
  const record = { split, keyGroup: 2, offset: 5, time: 5, timestamp: 5, value: Buffer.from('v') };
  rig.begin(1, {
    volatile: { ledger: [{ keyGroup: 2, counts: [1, 0, 0, 0] }], parked: [record], outbox: [] },
    splits: () => [{ split, offset: 6, clock: 5 }],
  });
  rig.drained();
  await rig.said('ack', 1);
  const snapshot = rig.snapshot(1);
  assert.deepEqual(snapshot.splits, [{ split, offset: 6, clock: 5 }]);
  const reader = await openStored(rig.store, snapshot.volatile!);
  assert.equal(reader.header.kind, 'volatile');
  assert.deepEqual([...reader.groups.keys()], [2]);
  assert.equal(snapshot.figures.uploadedBytes, snapshot.volatile!.bytes);
});

test('a restored task goes on from its checkpoint', async () => {
  const rig = new Rig(12);
  await rig.checkpoint(15, '1:a=x');
  assert.deepEqual(spans(rig.snapshot(15)), ['(12,15]']);
});

test('after close nothing is acknowledged; a delta that cannot be sealed is a fault', async () => {
  const rig = new Rig();
  let release = () => {};
  rig.store.onCall = ({ when }) =>
    when === 'before'
      ? new Promise<void>((resolve) => {
          release = resolve;
        })
      : undefined;
  rig.begin(1);
  rig.drained('1:a=1');
  for (let n = 0; n < 20; n++) await turn();
  const closed = rig.checkpointer.close();
  release();
  await closed;
  assert.deepEqual(rig.types(), ['drained 1']);

  const broken = new Rig();
  const delta = broken.delta({ limitBytes: 0, spoolPath: '/dev/null/no-folder' });
  delta.add(1, { key: rowKey(userPrefix(1, 'u'), PROFILE), value: null });
  broken.begin(1);
  broken.checkpointer.drained(delta);
  for (let n = 0; n < 100_000 && broken.faults.length === 0; n++) await turn();
  assert.equal(broken.faults.length, 1);
  assert.deepEqual(broken.types(), ['drained 1'], 'not declined: no later checkpoint has it');
});

/** What these tests wait for is bound to come; a fault must not hang the run. */
const LIMIT = { timeout: 60_000 };

async function spoolFolder(t: { after(fn: () => Promise<void>): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'checkpointer-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const RUNS = 5;

/** RUNS runs; all but the last one, of one row, are spooled. Its rows are put into `model`. */
async function severalRuns(
  spoolPath: string,
  {
    name,
    model,
    rowValue,
  }: { name: string; model: Map<string, string>; rowValue(n: number): Buffer },
): Promise<DeltaLog> {
  const limitBytes = rowValue(0).length * 2.5;
  const delta = new DeltaLog({ range: RANGE, limitBytes, spoolPath });
  for (let n = 0; n <= 3 * (RUNS - 1); n++) {
    const user = `${n % 3 === 0 ? 'both' : name}${n % 7}`;
    const group = (n % 7) % 4;
    const value = rowValue(n);
    delta.add(group, { key: rowKey(userPrefix(group, user), PROFILE), value });
    model.set(user, value.toString());
    // Only with nothing under way is the next run cut.
    while (n % 3 === 2 && delta.bytes > 0) await turn();
  }
  return delta;
}

test(
  'a store that fails at any run: the next ack has all of them, in order, once',
  LIMIT,
  async (t) => {
    const folder = await spoolFolder(t);
    const runsOf = (from: number, to: number) =>
      Array.from({ length: RUNS }, (_, run) => [from, to, run, true]);
    for (let failing = 1; failing <= 2 * RUNS; failing++) {
      for (const when of ['before', 'after'] as const) {
        const rig = new Rig();
        await rig.checkpoint(1, '0:both0=old', '3:first=1');
        let puts = 0;
        rig.store.onCall = (call) => {
          if (call.when === when && ++puts === failing) throw new Error('down');
        };
        const model = new Map([['first', '1']]);
        for (const id of [2, 5]) {
          const rowValue = (n: number) => Buffer.from(`${id}.${n} `.padEnd(220, 'x'));
          const path = join(folder, `${failing}-${when}-${id}`);
          const delta = await severalRuns(path, { name: `of${id}-`, model, rowValue });
          await rig.checkpointOf(id, delta);
        }
        await rig.checkpoint(6);
        const { deltas } = rig.snapshot(6);
        const chain = deltas.map(({ from, to, run, object }) => [from, to, run, object !== null]);
        const wanted = [[0, 1, 0, true], ...runsOf(1, 2), ...runsOf(2, 5), [5, 6, 0, false]];
        assert.deepEqual(chain, wanted, `put ${failing} failed ${when}`);
        const declined = failing <= RUNS ? 2 : 5;
        assert.ok(rig.types().includes(`decline ${declined}`), rig.types().join(', '));
        const names = deltas.flatMap(({ object }) => (object === null ? [] : [object.name]));
        assert.equal(new Set(names).size, 1 + 2 * RUNS);
        // A lost reply leaves one object that nothing names.
        assert.equal(rig.store.objects.size, names.length + (when === 'after' ? 1 : 0));
        assert.deepEqual(await rig.restored(6), Object.fromEntries(model));
        assert.equal(rig.checkpointer.owedBytes, 0);
        assert.deepEqual(rig.faults, []);
      }
    }
    assert.deepEqual(await readdir(folder), [], 'a spool file goes once its segment is stored');
  },
);

test('one segment is in memory at a time, and none while the store is down', LIMIT, async (t) => {
  const folder = await spoolFolder(t);
  const rig = new Rig();
  const puts: { owed: number; bytes: number }[] = [];
  let down = true;
  rig.store.onCall = ({ when, name }) => {
    if (down) throw new Error('down');
    if (when === 'before') return;
    const bytes = rig.store.objects.get(name)!.content.length;
    puts.push({ owed: rig.checkpointer.owedBytes, bytes });
  };
  const model = new Map<string, string>();
  const rowValue = () => randomBytes(100_000);
  for (const id of [1, 2, 3]) {
    const delta = await severalRuns(join(folder, `${id}`), { name: `of${id}-`, model, rowValue });
    await rig.checkpointOf(id, delta);
    // Of 1.3 MB per interval the last run, of one row, was never spooled.
    const owed = rig.checkpointer.owedBytes;
    assert.ok(owed > id * 100_000 && owed < id * 110_000, `${owed} bytes of ${id} intervals`);
  }
  assert.equal((await readdir(folder)).length, 3 * (RUNS - 1));
  down = false;
  await rig.checkpoint(4);
  assert.equal(puts.length, 3 * RUNS);
  for (const { owed, bytes } of puts) {
    assert.ok(owed >= bytes && owed < bytes + 330_000, `${owed} bytes held for ${bytes}`);
  }
  assert.equal(rig.checkpointer.owedBytes, 0);
});

test(
  'what waits behind a store that hangs is owed, and stays out of earlier acks',
  LIMIT,
  async (t) => {
    const rig = new Rig();
    const hung: (() => void)[] = [];
    rig.store.onCall = ({ operation, when }) =>
      operation === 'put' && when === 'before'
        ? new Promise<void>((resolve) => hung.push(resolve))
        : undefined;
    rig.begin(1);
    rig.drained('1:a=1');
    while (hung.length === 0) await turn();
    const owed = rig.checkpointer.owedBytes;
    const delta = rig.delta({ limitBytes: 8 << 20, spoolPath: join(await spoolFolder(t), 'run') });
    for (let n = 0; n < 40; n++) {
      const key = rowKey(userPrefix(1, `u${n}`), PROFILE);
      delta.add(1, { key, value: randomBytes(50_000) });
    }
    rig.begin(2);
    rig.checkpointer.drained(delta);
    assert.ok(rig.checkpointer.owedBytes > owed + 2_000_000, 'counted from the start');
    while (rig.checkpointer.owedBytes > owed) await turn();
    hung[0]!();
    await rig.said('ack', 1);
    assert.deepEqual(spans(rig.snapshot(1)), ['(0,1]']);
    assert.deepEqual(await rig.restored(1), { a: '1' });
    while (hung.length === 1) await turn();
    hung[1]!();
    await rig.said('ack', 2);
    assert.equal(Object.keys(await rig.restored(2)).length, 41);
  },
);

test('bases take no more memory than an interval, within bounds', () => {
  const budgetOf = (mebibytes: number) =>
    baseBudget({ slotDeltaBytes: mebibytes * 1024 ** 2 }) / 1024 ** 2;
  assert.deepEqual([1, 20, 41, 500].map(budgetOf), [16, 20, 41, 64]);
});
