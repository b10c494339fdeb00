import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { openSegment } from '../checkpoint/segment-reader.ts';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { viewOf } from '../runtime/copy-words.ts';
import { type Env, realEnv } from '../runtime/env.ts';
import type { DeltaLog } from './delta-log.ts';
import { RecordingBackend } from './recording-backend.ts';
import * as rows from './rows.ts';
import type { UserState } from './user-state.ts';
import { UserStateManager } from './user-state-manager.ts';

const GROUPS = 4;
const RANGE = { first: 0, last: GROUPS - 1 };
const TTL_MS = 1000;
/** Of the day 2027; far above zero, as every record's time is. */
const T0 = 1_800_000_000_000;

/** No wall clock decides anything here (P36): looking at it is a failure. */
const env: Env = {
  ...realEnv,
  monotonic: () => 0,
  now: () => assert.fail('the wall clock was asked'),
};

class Rig {
  readonly backend = new RecordingBackend();
  readonly manager: UserStateManager;
  #n = 0;

  constructor(cacheBytes = 1 << 24) {
    this.manager = new UserStateManager(this.backend, env, {
      limits: { historyMaxEvents: 20, maxBytesPerUser: 1 << 20 },
      ttlMs: TTL_MS,
      cacheBytes,
      delta: { range: RANGE, limitBytes: 1 << 20, spoolPath: null },
    });
  }

  user(id: string): UserState | undefined {
    if (this.manager.cached(id) === undefined) {
      this.manager.load(new Map([[id, keyGroupOf(id, GROUPS)]]));
    }
    return this.manager.cached(id);
  }

  /** What the processor does with an event, TTL apart. */
  event(id: string, time = T0, pad = 0, readHistory = false): UserState {
    const { manager } = this;
    const answer = { kind: 'found', profile: '{"p":1}', visit: '{}', history: [] } as const;
    let user = this.user(id);
    user ??= manager.create(id, keyGroupOf(id, GROUPS), { ...answer, history: [] }, time);
    const parsed = { n: this.#n++, pad: 'x'.repeat(pad) };
    const raw = JSON.stringify(parsed);
    const source = Buffer.from(raw);
    if (readHistory) user.history(manager.stored, null);
    const text = { source, view: viewOf(source), start: 0, end: source.length };
    manager.append(user, { ...text, parsed, timestamp: time, time });
    return user;
  }

  drain(): DeltaLog {
    while (!this.manager.flushSlice(0));
    return this.manager.takeClosedDelta();
  }

  /** Event counts of the user's heads that the backend got, in order. */
  writtenHeads(id: string): number[] {
    const heads = this.backend.written.filter(({ key, value }) => {
      return value !== null && value.length > 0 && rows.isHeadKey(key);
    });
    return heads
      .filter(({ key }) => rows.parseKey(key).userId === id)
      .map(({ value }) => rows.decodeHead(value!).eventCount);
  }

  history(id: string): number[] {
    const texts = this.user(id)!.historyTexts(this.manager.stored);
    return texts.map((text) => (JSON.parse(text) as { n: number }).n);
  }
}

/** Event counts of the heads in a delta; null = tombstone. */
async function headsOf(delta: DeltaLog): Promise<Record<string, number | null>> {
  const found: Record<string, number | null> = {};
  for await (const segment of delta.seal(0, 1)) {
    const reader = await openSegment(segment.content, 'delta');
    for (const group of reader.groups.keys()) {
      for await (const batch of reader.readGroup(group)) {
        for (const { key, value } of batch.filter((row) => rows.isHeadKey(row.key))) {
          const { userId } = rows.parseKey(key);
          found[userId] = value === null ? null : rows.decodeHead(value).eventCount;
        }
      }
    }
  }
  return found;
}

async function marksOf({ backend, manager }: Rig, time: number) {
  const marks = [];
  const range = manager.expiry.expiredRange(time);
  for await (const batch of backend.scan({ ...range, maxRows: 100, maxBytes: 1 << 20 })) {
    marks.push(...batch.map(({ key }) => manager.expiry.parse(key)));
  }
  return marks;
}

test('expired at ttl + 1, not at ttl; never backwards, never without a time', () => {
  const rig = new Rig();
  const user = rig.event('u', T0);
  assert.equal(rig.manager.isExpired(user, T0 + TTL_MS), false);
  assert.equal(rig.manager.isExpired(user, T0 + TTL_MS + 1), true);
  assert.equal(rig.manager.isExpired(user, T0 - 10 * TTL_MS), false);
  assert.equal(rig.manager.isExpired(user, -1), false);
  const timeless = rig.event('timeless', -1);
  assert.equal(rig.manager.isExpired(timeless, T0), false);
});

test('an event of a slower split never moves the last access back', () => {
  const rig = new Rig();
  const user = rig.event('u', T0);
  rig.event('u', T0 - 5 * TTL_MS);
  assert.equal(user.lastAccess, T0);
  assert.equal(rig.manager.isExpired(user, T0 + TTL_MS), false);
});

test('the last access survives an eviction', () => {
  const rig = new Rig(1);
  rig.event('u', T0);
  rig.event('v', T0 + 7);
  rig.manager.settle();
  rig.event('w', T0);
  rig.manager.settle();
  assert.equal(rig.manager.stats.cached, 1);
  assert.equal(rig.user('u')!.lastAccess, T0);
  assert.equal(rig.user('v')!.lastAccess, T0 + 7);
});

test('a frozen user is forked: the barrier image in D(i), the event in D(i+1)', async () => {
  const rig = new Rig();
  rig.event('u');
  rig.event('other');
  rig.manager.freeze();
  rig.event('u');
  rig.event('late');
  assert.deepEqual(await headsOf(rig.drain()), { u: 1, other: 1 });
  rig.manager.freeze();
  assert.deepEqual(await headsOf(rig.drain()), { u: 2, late: 1 });
});

test('evicted after the barrier: each interval has its image, the backend the newest', async () => {
  const rig = new Rig(1);
  rig.event('u');
  rig.manager.freeze();
  rig.event('u');
  rig.event('filler');
  rig.manager.settle();
  assert.deepEqual(rig.writtenHeads('u'), [2], 'P6');
  assert.deepEqual(await headsOf(rig.drain()), { u: 1 });
  rig.manager.freeze();
  assert.equal((await headsOf(rig.drain()))['u'], 2);
});

test('a live user has its head written once it goes, not at each barrier', async () => {
  const rig = new Rig(1);
  for (let barrier = 1; barrier <= 3; barrier++) {
    rig.event('u');
    rig.manager.freeze();
    assert.deepEqual(await headsOf(rig.drain()), { u: barrier });
  }
  assert.deepEqual(rig.writtenHeads('u'), []);
  rig.event('filler');
  rig.manager.settle();
  assert.equal(rig.manager.cached('u'), undefined);
  assert.deepEqual(rig.writtenHeads('u'), [3]);
  assert.deepEqual(rig.history('u'), [0, 1, 2]);
});

test('a base finds the heads of all live users of its key group, as they are', () => {
  const rig = new Rig();
  for (let n = 0; n < 200; n++) rig.event(`u${n}`);
  rig.manager.freeze();
  rig.drain();
  rig.event('u7');
  const gone = rig.user('u8')!;
  rig.manager.drop(gone);
  for (let group = 0; group < GROUPS; group++) while (!rig.manager.unwritten.writeHeads(group));
  const written = Array.from({ length: 200 }, (_, n) => rig.writtenHeads(`u${n}`));
  const expected = written.map((_, n) => (n === 7 ? [2] : n === 8 ? [] : [1]));
  assert.deepEqual(written, expected);
  for (let group = 0; group < GROUPS; group++)
    assert.equal(rig.manager.unwritten.writeHeads(group), true);
  assert.deepEqual(rig.writtenHeads('u7'), [2], 'once');
});

test('a user dropped after the barrier is whole in D(i) and a tombstone in D(i+1)', async () => {
  const rig = new Rig();
  const user = rig.event('u');
  rig.manager.freeze();
  rig.manager.drop(user);
  assert.equal(rig.user('u'), undefined);
  assert.deepEqual(await headsOf(rig.drain()), { u: 1 });
  rig.manager.freeze();
  assert.deepEqual(await headsOf(rig.drain()), { u: null });
  assert.equal(rig.manager.stats.users, 0);
});

test('a user dropped and created anew in one interval starts from nothing', async () => {
  const rig = new Rig();
  for (let n = 0; n < 30; n++) rig.event('u');
  rig.manager.freeze();
  rig.drain();
  rig.manager.drop(rig.user('u')!);
  rig.event('u');
  assert.deepEqual(rig.history('u'), [30]);
  rig.manager.freeze();
  assert.deepEqual(await headsOf(rig.drain()), { u: 1 });
  rig.manager.unwritten.writeHeads(keyGroupOf('u', GROUPS));
  const left = rig.backend.stats()['rows']!;
  assert.equal(left, 3, 'head, profile and one mark: no chunk of the former life');
});

test('a slice ends with the clock; what is left stays findable and comes later', () => {
  const rig = new Rig();
  for (let n = 0; n < 40; n++) rig.event(`u${n}`);
  rig.manager.freeze();
  assert.equal(rig.manager.flushSlice(0), false);
  const left = rig.manager.frozenUsers;
  assert.ok(left > 0 && left < 40, `${left} left`);
  assert.equal(rig.manager.isFrozen(rig.user('u39')!), true);
  assert.throws(() => rig.manager.takeClosedDelta(), { code: 'INVARIANT' });
  assert.throws(() => rig.manager.freeze(), { code: 'INVARIANT' }, 'P7');
  rig.drain();
  assert.equal(rig.manager.frozenUsers, 0);
});

test('an idle interval has no rows, and flushing without a barrier does nothing', async () => {
  const rig = new Rig();
  assert.equal(rig.manager.flushSlice(1), true);
  rig.manager.freeze();
  for await (const _ of rig.drain().seal(1, 2)) assert.fail('a segment of nothing');
});

test('a read never overtakes a pending write', () => {
  const rig = new Rig();
  const user = rig.event('u');
  rig.event('u', T0 + 5);
  rig.manager.freeze();
  // The fork leaves the rows of the barrier pending; the drop adds tombstones behind them.
  rig.event('u', T0 + 6);
  rig.manager.drop(user);
  assert.equal(rig.user('u'), undefined, 'the tombstone was overtaken');
});

test('torn rows, a lost chunk and a second creation end the process', () => {
  const rig = new Rig(1);
  for (let n = 0; n < 17; n++) rig.event('u');
  rig.event('v');
  rig.manager.settle();
  rig.event('w');
  rig.manager.settle();
  const prefix = rows.userPrefix(keyGroupOf('u', GROUPS), 'u');
  const lose = (row: number) => {
    const key = rows.rowKey(prefix, row);
    const [value] = rig.backend.getMany([key]);
    rig.backend.write([{ key, value: null }]);
    return () => rig.backend.write([{ key, value: value! }]);
  };
  const back = lose(rows.HEAD);
  assert.throws(() => rig.user('u'), { code: 'INVARIANT' });
  back();
  const user = rig.user('u')!;
  const profile = lose(rows.PROFILE);
  assert.throws(() => user.texts(rig.manager.stored), { code: 'INVARIANT' });
  profile();
  assert.deepEqual(user.texts(rig.manager.stored).profile, { p: 1 });
  lose(rows.CHUNK);
  assert.throws(() => user.historyTexts(rig.manager.stored), { code: 'INVARIANT' });
  const answer = { kind: 'found', profile: '{}', visit: '{}', history: [] } as const;
  const again = () => rig.manager.create('u', 0, { ...answer, history: [] }, T0);
  assert.throws(again, { code: 'INVARIANT' });
});

const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('event' as const),
      user: fc.nat(9),
      pad: fc.nat(900),
      read: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'barrier' as const }) },
  { weight: 2, arbitrary: fc.constant({ do: 'slice' as const }) },
  { weight: 2, arbitrary: fc.constant({ do: 'evict' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('drop' as const), user: fc.nat(9) }) },
);

test('the cache knows its bytes exactly and keeps to its budget, whatever happens', () => {
  let evictions = 0;
  fc.assert(
    fc.property(fc.array(step, { size: 'max', maxLength: 200 }), (steps) => {
      const rig = new Rig(12_000);
      let closing = false;
      for (const one of steps) {
        if (one.do === 'event') rig.event(`u${one.user}`, T0, one.pad, one.read);
        else if (one.do === 'drop') {
          const user = rig.manager.cached(`u${one.user}`);
          if (user !== undefined) rig.manager.drop(user);
        } else if (one.do === 'evict') {
          rig.manager.settle();
          const { cacheBytes, cached } = rig.manager.stats;
          assert.ok(cacheBytes <= 12_000 || cached === 1);
          evictions += 10 - cached;
        } else if (one.do === 'slice' && closing) {
          if (rig.manager.flushSlice(0)) {
            rig.manager.takeClosedDelta();
            closing = false;
          }
        } else if (one.do === 'barrier' && !closing) {
          rig.manager.freeze();
          closing = true;
        }
        const sum = { bytes: 0, body: 0 };
        for (let n = 0; n < 10; n++) {
          sum.bytes += rig.manager.cached(`u${n}`)?.bytes ?? 0;
          sum.body += rig.manager.cached(`u${n}`)?.bodyBytes ?? 0;
        }
        const { cacheBytes: bytes, bodyBytes: body } = rig.manager.stats;
        assert.deepEqual({ bytes, body }, sum, `after ${JSON.stringify(one)}`);
      }
    }),
    { seed: 7, numRuns: 100 },
  );
  assert.ok(evictions > 100);
});

/** To 20 users: a closed chunk, and the history parsed. */
function giveBodies(rig: Rig): void {
  for (let n = 0; n < 20; n++) {
    for (let event = 0; event < 16; event++) rig.event(`u${n}`, T0, 100, event === 15);
  }
}

test('bodies, which can be read again, go before users do', () => {
  const rig = new Rig(90_000);
  giveBodies(rig);
  const before = rig.manager.stats;
  assert.ok(before.cacheBytes > 180_000 && before.bodyBytes > 90_000, JSON.stringify(before));
  rig.manager.settle();
  const after = rig.manager.stats;
  assert.equal(after.cached, 20, 'nobody is evicted');
  assert.ok(after.cacheBytes <= 90_000 && after.bodyBytes > 0, JSON.stringify(after));
  // Of users without a body some have to go: nothing is read again for them.
  for (let n = 20; n < 60; n++) rig.event(`u${n}`, T0, 900);
  rig.manager.settle();
  assert.ok(rig.manager.stats.cached < 60 && rig.manager.stats.cacheBytes <= 90_000);
});

test('users that are gone are held by nobody, though a clock hand rests', async () => {
  const rig = new Rig(90_000);
  giveBodies(rig);
  rig.manager.settle();
  for (let n = 0; n < 20; n++) rig.manager.drop(rig.user(`u${n}`)!);
  // From here on nobody has a body: its hand has nothing to look for.
  const gone: WeakRef<UserState>[] = [];
  for (let n = 100; n < 3_000; n++) {
    gone.push(new WeakRef(rig.event(`u${n}`)));
    rig.manager.settle();
  }
  // A WeakRef holds what it names until its turn is over.
  await turn();
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  const held = gone.filter((one) => one.deref() !== undefined).length;
  assert.ok(held <= rig.manager.stats.cached, `${held} of ${gone.length}`);
});

test('what a restore still holds in memory is of the cache', () => {
  const rig = new Rig(12_000);
  for (let n = 0; n < 20; n++) rig.event(`u${n}`);
  rig.backend.heldBytes = () => 6_000;
  rig.manager.settle();
  assert.ok(rig.manager.stats.cacheBytes <= 6_000);
  rig.backend.heldBytes = () => 20_000;
  rig.manager.settle();
  assert.equal(rig.manager.stats.cached, 1, 'more than all: one user stays');
  rig.backend.heldBytes = () => 0;
  for (let n = 0; n < 20; n++) rig.event(`u${n}`);
  rig.manager.settle();
  assert.ok(rig.manager.stats.cacheBytes > 6_000);
});

test('a purge deletes every row of cold expired users, and only of them', async () => {
  const rig = new Rig(1);
  for (let n = 0; n < 12; n++) rig.event('cold', T0);
  rig.event('edge', T0 + 5000);
  rig.event('live', T0 + 5001);
  rig.manager.settle();
  rig.event('filler', T0 + 9000);
  rig.manager.settle();
  assert.equal(rig.manager.cached('cold'), undefined);
  const before = rig.manager.stats.users;
  const time = T0 + 5000 + TTL_MS;
  const users = ['cold', 'edge', 'live'].map((userId) => {
    const keyGroup = keyGroupOf(userId, GROUPS);
    const mark = rig.manager.expiry.markRow({ id: userId, keyGroup, lastAccess: T0 });
    return { key: mark!.key, keyGroup, userId };
  });
  rig.manager.purge(users, time, () => false);
  assert.equal(rig.manager.stats.users, before - 1);
  assert.equal(rig.user('cold'), undefined);
  assert.ok(rig.user('edge'), 'exactly ttl old: alive');
  assert.ok(rig.user('live'));
  rig.manager.freeze();
  const heads = await headsOf(rig.drain());
  assert.equal(heads['cold'], null);
  assert.equal(heads['edge'], 1);
  const cold = rig.backend.getMany(
    [0, 8].map((seq) =>
      rows.rowKey(rows.userPrefix(keyGroupOf('cold', GROUPS), 'cold'), rows.CHUNK, seq),
    ),
  );
  assert.deepEqual(cold, [undefined, undefined]);
});

test('a purge drops a cached expired user, keeps a busy one and its mark', async () => {
  const rig = new Rig();
  for (const id of ['gone', 'busy', 'back']) rig.event(id, T0);
  rig.manager.freeze();
  rig.drain();
  const time = T0 + 60_000;
  rig.event('back', time - 1);
  const marks = await marksOf(rig, time);
  assert.deepEqual(marks.map(({ userId }) => userId).sort(), ['back', 'busy', 'gone']);
  rig.manager.purge(marks, time, (userId) => userId === 'busy');
  assert.equal(rig.manager.cached('gone'), undefined);
  assert.ok(rig.manager.cached('busy'));
  assert.ok(rig.manager.cached('back'), 'accessed since its mark');
  const left = await marksOf(rig, time);
  assert.deepEqual(
    left.map(({ userId }) => userId),
    ['busy'],
    'it is looked at again',
  );
  rig.manager.purge(left, time, () => false);
  assert.deepEqual(await marksOf(rig, time), []);
  assert.equal(rig.manager.stats.expired, 2);
  rig.manager.freeze();
  rig.drain();
  const later = await marksOf(rig, time + 60_000);
  assert.deepEqual(
    later.map(({ userId }) => userId),
    ['back'],
    'the later access bears its own mark',
  );
});

test('stale marks of a user that is long gone do no harm', async () => {
  const rig = new Rig();
  const mark = rig.manager.expiry.markRow({ id: 'ghost', keyGroup: 1, lastAccess: T0 })!;
  rig.backend.write([mark]);
  const marks = await marksOf(rig, T0 + 60_000);
  rig.manager.purge(marks, T0 + 60_000, () => false);
  assert.equal(rig.manager.stats.expired, 0);
  assert.equal(rig.backend.stats()['rows'], 0);
});

test('a purge after the barrier enters the open delta only', async () => {
  const rig = new Rig();
  rig.event('u', T0);
  rig.manager.freeze();
  rig.drain();
  rig.event('u', T0 + 1);
  rig.manager.freeze();
  rig.manager.purge(await marksOf(rig, T0 + 60_000), T0 + 60_000, () => false);
  assert.deepEqual(await headsOf(rig.drain()), { u: 2 });
  rig.manager.freeze();
  assert.deepEqual(await headsOf(rig.drain()), { u: null });
});
