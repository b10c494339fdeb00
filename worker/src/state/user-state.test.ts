import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../runtime/copy-words.ts';
import type { JsonObject } from '../runtime/json.ts';
import { decodeUser } from './decode-user.ts';
import { fieldSetOf } from './profile-fields.ts';
import type { UserRow } from './rows.ts';
import * as rows from './rows.ts';
import { SlabArena } from './slab-arena.ts';
import { type RowReader, type UserLimits, UserState } from './user-state.ts';

const LIMITS: UserLimits = { historyMaxEvents: 100, maxBytesPerUser: 16 * 1024 * 1024 };

/** The rows of one user as a backend would hold them. */
class Stored {
  readonly rows = new Map<string, Buffer>();

  write(ops: readonly UserRow[]): void {
    for (const { key, value } of ops) {
      if (value === null) this.rows.delete(key.toString('latin1'));
      else this.rows.set(key.toString('latin1'), value);
    }
  }

  row(user: UserState, kind: number, seq = 0): Buffer {
    const prefix = rows.userPrefix(user.keyGroup, user.id);
    const row = this.rows.get(rows.rowKey(prefix, kind, seq).toString('latin1'));
    assert.ok(row, `row ${kind}/${seq} is not stored`);
    return row;
  }

  read: RowReader = {
    profile: (user) => this.row(user, rows.PROFILE),
    chunks: (user, seqs) => seqs.map((seq) => this.row(user, rows.CHUNK, seq)),
  };

  load(id: string): UserState {
    const prefix = rows.userPrefix(3, id);
    const row = (kind: number) => this.rows.get(rows.rowKey(prefix, kind).toString('latin1'))!;
    return UserState.fromHead(arena, id, 3, row(rows.HEAD));
  }

  decoded(): ReturnType<typeof decodeUser> {
    const own = new Map<string, Buffer>();
    for (const [text, value] of this.rows) {
      const { row, chunk } = rows.parseKey(Buffer.from(text, 'latin1'));
      own.set(`${row}/${chunk}`, value);
    }
    return decodeUser(own);
  }
}

const arena = new SlabArena();
/** For users that have all in memory. */
const unread: RowReader = {
  profile: () => assert.fail('the profile was read'),
  chunks: () => assert.fail('chunks were read'),
};
/** Chunk rows that came of events and were not written yet, per user. */
const chunkRows = new WeakMap<UserState, UserRow[]>();

function fresh(history: string[] = [], limits = LIMITS, visit = '{"v":1}'): UserState {
  const answer = { profile: '{"country":"US"}', visit, history };
  const newcomer = { id: 'u', keyGroup: 3, lastAccess: 1000, fetchedBy: 0 };
  const out: UserRow[] = [];
  const user = UserState.fromAnswer(arena, newcomer, answer, limits, out);
  chunkRows.set(user, out);
  return user;
}

function append(user: UserState, raw: string, limits = LIMITS, time = 2000): number {
  const parsed = JSON.parse(raw) as JsonObject;
  // Not at the buffer's ends, and gone afterwards: as a frame's bytes are.
  const source = Buffer.from(`??${raw}??`);
  const text = { source, view: viewOf(source), start: 2, end: source.length - 2 };
  const event = { ...text, parsed, timestamp: time, time };
  const out = chunkRows.get(user) ?? [];
  chunkRows.set(user, out);
  const truncated = user.append(event, limits, out);
  source.fill(0);
  return truncated;
}

function closedChunks(user: UserState): UserRow[] {
  const chunks = chunkRows.get(user) ?? [];
  chunkRows.set(user, []);
  return chunks;
}

/** What a manager writes: chunks as they close, the rest when the rows are taken. */
function written(user: UserState): UserRow[] {
  return [...closedChunks(user), ...user.takeRows()];
}

function joinedHistory(user: UserState, read: RowReader): string {
  const history = user.openHistory(read);
  const bytes = Buffer.alloc(history.joinedBytes + 2, '?');
  assert.equal(history.copyJoined(bytes, 1), bytes.length - 1);
  return bytes.toString('utf8', 1, bytes.length - 1);
}

const sizeOf = (ops: readonly UserRow[]) =>
  ops.reduce((sum, { key, value }) => sum + key.length + (value?.length ?? 0), 0);

test('the history keeps exactly the last maxEvents, for any maxEvents', () => {
  for (let maxEvents = 0; maxEvents <= 25; maxEvents++) {
    const limits = { ...LIMITS, historyMaxEvents: maxEvents };
    const stored = new Stored();
    const user = fresh(['{"old":1}', '{"old":2}'], limits);
    const all = ['{"old":1}', '{"old":2}'];
    for (let n = 0; n < 60; n++) {
      const raw = `{"n":${n}}`;
      append(user, raw, limits);
      all.push(raw);
      if (n % 7 === 3) stored.write(written(user));
      assert.equal(user.historyCount, maxEvents === 0 ? 0 : Math.min(maxEvents, all.length));
      const wanted = maxEvents === 0 ? [] : all.slice(-maxEvents);
      assert.deepEqual(user.historyTexts(stored.read), wanted, `${maxEvents} after ${n}`);
      assert.equal(joinedHistory(user, stored.read), wanted.join(','));
      assert.deepEqual(
        user.history(stored.read, null),
        wanted.map((one) => JSON.parse(one)),
      );
    }
    assert.equal(user.truncated, 0, 'maxEvents is a window, not a truncation');
  }
});

test("the API's history is cut to the limits, oldest first", () => {
  const history = Array.from({ length: 250 }, (_, n) => `{"h":${n}}`);
  const user = fresh(history);
  assert.deepEqual(user.historyTexts(new Stored().read), history.slice(-100));
  const small = fresh(history, { historyMaxEvents: 1000, maxBytesPerUser: 500 });
  const kept = small.historyTexts(new Stored().read);
  assert.ok(small.storedBytes <= 500);
  assert.deepEqual(kept, history.slice(-kept.length));
  assert.equal(small.truncated, 250 - kept.length);
});

/** A step of the property: an event of about `bytes`, or what may happen between two events. */
const step = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant('event' as const), bytes: fc.nat(3000) }) },
  { weight: 2, arbitrary: fc.constant({ do: 'write' as const }) },
  { weight: 2, arbitrary: fc.constant({ do: 'reload' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'read' as const }) },
);

function playHistory(steps: readonly { do: string; bytes?: number }[], limits: UserLimits) {
  const calm = { user: fresh([], limits), stored: new Stored() };
  const wild = { user: fresh([], limits), stored: new Stored() };
  const all: string[] = [];
  for (const one of steps) {
    if (one.do === 'event') {
      // Two and four byte characters: units and bytes differ.
      const raw = JSON.stringify({ n: all.length, pad: 'ä😀x'.repeat(one.bytes! / 7) });
      all.push(raw);
      append(calm.user, raw, limits, all.length);
      append(wild.user, raw, limits, all.length);
    } else if (one.do === 'read') {
      // P1: a read never overtakes a pending write.
      wild.stored.write(closedChunks(wild.user));
      wild.user.historyTexts(wild.stored.read);
    } else {
      wild.stored.write(written(wild.user));
      if (one.do === 'reload') wild.user = wild.stored.load('u');
    }
  }
  for (const { user, stored } of [calm, wild]) stored.write(written(user));
  return { calm, wild, all };
}

test('rows, chunk boundaries and history do not depend on writes, evictions and reads', () => {
  let reloads = 0;
  let truncations = 0;
  fc.assert(
    fc.property(
      fc.array(step, { size: 'max', maxLength: 150 }),
      fc.constantFrom(
        { historyMaxEvents: 10, maxBytesPerUser: 1 << 24 },
        { historyMaxEvents: 1000, maxBytesPerUser: 20_000 },
        { historyMaxEvents: 30, maxBytesPerUser: 20_000 },
      ),
      (steps, limits) => {
        const { calm, wild, all } = playHistory(steps, limits);
        reloads += steps.filter((one) => one.do === 'reload').length;
        const sorted = (stored: Stored) => [...stored.rows].sort(([a], [b]) => (a < b ? -1 : 1));
        assert.deepEqual(sorted(wild.stored), sorted(calm.stored));
        const { history } = calm.stored.decoded();
        assert.deepEqual(history, history.length === 0 ? [] : all.slice(-history.length));
        assert.ok(history.length <= limits.historyMaxEvents);
        assert.equal(calm.user.historyCount, history.length);
        assert.equal(wild.user.historyCount, history.length);
        if (calm.user.truncated === 0) {
          assert.equal(history.length, Math.min(all.length, limits.historyMaxEvents));
        } else truncations++;
        // Below one chunk's worth of tail there is nothing left to drop.
        assert.ok(calm.user.storedBytes <= limits.maxBytesPerUser);
      },
    ),
    { seed: 6, numRuns: 200 },
  );
  assert.ok(reloads > 100 && truncations > 10, `${reloads} reloads, ${truncations} truncations`);
});

test('one more event of a 16 MB user costs its own rows only', (t) => {
  const stored = new Stored();
  const user = fresh();
  const raw = (n: number) => `{"n":${n},"pad":"${'x'.repeat(160 * 1024 - 30)}"}`;
  for (let n = 0; n < 100; n++) append(user, raw(n));
  stored.write(written(user));
  assert.ok(user.storedBytes > 16_000_000);
  assert.equal(user.truncated, 0);
  const own = raw(100).length;
  append(user, raw(100));
  const big = written(user);
  stored.write(big);
  t.diagnostic(`an event of ${own} bytes wrote ${sizeOf(big)}`);
  assert.ok(sizeOf(big) < own + 2048, `${sizeOf(big)} bytes`);
  assert.equal(big.filter(({ value }) => value === null).length, 1, 'the oldest chunk goes');
  append(user, '{"n":101}');
  const small = sizeOf(written(user));
  assert.ok(small < 2048, `a small event of a 16 MB user wrote ${small} bytes`);
});

test('a small user pays a constant per event too, once the history is full', () => {
  const user = fresh();
  for (let n = 0; n < 300; n++) append(user, `{"n":${n},"pad":"${'x'.repeat(150)}"}`);
  written(user);
  let sum = 0;
  for (let n = 0; n < 80; n++) {
    append(user, `{"n":${n},"pad":"${'x'.repeat(150)}"}`);
    sum += sizeOf(written(user));
  }
  // Head, the tail of up to 16 events, and the chunk it becomes: never the 17 KB of history.
  assert.ok(sum / 80 < 1700, `${sum / 80} bytes per event`);
});

test('beyond maxBytesPerUser whole chunks go, are deleted and are counted', () => {
  const limits = { historyMaxEvents: 1000, maxBytesPerUser: 50_000 };
  const stored = new Stored();
  const user = fresh([], limits);
  let truncated = 0;
  for (let n = 0; n < 30; n++) {
    truncated += append(user, `{"n":${n},"pad":"${'x'.repeat(5000)}"}`, limits);
    stored.write(written(user));
    assert.ok(user.storedBytes <= 50_000);
  }
  const kept = stored.decoded().history;
  assert.equal(truncated, 30 - kept.length);
  assert.equal(user.truncated, truncated);
  assert.equal(stored.rows.size, 2 + kept.length, 'a dropped chunk leaves a row behind');
});

test('an event larger than the user may be, and a profile that fills it, keep no history', () => {
  const limits = { historyMaxEvents: 10, maxBytesPerUser: 6000 };
  const user = fresh([], limits);
  assert.equal(append(user, `{"pad":"${'x'.repeat(9000)}"}`, limits), 1);
  assert.deepEqual(user.historyTexts(new Stored().read), []);
  append(user, '{"n":1}', limits);
  assert.deepEqual(user.historyTexts(new Stored().read), ['{"n":1}']);
  assert.equal((user.visit(unread) as { event_count: number }).event_count, 2, 'it still counts');
});

test('the visit keeps what the API said and moves its counters', () => {
  const user = fresh([], LIMITS, '{"event_count":40,"last_event_name":"old","x":[1]}');
  assert.deepEqual(user.visit(unread), { event_count: 40, last_event_name: 'old', x: [1] });
  append(user, '{"event_name":"click","timestamp":"2026-01-01T00:00:00Z"}');
  append(user, '{"event_name":"buy","timestamp":17}');
  const after = { event_count: 42, last_event_name: 'buy', last_event_at: 17, x: [1] };
  assert.deepEqual(user.visit(unread), after);
  const stored = new Stored();
  stored.write(written(user));
  assert.deepEqual(stored.load('u').visit(stored.read), after);
  assert.deepEqual(JSON.parse(stored.decoded().visitText), after);
});

test('a visit that stays parsed and one parsed anew each time agree', () => {
  const pad = 'p'.repeat(20_000);
  for (const start of ['7', '"seven"', 'null', '{}']) {
    const big = fresh([], LIMITS, `{"event_count":${start},"pad":"${pad}"}`);
    const small = fresh([], LIMITS, `{"event_count":${start},"pad":""}`);
    for (let n = 0; n < 5; n++) {
      append(big, `{"event_name":"e${n}"}`);
      append(small, `{"event_name":"e${n}"}`);
      assert.equal(
        JSON.stringify(big.visit(unread)).replace(pad, ''),
        JSON.stringify(small.visit(unread)),
      );
    }
  }
});

test('the fields of a profile: those asked for, the whole where one is not short', () => {
  const of = (profile: string, names: string[]) => {
    const newcomer = { id: 'u', keyGroup: 3, lastAccess: 1000, fetchedBy: 0 };
    const answer = { profile, visit: '{}', history: [] };
    const user = UserState.fromAnswer(arena, newcomer, answer, LIMITS, []);
    const set = fieldSetOf(names);
    user.prepare(set);
    const prepared = user.knownFields(set);
    const first = user.fields(set, unread);
    if (prepared !== null) assert.deepEqual(prepared, first, 'taken out at once');
    assert.deepEqual(user.fields(set, unread), first, 'the second time from memory');
    const [head, row] = user.takeRows().map(({ value }) => value!);
    assert.equal(user.hasTexts, prepared === null, 'kept if the head did not answer');
    const stored = UserState.fromHead(arena, 'u', 3, head!);
    const read = { ...unread, profile: () => row! };
    const known = stored.knownFields(set);
    assert.deepEqual(known, user.knownFields(set));
    assert.deepEqual(stored.fields(set, known === null ? read : unread), first, 'from the row');
    const other = fieldSetOf(['other']);
    assert.equal(stored.knownFields(other), null, 'another script asks anew');
    assert.deepEqual(stored.fields(other, read), user.fields(other, read));
    return first;
  };
  const profile = `{"country":"US","n":null,"tags":[1],"long":"${'x'.repeat(65)}"}`;
  assert.deepEqual(of(profile, ['country', 'n', 'absent']), { country: 'US', n: null });
  assert.deepEqual(of(profile, []), {});
  for (const name of ['tags', 'long']) {
    assert.deepEqual(of(profile, ['country', name]), JSON.parse(profile));
  }
  const numbers = '{"zero":-0,"huge":1e400,"country":"\\ud800"}';
  assert.ok(Object.is((of(numbers, ['zero']) as { zero: number }).zero, -0));
  assert.equal((of(numbers, ['huge']) as { huge: number }).huge, Number.POSITIVE_INFINITY);
  assert.deepEqual(of(numbers, ['country']), { country: '\ud800' });
  const many = Object.fromEntries([...Array(9).keys()].map((n) => [`f${n}`, 'x'.repeat(30)]));
  assert.deepEqual(of(JSON.stringify({ ...many, a: 1 }), Object.keys(many)), { ...many, a: 1 });
  const own = of('{"__proto__":{"x":1}}', ['__proto__']);
  assert.ok(Object.hasOwn(own as object, '__proto__'));
  assert.equal(of('"text"', ['length']), 'text');
  assert.deepEqual(of('{"constructor":1}', ['constructor', 'toString']), { constructor: 1 });
});

test('last_event_at: the field, else the record, else null', () => {
  const user = fresh();
  const at = (raw: string, timestamp: number) => {
    append(user, raw, LIMITS, timestamp);
    return user.visit(unread)['last_event_at'];
  };
  assert.equal(at('{"timestamp":5}', 9), 5);
  assert.equal(at('{"timestamp":null}', 9), 9);
  assert.equal(at('{}', -1), null);
  assert.equal(user.lastAccess, 1000, 'a smaller time never moves the last access back');
});

/** P33, I1: what a body says must not depend on whether the user was evicted in between. */
test('the last event name survives a reload, a lone surrogate included', () => {
  const user = fresh();
  append(user, '{"event_name":"\\ud800"}');
  const before = JSON.stringify(user.visit(unread));
  const stored = new Stored();
  stored.write(written(user));
  assert.equal(JSON.stringify(stored.load('u').visit(stored.read)), before);
});

test('the profile row is written once, and a clean user writes nothing but its head', () => {
  const user = fresh();
  const first = written(user).map(({ key }) => rows.parseKey(key).row);
  assert.deepEqual(first, [rows.HEAD, rows.PROFILE]);
  append(user, '{"n":1}');
  const second = written(user).map(({ key }) => rows.parseKey(key).row);
  assert.deepEqual(second, [rows.HEAD]);
});

test('tombstones name every row that may be stored, those of dropped chunks included', () => {
  const limits = { historyMaxEvents: 20, maxBytesPerUser: 1 << 20 };
  const stored = new Stored();
  const user = fresh([], limits);
  for (let n = 0; n < 40; n++) append(user, `{"n":${n}}`, limits);
  stored.write(written(user));
  // These drop chunks that are stored, and close one that is not.
  for (let n = 0; n < 12; n++) append(user, `{"n":${n}}`, limits);
  stored.write([...closedChunks(user), ...user.tombstones()]);
  assert.equal(stored.rows.size, 0);
});

test('tombstonesOf has head, profile and the chunks asked for', () => {
  const ops = rows.tombstonesOf(3, 'u', [8, 16]);
  assert.deepEqual(
    ops.map(({ key, value }) => ({ ...rows.parseKey(key), value })),
    [
      { keyGroup: 3, userId: 'u', row: rows.HEAD, chunk: 0, value: null },
      { keyGroup: 3, userId: 'u', row: rows.PROFILE, chunk: 0, value: null },
      { keyGroup: 3, userId: 'u', row: rows.CHUNK, chunk: 8, value: null },
      { keyGroup: 3, userId: 'u', row: rows.CHUNK, chunk: 16, value: null },
    ],
  );
});

test('a dump of a user with a missing chunk fails, it never shows a shorter history', () => {
  const user = fresh(Array.from({ length: 17 }, (_, n) => `{"n":${n}}`));
  const own = new Map<string, Buffer>();
  for (const { key, value } of written(user)) {
    const { row, chunk } = rows.parseKey(key);
    own.set(`${row}/${chunk}`, value!);
  }
  assert.equal(decodeUser(own).history.length, 17);
  own.delete(`${rows.CHUNK}/0`);
  assert.throws(() => decodeUser(own), /is missing/);
});

test('the history of a user nobody reads costs no heap once it is written', () => {
  const user = fresh();
  for (let n = 0; n < 64; n++) append(user, `{"n":${n},"pad":"${'x'.repeat(900)}"}`);
  const before = user.bytes;
  const stored = new Stored();
  stored.write(written(user));
  assert.ok(user.bytes < before / 5, `${before} -> ${user.bytes}`);
  assert.equal(user.historyTexts(stored.read).length, 64);
});
