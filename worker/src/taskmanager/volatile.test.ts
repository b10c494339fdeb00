import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MemoryStore } from '../checkpoint/memory-store.ts';
import type { KeyGroupRange, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import { realEnv } from '../runtime/env.ts';
import { GroupLedger } from './ledger.ts';
import {
  type CapturedVolatile,
  captureLedger,
  encodeVolatile,
  restoreVolatile,
  type VolatileRecord,
} from './volatile.ts';

const WHOLE = { first: 0, last: 7 };
const split = { index: 3, id: 'topic-3', sourceId: 'id\u0000😀', partition: 3 };

const store = new MemoryStore(realEnv);
let objects = 0;

async function stored(captured: CapturedVolatile, range: KeyGroupRange): Promise<SubtaskSnapshot> {
  const segment = await encodeVolatile(captured, range);
  const name = `segments/1/volatile-${objects++}`;
  if (segment !== null) await store.put(name, segment.content);
  const volatile = segment && { name, bytes: segment.bytes, sha256: segment.sha256 };
  return { range, volatile, deltas: [], bases: [] } as Partial<SubtaskSnapshot> as SubtaskSnapshot;
}

function parkedOf(keyGroup: number, offset: number, value: Buffer | null): VolatileRecord {
  return { split, keyGroup, offset, time: offset, timestamp: -1, value };
}

function outboxOf(keyGroup: number, seq: number, body: Buffer): CapturedVolatile['outbox'][number] {
  const place = { topic: 't', partition: 3, offset: seq, timestamp: 5 };
  const delivery = { id: `id-${seq}`, userId: `u"${seq}`, ...place, body };
  const failure = seq % 2 === 0 ? null : ({ stage: 'state', error: 'é', attempts: 2 } as const);
  return { seq, keyGroup, delivery, failure };
}

test('nothing to keep: no object', async () => {
  assert.equal(await encodeVolatile({ ledger: [], parked: [], outbox: [] }, WHOLE), null);
  const state = await restoreVolatile(
    store,
    [await stored({ ledger: [], parked: [], outbox: [] }, WHOLE)],
    WHOLE,
    new GroupLedger(8),
  );
  assert.deepEqual(state, { parked: [], outbox: [] });
});

const bytes = fc.uint8Array({ maxLength: 60 }).map((given) => Buffer.from(given));

test('everything comes back in order, byte for byte: tombstones and empty values too', async () => {
  const captured = fc.record({
    parked: fc.array(fc.record({ group: fc.nat(7), value: fc.option(bytes) }), { maxLength: 20 }),
    outbox: fc.array(fc.record({ group: fc.nat(7), body: bytes }), { maxLength: 20 }),
    counts: fc.array(fc.nat(99), { minLength: 8, maxLength: 8 }),
  });
  await fc.assert(
    fc.asyncProperty(captured, async ({ parked, outbox, counts }) => {
      const ledger = new GroupLedger(8);
      for (const [group, count] of counts.entries()) ledger.add('accepted', group, count);
      const given: CapturedVolatile = {
        ledger: captureLedger(ledger, WHOLE),
        parked: parked.map(({ group, value }, n) => parkedOf(group, n, value)),
        outbox: outbox.map(({ group, body }, n) => outboxOf(group, n, body)),
      };
      const back = new GroupLedger(8);
      const state = await restoreVolatile(store, [await stored(given, WHOLE)], WHOLE, back);
      assert.deepEqual(state.parked, given.parked);
      assert.deepEqual(
        state.outbox,
        given.outbox.map(({ seq: _, ...entry }) => entry),
      );
      assert.deepEqual(back.totals(0, 0), ledger.totals(0, 0));
    }),
    { seed: 14, numRuns: 60 },
  );
});

test('a large body keeps its bytes', async () => {
  const body = Buffer.alloc(3_000_000, 'body');
  const given = { ledger: [], parked: [], outbox: [outboxOf(2, 0, body)] };
  const state = await restoreVolatile(
    store,
    [await stored(given, WHOLE)],
    WHOLE,
    new GroupLedger(8),
  );
  assert.ok(state.outbox[0]!.delivery.body.equals(body));
});

test('rescale: parked records, outbox and counts move with their group, once each', async () => {
  const ledger = new GroupLedger(8);
  for (let group = 0; group < 8; group++) ledger.add('accepted', group, group + 1);
  const groups = [6, 1, 6, 0, 3, 4, 1];
  const given = {
    ledger: captureLedger(ledger, WHOLE),
    parked: groups.map((group, n) => parkedOf(group, n, Buffer.from(`${n}`))),
    outbox: groups.map((group, n) => outboxOf(group, n, Buffer.from(`${n}`))),
  };
  const whole = await stored(given, WHOLE);
  const halves: SubtaskSnapshot[] = [];
  let accepted = 0;
  for (const range of [
    { first: 0, last: 3 },
    { first: 4, last: 7 },
  ]) {
    const own = new GroupLedger(8);
    const state = await restoreVolatile(store, [whole], range, own);
    const wanted = groups.flatMap((group, n) =>
      group >= range.first && group <= range.last ? [n] : [],
    );
    assert.deepEqual(
      state.parked.map(({ offset }) => offset),
      wanted,
    );
    assert.deepEqual(
      state.outbox.map(({ delivery }) => delivery.offset),
      wanted,
    );
    accepted += own.totals(0, 0).accepted;
    const outbox = state.outbox.map((entry, seq) => ({ ...entry, seq }));
    const again = { ledger: captureLedger(own, range), parked: state.parked, outbox };
    halves.push(await stored(again, range));
  }
  assert.equal(accepted, 36);
  const joined = new GroupLedger(8);
  const state = await restoreVolatile(store, halves, WHOLE, joined);
  assert.equal(joined.totals(0, 0).accepted, 36);
  for (const group of [0, 1, 3, 4, 6]) {
    const order = state.parked.filter(({ keyGroup }) => keyGroup === group);
    const wanted = groups.flatMap((one, n) => (one === group ? [n] : []));
    assert.deepEqual(
      order.map(({ offset }) => offset),
      wanted,
    );
  }
});

test('a damaged object is refused, never read as less', async () => {
  const given = { ledger: [], parked: [parkedOf(1, 0, Buffer.from('x'))], outbox: [] };
  const snapshot = await stored(given, WHOLE);
  const { name } = snapshot.volatile!;
  const { content } = store.objects.get(name)!;
  content[content.length >> 1]! ^= 1;
  const restore = () => restoreVolatile(store, [snapshot], WHOLE, new GroupLedger(8));
  await assert.rejects(restore(), { code: 'SEGMENT_CORRUPT' });
  store.objects.delete(name);
  await assert.rejects(restore(), { code: 'SEGMENT_MISSING' });
});
