import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { viewOf } from '../runtime/copy-words.ts';
import { realEnv } from '../runtime/env.ts';
import { type PeekLimits, peekBytes, peekUser } from './peek-user.ts';
import { RecordingBackend } from './recording-backend.ts';
import { UserStateManager } from './user-state-manager.ts';

const GROUPS = 4;
const T0 = 1_800_000_000_000;
const ALL: PeekLimits = { events: 1_000, bytes: 1 << 24 };
const IDS = ['ann', 'bob', 'eve'];
const SEED = 20_261_126;

class Rig {
  readonly backend = new RecordingBackend();
  readonly manager: UserStateManager;
  readonly model = new Map<string, { events: string[]; lastAccess: number; count: number }>();
  readonly #maxEvents: number;
  #n = 0;

  /** `cacheBytes` 1: one user stays in memory, the others go to disk at each turn's end. */
  constructor(cacheBytes: number, maxEvents = 30) {
    this.#maxEvents = maxEvents;
    this.manager = new UserStateManager(this.backend, realEnv, {
      limits: { historyMaxEvents: maxEvents, maxBytesPerUser: 1 << 20 },
      ttlMs: 1_000,
      cacheBytes,
      delta: { range: { first: 0, last: 3 }, limitBytes: 1 << 20, spoolPath: null },
    });
  }

  event(id: string, pad = 0): void {
    const { manager, model } = this;
    const keyGroup = keyGroupOf(id, GROUPS);
    const time = T0 + this.#n;
    const answer = {
      kind: 'found',
      profile: `{"name":"${id}"}`,
      visit: '{"event_count":5}',
    } as const;
    if (manager.cached(id) === undefined) manager.load(new Map([[id, keyGroup]]));
    const user =
      manager.cached(id) ?? manager.create(id, keyGroup, { ...answer, history: [] }, time);
    const parsed = { event_name: 'view', n: this.#n++, pad: 'x'.repeat(pad) };
    const source = Buffer.from(JSON.stringify(parsed));
    const text = { source, view: viewOf(source), start: 0, end: source.length };
    manager.append(user, { ...text, parsed, timestamp: time, time });
    manager.settle();
    const known = model.get(id) ?? { events: [], lastAccess: 0, count: 0 };
    known.events = [...known.events, source.toString()].slice(-this.#maxEvents);
    model.set(id, { events: known.events, lastAccess: time, count: known.count + 1 });
  }

  barrier(): void {
    this.manager.freeze();
    while (!this.manager.flushSlice(0));
    this.manager.takeClosedDelta();
  }

  peek(id: string, limits = ALL) {
    return peekUser(this.manager, id, keyGroupOf(id, GROUPS), limits);
  }

  check(id: string): void {
    const known = this.model.get(id);
    const found = this.peek(id);
    if (known === undefined || found === null) {
      assert.equal(found, null);
      assert.equal(known, undefined);
      return;
    }
    assert.deepEqual(found.history, known.events);
    assert.equal(found.historyEvents, known.events.length);
    assert.equal(found.sequence, known.count);
    assert.equal(found.lastAccess, known.lastAccess);
    assert.deepEqual(JSON.parse(found.profileText!), { name: id });
    const visit = JSON.parse(found.visitText!) as { event_count: number };
    assert.equal(visit.event_count, 5 + known.count);
    assert.equal(peekBytes(this.manager, id, keyGroupOf(id, GROUPS)), found.bytes);
    assert.equal(found.from, this.manager.cached(id) === undefined ? 'disk' : 'memory');
  }
}

const ACT = fc.oneof(
  { weight: 6, arbitrary: fc.record({ id: fc.constantFrom(...IDS), pad: fc.nat(900) }) },
  { weight: 1, arbitrary: fc.constant('barrier' as const) },
);

test('a look shows the state as it is, and leaves no trace in it', () => {
  fc.assert(
    fc.property(
      fc.array(ACT, { maxLength: 120, size: 'max' }),
      fc.constantFrom(1, 1 << 24),
      (acts, cacheBytes) => {
        const [looked, alone] = [new Rig(cacheBytes, 10), new Rig(cacheBytes, 10)];
        for (const act of acts) {
          for (const rig of [looked, alone]) {
            if (act === 'barrier') rig.barrier();
            else rig.event(act.id, act.pad);
          }
          const before = looked.manager.stats;
          const { length } = looked.backend.written;
          for (const id of [...IDS, 'nobody']) looked.check(id);
          assert.deepEqual(looked.manager.stats, before);
          assert.equal(looked.backend.written.length, length);
        }
        for (const rig of [looked, alone]) rig.barrier();
        assert.deepEqual(looked.backend.written, alone.backend.written);
        assert.deepEqual(looked.manager.stats, alone.manager.stats);
      },
    ),
    { seed: SEED, numRuns: 60 },
  );
});

test('of a long history the newest events that fit are shown', () => {
  const rig = new Rig(1 << 24);
  for (let n = 0; n < 30; n++) rig.event('ann', 500);
  const all = rig.model.get('ann')!.events;
  for (const [events, bytes, shown] of [
    [7, 1 << 20, 7],
    [0, 1 << 20, 0],
    [20, 1 << 20, 20],
    [30, 3_000, 5],
    [30, 20, 0],
  ] as const) {
    const found = rig.peek('ann', { events, bytes })!;
    assert.deepEqual(found.history, all.slice(30 - shown), `${events} events, ${bytes} bytes`);
    assert.equal(found.historyEvents, 30);
    assert.equal(found.profileText === null, bytes === 20);
  }
});
