import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import type { DeadLetter, Delivery, DeliveryOutcome } from '../action/action.ts';
import { imbalance } from '../checkpoint/conservation.ts';
import { type DataFrame, FrameBuilder } from '../exchange/frame.ts';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { compileFilter } from '../filter/compile.ts';
import type { CompiledFilter } from '../filter/filter.ts';
import { planOf } from '../plan/job-for-tests.ts';
import { realEnv } from '../runtime/env.ts';
import { RecordColumns } from '../source/record-columns.ts';
import type { Split } from '../source/source.ts';
import { MemoryBackend } from '../state/memory-backend.ts';
import type { ProfileAnswer, ProfileFailure } from '../state/profile-api.ts';
import { CHUNK, PROFILE, parseKey } from '../state/rows.ts';
import { UserStateManager } from '../state/user-state-manager.ts';
import type { IncomingRecord } from './accepted-record.ts';
import { EventProcessor } from './event-processor.ts';
import { GroupLedger } from './ledger.ts';
import { Outbox } from './outbox.ts';
import { SlotInspection } from './slot-inspection.ts';

const GROUPS = 16;
/** One subtask of two. */
const RANGE = { first: 0, last: 7 };
const TTL_MS = 600_000;
const T0 = 1_800_000_000_000;
const SPLIT: Split = { index: 0, id: 'events-0', sourceId: 'topic-id', partition: 4 };

const usersOf = (first: number, last: number, count: number) => {
  const users: string[] = [];
  for (let n = 0; users.length < count; n++) {
    const group = keyGroupOf(`u${n}`, GROUPS);
    if (group >= first && group <= last) users.push(`u${n}`);
  }
  return users;
};
const OWN = usersOf(0, 7, 8) as [string, string, ...string[]];
const FOREIGN = usersOf(8, 15, 2) as [string, string];

const PLAN = planOf({ maxParallelism: GROUPS, parallelism: 2 });
const filterOf = (script: string) => compileFilter({ ...PLAN.filter, script });
const TRIGGERABLE = filterOf('event.triggerable');

interface Fetch {
  userId: string;
  settle(answer: ProfileAnswer | ProfileFailure): void;
}

const ANSWER: ProfileAnswer = {
  kind: 'found',
  profile: '{"country":"US"}',
  visit: '{"event_count":7}',
  history: ['{"old":1}'],
};
const DELIVERED: DeliveryOutcome = { kind: 'delivered', attempts: 1 };

class Rig {
  readonly fetches: Fetch[] = [];
  readonly deliveries: { delivery: Delivery; answer(outcome: DeliveryOutcome): void }[] = [];
  readonly bodies: Delivery[] = [];
  readonly deadLetters: DeadLetter[] = [];
  readonly faults: unknown[] = [];
  readonly ledger = new GroupLedger(GROUPS);
  readonly backend = new MemoryBackend();
  readonly manager: UserStateManager;
  readonly outbox: Outbox;
  readonly inspection: SlotInspection;
  readonly processor: EventProcessor;
  progress = 0;
  /** Wall clock, ms. */
  now = T0;
  #offset = 0;

  constructor(
    options: {
      api?: boolean;
      filter?: CompiledFilter;
      cacheBytes?: number;
      replayUntil?: number;
    } = {},
  ) {
    const onFault = (fault: unknown) => this.faults.push(fault);
    this.manager = new UserStateManager(this.backend, realEnv, {
      limits: { historyMaxEvents: 10, maxBytesPerUser: 1 << 20 },
      ttlMs: TTL_MS,
      cacheBytes: options.cacheBytes ?? 1 << 24,
      delta: { range: RANGE, limitBytes: 1 << 24, spoolPath: null },
    });
    this.outbox = new Outbox({
      action: {
        maxInFlight: 100,
        deliver: (delivery) => {
          this.bodies.push(delivery);
          return new Promise((answer) => this.deliveries.push({ delivery, answer }));
        },
        stats: () => ({}),
        close: async () => {},
      },
      deadLetter: {
        write: async (entry) => void this.deadLetters.push(entry),
        close: async () => {},
      },
      onDone: (entry, result) => {
        this.ledger.add(result, entry.keyGroup);
        if (this.inspection.taps.open.fired) this.inspection.tapFired(entry, result);
      },
      onFault,
    });
    this.inspection = new SlotInspection({
      env: { ...realEnv, now: () => this.now },
      plan: PLAN,
      subtask: 0,
      range: RANGE,
      manager: this.manager,
    });
    this.processor = new EventProcessor({
      plan: PLAN,
      lineage: 'lineage',
      attempt: 2,
      range: RANGE,
      manager: this.manager,
      outbox: this.outbox,
      profileApi: options.api === false ? null : this.#api(),
      ledger: this.ledger,
      filter: options.filter ?? TRIGGERABLE,
      inspection: this.inspection,
      mutant: null,
      onProgress: () => {
        this.progress++;
      },
      onFault,
    });
    this.processor.addSplits([SPLIT], options.replayUntil ?? 0);
  }

  #api() {
    const fetch = (userId: string) =>
      new Promise<ProfileAnswer | ProfileFailure>((settle) => {
        this.fetches.push({ userId, settle });
      });
    return { fetch, stats: () => ({}), close: async () => {} };
  }

  /** A record as a source routed it; `keyGroup` where the test wants another route. */
  record(value: string | null, keyGroup: number, time = T0): IncomingRecord {
    const bytes = value === null ? null : Buffer.from(value);
    const place = { split: SPLIT, keyGroup, offset: this.#offset++, time, timestamp: time };
    return { ...place, value: bytes };
  }

  event(userId: string, fields: object = {}, time = T0): IncomingRecord {
    const offset = this.#offset;
    const value = JSON.stringify({ user_id: userId, n: offset, ...fields });
    return this.record(value, keyGroupOf(userId, GROUPS), time);
  }

  /** Through a frame, as they arrive. */
  arrive(...records: IncomingRecord[]): void {
    const builder = new FrameBuilder(1 << 20);
    for (const { split, keyGroup, offset, time, timestamp, value } of records) {
      const source = new RecordColumns(value ?? Buffer.alloc(0), 0);
      const end = value === null ? -1 : value.length;
      builder.append(split.index, keyGroup, offset, time, timestamp, source, 0, end);
    }
    const filled = builder.take();
    if (filled === null) return;
    const frame: DataFrame = { kind: 'data', seq: 0, ...filled };
    this.processor.accept(frame);
    this.processor.handleFrames([frame]);
    // Its sender fills it anew.
    frame.bytes.fill(0);
  }

  async answer(index = 0, answer: ProfileAnswer | ProfileFailure = ANSWER): Promise<void> {
    this.fetches.splice(index, 1)[0]!.settle(answer);
    await turn();
  }

  async deliver(index = 0, outcome = DELIVERED): Promise<void> {
    this.deliveries.splice(index, 1)[0]!.answer(outcome);
    await turn();
  }

  imbalance(): number {
    return imbalance(this.ledger.totals(this.processor.parked, this.outbox.size));
  }
}

const jsonOf = ({ body }: Delivery) => JSON.parse(body.toString());

test('a missing user is asked for once; its events wait in order, others go on', async () => {
  const rig = new Rig();
  const [a, b] = OWN;
  rig.arrive(rig.event(a), rig.event(b, { triggerable: true }), rig.event(a));
  rig.arrive(rig.event(a, { triggerable: true }));
  assert.deepEqual(
    rig.fetches.map(({ userId }) => userId),
    [a, b],
  );
  assert.equal(rig.processor.parked, 4);
  assert.ok(rig.processor.parkedBytes > 0);
  assert.ok(rig.processor.isBusy(a));
  assert.deepEqual(
    rig.processor.parkedRecords().map(({ offset }) => offset),
    [0, 2, 3, 1],
  );
  await rig.answer(1);
  assert.equal(rig.bodies.length, 1, 'b goes on');
  assert.equal(rig.processor.parked, 3);
  await rig.answer(0);
  assert.equal(rig.progress, 2);
  assert.equal(rig.processor.parkedBytes, 0);
  const { event, user, visit, history } = jsonOf(rig.bodies[1]!);
  assert.deepEqual(event, { user_id: a, n: 3, triggerable: true });
  assert.deepEqual(user, { country: 'US' });
  assert.equal(visit.event_count, 9, 'as before this event');
  assert.deepEqual(history, [{ old: 1 }, { user_id: a, n: 0 }, { user_id: a, n: 2 }]);
  assert.equal(rig.imbalance(), 0);
});

test('what an earlier record of the batch changes, a later one is judged by', async () => {
  const [user] = OWN;
  const still = 'event.triggerable && user.country == "US"';
  const scripts: [string, number][] = [
    // Asked only once event and profile have been: a look without the user sees none of it.
    [`${still} && count(history) > 2`, 3],
    [`${still} && visit.event_count > 9`, 2],
    // Answered ahead for the whole batch, of which each record sees another length.
    [`count(history) == 4 && ${still}`, 1],
    ['event.triggerable && count(history) != 4', 3],
    ['is_empty(history) || count(history) == 5', 1],
  ];
  for (const [script, expected] of scripts) {
    const rig = new Rig({ filter: filterOf(script) });
    rig.arrive(rig.event(user));
    await rig.answer();
    for (const batch of [[0], [1, 2, 3]]) {
      rig.arrive(...batch.map(() => rig.event(user, { triggerable: true })));
    }
    assert.equal(rig.processor.stats.matched, expected, script);
  }
});

test('the body embeds the texts as they came, and the delivery names the place', async () => {
  const rig = new Rig({ api: false });
  const [a] = OWN;
  const raw = `{ "user_id":"${a}", "big":12345678901234567890, "triggerable":true, "x":"é😀" }`;
  rig.arrive(rig.record(raw, keyGroupOf(a, GROUPS), T0 + 5));
  const delivery = rig.bodies[0]!;
  assert.equal(delivery.body.toString(), `{"event":${raw},"user":{},"visit":{},"history":[]}`);
  const { userId, topic, partition, offset, timestamp } = delivery;
  assert.deepEqual([userId, topic, partition, offset, timestamp], [a, 'events', 4, 0, T0 + 5]);
  const twin = new Rig({ api: false });
  twin.arrive(twin.record(raw, keyGroupOf(a, GROUPS), T0 + 9));
  assert.equal(twin.bodies[0]!.id, delivery.id, 'the id is of the place alone (P30)');
});

test('poison costs its record: dead letter with its bytes, the batch goes on', async () => {
  const rig = new Rig({ api: false });
  const [a] = OWN;
  rig.arrive(
    rig.record('not json', 3),
    rig.event(a, { triggerable: true }),
    rig.record(null, 2),
    rig.record('{"user_id":7}', 1),
    rig.event(a, { event_name: 5 }),
  );
  await turn();
  assert.equal(rig.bodies.length, 1);
  const letters = rig.deadLetters.map(({ offset, userId, stage, attempts, raw }) => [
    offset,
    userId,
    stage,
    attempts,
    raw.toString().slice(0, 13),
  ]);
  assert.deepEqual(letters, [
    [0, null, 'state', 0, 'not json'],
    [2, null, 'state', 0, ''],
    [3, null, 'state', 0, '{"user_id":7}'],
    [4, null, 'state', 0, '{"user_id":"u'],
  ]);
  assert.equal(new Set(rig.deadLetters.map(({ id }) => id)).size, 4);
  assert.equal(rig.manager.stats.users, 1);
  assert.equal(rig.imbalance(), 0);
});

test('a wrong route is a dead letter, never a second state (P24)', async () => {
  const rig = new Rig({ api: false });
  const [a] = OWN;
  const [foreign] = FOREIGN;
  const fields = `{"user_id":"${foreign}"}`;
  const other = (keyGroupOf(a, GROUPS) + 1) % 8;
  rig.arrive(
    rig.record(fields, keyGroupOf(foreign, GROUPS)),
    rig.record(fields, 3),
    rig.record(`{"user_id":"${a}"}`, other),
  );
  await turn();
  assert.equal(rig.manager.stats.users, 0);
  assert.equal(rig.deadLetters.length, 3);
  assert.match(rig.deadLetters[2]!.error, new RegExp(`key group ${other}, its user is of`));
  assert.equal(rig.imbalance(), 0);
});

test('an API failure dead-letters the events that wait; the next event asks again', async () => {
  const rig = new Rig();
  const [a] = OWN;
  rig.arrive(rig.event(a), rig.event(a));
  await rig.answer(0, { kind: 'failed', error: 'HTTP 500, 5 attempts' });
  assert.deepEqual(
    rig.deadLetters.map(({ offset, userId, error }) => [offset, userId, error]),
    [
      [0, a, 'HTTP 500, 5 attempts'],
      [1, a, 'HTTP 500, 5 attempts'],
    ],
  );
  assert.equal(rig.processor.parked, 0);
  rig.arrive(rig.event(a));
  assert.equal(rig.fetches.length, 1);
  assert.equal(rig.imbalance(), 0);
});

/** An event of each user at once; how many rows of that kind each multi-get then asks for. */
function askerOf(rig: Rig, users: readonly string[], row: number) {
  const read = rig.backend.getMany.bind(rig.backend);
  let counts: number[] = [];
  rig.backend.getMany = (keys) => {
    const count = keys.filter((key) => parseKey(key).row === row).length;
    if (count > 0) counts.push(count);
    return read(keys);
  };
  return (triggerable: boolean) => {
    counts = [];
    rig.arrive(...users.map((user) => rig.event(user, { triggerable })));
    return counts;
  };
}

test('profiles are read for matches and for what no head knows, in one multi-get', async () => {
  const filter = filterOf('event.triggerable && user.country == "US"');
  const rig = new Rig({ filter, cacheBytes: 1 });
  const users = OWN.slice(0, 4);
  const ask = askerOf(rig, users, PROFILE);
  ask(false);
  const profile = (n: number) => `{"country":"${n < 2 ? 'US' : 'DE'}","pad":"${'x'.repeat(2000)}"}`;
  for (let n = 0; n < users.length; n++) await rig.answer(0, { ...ANSWER, profile: profile(n) });
  rig.manager.settle();
  assert.equal(rig.manager.stats.cached, 1, 'all but one are in the backend alone');
  assert.deepEqual(ask(false), []);
  ask(true);
  assert.equal(rig.outbox.size, 2);
  // Whoever is still in the cache has its texts.
  assert.deepEqual(ask(true), [2], 'those in the US, and only those');
  assert.equal(rig.outbox.size, 4);
  while (rig.deliveries.length > 0) await rig.deliver();
  assert.equal(rig.bodies.length, 4);
  assert.equal(jsonOf(rig.bodies.at(-1)!).user.pad.length, 2000);
});

test('the length of a history is told without its chunks, which a match reads ahead', async () => {
  const filter = filterOf('count(history) > 8 && event.triggerable && user.country == "US"');
  const rig = new Rig({ filter, cacheBytes: 1 });
  const users = OWN.slice(0, 4);
  const ask = askerOf(rig, users, CHUNK);
  ask(false);
  // A chunk closes at 4 KiB.
  const past = (count: number) => Array(count).fill(`{"pad":"${'x'.repeat(1500)}"}`) as string[];
  for (let n = 0; n < users.length; n++) {
    await rig.answer(0, { ...ANSWER, history: past(n < 2 ? 9 : 3) });
  }
  assert.deepEqual(ask(false), []);
  assert.deepEqual(ask(false), []);
  assert.equal(rig.manager.stats.cached, 1, 'all but one are in the backend alone');
  ask(true);
  assert.equal(rig.outbox.size, 2, 'of the others it is 3 and what has come since');
  // The country is known now. Of three chunks each the oldest has left the window.
  assert.deepEqual(ask(true), [4], 'of those that match, in one multi-get');
});

test('what a script names of past events is read once, then follows each record', async () => {
  const named = (n: number) =>
    filterOf(`count(filter(history, lambda(e) -> e.n != nil end)) == ${n}`);
  const rig = new Rig({ filter: named(3) });
  const users = OWN.slice(0, 3);
  const ask = askerOf(rig, users, CHUNK);
  const checkpoint = () => {
    rig.manager.freeze();
    assert.ok(rig.manager.flushSlice(60_000));
    rig.manager.takeClosedDelta();
  };
  ask(false);
  const history = Array(3).fill(`{"pad":"${'x'.repeat(1500)}"}`) as string[];
  for (const _ of users) await rig.answer(0, { ...ANSWER, history });
  // What nobody asked for since the last one leaves the memory.
  for (let n = 0; n < 3; n++) checkpoint();
  assert.deepEqual(ask(false), [], 'no chunk is read');
  assert.equal(rig.outbox.size, 0, 'one has come since');
  const [a] = OWN;
  rig.arrive(rig.event(a), rig.event(a), rig.event(a));
  assert.equal(rig.outbox.size, 1, 'only the second found three');
  rig.processor.setFilter(named(2));
  checkpoint();
  checkpoint();
  assert.deepEqual(ask(false), [2], 'another script, one multi-get: a has them from its match');
  assert.equal(rig.outbox.size, 3, 'a has had five');
  assert.deepEqual(ask(false), []);
});

test('TTL by record time: alive at ttl, asked for anew at ttl + 1', async () => {
  const rig = new Rig();
  const [a] = OWN;
  rig.arrive(rig.event(a, {}, T0));
  await rig.answer();
  rig.arrive(rig.event(a, {}, T0 + TTL_MS));
  assert.equal(rig.fetches.length, 0);
  rig.arrive(rig.event(a, {}, T0 + 2 * TTL_MS + 1));
  assert.equal(rig.fetches.length, 1);
  assert.equal(rig.manager.stats.expired, 1);
  await rig.answer();
  rig.arrive(rig.event(a, { triggerable: true }, T0));
  assert.equal(
    jsonOf(rig.bodies[0]!).history.length,
    2,
    'the old history is gone; time back: alive',
  );
});

test('a backlog that waits for one answer may expire its own user', async () => {
  const rig = new Rig();
  const [a] = OWN;
  rig.arrive(rig.event(a, {}, T0), rig.event(a, {}, T0 + 1), rig.event(a, {}, T0 + TTL_MS + 2));
  rig.arrive(rig.event(a, {}, T0 + TTL_MS + 3));
  await rig.answer();
  assert.equal(rig.fetches.length, 1, 'asked again');
  assert.deepEqual(
    rig.processor.parkedRecords().map(({ offset }) => offset),
    [2, 3],
    'both that follow wait again, in order',
  );
  await rig.answer();
  assert.equal(rig.processor.parked, 0);
  assert.equal(rig.ledger.totals(0, 0).noMatch, 4);
});

test('users that do not fit the cache come back from the backend, not from the API', async () => {
  const rig = new Rig({ cacheBytes: 1 });
  for (const user of OWN) rig.arrive(rig.event(user));
  while (rig.fetches.length > 0) await rig.answer();
  rig.arrive(...OWN.map((user) => rig.event(user)), ...OWN.map((user) => rig.event(user)));
  assert.equal(rig.fetches.length, 0);
  assert.equal(rig.manager.stats.users, OWN.length);
  rig.arrive(rig.event(OWN[0], { triggerable: true }));
  assert.equal(jsonOf(rig.bodies[0]!).history.length, 4);
});

test('a script error is no match and a counter; a new version rules once it is set', async () => {
  const rig = new Rig({ api: false, filter: filterOf('event.n > "x" + nil.y') });
  const [a] = OWN;
  rig.arrive(rig.event(a, { triggerable: true }));
  assert.deepEqual(rig.bodies, []);
  assert.equal(rig.processor.stats.filterErrors, 1);
  rig.processor.setFilter(TRIGGERABLE);
  rig.arrive(rig.event(a, { triggerable: true }));
  assert.equal(rig.bodies.length, 1);
  assert.equal(rig.imbalance(), 0);
});

test('a parked record keeps no view on the buffer it came in', async () => {
  const rig = new Rig();
  const [a] = OWN;
  const record = rig.event(a, { triggerable: true, pad: 'p'.repeat(100) });
  const wanted = record.value!.toString();
  rig.arrive(record);
  rig.processor.handle([record]);
  record.value!.fill(0x20);
  const parked = rig.processor.parkedRecords().map(({ source }) => source.toString());
  assert.deepEqual(parked, [wanted, wanted]);
  await rig.answer();
  assert.equal(JSON.stringify(jsonOf(rig.bodies[0]!).event), wanted);
});

test('a record of a split that was never announced ends the task', () => {
  const rig = new Rig({ api: false });
  const record = { ...rig.event(OWN[0]), split: { ...SPLIT, index: 9 } };
  assert.throws(() => rig.arrive(record), { code: 'INVARIANT' });
});

test('a repeat counts as divergent only where the profile was fetched again (P33)', async () => {
  const rig = new Rig({ replayUntil: 2 });
  // The successor of a lost source says it again, of its own replay: that is none of this task's.
  rig.processor.addSplits([SPLIT], 99);
  const [a, b] = OWN;
  rig.arrive(
    rig.event(a, { triggerable: true }),
    rig.event(b),
    rig.event(b, { triggerable: true }),
  );
  while (rig.fetches.length > 0) await rig.answer();
  assert.equal(rig.processor.stats.divergent, 1, 'offset 2 is no repeat');
});

test('without a Profile API no repeat is divergent', () => {
  const rig = new Rig({ api: false });
  rig.processor.addSplits([SPLIT], 100);
  rig.arrive(rig.event(OWN[0], { triggerable: true }));
  assert.equal(rig.processor.stats.divergent, 0);
});

const incoming = fc.record({
  kind: fc.constantFrom('event', 'event', 'event', 'match', 'match', 'poison', 'foreign', 'route'),
  user: fc.nat(OWN.length - 1),
  gap: fc.constantFrom(0, 1, 1000, TTL_MS + 1),
});
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('batch' as const),
      records: fc.array(incoming, { maxLength: 8 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('answer' as const),
      index: fc.nat(),
      ok: fc.integer({ min: 0, max: 5 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('deliver' as const),
      index: fc.nat(),
      ok: fc.integer({ min: 0, max: 5 }),
    }),
  },
);

test('conservation at every moment and order per user, for any mix (I9, I4)', async () => {
  const seen = { parked: 0, outbox: 0, deadLettered: 0, expired: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { size: 'max', maxLength: 60 }), async (steps) => {
      const rig = new Rig({ cacheBytes: 3000 });
      let time = T0;
      let accepted = 0;
      const make = ({ kind, user, gap }: { kind: string; user: number; gap: number }) => {
        time += gap;
        accepted++;
        const id = OWN[user]!;
        if (kind === 'poison') return rig.record('{"user_id":', user, time);
        if (kind === 'foreign') return rig.event(FOREIGN[user % 2]!, {}, time);
        if (kind !== 'route') return rig.event(id, { triggerable: kind === 'match' }, time);
        const group = (keyGroupOf(id, GROUPS) + 1) % 8;
        return rig.record(`{"user_id":"${id}"}`, group, time);
      };
      const check = () => {
        assert.equal(rig.imbalance(), 0);
        const { processor, outbox } = rig;
        assert.equal(processor.parked, processor.parkedRecords().length);
        assert.equal(outbox.size, outbox.snapshot().length);
        seen.parked = Math.max(seen.parked, processor.parked);
        seen.outbox = Math.max(seen.outbox, outbox.size);
      };
      const settle = async (index: number, ok: number) => {
        const failure = { kind: 'failed', error: 'down' } as const;
        await rig.answer(index % rig.fetches.length, ok === 0 ? failure : ANSWER);
      };
      const finish = async (index: number, ok: number) => {
        const failure = { kind: 'failed', error: 'HTTP 400', attempts: 1 } as const;
        await rig.deliver(index % rig.deliveries.length, ok === 0 ? failure : DELIVERED);
      };
      for (const one of steps) {
        if (one.do === 'batch') rig.arrive(...one.records.map(make));
        else if (one.do === 'answer') {
          if (rig.fetches.length > 0) await settle(one.index, one.ok);
        } else if (rig.deliveries.length > 0) await finish(one.index, one.ok);
        check();
      }
      await turn();
      while (rig.fetches.length > 0) await settle(0, 1);
      while (rig.deliveries.length > 0) await finish(0, 1);
      await turn();
      const totals = rig.ledger.totals(rig.processor.parked, rig.outbox.size);
      assert.deepEqual([totals.accepted, totals.parked, totals.inOutbox], [accepted, 0, 0]);
      assert.equal(rig.imbalance(), 0);
      assert.equal(rig.processor.parkedBytes, 0);
      assert.equal(totals.deadLettered, rig.deadLetters.length);
      seen.deadLettered += totals.deadLettered;
      seen.expired += rig.manager.stats.expired;
      for (const user of OWN) {
        const offsets = rig.bodies.filter((one) => one.userId === user).map((one) => one.offset);
        assert.deepEqual(
          offsets,
          [...new Set(offsets)].sort((x, y) => x - y),
        );
      }
      assert.deepEqual(rig.faults, []);
    }),
    { seed: 16, numRuns: 60 },
  );
  for (const [name, count] of Object.entries(seen)) assert.ok(count > 5, `${name}: ${count}`);
});

test('P50: a record that was accepted before is cut out of its frame, unparsed', () => {
  const rig = new Rig({ api: false });
  const [a, b] = OWN;
  const [first, second, third] = [rig.event(a), rig.event(b), rig.event(a)];
  rig.arrive(first, second);
  rig.arrive(first, third, second);
  const { processed, repeats } = rig.processor.stats;
  assert.deepEqual([processed, repeats], [3, 2]);
  assert.equal(rig.ledger.totals(0, 0).accepted, 3);
  assert.deepEqual(rig.processor.accepted.positions(), [{ split: SPLIT.index, offset: 3 }]);
});

test('people see a user, its parked events, deliveries, decisions; nothing changes', async () => {
  const rig = new Rig();
  const [a] = OWN;
  const parts = { processor: rig.processor, outbox: rig.outbox };
  const ask = (userId: string, keyGroup = keyGroupOf(userId, GROUPS)) => {
    const limits = { historyLimit: 10, maxBytes: 1 << 20 };
    return rig.inspection.answer({ kind: 'user', userId, keyGroup, ...limits }, parts);
  };
  const of = (userId: string) => {
    const answer = ask(userId);
    assert.ok(answer.kind === 'user', JSON.stringify(answer));
    return answer;
  };
  rig.arrive(rig.event(a), rig.event(a, { triggerable: true }));
  const waiting = of(a);
  assert.deepEqual([waiting.found, waiting.parked, waiting.decisions], [null, 2, []]);
  assert.equal(rig.fetches.length, 1, 'a look asks the Profile API for nothing');
  rig.now += 30_000;
  await rig.answer();
  rig.now += 5;
  rig.arrive(rig.event(a, { triggerable: true }));
  const before = rig.manager.stats;
  const { found, parked, outbox, decisions } = of(a);
  assert.deepEqual([parked, outbox, found?.historyEvents], [0, 2, 4]);
  assert.deepEqual(
    decisions.map(({ at, offset, verdict }) => [at - T0, offset, verdict]),
    [
      [30_005, 2, 'match'],
      [30_000, 1, 'match'],
      [30_000, 0, 'no-match'],
    ],
  );
  assert.deepEqual(JSON.parse(found!.history)[0], { old: 1 });
  assert.equal(JSON.parse(found!.visit!).event_count, 10);
  assert.deepEqual(rig.manager.stats, before);
  await rig.deliver();
  assert.equal(of(a).outbox, 1);
  assert.equal(of('nobody-knows').found, null);
  const foreign = ask(FOREIGN[0]);
  assert.deepEqual([foreign.kind, foreign.kind === 'failed' && foreign.code], ['failed', 'moved']);
  const early = rig.inspection.answer({ kind: 'hot-keys', by: 'events', top: 1 }, null);
  assert.deepEqual(early.kind === 'failed' && early.code, 'restoring');
  const hot = rig.inspection.answer({ kind: 'hot-keys', by: 'events', top: 5 }, parts);
  assert.ok(hot.kind === 'hot-keys');
  assert.deepEqual(
    hot.keys.map(({ userId, events, stateBytes }) => [userId, events, stateBytes]),
    [[a, 3, of(a).found!.bytes]],
  );
});

test('a tap shows each stage of a record, with the verdict and why it was dropped', async () => {
  const rig = new Rig({ filter: filterOf('event.n > 3 && event.triggerable') });
  const [a, b] = OWN;
  const parts = { processor: rig.processor, outbox: rig.outbox };
  const stages = ['keyed', 'enriched', 'matched', 'fired', 'dropped'] as const;
  const fetch = () =>
    stages.flatMap((stage) => {
      const tap = { id: stage, stage, userId: null };
      const answer = rig.inspection.answer({ kind: 'tap', tap }, parts);
      assert.ok(answer.kind === 'tapped');
      return answer.records.map((record) => ({ ...record, at: 0 }));
    });
  fetch();
  rig.arrive(rig.event(a), rig.event(b, { n: 9, triggerable: true }));
  await rig.answer();
  await rig.answer();
  rig.arrive(rig.event(a, { n: 5 }), rig.record('{"user_id":', 1));
  await rig.deliver();
  const seen = fetch().map(({ stage, userId, offset, verdict, reason, event, user }) => {
    const parsed = JSON.parse(event) as { n?: number } | string;
    const n = typeof parsed === 'string' ? parsed : parsed.n;
    return [stage, userId, offset, n, verdict, reason?.slice(0, 30) ?? null, user];
  });
  const country = '{"country":"US"}';
  assert.deepEqual(seen, [
    ['keyed', a, 0, 0, null, null, undefined],
    ['keyed', b, 1, 9, null, null, undefined],
    ['keyed', a, 2, 5, null, null, undefined],
    ['enriched', a, 0, 0, null, null, country],
    ['enriched', b, 1, 9, null, null, country],
    ['enriched', a, 2, 5, null, null, country],
    ['matched', b, 1, 9, 'match', null, undefined],
    ['fired', b, 1, 9, 'match', null, undefined],
    ['dropped', a, 0, 0, 'no-match', 'the filter did not match', undefined],
    ['dropped', null, 3, '{"user_id":', null, 'to the dead letter: value is n', undefined],
    ['dropped', a, 2, 5, 'error', '&& needs a boolean, not nil, a', undefined],
  ]);
});
