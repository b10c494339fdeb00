/** The port of the state backend: rocksdb-backend.ts; in the simulation memory-backend.ts. */
import type { UserRow } from './rows.ts';

/** From one look at `stalled` to the next, for who waits with writes that are not urgent, ms. */
export const STALLED_PAUSE_MS = 20;

export interface ScanOptions {
  /** First key, and the first key after the range. */
  gte: Buffer;
  lt: Buffer;
  /** Bounds of one batch (P9). */
  maxRows: number;
  maxBytes: number;
}

/**
 * Rows of one slot. `getMany` and `write` are synchronous: a slot owns its thread, and a
 * synchronous multi-get did 101 K users/s against 49 K/s through libuv (FACTS); what follows needs
 * its rows anyway.
 */
export interface StateBackend {
  /** undefined = surely absent. Any fault throws and ends the process (P3). */
  getMany(keys: readonly Buffer[]): (Buffer | undefined)[];
  /**
   * A null value deletes. Copies: the buffers may be overwritten once it has returned. Need not be
   * atomic: a crash discards the whole database (P10).
   */
  write(ops: readonly UserRow[]): void;
  /** The rows as of this call: the iterator is made before it returns (P13). */
  scan(options: ScanOptions): AsyncIterableIterator<{ key: Buffer; value: Buffer }[]>;
  /** RocksDB wants no writes now (P8). */
  stalled(): boolean;
  /**
   * Memory of rows that are not in it yet, soon after a restore (hydrating-backend.ts): of the live
   * users' share. Until it is 0 a scan brings whole key groups over: who may wait with one, waits.
   */
  heldBytes(): number;
  stats(): Record<string, number>;
  close(): Promise<void>;
}
