/**
 * Fresh bases for the key groups that are due (P13-P15): all rows of a group as the backend shows
 * them, beside event processing. Heads that only live users have are written first: the scan finds
 * every head as it was after F(e-1), or newer. Starts after F(e-1) is out; each group's iterator is
 * made in one turn, and none after barrier e, so every base of a run serves checkpoints from e on.
 * It may hold rows of interval e: the deltas from e on correct it. It copies what it sees and
 * leaves no user out (P14).
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type FinishedSegment, SegmentWriter } from '../checkpoint/segment.ts';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { STALLED_PAUSE_MS, type StateBackend } from './backend.ts';

const SCAN_ROWS = 256;
const SCAN_BYTES = 1024 * 1024;

/** `UnwrittenHeads`. */
export interface HeadWriter {
  /** Some heads that the backend lacks; true when none of the key group is left. */
  writeHeads(keyGroup: number): boolean;
}

export interface BuiltBase {
  epoch: number;
  segment: FinishedSegment;
  /** Key groups served, with their stored bytes; a group without rows has 0. */
  groupBytes: Map<number, number>;
}

export class BaseBuilder {
  readonly #backend: StateBackend;
  readonly #env: Env;
  readonly #range: KeyGroupRange;
  readonly #heads: HeadWriter;
  #stopped = false;

  constructor(backend: StateBackend, env: Env, range: KeyGroupRange, heads: HeadWriter) {
    this.#backend = backend;
    this.#env = env;
    this.#range = range;
    this.#heads = heads;
  }

  /** Barrier e is here: no further iterator may be made. The group under way is finished. */
  stop(): void {
    this.#stopped = true;
  }

  /** `epoch` is the last barrier's checkpoint id + 1. null: stopped before the first group. */
  async build(groups: readonly number[], epoch: number): Promise<BuiltBase | null> {
    const header = { kind: 'base', from: 0, to: 0, run: 0, epoch } as const;
    const writer = new SegmentWriter({ ...header, range: this.#range });
    const done: number[] = [];
    for (const group of groups) {
      while (!this.#stopped) {
        if (this.#backend.stalled()) await sleep(this.#env, STALLED_PAUSE_MS);
        else if (this.#heads.writeHeads(group)) break;
        else await turn();
      }
      // Nothing is awaited between this look and the iterator: the barrier can't come in between.
      if (this.#stopped) break;
      const rows = this.#backend.scan({
        gte: groupKey(group),
        lt: groupKey(group + 1),
        maxRows: SCAN_ROWS,
        maxBytes: SCAN_BYTES,
      });
      await writer.addGroup(group, rows);
      done.push(group);
    }
    if (done.length === 0) return null;
    const segment = await writer.finish();
    const groupBytes = new Map(done.map((group) => [group, segment.groupBytes.get(group) ?? 0]));
    return { epoch, segment, groupBytes };
  }
}

function groupKey(group: number): Buffer {
  const key = Buffer.allocUnsafe(2);
  key.writeUInt16BE(group, 0);
  return key;
}
