/**
 * Where a record goes: key found in the raw bytes, key group, owner, its channel's buffer. The
 * position moves in the same step as the record is appended, so a barrier or a handover between two
 * records divides them exactly (P27, P53).
 */
import type { ChannelSender } from '../exchange/channel-sender.ts';
import { murmur3 } from '../exchange/murmur3.ts';
import type { Env } from '../runtime/env.ts';
import { KeyRouter } from '../source/key-router.ts';
import type { RecordColumns } from '../source/record-columns.ts';
import type { SplitPosition } from '../source/source.ts';
import type { SlotInspection } from './slot-inspection.ts';

export interface RecordRouterOptions {
  env: Env;
  senders: readonly ChannelSender[];
  /** keyGroup -> subtask. */
  owners: Uint16Array;
  keyBy: string;
  maxParallelism: number;
  allowedSkewMs: number;
  /** null: nobody looks at what is read. */
  inspection: Pick<SlotInspection, 'taps' | 'tapSource'> | null;
}

/** By subtask: 1 = records for it are sent, 0 = they are passed over. */
export type Targets = Uint8Array;

export class RecordRouter {
  readonly #options: RecordRouterOptions;
  readonly #keys: KeyRouter;
  /** Wall time at the monotonic clock's origin, by the wall clock as it was at our start. */
  readonly #origin: number;
  /** Of the records whose position was passed: bytes of their values, times beyond the skew. */
  bytes = 0;
  skewed = 0;

  constructor(options: RecordRouterOptions) {
    this.#options = options;
    this.#keys = new KeyRouter(options.keyBy, options.maxParallelism);
    this.#origin = options.env.now() - options.env.monotonic();
  }

  /**
   * Sends the rows from `first` up to `until`, to `targets` alone if they are given; returns the
   * row to go on with, which is before `until` when its channel is full.
   */
  route(
    position: SplitPosition,
    records: RecordColumns,
    first: number,
    until: number,
    targets: Targets | null,
  ): number {
    const { senders, owners } = this.#options;
    const { offsets, timestamps, starts, ends } = records;
    const { index } = position.split;
    // P36: the split's running maximum, a record's time capped. One look at the clock per turn.
    const cap = this.#cap();
    const { inspection } = this.#options;
    const tap = inspection?.taps.open.source === true ? inspection : null;
    let row = first;
    for (; row < until; row++) {
      const offset = offsets[row]!;
      const timestamp = timestamps[row]!;
      const start = starts[row]!;
      const end = ends[row]!;
      const time = Math.max(position.clock, Math.min(timestamp, cap));
      const keyGroup = this.#keyGroup(position, records, row);
      const target = owners[keyGroup]!;
      if (targets === null || targets[target] === 1) {
        const sender = senders[target]!;
        if (!sender.append(index, keyGroup, offset, time, timestamp, records, start, end)) break;
      }
      if (tap !== null) tap.tapSource(position.split, keyGroup, records, row);
      if (timestamp > cap && timestamp > position.clock) this.skewed++;
      position.clock = time;
      position.offset = offset + 1;
      if (end >= 0) this.bytes += end - start;
    }
    return row;
  }

  /**
   * A wall clock that is set back must not make the past of what is read now: a user would be as
   * old as that says, and another attempt would judge otherwise. So it counts only forward.
   */
  #cap(): number {
    const { env, allowedSkewMs } = this.#options;
    return Math.max(env.now(), this.#origin + env.monotonic()) + allowedSkewMs;
  }

  /** Records without a key go by their place; the state task parses and dead-letters them. */
  #keyGroup(position: SplitPosition, records: RecordColumns, row: number): number {
    const end = records.ends[row]!;
    const keyGroup = end < 0 ? -1 : this.#keys.keyGroup(records, records.starts[row]!, end);
    if (keyGroup >= 0) return keyGroup;
    const place = `${position.split.id}:${records.offsets[row]!}`;
    return murmur3(place) % this.#options.maxParallelism;
  }
}
