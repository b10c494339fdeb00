/**
 * The volatile part of a checkpoint (P18) as rows of one segment, grouped by key group so that it
 * moves with its group on a rescale: ledger, parked records, outbox. Small and short-lived: written
 * in full each time, never chained.
 *
 *   key = u16 keyGroup | u8 kind | u32 number        values are JSON heads followed by raw bytes
 */
import { chainOf } from '../checkpoint/chain.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { type FinishedSegment, SegmentWriter } from '../checkpoint/segment.ts';
import { openStored } from '../checkpoint/segment-reader.ts';
import type { KeyGroupRange, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import { contains } from '../exchange/key-groups.ts';
import { invariant } from '../runtime/errors.ts';
import type { JsonObject } from '../runtime/json.ts';
import type { Split } from '../source/source.ts';
import type { GroupLedger } from './ledger.ts';
import type { OutboxEntry, OutboxFailure } from './outbox.ts';

const LEDGER = 0;
const PARKED = 1;
const OUTBOX = 2;

/** A record that was accepted but not judged. `value` is its exact bytes; null a tombstone. */
export interface VolatileRecord {
  split: Split;
  keyGroup: number;
  offset: number;
  time: number;
  timestamp: number;
  value: Buffer | null;
}

export interface VolatileState {
  /** In the order in which they must be handled. */
  parked: VolatileRecord[];
  outbox: Omit<OutboxEntry, 'seq'>[];
}

interface VolatileRow {
  key: Buffer;
  value: Buffer;
}

/** Captured at the barrier by reference; the rows are made later, in `encodeVolatile`. */
export interface CapturedVolatile {
  ledger: { keyGroup: number; counts: number[] }[];
  parked: VolatileRecord[];
  outbox: readonly OutboxEntry[];
}

export function captureLedger(
  ledger: GroupLedger,
  range: KeyGroupRange,
): CapturedVolatile['ledger'] {
  const groups: CapturedVolatile['ledger'] = [];
  for (let keyGroup = range.first; keyGroup <= range.last; keyGroup++) {
    const counts = ledger.group(keyGroup);
    if (counts !== null) groups.push({ keyGroup, counts });
  }
  return groups;
}

/** null when there is nothing to keep. */
export async function encodeVolatile(
  captured: CapturedVolatile,
  range: KeyGroupRange,
): Promise<FinishedSegment | null> {
  const groups = new Map<number, VolatileRow[]>();
  const put = (keyGroup: number, kind: number, number: number, value: Buffer) => {
    const rows = groups.get(keyGroup) ?? [];
    rows.push({ key: volatileKey(keyGroup, kind, number), value });
    groups.set(keyGroup, rows);
  };
  for (const { keyGroup, counts } of captured.ledger) {
    put(keyGroup, LEDGER, 0, pack({ counts }, null));
  }
  captured.parked.forEach((record, number) => {
    const { value, keyGroup, ...head } = record;
    put(keyGroup, PARKED, number, pack({ ...head, split: { ...head.split } }, value));
  });
  captured.outbox.forEach(({ keyGroup, delivery, failure }, number) => {
    const { body, ...head } = delivery;
    put(keyGroup, OUTBOX, number, pack({ ...head, failure: failure && { ...failure } }, body));
  });
  if (groups.size === 0) return null;
  const header = { kind: 'volatile', from: 0, to: 0, run: 0, epoch: 0 } as const;
  const writer = new SegmentWriter({ ...header, range });
  for (const keyGroup of [...groups.keys()].sort((a, b) => a - b)) {
    const rows = groups.get(keyGroup)!;
    await writer.addGroup(
      keyGroup,
      rows.sort((a, b) => a.key.compare(b.key)),
    );
  }
  return writer.finish();
}

/** The volatile part of our key groups, from every snapshot that had some; fills the ledger. */
export async function restoreVolatile(
  store: ObjectStore,
  snapshots: readonly SubtaskSnapshot[],
  range: KeyGroupRange,
  ledger: GroupLedger,
): Promise<VolatileState> {
  const state: VolatileState = { parked: [], outbox: [] };
  for (const snapshot of snapshots) {
    if (snapshot.volatile === null) continue;
    const reader = await openStored(store, snapshot.volatile);
    const rows: { kind: number; number: number; keyGroup: number; value: Buffer }[] = [];
    for (const keyGroup of reader.groups.keys()) {
      if (!contains(range, keyGroup)) continue;
      invariant(
        chainOf([snapshot], keyGroup) !== null,
        `volatile rows of foreign group ${keyGroup}`,
      );
      for await (const batch of reader.readGroup(keyGroup)) {
        for (const { key, value } of batch) {
          rows.push({ kind: key[2]!, number: key.readUInt32BE(3), keyGroup, value: value! });
        }
      }
    }
    // Numbers run over the whole task: this order keeps every user's, across key groups too.
    rows.sort((a, b) => a.number - b.number);
    for (const row of rows) restoreRow(row, state, ledger);
  }
  return state;
}

function restoreRow(
  row: { kind: number; keyGroup: number; value: Buffer },
  state: VolatileState,
  ledger: GroupLedger,
): void {
  const { head, raw } = unpack(row.value);
  const { keyGroup } = row;
  if (row.kind === LEDGER) {
    ledger.restore(keyGroup, (head as unknown as { counts: number[] }).counts);
  } else if (row.kind === PARKED) {
    const record = head as unknown as Omit<VolatileRecord, 'value' | 'keyGroup'>;
    state.parked.push({ ...record, keyGroup, value: raw });
  } else {
    const { failure, ...delivery } = head as unknown as {
      failure: OutboxFailure | null;
    } & Omit<OutboxEntry['delivery'], 'body'>;
    state.outbox.push({
      keyGroup,
      failure,
      delivery: { ...delivery, body: raw ?? Buffer.alloc(0) },
    });
  }
}

function volatileKey(keyGroup: number, kind: number, number: number): Buffer {
  const key = Buffer.allocUnsafe(7);
  key.writeUInt16BE(keyGroup, 0);
  key[2] = kind;
  key.writeUInt32BE(number, 3);
  return key;
}

/** u32 length of the JSON head | u8 1 when raw bytes follow, 0 when they are null | head | raw */
function pack(head: object, raw: Buffer | null): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const front = Buffer.allocUnsafe(5);
  front.writeUInt32BE(json.length, 0);
  front[4] = raw === null ? 0 : 1;
  return Buffer.concat(raw === null ? [front, json] : [front, json, raw]);
}

function unpack(value: Buffer): { head: JsonObject; raw: Buffer | null } {
  const end = 5 + value.readUInt32BE(0);
  const head = JSON.parse(value.toString('utf8', 5, end)) as JsonObject;
  return { head, raw: value[4] === 1 ? Buffer.from(value.subarray(end)) : null };
}
