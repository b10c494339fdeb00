/**
 * Input of the micro-benchmarks of the source: what a Kafka fetch brings, in the slices in which
 * the reader hands it on, and channels that give their credit back at once.
 */
import { ChannelSender } from '../worker/src/exchange/channel-sender.ts';
import type { DataFrame } from '../worker/src/exchange/frame.ts';
import type { KeyRouter } from '../worker/src/source/key-router.ts';
import { BatchCursor } from '../worker/src/source/record-batches.ts';
import type { RecordColumns } from '../worker/src/source/record-columns.ts';
import { EventStream, userId } from './dataset.ts';
import { BatchBuilder } from './topic-writer.ts';

const BATCH_RECORDS = 1_000;
/** About what one fetch brings. */
const CHUNK_BATCHES = 30;
export const CHUNK_RECORDS = CHUNK_BATCHES * BATCH_RECORDS;
export const KEY_GROUPS = 128;
const FIRST_MS = 1_700_000_000_000;
/** As the Kafka reader slices (kafka-reader.ts). */
const SLICE = { records: 1_000, bytes: 512 * 1024 };

export const RANGES = [
  { first: 0, last: KEY_GROUPS / 2 - 1 },
  { first: KEY_GROUPS / 2, last: KEY_GROUPS - 1 },
];

export interface Chunk {
  bytes: Buffer;
  offset: number;
}

/** Of the stream, from event `skip` on: the first ones are one of each user. */
export function makeChunks(
  users: number,
  { skip, count }: { skip: number; count: number },
): Chunk[] {
  const events = new EventStream(users);
  for (let i = 0; i < skip; i++) events.next();
  const builder = new BatchBuilder(1 << 20);
  let offset = 0;
  const makeBatch = () => {
    for (let i = 0; i < BATCH_RECORDS; i++) {
      const { user, json } = events.next();
      builder.add(userId(user), json);
    }
    const bytes = builder.take(FIRST_MS + offset);
    bytes.writeBigInt64BE(BigInt(offset), 0);
    offset += BATCH_RECORDS;
    return bytes;
  };
  return Array.from({ length: count }, () => {
    const first = offset;
    const bytes = Buffer.concat(Array.from({ length: CHUNK_BATCHES }, makeBatch));
    return { bytes, offset: first };
  });
}

export function* slicesOf(
  chunks: readonly Chunk[],
): Generator<{ records: RecordColumns; next: number }> {
  for (const { bytes, offset } of chunks) {
    const cursor = new BatchCursor(bytes, offset, []);
    for (;;) {
      const records = cursor.next(SLICE.records, SLICE.bytes);
      if (records.count === 0) break;
      yield { records, next: cursor.nextOffset };
    }
  }
}

/** Decodes all; how many records there were. */
export function countRecords(chunks: readonly Chunk[]): number {
  let seen = 0;
  for (const { records } of slicesOf(chunks)) seen += records.count;
  return seen;
}

/** Finds the key group of each; how many have one. */
export function routeRecords(router: KeyRouter, slices: readonly RecordColumns[]): number {
  let routed = 0;
  for (const records of slices) {
    const { starts, ends, count } = records;
    for (let row = 0; row < count; row++) {
      if (router.keyGroup(records, starts[row]!, ends[row]!) >= 0) routed++;
    }
  }
  return routed;
}

/** Puts all on one channel; how many it took. */
export function appendRecords(sender: ChannelSender, slices: readonly RecordColumns[]): number {
  let appended = 0;
  for (const records of slices) {
    const { offsets, timestamps, starts, ends, count } = records;
    for (let row = 0; row < count; row++) {
      const [offset, time] = [offsets[row]!, timestamps[row]!];
      const [start, end] = [starts[row]!, ends[row]!];
      if (sender.append(0, 3, offset, time, time, records, start, end)) appended++;
    }
  }
  return appended;
}

/** Their frames come back as credit at once; `keep` gets copies. */
export function makeSenders(keep: DataFrame[] | null): ChannelSender[] {
  const senders: ChannelSender[] = RANGES.map(
    (_, target) =>
      new ChannelSender({
        bufferBytes: 64 * 1024,
        credit: 8,
        send: (frame) => {
          if (frame.kind !== 'data') return;
          keep?.push({ ...frame, bytes: frame.bytes.slice() });
          senders[target]!.grant(frame.bytes);
        },
      }),
  );
  return senders;
}
