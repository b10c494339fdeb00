/**
 * RocksDB behind the StateBackend port: one database per slot and attempt (P10). Its directory is
 * removed before use and after: local state is a cache of the checkpoint, never a source of truth.
 */
import { mkdir, rm } from 'node:fs/promises';
import type { OpenOptions } from 'rocksdb';
import binding, { type Database, type Iterator } from 'rocksdb/binding.js';
import { invariant, TriggerJobError } from '../runtime/errors.ts';
import type { ScanOptions, StateBackend } from './backend.ts';
import { isHeadKey, type UserRow } from './rows.ts';

export interface RocksDbOptions {
  directory: string;
  blockCacheBytes: number;
  /** All memtables together, those that are being flushed included. */
  memtableBytes: number;
}

/**
 * One multi-get copies at most this much into the heap; keys skipped for it are read again (P3).
 */
const MULTI_GET_OPTIONS = { highWaterMarkBytes: 64 * 1024 * 1024 };
/**
 * A user's profile and chunks stay in memory for its next events; in the block cache they took the
 * place of heads, indexes and filters: 5 % of a slot's CPU where few users fit (`slot-path`).
 */
const BODY_OPTIONS = { ...MULTI_GET_OPTIONS, fillCache: false };
/**
 * Goes to RocksDB in one batch, and is the memory of it that is kept. 64 KiB to 1 MiB cost the same
 * CPU, about 4 ms per MiB: how long a write blocks (P8) is up to the caller's number of rows. Above
 * the manager's 256 KiB, so that its writes stay whole.
 */
const BATCH_BYTES = 512 * 1024;

export async function openRocksDb(options: RocksDbOptions): Promise<StateBackend> {
  const { directory } = options;
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  const db = binding.db_init(directory);
  await called((done) => binding.db_open(db, openOptions(options), done));
  return new RocksDbBackend(db, directory);
}

/**
 * Chosen for the least CPU: `npm run bench -- rocksdb`, one slot at 100,000 events/s, 100,000
 * users, RocksDB's threads included. Per million events it took 20.3 CPU seconds with 'level' and
 * the compressions that are on by default, it takes 6.6 with these. The price is disk: 336 MB
 * became 2.3 GB for 1.7 GB of rows, and 'universal' may hold three times the rows, and while it
 * merges everything the merged rows once more. A figure below is CPU seconds per million events.
 *
 * The WAL can't be switched off. No size limit for it works (`walTotalSizeLimit` is read into the
 * wrong variable of binding.cc); it needs none: a WAL file goes when its memtable has been flushed,
 * so the files are together about as large as the memtables.
 */
function openOptions({ blockCacheBytes, memtableBytes }: RocksDbOptions): OpenOptions {
  return {
    createIfMissing: true,
    errorIfExists: true,
    cacheSize: blockCacheBytes,
    /** Of this budget a memtable takes a quarter, and six may exist before RocksDB stalls. */
    memtableMemoryBudget: Math.floor((memtableBytes * 2) / 3),
    /** 'level' writes its deeper levels with zstd whatever `compression` says. */
    compaction: 'universal',
    /** zstd with a dictionary trained per file: 10 more, and a multi-get took twice as long. */
    compression: false,
    /** zstd again, on the slot's own thread: 0.5. */
    walCompression: false,
    /** Bloom filters of the memtables: a multi-get of 13 rows took 80 us, takes 64. */
    optimize: 'point-lookup',
    /**
     * 16 KiB take a fifth less CPU in RocksDB's threads where all users fit the cache, and a tenth
     * more per event where each lookup reads a block (`npm run bench -- slot-path`).
     */
    blockSize: 4 * 1024,
    /** Within the block cache, not beside it: that would save 4 us per multi-get. */
    cacheIndexAndFilterBlocks: true,
    /**
     * With 2 a database has one compaction at a time: a large one would hold up the small ones
     * until RocksDB stalls. The threads are those of the process, all slots together.
     */
    parallelism: 4,
    infoLogLevel: 'warn',
  };
}

/**
 * Calls the native functions, not the package's classes: AbstractLevel keeps every batch and
 * iterator that was closed synchronously until the database closes, 0.5 KB per write and 1.3 KB per
 * scan. What they do beside it costs too little to be measured. None of the native functions checks
 * its handle: using a closed database, or closing a busy iterator, ends the process by SIGSEGV.
 */
class RocksDbBackend implements StateBackend {
  readonly #db: Database;
  readonly #directory: string;
  /** Open iterators; true while a batch is being read in a libuv thread. */
  readonly #iterators = new Map<Iterator, boolean>();
  /** One for all writes: the memory of a dropped one, up to a batch, stays until V8 collects. */
  #batch = binding.batch_init();
  #closed = false;
  #quiet: (() => void) | null = null;

  constructor(db: Database, directory: string) {
    this.#db = db;
    this.#directory = directory;
  }

  getMany(keys: readonly Buffer[]): (Buffer | undefined)[] {
    this.#checkOpen();
    if (keys.length === 0) return [];
    const options = isHeadKey(keys[0]!) ? MULTI_GET_OPTIONS : BODY_OPTIONS;
    const rows = binding.db_get_many_sync(this.#db, keys, options);
    // null is "too much for one answer", never "absent" (P3).
    if (rows.includes(null)) this.#readSkipped(keys, rows);
    return rows as (Buffer | undefined)[];
  }

  /** Each multi-get of them makes progress: the mark is looked at after a row. */
  #readSkipped(keys: readonly Buffer[], rows: (Buffer | null | undefined)[]): void {
    let skipped = [...rows.keys()].filter((i) => rows[i] === null);
    while (skipped.length > 0) {
      const again = binding.db_get_many_sync(
        this.#db,
        skipped.map((i) => keys[i]!),
        skipped.length === 1 ? null : MULTI_GET_OPTIONS,
      );
      again.forEach((row, n) => {
        rows[skipped[n]!] = row;
      });
      const left = skipped.filter((i) => rows[i] === null);
      invariant(left.length < skipped.length, 'a multi-get skipped every row it was asked for');
      skipped = left;
    }
  }

  write(ops: readonly UserRow[]): void {
    this.#checkOpen();
    // Not the rows of a write that threw.
    binding.batch_clear(this.#batch);
    let bytes = 0;
    for (const { key, value } of ops) {
      if (value === null) binding.batch_del(this.#batch, key, null);
      else binding.batch_put(this.#batch, key, value, null);
      bytes += key.length + (value?.length ?? 0);
      if (bytes < BATCH_BYTES) continue;
      this.#flush(bytes);
      bytes = 0;
    }
    if (bytes > 0) this.#flush(bytes);
  }

  /** A batch keeps its memory when cleared: one that took a row of many megabytes is let go. */
  #flush(bytes: number): void {
    binding.batch_write(this.#db, this.#batch, null);
    if (bytes > 2 * BATCH_BYTES) this.#batch = binding.batch_init();
    else binding.batch_clear(this.#batch);
  }

  scan(options: ScanOptions): AsyncIterableIterator<{ key: Buffer; value: Buffer }[]> {
    this.#checkOpen();
    const iterator = binding.iterator_init(this.#db, {
      gte: options.gte,
      lt: options.lt,
      highWaterMarkBytes: options.maxBytes,
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
      fillCache: false,
    });
    this.#iterators.set(iterator, false);
    return this.#batches(iterator, options.maxRows);
  }

  async *#batches(
    iterator: Iterator,
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
      if (this.#iterators.delete(iterator)) binding.iterator_close(iterator);
    }
  }

  async #next(iterator: Iterator, maxRows: number): Promise<{ rows: Buffer[]; finished: boolean }> {
    this.#checkOpen();
    this.#iterators.set(iterator, true);
    try {
      return await nextBatch(iterator, maxRows);
    } finally {
      this.#iterators.set(iterator, false);
      this.#quiet?.();
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw new TriggerJobError('BACKEND_CLOSED', 'the state backend is closed');
  }

  #property(name: string): string {
    this.#checkOpen();
    return binding.db_get_property(this.#db, `rocksdb.${name}`);
  }

  stalled(): boolean {
    return (
      this.#property('is-write-stopped') !== '0' ||
      this.#property('actual-delayed-write-rate') !== '0'
    );
  }

  heldBytes(): number {
    return 0;
  }

  stats(): Record<string, number> {
    const number = (name: string) => Number(this.#property(name));
    return {
      ...compactionFigures(this.#property('cfstats-no-file-histogram')),
      rocksdb_running_compactions: number('num-running-compactions'),
      rocksdb_running_flushes: number('num-running-flushes'),
      rocksdb_sst_bytes: number('total-sst-files-size'),
      rocksdb_level0_files: number('num-files-at-level0'),
      rocksdb_immutable_memtables: number('num-immutable-mem-table'),
      rocksdb_background_errors: number('background-errors'),
      rocksdb_write_stopped: number('is-write-stopped'),
      rocksdb_delayed_write_rate: number('actual-delayed-write-rate'),
      rocksdb_estimate_num_keys: number('estimate-num-keys'),
      rocksdb_live_data_bytes: number('estimate-live-data-size'),
      rocksdb_block_cache_bytes: number('block-cache-usage'),
      rocksdb_memtable_bytes: number('cur-size-all-mem-tables'),
      rocksdb_pending_compaction_bytes: number('estimate-pending-compaction-bytes'),
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
    for (const iterator of this.#iterators.keys()) binding.iterator_close(iterator);
    this.#iterators.clear();
    await called((done) => binding.db_close(this.#db, done));
    await rm(this.#directory, { recursive: true, force: true });
  }
}

const COMPACTION = /^Cumulative compaction: ([\d.]+) GB write, .* ([\d.]+) seconds$/m;
const GIBIBYTE = 1024 ** 3;

/** Totals that RocksDB tells only in this text, to 10 MB and a tenth of a second. */
function compactionFigures(text: string): Record<string, number> {
  const [, written = '0', seconds = '0'] = COMPACTION.exec(text) ?? [];
  return {
    rocksdb_compaction_written_bytes: Number(written) * GIBIBYTE,
    rocksdb_compaction_seconds: Number(seconds),
  };
}

/** Resolves when a native function has called back. */
function called(start: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => (error ? reject(error) : resolve()));
  });
}

function nextBatch(
  iterator: Iterator,
  rows: number,
): Promise<{ rows: Buffer[]; finished: boolean }> {
  return new Promise((resolve, reject) => {
    binding.iterator_nextv(iterator, rows, (error, result) =>
      error ? reject(error) : resolve(result),
    );
  });
}
