/**
 * CPU from the bytes of a Kafka fetch to the frames for the state tasks, and of reading those:
 * `npx node bench/source-path.ts`. Prints nanoseconds per record and stage; the stages are alone,
 * but `source task`, which is all up to the frame.
 */
import { type DataFrame, FrameCursor, readRecords } from '../worker/src/exchange/frame.ts';
import { ownerTable } from '../worker/src/exchange/key-groups.ts';
import { realEnv } from '../worker/src/runtime/env.ts';
import { KeyRouter } from '../worker/src/source/key-router.ts';
import type { SourceBatch, SplitReader } from '../worker/src/source/source.ts';
import { SourceTask } from '../worker/src/taskmanager/source-task.ts';
import {
  appendRecords,
  CHUNK_RECORDS,
  type Chunk,
  countRecords,
  KEY_GROUPS,
  makeChunks,
  makeSenders,
  RANGES,
  routeRecords,
  slicesOf,
} from './fetched-chunks.ts';

const USERS = 100_000;
/** More than a processor's cache holds. */
const CHUNKS = 6;
const TOTAL = CHUNKS * CHUNK_RECORDS;
const ROUNDS = 40;
const SPLIT = { index: 0, id: 'events-0', sourceId: 'events', partition: 0 };

async function runSourceTask(chunks: readonly Chunk[], keep: DataFrame[] | null): Promise<void> {
  const slices = slicesOf(chunks);
  const reader: SplitReader = {
    assign: () => {},
    poll: async (): Promise<SourceBatch | null> => {
      const { value, done } = slices.next();
      if (done === true) {
        await task.close();
        return null;
      }
      const { records, next } = value;
      return { splitIndex: 0, records, nextOffset: next, endOffset: TOTAL, finished: false };
    },
    close: async () => {},
  };
  const senders = makeSenders(keep);
  const task = new SourceTask({
    env: realEnv,
    reader,
    openReader: () => Promise.resolve(reader),
    senders,
    owners: ownerTable(RANGES, KEY_GROUPS),
    keyBy: 'user_id',
    maxParallelism: KEY_GROUPS,
    allowedSkewMs: 60_000,
    inspection: null,
    bufferTimeoutMs: 5,
    restored: false,
    liveTimestamps: true,
    ttlGraceMs: 60_000,
    onCaughtUp: () => {},
    mutant: null,
  });
  task.assign([{ split: SPLIT, offset: 0, clock: -1 }]);
  await task.run();
  for (const sender of senders) sender.flush();
}

async function measure(name: string, run: () => number | Promise<void>): Promise<void> {
  const costs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.cpuUsage();
    await run();
    const { user, system } = process.cpuUsage(before);
    costs.push(((user + system) * 1000) / TOTAL);
  }
  costs.sort((a, b) => a - b);
  const [best, median] = [costs[0]!, costs[ROUNDS >> 1]!].map((cost) => cost.toFixed(0));
  console.log(`${name.padEnd(22)} ${best!.padStart(5)} best ${median!.padStart(5)} median`);
}

const chunks = makeChunks(USERS, { skip: 0, count: CHUNKS });
const slices = [...slicesOf(chunks)].map(({ records }) => records);
const router = new KeyRouter('user_id', KEY_GROUPS);
const frames: DataFrame[] = [];
await runSourceTask(chunks, frames);

const recordBytes = chunks.reduce((sum, { bytes }) => sum + bytes.length, 0) / TOTAL;
console.log(`${TOTAL} records of ${recordBytes.toFixed(0)} bytes, ns of CPU per record`);
await measure('decode batches', () => countRecords(chunks));
await measure('key group', () => routeRecords(router, slices));
await measure('append to frame', () => appendRecords(makeSenders(null)[0]!, slices));
await measure('source task', () => runSourceTask(chunks, null));
await measure('FrameCursor', () => {
  let sum = 0;
  for (const frame of frames) {
    const cursor = new FrameCursor(frame);
    while (cursor.next()) sum += cursor.offset + cursor.end;
  }
  return sum;
});
await measure('readRecords', () => {
  let sum = 0;
  for (const frame of frames) sum += readRecords(frame, () => SPLIT).length;
  return sum;
});
