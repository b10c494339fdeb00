/**
 * RocksDB behind the StateBackend port: one database per slot and attempt (P10). Its directory is
 * removed before use and after: local state is a cache of the checkpoint, never a source of truth.
 */
import { mkdir, rm } from 'node:fs/promises';
import { type RawIterator, RocksLevel } from 'rocksdb';
import { invariant, TriggerJobError } from '../runtime/errors.ts';
import type { ScanOptions, StateBackend } from './backend.ts';
import type { UserRow } from './user-state.ts';

export interface RocksDbOptions {
  directory: string;
  blockCacheBytes: number;
  memtableBytes: number;
}

/**
 * One multi-get copies at most this much into the heap; keys skipped for it are read again (P3).
 */
const MULTI_GET_BYTES = 64 * 1024 * 1024;
/**
 * Written through one batch before it goes to RocksDB: keeps a synchronous write near 1 ms (P8).
 */
const BATCH_BYTES = 1024 * 1024;

export async function openRocksDb(options: RocksDbOptions): Promise<StateBackend> {
  await rm(options.directory, { recursive: true, force: true });
  await mkdir(options.directory, { recursive: true });
  const db = new RocksLevel(options.directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' });
  await db.open({
    createIfMissing: true,
    errorIfExists: true,
    cacheSize: options.blockCacheBytes,
    memtableMemoryBudget: options.memtableBytes,
    compaction: 'level',
    cacheIndexAndFilterBlocks: true,
    parallelism: 2,
    // The WAL can't be switched off; capped, its files are dropped as memtables are flushed.
    walTotalSizeLimit: 64,
    infoLogLevel: 'warn',
  });
  return new RocksDbBackend(db, options.directory);
}

class RocksDbBackend implements StateBackend {
  readonly #db: RocksLevel;
  readonly #directory: string;
  /** Open iterators; true while a batch is being read in a libuv thread. */
  readonly #iterators = new Map<RawIterator, boolean>();
  #closed = false;
  #quiet: (() => void) | null = null;

  constructor(db: RocksLevel, directory: string) {
    this.#db = db;
    this.#directory = directory;
  }

  getMany(keys: readonly Buffer[]): (Buffer | undefined)[] {
    this.#checkOpen();
    if (keys.length === 0) return [];
    const options = { highWaterMarkBytes: MULTI_GET_BYTES };
    const rows = this.#db._getManySync(keys, options);
    const skipped: number[] = [];
    rows.forEach((row, i) => {
      if (row === null) skipped.push(i);
    });
    // null is "too much for one answer", never "absent" (P3): each batch of them makes progress.
    while (skipped.length > 0) {
      const again = this.#db._getManySync(
        skipped.map((i) => keys[i]!),
        skipped.length === 1 ? {} : options,
      );
      const left: number[] = [];
      again.forEach((row, n) => {
        if (row === null) left.push(skipped[n]!);
        else rows[skipped[n]!] = row;
      });
      invariant(left.length < skipped.length, 'a multi-get skipped every row it was asked for');
      skipped.splice(0, skipped.length, ...left);
    }
    return rows as (Buffer | undefined)[];
  }

  write(ops: readonly UserRow[]): void {
    this.#checkOpen();
    let batch = this.#db._chainedBatch();
    let bytes = 0;
    for (const { key, value } of ops) {
      if (bytes > BATCH_BYTES) {
        batch._writeSync({});
        batch._closeSync();
        batch = this.#db._chainedBatch();
        bytes = 0;
      }
      if (value === null) batch._del(key);
      else batch._put(key, value);
      bytes += key.length + (value?.length ?? 0);
    }
    batch._writeSync({});
    batch._closeSync();
  }

  scan(options: ScanOptions): AsyncIterableIterator<{ key: Buffer; value: Buffer }[]> {
    this.#checkOpen();
    const iterator = this.#db._iterator({
      gte: options.gte,
      lt: options.lt,
      highWaterMarkBytes: options.maxBytes,
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
      fillCache: false,
      keys: true,
      values: true,
      reverse: false,
      limit: -1,
    });
    this.#iterators.set(iterator, false);
    return this.#batches(iterator, options.maxRows);
  }

  async *#batches(
    iterator: RawIterator,
    maxRows: number,
  ): AsyncGenerator<{ key: Buffer; value: Buffer }[], undefined> {
    try {
      for (let finished = false; !finished; ) {
        const result = await this.#next(iterator, maxRows);
        finished = result.finished;
        const batch: { key: Buffer; value: Buffer }[] = [];
        for (let i = 0; i < result.rows.length; i += 2) {
          batch.push({ key: result.rows[i]!, value: result.rows[i + 1]! });
        }
        if (batch.length > 0) yield batch;
      }
    } finally {
      // An open iterator pins files and memtables (P9).
      if (this.#iterators.delete(iterator)) iterator._closeSync();
    }
  }

  async #next(
    iterator: RawIterator,
    maxRows: number,
  ): Promise<{ rows: Buffer[]; finished: boolean }> {
    this.#checkOpen();
    this.#iterators.set(iterator, true);
    try {
      return await nextBatch(iterator, maxRows);
    } finally {
      this.#iterators.set(iterator, false);
      this.#quiet?.();
    }
  }

  /** Using a closed database, or closing a busy iterator, ends the process in native code. */
  #checkOpen(): void {
    if (this.#closed) throw new TriggerJobError('BACKEND_CLOSED', 'the state backend is closed');
  }

  stalled(): boolean {
    return (
      this.#db.getProperty('rocksdb.is-write-stopped') !== '0' ||
      this.#db.getProperty('rocksdb.actual-delayed-write-rate') !== '0'
    );
  }

  stats(): Record<string, number> {
    const property = (name: string) => Number(this.#db.getProperty(`rocksdb.${name}`));
    return {
      rocksdb_estimate_num_keys: property('estimate-num-keys'),
      rocksdb_live_data_bytes: property('estimate-live-data-size'),
      rocksdb_block_cache_bytes: property('block-cache-usage'),
      rocksdb_memtable_bytes: property('cur-size-all-mem-tables'),
      rocksdb_pending_compaction_bytes: property('estimate-pending-compaction-bytes'),
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    while ([...this.#iterators.values()].includes(true)) {
      await new Promise<void>((resolve) => {
        this.#quiet = resolve;
      });
    }
    for (const iterator of this.#iterators.keys()) iterator._closeSync();
    this.#iterators.clear();
    await this.#db.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function nextBatch(
  iterator: RawIterator,
  size: number,
): Promise<{ rows: Buffer[]; finished: boolean }> {
  return new Promise((resolve, reject) => {
    iterator._nextvAsync(size, {}, (error, result) => (error ? reject(error) : resolve(result)));
  });
}
