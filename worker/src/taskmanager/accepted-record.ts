/** A record on its way through the state stage, from its frame to its verdict. */
import type { Verdict } from '../filter/filter.ts';
import type { JsonObject } from '../runtime/json.ts';
import type { Split } from '../source/source.ts';
import type { UserState } from '../state/user-state.ts';

/** Routed, its time fixed (P36). */
export interface RecordPlace {
  split: Split;
  keyGroup: number;
  offset: number;
  time: number;
  timestamp: number;
}

/** A record that is kept as it came: parked in a restored checkpoint. */
export interface IncomingRecord extends RecordPlace {
  value: Buffer | null;
}

/** A record whose value was checked. Its text lies in `source`, which is its own once parked. */
export interface AcceptedRecord extends RecordPlace {
  userId: string;
  parsed: JsonObject;
  source: Buffer;
  /** The same bytes, for those who read words. */
  view: DataView;
  start: number;
  end: number;
  /** As the look before the batch's multi-get found it. */
  user: UserState | undefined;
  /** What the filter said before its turn, of `verdictOf`. */
  verdict: Verdict | null;
  verdictOf: UserState | null;
  /** `nextSeq` of the user then, if it saw the history; null: nothing that it asked can change. */
  verdictAt: number | null;
}

/** Heap bytes of a parked record per byte of its value: text, parsed object, fields. */
const PARKED_FACTOR = 4;
const PARKED_BYTES = 300;

export function parkedSize(record: AcceptedRecord): number {
  return (record.end - record.start) * PARKED_FACTOR + PARKED_BYTES;
}
