/**
 * The native functions of @nxtedition/rocksdb 12.2.12 that rocksdb-backend.ts and bench/rocksdb.ts
 * use, and the classes above them, which only the bench does; the package ships no types. What is
 * said here of their options was read in its binding.cc.
 */
declare module 'rocksdb' {
  export interface OpenOptions {
    createIfMissing?: boolean;
    errorIfExists?: boolean;
    /** Block cache, bytes; below 4 GiB. */
    cacheSize?: number;
    /**
     * Bytes of memtables: each takes a quarter, two are flushed together, at most six exist. Read
     * only together with `compaction`.
     */
    memtableMemoryBudget?: number;
    compaction?: 'level' | 'universal';
    /** zstd with a dictionary per file; true unless told. 'level' has zstd from level 2 anyway. */
    compression?: boolean;
    /** zstd; true unless told. */
    walCompression?: boolean;
    cacheIndexAndFilterBlocks?: boolean;
    blockSize?: number;
    filterPolicy?: string;
    optimize?: 'point-lookup' | '';
    pipelinedWrite?: boolean;
    /** Background threads of the process, all databases together. */
    parallelism?: number;
    infoLogLevel?: string | null;
  }

  export interface ChainedBatch {
    _put(key: Buffer, value: Buffer): void;
    _del(key: Buffer): void;
    _writeSync(options?: object): void;
    _closeSync(): void;
  }

  export class RocksLevel {
    constructor(location: string, options?: object);
    open(options?: OpenOptions): Promise<void>;
    close(): Promise<void>;
    _getManySync(keys: readonly Buffer[], options?: object): (Buffer | null | undefined)[];
    _chainedBatch(): ChainedBatch;
  }
}

declare module 'rocksdb/binding.js' {
  import type { OpenOptions } from 'rocksdb';

  // Handles of native objects, told apart by a brand that does not exist at run time.
  export type Database = { readonly brand: 'database' };
  export type Batch = { readonly brand: 'batch' };
  export type Iterator = { readonly brand: 'iterator' };

  export interface GetManyOptions {
    /** Rows beyond so many bytes come back as null. */
    highWaterMarkBytes?: number;
    /** false: blocks that are not in the cache do not come into it. */
    fillCache?: boolean;
    /** Buffers over blocks of the cache: pinned there until collected. */
    unsafe?: boolean;
  }

  export interface IteratorOptions {
    gte: Buffer;
    lt: Buffer;
    highWaterMarkBytes: number;
    fillCache: boolean;
    /** Not initialised in native code: must be given. */
    keyEncoding: 'buffer';
    valueEncoding: 'buffer';
  }

  type Done = (error: Error | null) => void;
  type DoneRows = (error: Error | null, result: { rows: Buffer[]; finished: boolean }) => void;

  /** None of them checks its handle: a closed one ends the process by SIGSEGV. */
  const binding: {
    db_init(location: string): Database;
    db_open(database: Database, options: OpenOptions, done: Done): void;
    db_close(database: Database, done: Done): void;
    db_get_many_sync(
      database: Database,
      keys: readonly Buffer[],
      options: GetManyOptions | null,
    ): (Buffer | null | undefined)[];
    db_get_property(database: Database, name: Buffer | string): string;
    batch_init(): Batch;
    batch_put(batch: Batch, key: Buffer, value: Buffer, options: null): void;
    batch_del(batch: Batch, key: Buffer, options: null): void;
    batch_clear(batch: Batch): void;
    batch_write(database: Database, batch: Batch, options: null): void;
    iterator_init(database: Database, options: IteratorOptions): Iterator;
    iterator_nextv(iterator: Iterator, rows: number, done: DoneRows): void;
    iterator_close(iterator: Iterator): void;
  };
  export default binding;
}
