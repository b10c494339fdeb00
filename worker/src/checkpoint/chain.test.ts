import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { chainOf, collectGroup, mergeChain, planChain } from './chain.ts';
import { MemoryStore } from './memory-store.ts';
import { SegmentWriter } from './segment.ts';
import type { Row, SegmentHeader } from './segment-format.ts';
import { SegmentCache } from './segment-reader.ts';
import type { BaseRef, DeltaRef, ObjectRef, SubtaskSnapshot } from './snapshot.ts';

const RANGE = { first: 0, last: 7 };
const GROUP = 3;
const object = (name: string): ObjectRef => ({ name, bytes: 1, sha256: '0'.repeat(64) });
const delta = (from: number, to: number, run = 0, range = RANGE): DeltaRef => ({
  range,
  from,
  to,
  run,
  object: object(`d${from}-${to}-${run}`),
});
const base = (epoch: number, groups = [GROUP]): BaseRef => ({
  groups,
  epoch,
  object: object(`b${epoch}`),
});

test('a sound chain is its newest base and the deltas from there on', () => {
  const planned = (bases: BaseRef[], deltas: DeltaRef[], checkpointId?: number) => {
    const parts = { bases, deltas, ...(checkpointId === undefined ? {} : { checkpointId }) };
    const { base, deltas: used } = planChain(parts, GROUP);
    return [base?.object.name ?? '-', ...used.map((one) => one.object?.name)].join(' ');
  };
  assert.equal(planned([], []), '-');
  assert.equal(planned([], [delta(0, 2), delta(2, 5)], 5), '- d0-2-0 d2-5-0');
  assert.equal(planned([], [delta(2, 5), delta(0, 2, 1), delta(0, 2)]), '- d0-2-0 d0-2-1 d2-5-0');
  assert.equal(planned([base(4)], [delta(0, 2), delta(2, 5), delta(5, 6)], 6), 'b4 d2-5-0 d5-6-0');
  assert.equal(planned([base(2)], [delta(0, 2), delta(2, 5)]), 'b2 d0-2-0 d2-5-0');
  assert.equal(planned([base(2), base(5)], [delta(2, 5)]), 'b5 d2-5-0');
  assert.equal(planned([base(9, [1])], [delta(0, 2)]), '- d0-2-0');
  const elsewhere = delta(7, 9, 0, { first: 4, last: 7 });
  assert.equal(planned([], [delta(0, 2), elsewhere]), '- d0-2-0');
});

test('a gap, an overlap or a wrong end is refused, naming both sides', () => {
  const cases: [string, BaseRef[], DeltaRef[], number | undefined, RegExp][] = [
    ['first not from 0', [], [delta(2, 5)], undefined, /the start.*\(2, 5\]/],
    ['hole', [], [delta(0, 2), delta(3, 5)], undefined, /\(0, 2\].*d0-2-0.*\(3, 5\].*d3-5-0/],
    ['overlap', [], [delta(0, 3), delta(2, 5)], undefined, /\(0, 3\].*\(2, 5\]/],
    ['same end, other start', [], [delta(0, 5), delta(2, 5, 1)], undefined, /\(0, 5\].*\(2, 5\]/],
    ['a run twice', [], [delta(0, 5), delta(0, 5)], undefined, /run 0.*run 0/],
    ['hole after the base', [base(4)], [delta(4, 6)], undefined, /b4 of 4.*\(4, 6\]/],
    ['nothing after the base', [base(4)], [delta(0, 3)], undefined, /b4 of 4.*no delta/],
    ['too short', [], [delta(0, 2)], 5, /\(0, 2\].*checkpoint 5/],
    ['too long', [], [delta(0, 2), delta(2, 7)], 2, /\(2, 7\].*checkpoint 2/],
    ['no delta at all', [], [], 5, /no delta.*checkpoint 5/],
  ];
  for (const [name, bases, deltas, checkpointId, message] of cases) {
    const parts = { bases, deltas, ...(checkpointId === undefined ? {} : { checkpointId }) };
    assert.throws(() => planChain(parts, GROUP), { code: 'CHAIN_GAP', message }, name);
  }
});

function key(keyGroup: number, user: number): Buffer {
  return Buffer.from([keyGroup >> 8, keyGroup & 0xff, user & 1, user, 0, 0, 0, 0]);
}

async function store(target: MemoryStore, header: SegmentHeader, rows: Row[]): Promise<ObjectRef> {
  const writer = new SegmentWriter(header);
  const sorted = [...rows].sort((a, b) => a.key.compare(b.key));
  for (const group of new Set(sorted.map((row) => row.key.readUInt16BE(0)))) {
    await writer.addGroup(
      group,
      sorted.filter((row) => row.key.readUInt16BE(0) === group),
    );
  }
  const { content } = await writer.finish();
  const name = `o${target.objects.size}`;
  await target.put(name, content);
  const sha256 = createHash('sha256').update(content).digest('hex');
  return { name, bytes: content.length, sha256 };
}

const WRITE = fc.record({
  group: fc.integer({ min: 0, max: 2 }),
  user: fc.integer({ min: 0, max: 5 }),
  value: fc.option(fc.integer({ min: 0, max: 255 }), { freq: 3 }),
});
const INTERVAL = fc.record({
  runs: fc.array(fc.array(WRITE, { maxLength: 6 }), { minLength: 1, maxLength: 3 }),
  step: fc.integer({ min: 1, max: 3 }),
  /** The base is read after so many writes of the interval. */
  baseAfter: fc.option(fc.nat({ max: 20 })),
});
type Write = typeof WRITE extends fc.Arbitrary<infer T> ? T : never;
type Interval = typeof INTERVAL extends fc.Arbitrary<infer T> ? T : never;

/**
 * A model of a task (P11-P13): intervals of writes and deletes, several runs each, aborted barriers
 * in between, and fuzzy bases that already hold some rows of the interval they begin.
 */
class ModelTask {
  readonly target = new MemoryStore({ now: () => 0 });
  /** Values by key in hex. */
  readonly state = new Map<string, Buffer>();
  readonly bases: BaseRef[] = [];
  readonly deltas: DeltaRef[] = [];
  #checkpointId = 0;

  /** Writes the segments of one interval and returns the id of the checkpoint that ends it. */
  async write({ runs, step, baseAfter }: Interval): Promise<number> {
    const from = this.#checkpointId;
    const to = from + step;
    let left = baseAfter ?? -1;
    let base = left === 0 ? this.#rows() : [];
    for (const [run, writes] of runs.entries()) {
      const rows = new Map<string, Row>();
      for (const write of writes) {
        const row = this.#apply(write);
        rows.set(row.key.toString('hex'), row);
        left -= 1;
        if (left === 0) base = this.#rows();
      }
      const header: SegmentHeader = { kind: 'delta', from, to, run, epoch: 0, range: RANGE };
      const object = rows.size === 0 ? null : await store(this.target, header, [...rows.values()]);
      this.deltas.push({ range: RANGE, from, to, run, object });
    }
    if (base.length > 0) await this.#storeBase(base, to);
    this.#checkpointId = to;
    return to;
  }

  #apply({ group, user, value }: Write): Row {
    const row = { key: key(group, user), value: value === null ? null : Buffer.from([value]) };
    const hex = row.key.toString('hex');
    if (row.value === null) this.state.delete(hex);
    else this.state.set(hex, row.value);
    return row;
  }

  #rows(): Row[] {
    return [...this.state].map(([hex, value]) => ({ key: Buffer.from(hex, 'hex'), value }));
  }

  async #storeBase(rows: Row[], epoch: number): Promise<void> {
    const header: SegmentHeader = { kind: 'base', from: 0, to: 0, run: 0, epoch, range: RANGE };
    const object = await store(this.target, header, rows);
    this.bases.push({ groups: [0, 1, 2], epoch, object });
  }
}

/** First byte of each value by key in hex, read as a restore does. */
async function restoredRows(task: ModelTask, checkpointId: number) {
  const { bases, deltas } = task;
  const cache = new SegmentCache(task.target, { maxSegments: 2 });
  const restored = new Map<string, number | undefined>();
  for (const group of [0, 1, 2]) {
    const rows = await collectGroup(cache, { bases, deltas, checkpointId }, group);
    assert.deepEqual([...rows.keys()], [...rows.keys()].sort());
    for (const [name, value] of rows) {
      restored.set(Buffer.from(name, 'latin1').toString('hex'), value[0]);
    }
  }
  return restored;
}

test('any chain that a task can write gives the state back at every checkpoint', async () => {
  let bases = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(INTERVAL, { minLength: 1, maxLength: 7 }), async (intervals) => {
      const task = new ModelTask();
      for (const interval of intervals) {
        const restored = await restoredRows(task, await task.write(interval));
        const wanted = [...task.state].sort().map(([hex, value]) => [hex, value[0]]);
        assert.deepEqual([...restored].sort(), wanted);
      }
      bases += task.bases.length;
    }),
    { seed: 5, numRuns: 60 },
  );
  console.log(`bases ${bases}`);
  assert.ok(bases > 20);
});

test('an object that is not what the manifest says is refused', async () => {
  const target = new MemoryStore({ now: () => 0 });
  const rows = [{ key: key(GROUP, 1), value: Buffer.from('x') }];
  const header: SegmentHeader = { kind: 'delta', from: 0, to: 2, run: 0, epoch: 0, range: RANGE };
  const right = await store(target, header, rows);
  const drain = async (deltas: DeltaRef[]) => {
    for await (const batch of mergeChain(new SegmentCache(target), { bases: [], deltas }, GROUP)) {
      assert.equal(batch.length, 1);
    }
  };
  await drain([{ range: RANGE, from: 0, to: 2, run: 0, object: right }]);
  const wrong = [{ range: RANGE, from: 0, to: 3, run: 0, object: right }];
  await assert.rejects(drain(wrong), {
    code: 'SEGMENT_CORRUPT',
    message: /\(0, 2\].*not.*\(0, 3\]/,
  });
  const other = await store(target, { ...header, range: { first: 3, last: 3 } }, rows);
  const wide = mergeChain(
    new SegmentCache(target),
    { bases: [], deltas: [{ range: RANGE, from: 0, to: 2, run: 0, object: other }] },
    4,
  );
  await assert.rejects(wide.next(), { code: 'SEGMENT_CORRUPT', message: /3\.\.3, not 4/ });
});

test('many key groups of one segment open it once; only so much is kept', async () => {
  const target = new MemoryStore({ now: () => 0 });
  const header: SegmentHeader = { kind: 'delta', from: 0, to: 2, run: 0, epoch: 0, range: RANGE };
  const rows = [0, 1, 2, 3].map((group) => ({ key: key(group, 1), value: Buffer.from('x') }));
  const refs = [await store(target, header, rows), await store(target, header, rows)];
  let gets = 0;
  target.onCall = ({ operation, when }) => {
    if (operation === 'get' && when === 'after') gets++;
  };
  const cache = new SegmentCache(target);
  for (const ref of [...refs, ...refs, ...refs]) await cache.open(ref);
  await Promise.all([cache.open(refs[0]!), cache.open(refs[0]!)]);
  assert.equal(gets, 2);
  const small = new SegmentCache(target, { maxBytes: refs[0]!.bytes });
  for (const ref of [...refs, ...refs]) await small.open(ref);
  // What did not fit is read by ranges from then on, never fetched whole again for each group.
  assert.equal(gets, 4);
  const gone = { ...refs[0]!, name: 'gone' };
  await assert.rejects(small.open(gone), { code: 'SEGMENT_MISSING' });
  await target.put('gone', Buffer.from((await target.get(refs[0]!.name))!));
  await small.open(gone);
});

test('the owner of a key group is the one whose range holds it', () => {
  const snapshot = (first: number, last: number, from: number) =>
    ({ range: { first, last }, bases: [], deltas: [delta(from, 9)] }) as unknown as SubtaskSnapshot;
  const snapshots = [snapshot(0, 3, 1), snapshot(4, 7, 2)];
  assert.equal(chainOf(snapshots, 3)?.deltas[0]?.from, 1);
  assert.equal(chainOf(snapshots, 4, 9)?.deltas[0]?.from, 2);
  assert.equal(chainOf(snapshots, 4, 9)?.checkpointId, 9);
  assert.equal(chainOf(snapshots, 8), null);
});
