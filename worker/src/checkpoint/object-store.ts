/** The contract of the checkpoint store: directory-store.ts, memory-store.ts (sim, tests). */

/** Exactly `length` bytes from `offset` on. */
export type ReadPiece = (offset: number, length: number) => Promise<Buffer>;

export interface StoredObject {
  name: string;
  bytes: number;
  /** ms since the epoch by the store's clock. */
  modifiedAt: number;
}

/**
 * Names are relative to the job's folder, `/`-separated. Strongly consistent: a put that returned
 * is seen by the next get and list. A throw means "unknown", never "absent" (P41).
 */
export interface ObjectStore {
  /** Shown in REST and messages, e.g. `file:///var/checkpoints/default/user-events`. */
  readonly url: string;
  /**
   * Creates or replaces; durable when it resolves. Names are unique per upload (P46), so nothing is
   * replaced.
   */
  put(name: string, content: Buffer): Promise<void>;
  /**
   * As `put`, of `bytes` bytes that `read` gives piece by piece, several pieces at a time: the
   * object may be larger than memory. What `read` throws, the caller gets, and nothing is stored.
   */
  putPieces(name: string, bytes: number, read: ReadPiece): Promise<void>;
  /** Create-only (If-None-Match: *). 'exists': one is there, maybe ours after a lost reply. */
  create(name: string, content: Buffer): Promise<'created' | 'exists'>;
  /** null only if the object is surely absent. */
  get(name: string): Promise<Buffer | null>;
  getRange(name: string, offset: number, length: number): Promise<Buffer>;
  /** All objects whose name starts with `prefix`, any order. */
  list(prefix: string): Promise<StoredObject[]>;
  /** Deleting an absent object is no error. */
  delete(names: readonly string[]): Promise<void>;
}
