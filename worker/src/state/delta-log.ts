/**
 * The delta of one interval (P11): the final image, or tombstone, of every row that reached RocksDB
 * with a value that arose in it. Above a memory limit its rows go to a spool file as one run; a
 * later run wins (P12). `seal` turns the runs into segments, giving the event loop its turns.
 */
import { mkdir, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { type FinishedSegment, SegmentWriter } from '../checkpoint/segment.ts';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import type { UserRow } from './user-state.ts';

/** Map entry, key string and Buffer object of one row, beyond its bytes. */
const ROW_OVERHEAD_BYTES = 200;

type GroupRows = Map<string, UserRow>;

interface Run {
  groups: Map<number, GroupRows> | null;
  /** Where a spooled run lies, and the extent of each key group in it. */
  spool: { file: string; extents: Map<number, { offset: number; length: number }> } | null;
}

export interface DeltaLogOptions {
  range: KeyGroupRange;
  limitBytes: number;
  /** Prefix of spool files; null keeps everything in memory (simulation). */
  spoolPath: string | null;
}

export class DeltaLog {
  readonly #options: DeltaLogOptions;
  #groups = new Map<number, GroupRows>();
  #bytes = 0;
  #runs: Promise<Run>[] = [];

  constructor(options: DeltaLogOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(keyGroup: number, row: UserRow): void {
    let group = this.#groups.get(keyGroup);
    if (group === undefined) {
      group = new Map();
      this.#groups.set(keyGroup, group);
    }
    const key = row.key.toString('latin1');
    const known = group.get(key);
    if (known !== undefined) this.#bytes -= sizeOf(known);
    group.set(key, row);
    this.#bytes += sizeOf(row);
    if (this.#bytes > this.#options.limitBytes && this.#options.spoolPath !== null) this.#spool();
  }

  /**
   * Moves the rows in memory to disk as one run. The write itself happens beside event processing.
   */
  #spool(): void {
    const groups = this.#groups;
    const file = `${this.#options.spoolPath}-${this.#runs.length}.run`;
    this.#groups = new Map();
    this.#bytes = 0;
    const run = writeRun(groups, file);
    // Reported by seal(); without this an early failure would count as unhandled.
    run.catch(() => {});
    this.#runs.push(run);
  }

  /** The interval is over, its frozen set out: its segments in run order; none: nothing changed. */
  async seal(from: number, to: number): Promise<FinishedSegment[]> {
    if (this.#groups.size > 0)
      this.#runs.push(Promise.resolve({ groups: this.#groups, spool: null }));
    this.#groups = new Map();
    const segments: FinishedSegment[] = [];
    for (const [number, pending] of this.#runs.entries()) {
      const run = await pending;
      const header = { kind: 'delta', from, to, run: number, epoch: 0 } as const;
      const writer = new SegmentWriter({ ...header, range: this.#options.range });
      await fill(writer, run);
      segments.push(await writer.finish());
      if (run.spool !== null) await rm(run.spool.file, { force: true });
    }
    this.#runs = [];
    return segments;
  }
}

function sizeOf(row: UserRow): number {
  return ROW_OVERHEAD_BYTES + row.key.length * 2 + (row.value?.length ?? 0);
}

function sortedRows(group: GroupRows): UserRow[] {
  return [...group.values()].sort((a, b) => a.key.compare(b.key));
}

async function fill(writer: SegmentWriter, run: Run): Promise<void> {
  if (run.groups !== null) {
    for (const keyGroup of [...run.groups.keys()].sort((a, b) => a - b)) {
      await writer.addGroup(keyGroup, sortedRows(run.groups.get(keyGroup)!));
      await turn();
    }
    return;
  }
  const { file, extents } = run.spool!;
  const handle = await open(file, 'r');
  try {
    for (const [keyGroup, { offset, length }] of extents) {
      const bytes = Buffer.allocUnsafeSlow(length);
      await handle.read(bytes, 0, length, offset);
      await writer.addGroup(keyGroup, decodeRows(bytes));
    }
  } finally {
    await handle.close();
  }
}

/** A run: key groups rising, rows sorted; row = u16 key | u32 value (0xffffffff: none) | bytes. */
async function writeRun(groups: Map<number, GroupRows>, file: string): Promise<Run> {
  await mkdir(dirname(file), { recursive: true });
  const handle = await open(file, 'w');
  const extents = new Map<number, { offset: number; length: number }>();
  let offset = 0;
  try {
    for (const keyGroup of [...groups.keys()].sort((a, b) => a - b)) {
      const bytes = encodeRows(sortedRows(groups.get(keyGroup)!));
      groups.delete(keyGroup);
      await handle.write(bytes, 0, bytes.length, offset);
      extents.set(keyGroup, { offset, length: bytes.length });
      offset += bytes.length;
    }
  } finally {
    await handle.close();
  }
  return { groups: null, spool: { file, extents } };
}

function encodeRows(rows: readonly UserRow[]): Buffer {
  let size = 0;
  for (const { key, value } of rows) size += 6 + key.length + (value?.length ?? 0);
  const out = Buffer.allocUnsafe(size);
  let at = 0;
  for (const { key, value } of rows) {
    at = out.writeUInt16LE(key.length, at);
    at = out.writeUInt32LE(value?.length ?? 0xffffffff, at);
    at += key.copy(out, at);
    if (value !== null) at += value.copy(out, at);
  }
  return out;
}

function decodeRows(bytes: Buffer): UserRow[] {
  const rows: UserRow[] = [];
  let at = 0;
  while (at < bytes.length) {
    const keyEnd = at + 6 + bytes.readUInt16LE(at);
    const length = bytes.readUInt32LE(at + 2);
    const end = length === 0xffffffff ? keyEnd : keyEnd + length;
    const value = length === 0xffffffff ? null : bytes.subarray(keyEnd, end);
    rows.push({ key: bytes.subarray(at + 6, keyEnd), value });
    at = end;
  }
  return rows;
}
