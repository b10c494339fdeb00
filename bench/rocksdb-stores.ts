/** The ways to RocksDB that rocksdb.ts compares. */
import { type OpenOptions, RocksLevel } from 'rocksdb';
import binding from 'rocksdb/binding.js';
import { openRocksDb } from '../worker/src/state/rocksdb-backend.ts';
import type { UserRow } from '../worker/src/state/rows.ts';

const KIBIBYTE = 1024;
const MEBIBYTE = 1024 ** 2;

export interface Store {
  write(ops: readonly UserRow[]): void;
  getMany(keys: readonly Buffer[]): (Buffer | null | undefined)[];
  scan(gte: Buffer, lt: Buffer): Promise<number>;
  close(): Promise<void>;
}

export interface Setup {
  /** How rows get to RocksDB: the package's classes, its native functions, our backend, or not. */
  path: 'classes' | 'binding' | 'backend' | 'none';
  options?: OpenOptions;
  batchBytes?: number;
  /** A new batch for each write, where `binding` takes one for all. */
  freshBatch?: boolean;
  /** Native multi-get with rows that lie in the block cache. */
  unsafe?: boolean;
  /** The new chunk takes the key of the oldest: no deletes. */
  ring?: boolean;
}

export interface Sizes {
  memtableBytes: number;
  blockCacheBytes: number;
}

const LEVEL: OpenOptions = {
  compaction: 'level',
  cacheIndexAndFilterBlocks: true,
  parallelism: 2,
  walCompression: false,
};
/** What rocksdb-backend.ts takes, but for `compaction` and `compression` of the first ones. */
const CHOSEN: OpenOptions = {
  ...LEVEL,
  compaction: 'universal',
  compression: false,
  optimize: 'point-lookup',
  blockSize: 16 * KIBIBYTE,
  parallelism: 4,
};

export const SETUPS: Readonly<Record<string, Setup>> = {
  none: { path: 'none' },
  backend: { path: 'backend' },
  // As it was before this benchmark.
  before: { path: 'classes', options: { ...LEVEL, walCompression: true } },
  level: { path: 'binding', options: LEVEL },
  'level, no dictionary': { path: 'binding', options: { ...LEVEL, compression: false } },
  'universal, zstd': { path: 'binding', options: { ...CHOSEN, compression: true } },
  universal: { path: 'binding', options: CHOSEN },
  'wal zstd': { path: 'binding', options: { ...CHOSEN, walCompression: true } },
  'no point-lookup': { path: 'binding', options: { ...CHOSEN, optimize: '' } },
  '4 KiB blocks': { path: 'binding', options: { ...CHOSEN, blockSize: 4 * KIBIBYTE } },
  bloom: { path: 'binding', options: { ...CHOSEN, filterPolicy: 'bloomfilter:10:false' } },
  'index aside': { path: 'binding', options: { ...CHOSEN, cacheIndexAndFilterBlocks: false } },
  '64 KiB batch': { path: 'binding', options: CHOSEN, batchBytes: 64 * KIBIBYTE },
  '256 KiB batch': { path: 'binding', options: CHOSEN, batchBytes: 256 * KIBIBYTE },
  'fresh batch': { path: 'binding', options: CHOSEN, freshBatch: true },
  classes: { path: 'classes', options: CHOSEN },
  unsafe: { path: 'binding', options: CHOSEN, unsafe: true },
  ring: { path: 'binding', options: CHOSEN, ring: true },
};

export async function openStore(setup: Setup, directory: string, sizes: Sizes): Promise<Store> {
  if (setup.path === 'none') {
    return { write() {}, getMany: () => [], scan: async () => 0, close: async () => {} };
  }
  const { memtableBytes, blockCacheBytes } = sizes;
  if (setup.path === 'backend') {
    const backend = await openRocksDb({ directory, memtableBytes, blockCacheBytes });
    return {
      write: (ops) => backend.write(ops),
      getMany: (keys) => backend.getMany(keys),
      async scan(gte, lt) {
        let rows = 0;
        const range = { gte, lt, maxRows: 256, maxBytes: MEBIBYTE };
        for await (const batch of backend.scan(range)) rows += batch.length;
        return rows;
      },
      close: () => backend.close(),
    };
  }
  const options: OpenOptions = {
    createIfMissing: true,
    cacheSize: blockCacheBytes,
    memtableMemoryBudget: memtableBytes,
    infoLogLevel: 'warn',
    ...setup.options,
  };
  return setup.path === 'classes'
    ? openClasses(directory, options)
    : openBinding(directory, options, setup);
}

async function openClasses(directory: string, options: OpenOptions): Promise<Store> {
  const db = new RocksLevel(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' });
  await db.open(options);
  return {
    write(ops) {
      const batch = db._chainedBatch();
      for (const { key, value } of ops) {
        if (value === null) batch._del(key);
        else batch._put(key, value);
      }
      batch._writeSync({});
      batch._closeSync();
    },
    getMany: (keys) => db._getManySync(keys, { highWaterMarkBytes: 64 * MEBIBYTE }),
    scan: async () => 0,
    close: () => db.close(),
  };
}

async function openBinding(directory: string, options: OpenOptions, setup: Setup): Promise<Store> {
  const db = binding.db_init(directory);
  await new Promise<void>((resolve, reject) => {
    binding.db_open(db, options, (error) => (error === null ? resolve() : reject(error)));
  });
  const kept = binding.batch_init();
  const unsafe = setup.unsafe === true;
  return {
    write(ops) {
      const batch = setup.freshBatch === true ? binding.batch_init() : kept;
      for (const { key, value } of ops) {
        if (value === null) binding.batch_del(batch, key, null);
        else binding.batch_put(batch, key, value, null);
      }
      binding.batch_write(db, batch, null);
      binding.batch_clear(batch);
    },
    getMany: (keys) => binding.db_get_many_sync(db, keys, unsafe ? { unsafe } : null),
    async scan(gte, lt) {
      const bounds = { gte, lt, highWaterMarkBytes: MEBIBYTE, fillCache: false };
      const iterator = binding.iterator_init(db, {
        ...bounds,
        keyEncoding: 'buffer',
        valueEncoding: 'buffer',
      });
      let rows = 0;
      for (let finished = false; !finished; ) {
        finished = await new Promise<boolean>((resolve, reject) => {
          binding.iterator_nextv(iterator, 256, (error, result) => {
            if (error !== null) return reject(error);
            rows += result.rows.length / 2;
            resolve(result.finished);
          });
        });
      }
      binding.iterator_close(iterator);
      return rows;
    },
    close: () =>
      new Promise((resolve, reject) => {
        binding.db_close(db, (error) => (error === null ? resolve() : reject(error)));
      }),
  };
}
