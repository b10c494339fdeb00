/**
 * The heart against a model: random events, barriers, slices, evictions, bases, expiries and
 * crashes. After each restore the state must be the fold of the events before the restored barrier,
 * byte for byte (I1).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chainOf, collectGroup } from '../checkpoint/chain.ts';
import { MemoryStore } from '../checkpoint/memory-store.ts';
import type { FinishedSegment } from '../checkpoint/segment.ts';
import { SegmentCache } from '../checkpoint/segment-reader.ts';
import type { SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { viewOf } from '../runtime/copy-words.ts';
import { type Env, realEnv } from '../runtime/env.ts';
import { BaseBuilder } from './base-builder.ts';
import { ChainTracker } from './chain-tracker.ts';
import { decodeUser } from './decode-user.ts';
import { HydratingBackend } from './hydrating-backend.ts';
import { MemoryBackend } from './memory-backend.ts';
import { restoreState } from './restore.ts';
import { parseKey } from './rows.ts';
import { UserStateManager } from './user-state-manager.ts';

const GROUPS = 8;
const RANGE = { first: 0, last: GROUPS - 1 };
const LIMITS = { historyMaxEvents: 20, maxBytesPerUser: 100_000 };
/** Most users expire soon, or hardly one does and what was written long ago still counts. */
const TTL_MS = [50, 1_000];
/** Most users are written out soon, or none is but for bases. */
const CACHE_BYTES = [4_000, 1 << 20];

interface Limits {
  ttlMs: number;
  cacheBytes: number;
}

type Step =
  | { do: 'event'; user: number; gap: number; look: boolean }
  | { do: 'barrier' }
  | { do: 'slice' }
  | { do: 'base' }
  | { do: 'purge' }
  | { do: 'hydrate' }
  | { do: 'crash'; restore: 'heads held' | 'heads written' | 'all written' };

interface ModelUser {
  history: string[];
  count: number;
  lastAccess: number;
}
type Model = Map<string, ModelUser>;

/** Of any length: users of different lengths meet in one block. */
const nameOf = (user: number) => `user-${user}${'-long'.repeat((user % 3) * 4)}`;

const newBackend = (headBytes = 1 << 24) =>
  new HydratingBackend(new MemoryBackend(), 1 << 24, headBytes);

const cloneModel = (model: Model): Model =>
  new Map([...model].map(([id, user]) => [id, { ...user, history: [...user.history] }]));

/** One task with everything around it, small enough to crash at will. */
class Rig {
  readonly store = new MemoryStore(realEnv);
  model: Model = new Map();
  time = 0;
  seq = 0;
  hits: Record<string, number> = {};
  readonly #limits: Limits;
  #backend = newBackend();
  #manager: UserStateManager;
  #chain = new ChainTracker(RANGE);
  #lastBarrier = 0;
  #closing: { id: number; model: Model; time: number } | null = null;
  #completed: { snapshot: SubtaskSnapshot; id: number; model: Model; time: number } | null = null;
  #bases: { epoch: number; segment: FinishedSegment; groupBytes: Map<number, number> }[] = [];
  #ids = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
    this.#manager = this.#newManager();
  }

  #newManager(): UserStateManager {
    // A clock that never moves: every slice ends after its first handful of users.
    const env: Env = { ...realEnv, monotonic: () => 0 };
    return new UserStateManager(this.#backend, env, {
      limits: LIMITS,
      ...this.#limits,
      delta: { range: RANGE, limitBytes: 1 << 20, spoolPath: null },
    });
  }

  async run(step: Step): Promise<void> {
    this.hits[step.do] = (this.hits[step.do] ?? 0) + 1;
    if (step.do === 'event') this.#event(nameOf(step.user), step);
    else if (step.do === 'barrier') await this.#barrier();
    else if (step.do === 'slice') await this.#slice();
    else if (step.do === 'base') await this.#base();
    else if (step.do === 'purge') await this.#purge();
    else if (step.do === 'hydrate') this.#hydrate();
    else await this.crash(step.restore);
  }

  #event(id: string, { gap, look }: { gap: number; look: boolean }): void {
    this.time += gap;
    const keyGroup = keyGroupOf(id, GROUPS);
    const manager = this.#manager;
    if (manager.cached(id) === undefined) manager.load(new Map([[id, keyGroup]]));
    let user = manager.cached(id);
    if (user !== undefined && manager.isExpired(user, this.time)) {
      manager.drop(user);
      user = undefined;
      this.hits['expired'] = (this.hits['expired'] ?? 0) + 1;
    }
    const known = this.model.get(id);
    assert.equal(
      user === undefined,
      known === undefined || this.time - known.lastAccess > this.#limits.ttlMs,
    );
    if (look && user !== undefined) {
      // Rows that may still be in segments, and may not be those that were replaced since.
      assert.deepEqual(user.historyTexts(manager.stored), known!.history);
      assert.deepEqual(user.texts(manager.stored).profile, { id });
      this.hits['looked'] = (this.hits['looked'] ?? 0) + 1;
    }
    const history = ['{"old":1}', '{"old":2}'];
    if (user === undefined) {
      const answer = {
        kind: 'found',
        profile: `{"id":"${id}"}`,
        visit: '{"v":1}',
        history,
      } as const;
      user = manager.create(id, keyGroup, { ...answer, history: [...history] }, this.time);
      this.model.set(id, { history: [...history], count: 0, lastAccess: this.time });
    }
    const parsed = { user_id: id, n: this.seq++, pad: 'x'.repeat(this.seq % 40) };
    const raw = JSON.stringify(parsed);
    const source = Buffer.from(raw);
    const text = { source, view: viewOf(source), start: 0, end: source.length };
    manager.append(user, { ...text, parsed, timestamp: this.time, time: this.time });
    manager.settle();
    const model = this.model.get(id)!;
    model.history = [...model.history, raw].slice(-LIMITS.historyMaxEvents);
    model.count++;
    model.lastAccess = this.time;
  }

  async #barrier(): Promise<void> {
    await this.#drain();
    this.#closing = { id: ++this.#ids * 3, model: cloneModel(this.model), time: this.time };
    this.#manager.freeze();
  }

  /** The last one completes the checkpoint: from then on bases are made, until a barrier. */
  async #slice(): Promise<void> {
    if (this.#manager.flushSlice(0)) await this.#drain();
  }

  async #drain(): Promise<void> {
    const closing = this.#closing;
    if (closing === null) return;
    while (!this.#manager.flushSlice(0));
    this.#closing = null;
    const [from, to] = [this.#lastBarrier, closing.id];
    this.#lastBarrier = to;
    let run = 0;
    for await (const segment of this.#manager.takeClosedDelta().seal(from, to)) {
      const object = await this.#put(segment);
      this.#chain.addDelta({ range: RANGE, from, to, run, object }, segment.groupBytes);
      run++;
    }
    if (run === 0) this.#chain.addDelta({ range: RANGE, from, to, run, object: null }, new Map());
    for (const base of this.#bases.filter(({ epoch }) => epoch <= to)) {
      this.#chain.addBase(await this.#put(base.segment), base.epoch, base.groupBytes);
    }
    this.#bases = this.#bases.filter(({ epoch }) => epoch > to);
    const snapshot = { range: RANGE, ...this.#chain.snapshot(to) } as SubtaskSnapshot;
    this.#completed = { snapshot, ...closing };
  }

  async #put(segment: FinishedSegment) {
    const name = `segments/1/${this.#ids}-0-delta-${this.seq}-${Math.random()}`;
    await this.store.put(name, segment.content);
    return { name, bytes: segment.bytes, sha256: segment.sha256 };
  }

  async #base(): Promise<void> {
    if (this.#closing !== null) return;
    const builder = new BaseBuilder(this.#backend, realEnv, RANGE, this.#manager.unwritten);
    const groups = [this.seq % GROUPS, (this.seq + 3) % GROUPS].sort((a, b) => a - b);
    const base = await builder.build([...new Set(groups)], this.#lastBarrier + 1);
    if (base !== null) this.#bases.push(base);
    if (this.#lastBarrier > 0) this.hits['rebased'] = (this.hits['rebased'] ?? 0) + 1;
  }

  async #purge(): Promise<void> {
    const range = this.#manager.expiry.expiredRange(this.time);
    for await (const rows of this.#backend.scan({ ...range, maxRows: 5, maxBytes: 1000 })) {
      const marks = rows.map(({ key }) => this.#manager.expiry.parse(key));
      this.#manager.purge(marks, this.time, () => false);
    }
  }

  /** A block of what was restored. */
  #hydrate(): void {
    if (this.#backend.groupsLeft > 0) this.hits['hydrated'] = (this.hits['hydrated'] ?? 0) + 1;
    this.#backend.slice(1);
  }

  /** Everything local is lost; the last completed checkpoint comes back. */
  async crash(restore: (Step & { do: 'crash' })['restore']): Promise<void> {
    if (this.#backend.groupsLeft > 0) this.hits['torn'] = (this.hits['torn'] ?? 0) + 1;
    this.#backend = newBackend(restore === 'heads held' ? 1 << 24 : 0);
    this.#manager = this.#newManager();
    this.#closing = null;
    this.#bases = [];
    const last = this.#completed;
    this.model = last === null ? new Map() : cloneModel(last.model);
    this.time = last?.time ?? 0;
    const restored = await restoreState({
      store: this.store,
      backend: this.#backend,
      ...(restore !== 'all written' && { hydration: this.#backend }),
      expiry: this.#manager.expiry,
      range: RANGE,
      snapshots: last === null ? [] : [last.snapshot],
      checkpointId: last?.id ?? 0,
    });
    this.#manager.restored(restored.users);
    this.#chain = restored.chain;
    this.#lastBarrier = last?.id ?? 0;
    if (last !== null) await this.#compare(last.snapshot, last.id);
  }

  /** State of the objects alone. Expired users may be there or gone: purging only follows (P37). */
  async #compare(snapshot: SubtaskSnapshot, id: number): Promise<void> {
    const found = new Map<string, ReturnType<typeof decodeUser>>();
    const cache = new SegmentCache(this.store);
    for (let group = 0; group < GROUPS; group++) {
      const rows = await collectGroup(cache, chainOf([snapshot], group, id)!, group);
      const users = new Map<string, Map<string, Buffer>>();
      for (const [key, value] of rows) {
        const { userId, row, chunk } = parseKey(Buffer.from(key, 'latin1'));
        const own = users.get(userId) ?? new Map<string, Buffer>();
        users.set(userId, own.set(`${row}/${chunk}`, value));
      }
      for (const [userId, own] of users) found.set(userId, decodeUser(own));
    }
    for (const [userId, model] of this.model) {
      const user = found.get(userId);
      if (user === undefined) {
        assert.ok(this.time - model.lastAccess > this.#limits.ttlMs, `${userId} is missing`);
        this.model.delete(userId);
        continue;
      }
      assert.deepEqual(user.history, model.history);
      assert.equal(user.lastAccess, model.lastAccess);
      assert.equal(JSON.parse(user.visitText)['event_count'], model.count);
    }
    for (const userId of found.keys()) assert.ok(this.model.has(userId), `${userId} is extra`);
    assert.equal(this.#manager.stats.users, found.size);
  }
}

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 30,
    arbitrary: fc.record({
      do: fc.constant('event' as const),
      user: fc.nat(11),
      gap: fc.nat(12),
      look: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.constant({ do: 'barrier' as const }) },
  { weight: 3, arbitrary: fc.constant({ do: 'slice' as const }) },
  { weight: 2, arbitrary: fc.constant({ do: 'base' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'purge' as const }) },
  { weight: 4, arbitrary: fc.constant({ do: 'hydrate' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('crash' as const),
      restore: fc.constantFrom('heads held', 'heads written', 'all written'),
    }),
  },
);

test('any mix of events, barriers, evictions, bases and crashes equals the fold', async (t) => {
  const hits: Record<string, number> = {};
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        ttlMs: fc.constantFrom(...TTL_MS),
        cacheBytes: fc.constantFrom(...CACHE_BYTES),
      }),
      fc.array(step, { size: 'max', minLength: 20, maxLength: 400 }),
      async (limits, steps) => {
        const rig = new Rig(limits);
        for (const one of steps) await rig.run(one);
        await rig.crash('heads held');
        for (const [name, count] of Object.entries(rig.hits))
          hits[name] = (hits[name] ?? 0) + count;
      },
    ),
    { seed: 11, numRuns: 100 },
  );
  t.diagnostic(`hits ${JSON.stringify(hits)}`);
  const steps = ['event', 'barrier', 'slice', 'base', 'purge', 'crash', 'hydrate'];
  for (const name of [...steps, 'expired', 'looked', 'hydrated', 'torn', 'rebased']) {
    assert.ok((hits[name] ?? 0) > 0, `${name} was never tried`);
  }
});
