/**
 * The state of one slot for the micro-benchmarks: the product's manager over its RocksDB, filled,
 * all users cached. What is written after the fill does not go to RocksDB, whose threads stand
 * still while another stage is measured: it is dropped, or kept as the calls that would have been
 * made.
 */
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { keyGroupOf } from '../worker/src/exchange/key-groups.ts';
import type { JobPlan } from '../worker/src/plan/job-plan.ts';
import { realEnv } from '../worker/src/runtime/env.ts';
import type { ScanOptions, StateBackend } from '../worker/src/state/backend.ts';
import type { DeltaLog } from '../worker/src/state/delta-log.ts';
import { openRocksDb } from '../worker/src/state/rocksdb-backend.ts';
import { SlabPool } from '../worker/src/state/row-slabs.ts';
import type { UserRow } from '../worker/src/state/rows.ts';
import { UserStateManager } from '../worker/src/state/user-state-manager.ts';
import { historyEvents, profileJson, userId, visitJson } from './dataset.ts';

/** A micro-batch of the fill. */
const BATCH = 1_000;
/** As a slot beside its input (slot-task.ts). */
const SLICE_MS = 1;
/** RocksDB's threads are done when the process has used less than that in one look. */
const LOOK_MS = 50;
const QUIET_MICROS = 2_000;

export type Write = readonly UserRow[];

class DivertedBackend implements StateBackend {
  readonly #backend: StateBackend;
  /** null: all writes go through. */
  divert: ((write: Write) => void) | null = null;

  constructor(backend: StateBackend) {
    this.#backend = backend;
  }

  getMany(keys: readonly Buffer[]): (Buffer | undefined)[] {
    return this.#backend.getMany(keys);
  }

  write(ops: Write): void {
    if (this.divert === null) this.#backend.write(ops);
    else this.divert(ops);
  }

  scan(options: ScanOptions): AsyncIterableIterator<{ key: Buffer; value: Buffer }[]> {
    return this.#backend.scan(options);
  }

  heldBytes(): number {
    return this.#backend.heldBytes();
  }

  stalled(): boolean {
    return this.#backend.stalled();
  }

  stats(): Record<string, number> {
    return this.#backend.stats();
  }

  close(): Promise<void> {
    return this.#backend.close();
  }
}

export class StageUsers {
  readonly rocksDb: StateBackend;
  readonly manager: UserStateManager;
  readonly #backend: DivertedBackend;

  private constructor(rocksDb: StateBackend, folder: string, plan: JobPlan) {
    const { historyMaxEvents, maxBytesPerUser, ttlMs } = plan.state;
    this.rocksDb = rocksDb;
    this.#backend = new DivertedBackend(rocksDb);
    this.manager = new UserStateManager(this.#backend, realEnv, {
      limits: { historyMaxEvents, maxBytesPerUser },
      ttlMs,
      cacheBytes: plan.memory.slotCacheBytes,
      delta: {
        range: { first: 0, last: plan.maxParallelism - 1 },
        // A run is cut at the end of its interval only: packing must not begin in another stage.
        limitBytes: Number.POSITIVE_INFINITY,
        spoolPath: join(folder, 'spool'),
        slabs: new SlabPool(plan.memory.slotDeltaBytes),
      },
    });
  }

  static async open(users: number, folder: string, plan: JobPlan): Promise<StageUsers> {
    const { slotBlockCacheBytes: blockCacheBytes, slotMemtableBytes: memtableBytes } = plan.memory;
    const directory = join(folder, 'db');
    const rocksDb = await openRocksDb({ directory, blockCacheBytes, memtableBytes });
    const all = new StageUsers(rocksDb, folder, plan);
    const { manager } = all;
    for (let n = 0; n < users; n++) {
      const answer = { profile: profileJson(n), visit: visitJson(n), history: historyEvents(n) };
      const keyGroup = keyGroupOf(userId(n), plan.maxParallelism);
      manager.create(userId(n), keyGroup, { kind: 'found', ...answer }, 0);
      if (n % BATCH === 0) manager.settle();
    }
    all.freeze();
    await seal(all.closedDelta());
    await quiet();
    all.#backend.divert = () => undefined;
    return all;
  }

  /** Encodes all dirty rows into the delta; how many users that were. */
  freeze(): number {
    const { manager } = this;
    manager.freeze();
    const users = manager.frozenUsers;
    while (!manager.flushSlice(SLICE_MS));
    return users;
  }

  closedDelta(): DeltaLog {
    return this.manager.takeClosedDelta();
  }

  /** What `act` would write to RocksDB. Kept all the time, it would be the collector's work. */
  writesOf(act: () => void): Write[] {
    const writes: Write[] = [];
    this.#backend.divert = (write) => writes.push(write);
    act();
    this.#backend.divert = () => undefined;
    return writes;
  }
}

/** Packs and seals; how many rows the segments have. */
export async function seal(delta: DeltaLog): Promise<number> {
  let rows = 0;
  for await (const segment of delta.seal(0, 1)) rows += segment.rows;
  return rows;
}

/** RocksDB's threads have nothing left to do. */
export async function quiet(): Promise<void> {
  for (;;) {
    const before = process.cpuUsage();
    await wait(LOOK_MS);
    const { user, system } = process.cpuUsage(before);
    if (user + system < QUIET_MICROS) return;
  }
}
