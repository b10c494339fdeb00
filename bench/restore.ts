/**
 * What it takes to restore one slot: a checkpoint of users of 16 KB - what filled the state, a base
 * of all key groups, deltas of which each touches a share of the users - in a directory store, into
 * a fresh RocksDB. Prints the medians of some runs: until events can flow, which read the users
 * that they need out of the segments, and until RocksDB holds all.
 *
 *     npm run bench -- restore [--users N] [--deltas N] [--touched SHARE] [--runs N] [--no-base]
 *                              [--eager] [--profile FILE.cpuprofile]
 *
 * `--eager` as a state is restored that is too large for memory: RocksDB is filled first.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Session } from 'node:inspector/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { openDirectoryStore } from '../worker/src/checkpoint/directory-store.ts';
import type { ObjectStore } from '../worker/src/checkpoint/object-store.ts';
import type { FinishedSegment } from '../worker/src/checkpoint/segment.ts';
import type { ObjectRef, SubtaskSnapshot } from '../worker/src/checkpoint/snapshot.ts';
import { keyGroupOf } from '../worker/src/exchange/key-groups.ts';
import { viewOf } from '../worker/src/runtime/copy-words.ts';
import { realEnv } from '../worker/src/runtime/env.ts';
import type { StateBackend } from '../worker/src/state/backend.ts';
import { BaseBuilder } from '../worker/src/state/base-builder.ts';
import { ChainTracker } from '../worker/src/state/chain-tracker.ts';
import { ExpiryIndex } from '../worker/src/state/expiry-index.ts';
import { HydratingBackend } from '../worker/src/state/hydrating-backend.ts';
import { restoreState } from '../worker/src/state/restore.ts';
import { openRocksDb } from '../worker/src/state/rocksdb-backend.ts';
import { HEAD, rowKey, userPrefix } from '../worker/src/state/rows.ts';
import { UserStateManager } from '../worker/src/state/user-state-manager.ts';
import { EventStream, historyEvents, mix, profileJson, userId, visitJson } from './dataset.ts';
import { quantile } from './quantile.ts';
import { type Figure, printFigures, printStep } from './report.ts';

const MEBIBYTE = 1024 ** 2;
/** As `recovery-1g` has it: 62,500 users in 1,024 key groups. */
const USERS_PER_GROUP = 61;
const EVENTS_PER_TOUCHED = 4;
const BATCH_USERS = 256;
/** One of two slots in 2 GiB (plan/memory.ts). */
const SIZES = { blockCacheBytes: 61 * MEBIBYTE, memtableBytes: 102 * MEBIBYTE };
const CACHE_BYTES = 205 * MEBIBYTE;
const DELTA_BYTES = 31 * MEBIBYTE;
const TTL_MS = 7_200_000;
/** RocksDB is at rest when the process takes less than this in REST_MS, or after so many looks. */
const REST_CPU_US = 10_000;
const REST_MS = 250;
const REST_LOOKS = 20;
const PROFILE_US = 250;

const { values } = parseArgs({
  allowNegative: true,
  options: {
    users: { type: 'string', default: '20000' },
    deltas: { type: 'string', default: '20' },
    touched: { type: 'string', default: '0.01' },
    runs: { type: 'string', default: '5' },
    base: { type: 'boolean', default: true },
    eager: { type: 'boolean', default: false },
    profile: { type: 'string' },
  },
});
const USERS = Number(values.users);
const RANGE = { first: 0, last: Math.ceil(USERS / USERS_PER_GROUP) - 1 };
const GROUPS = RANGE.last + 1;

interface Made {
  snapshot: SubtaskSnapshot;
  checkpointId: number;
  objects: number;
  bytes: number;
}

/** A slot's state without its events: fills it and takes checkpoints of it. */
class Maker {
  readonly #store: ObjectStore;
  readonly #backend: StateBackend;
  readonly #manager: UserStateManager;
  readonly #chain = new ChainTracker(RANGE);
  readonly #stream = new EventStream(USERS);
  #barrier = 0;
  #objects = 0;

  constructor(store: ObjectStore, backend: StateBackend, folder: string) {
    this.#store = store;
    this.#backend = backend;
    this.#manager = new UserStateManager(backend, realEnv, {
      limits: { historyMaxEvents: 100, maxBytesPerUser: 16 * MEBIBYTE },
      ttlMs: TTL_MS,
      cacheBytes: CACHE_BYTES,
      delta: { range: RANGE, limitBytes: DELTA_BYTES, spoolPath: join(folder, 'spool') },
    });
  }

  async make(): Promise<Made> {
    for (let user = 0; user < USERS; user++) this.#fill(user);
    await this.#checkpoint();
    if (values.base) await this.#base();
    const touched = Math.round(USERS * Number(values.touched));
    for (let delta = 0; delta < Number(values.deltas); delta++) {
      for (let i = 0; i < touched; i++) this.#touch(mix(delta, i) % USERS);
      await this.#checkpoint();
    }
    const parts = this.#chain.snapshot(this.#barrier);
    const snapshot = { range: RANGE, ...parts } as Partial<SubtaskSnapshot> as SubtaskSnapshot;
    const { bytes } = this.#chain;
    return { snapshot, checkpointId: this.#barrier, objects: this.#objects, bytes };
  }

  #fill(user: number): void {
    const id = userId(user);
    const history = historyEvents(user);
    const answer = { profile: profileJson(user), visit: visitJson(user), history };
    this.#manager.create(id, keyGroupOf(id, GROUPS), { kind: 'found', ...answer }, 0);
    this.#manager.settle();
  }

  #touch(number: number): void {
    const id = userId(number);
    if (this.#manager.cached(id) === undefined) {
      this.#manager.load(new Map([[id, keyGroupOf(id, GROUPS)]]));
    }
    for (let event = 0; event < EVENTS_PER_TOUCHED; event++) {
      const raw = this.#stream.nextOf(number);
      const source = Buffer.from(raw);
      const text = { source, view: viewOf(source), start: 0, end: source.length };
      const parsed = JSON.parse(raw);
      const user = this.#manager.cached(id)!;
      this.#manager.append(user, { ...text, parsed, timestamp: parsed.ts, time: parsed.ts });
    }
    this.#manager.settle();
  }

  async #checkpoint(): Promise<void> {
    const [from, to] = [this.#barrier, this.#barrier + 1];
    this.#barrier = to;
    this.#manager.freeze();
    while (!this.#manager.flushSlice(100)) await null;
    let run = 0;
    for await (const segment of this.#manager.takeClosedDelta().seal(from, to)) {
      const object = await this.#put(segment);
      this.#chain.addDelta({ range: RANGE, from, to, run, object }, segment.groupBytes);
      run++;
    }
  }

  async #base(): Promise<void> {
    const groups = Array.from({ length: GROUPS }, (_, group) => group);
    const builder = new BaseBuilder(this.#backend, realEnv, RANGE, this.#manager.unwritten);
    const base = await builder.build(groups, this.#barrier + 1);
    if (base === null) throw new Error('no base was built');
    this.#chain.addBase(await this.#put(base.segment), base.epoch, base.groupBytes);
  }

  async #put({ content, bytes, sha256 }: FinishedSegment): Promise<ObjectRef> {
    const name = `segments/${this.#objects++}`;
    await this.#store.put(name, content);
    return { name, bytes, sha256 };
  }
}

interface Run {
  /** Until events can flow; with the threads of RocksDB, and of the slot's thread alone. */
  wallMs: number;
  cpuMs: number;
  threadMs: number;
  fetchMs: number;
  /** Reads of a first micro-batch. */
  batchMs: number;
  /** Until RocksDB holds all, and until its threads are at rest. */
  wholeMs: number;
  settledCpuMs: number;
  writeMs: number;
}

async function restoreOnce(store: ObjectStore, made: Made, folder: string): Promise<Run> {
  const rocksDb = await openRocksDb({ directory: join(folder, 'restored'), ...SIZES });
  const spent = { writeMs: 0, fetchMs: 0 };
  const write = rocksDb.write.bind(rocksDb);
  rocksDb.write = (ops) => {
    const from = performance.now();
    write(ops);
    spent.writeMs += performance.now() - from;
  };
  const measured: ObjectStore = Object.create(store);
  measured.getRange = (name, offset, length) => store.getRange(name, offset, length);
  measured.get = async (name) => {
    const from = performance.now();
    const content = await store.get(name);
    spent.fetchMs += performance.now() - from;
    return content;
  };
  const backend = new HydratingBackend(rocksDb, values.eager ? 0 : CACHE_BYTES);
  const expiry = new ExpiryIndex(TTL_MS);
  const { snapshot, checkpointId } = made;
  const request = { range: RANGE, snapshots: [snapshot], checkpointId };
  await atRest();
  const cpu = process.cpuUsage();
  const thread = process.threadCpuUsage();
  const from = performance.now();
  const { users } = await restoreState({
    store: measured,
    backend,
    hydration: backend,
    expiry,
    ...request,
  });
  const wallMs = performance.now() - from;
  const [cpuMs, threadMs] = [since(process.cpuUsage(cpu)), since(process.threadCpuUsage(thread))];
  const batchMs = readBatch(backend);
  // The timers between slices keep no process alive.
  const alive = setInterval(() => {}, REST_MS);
  await backend.hydrate(realEnv);
  clearInterval(alive);
  const wholeMs = performance.now() - from;
  await atRest();
  const settledCpuMs = since(process.cpuUsage(cpu));
  await backend.close();
  if (users !== USERS) throw new Error(`${users} of ${USERS} users came back`);
  return { wallMs, cpuMs, threadMs, batchMs, wholeMs, settledCpuMs, ...spent };
}

/** ms for the heads of users all over the state. */
function readBatch(backend: StateBackend): number {
  const keys = Array.from({ length: BATCH_USERS }, (_, i) => {
    const id = userId(mix(i, 5) % USERS);
    return rowKey(userPrefix(keyGroupOf(id, GROUPS), id), HEAD);
  });
  const from = performance.now();
  if (backend.getMany(keys).includes(undefined)) throw new Error('a user is missing');
  return performance.now() - from;
}

function since({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) / 1_000;
}

async function atRest(): Promise<void> {
  for (let look = 0; look < REST_LOOKS; look++) {
    const from = process.cpuUsage();
    await wait(REST_MS);
    if (since(process.cpuUsage(from)) * 1_000 < REST_CPU_US) return;
  }
}

/** One more run, which the figures leave out. */
async function profiled(file: string, work: () => Promise<unknown>): Promise<void> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: PROFILE_US });
  await session.post('Profiler.start');
  await work();
  const { profile } = await session.post('Profiler.stop');
  await writeFile(file, JSON.stringify(profile));
}

function figuresOf(runs: readonly Run[]): Figure[] {
  const of = (read: (run: Run) => number) => quantile(runs.map(read), 0.5);
  const least = Math.min(...runs.map(({ wallMs }) => wallMs));
  const per = (ms: number) => (ms / USERS) * 1_000;
  const ms = (name: string, value: number) => ({ name, value, unit: 'ms' });
  return [
    ms('until events flow, least', least),
    ms(
      'until events flow, median',
      of(({ wallMs }) => wallMs),
    ),
    ms('  CPU per 1,000 users', per(of(({ cpuMs }) => cpuMs))),
    ms('  of it in the slot thread', per(of(({ threadMs }) => threadMs))),
    ms(
      '  waiting for objects, several at once, sum',
      of(({ fetchMs }) => fetchMs),
    ),
    ms(
      `then reading ${BATCH_USERS} users`,
      of(({ batchMs }) => batchMs),
    ),
    ms(
      'until RocksDB holds all',
      of(({ wholeMs }) => wholeMs),
    ),
    { name: '  users', value: of((one) => USERS / (one.wholeMs / 1_000)), unit: '1/s' },
    ms(
      '  in RocksDB writes',
      of(({ writeMs }) => writeMs),
    ),
    ms('CPU per 1,000 users until all is at rest', per(of((one) => one.settledCpuMs))),
  ];
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-restore-'));
  try {
    const store = await openDirectoryStore(join(folder, 'store'), realEnv);
    const backend = await openRocksDb({ directory: join(folder, 'made'), ...SIZES });
    const made = await new Maker(store, backend, folder).make();
    await backend.close();
    const { objects, bytes, snapshot } = made;
    printStep(
      `${USERS} users in ${GROUPS} key groups, ${objects} objects written; the chain: ` +
        `${snapshot.deltas.length} deltas, ${snapshot.bases.length} bases, ` +
        `${(bytes / MEBIBYTE).toFixed(1)} MiB`,
    );
    const runs: Run[] = [];
    for (let run = 0; run < Number(values.runs); run++) {
      runs.push(await restoreOnce(store, made, folder));
    }
    const { profile } = values;
    if (profile !== undefined) await profiled(profile, () => restoreOnce(store, made, folder));
    printFigures(figuresOf(runs));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

await main();
