/**
 * A backend that is filled while it is used: after a restore the users' head rows, all that most
 * events read, are at hand in memory, or in it, if they are too many; profiles and chunks are still
 * in the checkpoint's segments, in memory. What is asked for of a user, its profile or its chunks,
 * is written into the backend first, all else follows beside event processing. So events flow once
 * the heads have been read, not once RocksDB holds all; to its caller the state is whole from the
 * beginning (P3).
 *
 * A user's profile is in the segments or in the backend, and so are its chunks: they go over
 * together, before the first of them is read, and what is left of a key group passes over them. A
 * row that is written or deleted before is passed over, too. Later images are therefore never
 * overwritten by restored ones (P6).
 */
import { ownerOf } from '../checkpoint/segment-format.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { type ScanOptions, STALLED_PAUSE_MS, type StateBackend } from './backend.ts';
import type { GroupImage } from './group-image.ts';
import { isHeadKey, type UserRow } from './rows.ts';

/** Written between two turns: about a millisecond of RocksDB (P8). */
const SLICE_BYTES = 256 * 1024;
/**
 * Between slices, of some 2 ms each: events come first. With 1 ms a restored job of 5,000 events/s
 * (setting r of the bench) caught up after 7.1 s, with 8 after 6.6.
 */
const PAUSE_MS = 8;
/**
 * A user that is asked for costs four times what it costs in a slice, which reads each block once.
 * A read for more of them than that, half a micro-batch's, comes of a script that reads each user's
 * history: all are soon asked for, and each takes others along. Where fewer did, too, setting r
 * took 12 s to catch up.
 */
const MANY_USERS = 128;
const TAKEN_ALONG_BYTES = 256 * 1024;
/** A fifth of a second of a micro-batch at most. */
const MAX_TAKEN_ALONG_BYTES = 16 * 1024 * 1024;

/**
 * Bytes of segments that may be attached: no more than a restore holds anyway, and half of the live
 * users' memory, who have what is left meanwhile (user-state-manager.ts).
 */
function segmentLimit(cacheBytes: number): number {
  return Math.min(cacheBytes / 2, 128 * 1024 * 1024);
}

/** Memory of held heads: a quarter of theirs. */
function headLimit(cacheBytes: number): number {
  return segmentLimit(cacheBytes) / 2;
}

/** Of both together. */
export function hydrationLimit(cacheBytes: number): number {
  return segmentLimit(cacheBytes) + headLimit(cacheBytes);
}

/** Rows beside a head row that the backend must have with it. */
type RowsBeside = (head: UserRow) => UserRow[];

interface GroupRest {
  image: GroupImage;
  blocks: ReturnType<GroupImage['rest']>;
}

export class HydratingBackend implements StateBackend {
  /** Of segments that may be attached. */
  readonly maxBytes: number;
  /** Of heads that may be held, as `GroupImage.headBytes` counts. */
  readonly maxHeadBytes: number;
  readonly #backend: StateBackend;
  /** Key groups whose users are not all in the backend. */
  readonly #images = new Map<number, GroupImage>();
  /** Of their segments, and of heads. */
  #bytes = 0;
  #beside: RowsBeside = () => [];
  /** What is left of the group that is being written. */
  #rest: GroupRest | null = null;

  /** `cacheBytes`: the limit of live users. */
  constructor(backend: StateBackend, cacheBytes: number, maxHeadBytes = headLimit(cacheBytes)) {
    this.#backend = backend;
    this.maxBytes = segmentLimit(cacheBytes);
    this.maxHeadBytes = maxHeadBytes;
  }

  /**
   * Before anything is read: these key groups are in memory, `bytes` of them. A head is held by its
   * image, or has been written with the rows that `beside` makes of it.
   */
  attach(images: readonly GroupImage[], bytes: number, beside: RowsBeside): void {
    this.#bytes = bytes;
    this.#beside = beside;
    for (const image of images) this.#images.set(image.keyGroup, image);
  }

  /** Key groups that are not wholly in the backend. */
  get groupsLeft(): number {
    return this.#images.size;
  }

  /** Writes what is left, in slices between turns of the event loop, until all is out. */
  async hydrate(env: Env): Promise<void> {
    while (this.#images.size > 0) {
      const stalled = this.#backend.stalled();
      if (!stalled) this.slice(SLICE_BYTES);
      await sleep(env, stalled ? STALLED_PAUSE_MS : PAUSE_MS);
    }
  }

  /** Looks at so many bytes of what is left, a block at least, and writes what counts. */
  slice(bytes: number): void {
    for (let left = bytes; left > 0 && this.#images.size > 0; ) {
      const [next] = this.#images.values();
      this.#rest ??= { image: next!, blocks: next!.rest() };
      left -= this.#writeBlock(this.#rest);
    }
  }

  getMany(keys: readonly Buffer[]): (Buffer | undefined)[] {
    if (this.#images.size === 0) return this.#backend.getMany(keys);
    this.#fetch(keys);
    const found = keys.map((key) => this.#imageOf(key)?.head(key));
    const others = keys.filter((_, i) => found[i] === undefined);
    const values = this.#backend.getMany(others).values();
    return found.map((held) => held ?? values.next().value);
  }

  write(ops: readonly UserRow[]): void {
    if (this.#images.size === 0) {
      this.#backend.write(ops);
      return;
    }
    const beside = ops.flatMap(({ key }) => {
      const value = this.#imageOf(key)?.head(key);
      return value === undefined ? [] : this.#beside({ key, value });
    });
    this.#backend.write(beside.length > 0 ? [...beside, ...ops] : ops);
    for (const { key } of ops) this.#imageOf(key)?.overwrite(key);
  }

  scan(options: ScanOptions): AsyncIterableIterator<{ key: Buffer; value: Buffer }[]> {
    // A base holds all rows of its key group (P13).
    for (const image of [...this.#images.values()]) {
      if (overlaps(image.keyGroup, options)) this.#complete(image);
    }
    return this.#backend.scan(options);
  }

  stalled(): boolean {
    return this.#backend.stalled();
  }

  heldBytes(): number {
    return this.#images.size > 0 ? this.#bytes : 0;
  }

  stats(): Record<string, number> {
    return { ...this.#backend.stats(), hydration_bytes: this.heldBytes() };
  }

  async close(): Promise<void> {
    this.#images.clear();
    await this.#backend.close();
  }

  #imageOf(key: Buffer): GroupImage | undefined {
    return this.#images.get(key.readUInt16BE(0));
  }

  /** Brings over the owners of these rows. */
  #fetch(keys: readonly Buffer[]): void {
    const owners = new Map<string, GroupImage>();
    const rows: UserRow[] = [];
    let found = 0;
    for (const key of keys) {
      const image = this.#imageOf(key);
      if (image === undefined || isHeadKey(key)) continue;
      const owner = ownerOf(key).toString('latin1');
      if (!image.has(owner) || owners.has(owner)) continue;
      owners.set(owner, image);
      const own = image.rowsOf(key);
      // New users have none: they cost no block.
      if (own.length > 0) found++;
      rows.push(...own);
    }
    if (rows.length > 0) this.#backend.write(rows);
    for (const [owner, image] of owners) image.take(owner);
    if (found > MANY_USERS && !this.#backend.stalled()) {
      this.slice(Math.min(found * TAKEN_ALONG_BYTES, MAX_TAKEN_ALONG_BYTES));
    }
  }

  #complete(image: GroupImage): void {
    const rest = this.#rest?.image === image ? this.#rest : { image, blocks: image.rest() };
    while (this.#images.has(image.keyGroup)) this.#writeBlock(rest);
  }

  /** The bytes that were looked at; at its end the key group is the backend's. */
  #writeBlock(rest: GroupRest): number {
    const { value: block, done } = rest.blocks.next();
    if (done === true) {
      this.#images.delete(rest.image.keyGroup);
      if (this.#rest === rest) this.#rest = null;
      return 0;
    }
    const heads = block.rows.filter(({ key }) => isHeadKey(key));
    const beside = heads.flatMap((head) => this.#beside(head));
    if (block.rows.length > 0) this.#backend.write([...block.rows, ...beside]);
    for (const { key } of heads) rest.image.takeHead(key);
    return block.bytes;
  }
}

function overlaps(keyGroup: number, { gte, lt }: ScanOptions): boolean {
  const from = gte.readUInt16BE(0);
  const end = lt.readUInt16BE(0);
  return keyGroup >= from && (keyGroup < end || (keyGroup === end && lt.length > 2));
}
