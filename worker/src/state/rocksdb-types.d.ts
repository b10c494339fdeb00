/**
 * The part of @nxtedition/rocksdb 12.2.12 that rocksdb-backend.ts uses; the package ships no types.
 */
declare module 'rocksdb' {
  export interface OpenOptions {
    createIfMissing?: boolean;
    errorIfExists?: boolean;
    /** Block cache, bytes. */
    cacheSize?: number;
    /** All memtables together, bytes. */
    memtableMemoryBudget?: number;
    compaction?: 'level' | 'universal';
    compression?: boolean;
    cacheIndexAndFilterBlocks?: boolean;
    /** Background threads. */
    parallelism?: number;
    walTotalSizeLimit?: number;
    infoLogLevel?: string | null;
  }

  export interface Batch {
    _put(key: Buffer, value: Buffer): void;
    _del(key: Buffer): void;
    _writeSync(options?: object): void;
    _closeSync(): void;
  }

  export interface RawIterator {
    _nextvAsync(
      size: number,
      options: object,
      callback: (error: Error | null, result: { rows: Buffer[]; finished: boolean }) => void,
    ): void;
    _closeSync(): void;
  }

  export class RocksLevel {
    constructor(location: string, options?: object);
    open(options?: OpenOptions): Promise<void>;
    close(): Promise<void>;
    getProperty(name: string): string;
    _getManySync(keys: readonly Buffer[], options?: object): (Buffer | null | undefined)[];
    _chainedBatch(): Batch;
    _iterator(options: object): RawIterator;
  }
}
