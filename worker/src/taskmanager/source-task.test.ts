import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { HandEnv, turns } from '../action/test-loopback.ts';
import { ChannelSender } from '../exchange/channel-sender.ts';
import { type Frame, readRecords } from '../exchange/frame.ts';
import { keyGroupOf, ownerTable } from '../exchange/key-groups.ts';
import { FileReader } from '../source/file-source.ts';
import { RecordColumns } from '../source/record-columns.ts';
import type {
  SourceBatch,
  SourceRecord,
  Split,
  SplitPosition,
  SplitReader,
} from '../source/source.ts';
import { SourceTask, type SourceTaskOptions } from './source-task.ts';

const GROUPS = 8;
const GRACE_MS = 60_000;
const RANGES = [
  { first: 0, last: 3 },
  { first: 4, last: 7 },
];
const SCRIPT = { version: 'v2', text: 'true', language: 'aviator' } as const;
const splitOf = (index: number): Split => ({
  index,
  id: `topic-${index}`,
  sourceId: 'topic-id',
  partition: index,
});

/** One user of each channel. */
const USERS = [0, 1].map((channel) => {
  for (let n = 0; ; n++) {
    const { first, last } = RANGES[channel]!;
    const group = keyGroupOf(`u${n}`, GROUPS);
    if (group >= first && group <= last) return `u${n}`;
  }
}) as [string, string];

function recordOf(offset: number, user = USERS[0], timestamp = -1): SourceRecord {
  return { offset, timestamp, value: Buffer.from(`{"user_id":"${user}","n":${offset}}`) };
}

/** Hands out batches when the test gives them; a poll without one waits for time. */
class HandReader implements SplitReader {
  readonly assigned: SplitPosition[] = [];
  readonly #env: HandEnv;
  readonly #batches: SourceBatch[] = [];
  #wake: (() => void) | null = null;
  polls = 0;
  closed = false;

  constructor(env: HandEnv) {
    this.#env = env;
  }

  assign(positions: readonly SplitPosition[]): void {
    this.assigned.push(...positions);
  }

  async poll(maxWaitMs: number): Promise<SourceBatch | null> {
    this.polls++;
    if (this.#batches.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#env.timer(maxWaitMs, resolve);
      });
    }
    return this.#batches.shift() ?? null;
  }

  give(records: SourceRecord[], more: Partial<SourceBatch> = {}): void {
    const nextOffset = (records.at(-1)?.offset ?? -1) + 1;
    const end = { nextOffset, endOffset: nextOffset, finished: false };
    this.#batches.push({ splitIndex: 0, records: RecordColumns.of(records), ...end, ...more });
    this.#wake?.();
  }

  async close(): Promise<void> {
    this.closed = true;
    this.#wake?.();
  }
}

/** `led`: a leader looks for new splits all the time. */
function rig(
  options: Partial<SourceTaskOptions> = {},
  credit = 100,
  bufferBytes = 4096,
  led = true,
) {
  const env = new HandEnv();
  const reader = new HandReader(env);
  const frames: Frame[][] = [[], []];
  const senders = frames.map(
    (own) => new ChannelSender({ bufferBytes, credit, send: (frame) => own.push(frame) }),
  );
  const source = new SourceTask({
    env,
    reader,
    openReader: () => Promise.resolve(new HandReader(env)),
    senders,
    owners: ownerTable(RANGES, GROUPS),
    keyBy: 'user_id',
    maxParallelism: GROUPS,
    allowedSkewMs: 60_000,
    inspection: null,
    bufferTimeoutMs: 5,
    restored: false,
    liveTimestamps: true,
    ttlGraceMs: GRACE_MS,
    onCaughtUp: () => {},
    mutant: null,
    ...options,
  });
  if (led) source.discovered(Number.POSITIVE_INFINITY);
  const assign = (offset = 0, index = 0, clock = -1) =>
    source.assign([{ split: splitOf(index), offset, clock }]);
  const recordsOf = (channel: number) =>
    frames[channel]!.flatMap((frame) => (frame.kind === 'data' ? readRecords(frame, splitOf) : []));
  const clocks = (channel = 0) =>
    frames[channel]!.flatMap((frame) => (frame.kind === 'clock' ? [frame.time] : []));
  return { env, reader, frames, senders, source, assign, recordsOf, clocks };
}

/** Offsets on a channel before and after its barrier. */
function dividedBy(frames: readonly Frame[], checkpointId: number): [number[], number[]] {
  const at = frames.findIndex(
    (frame) => frame.kind === 'barrier' && frame.checkpointId === checkpointId,
  );
  assert.ok(at >= 0, `barrier ${checkpointId} was not sent`);
  const offsets = (own: readonly Frame[]) =>
    own.flatMap((frame) =>
      frame.kind === 'data' ? readRecords(frame, splitOf).map(({ offset }) => offset) : [],
    );
  return [offsets(frames.slice(0, at)), offsets(frames.slice(at))];
}

async function stop(source: SourceTask, env: HandEnv, run: Promise<void>): Promise<void> {
  await source.close();
  await env.advance(1000);
  await run;
}

test('records go to the owner of their key group, their split is announced first', async () => {
  const { env, reader, frames, source, assign, recordsOf } = rig();
  assign(5);
  const run = source.run();
  reader.give([recordOf(5, USERS[0]), recordOf(6, USERS[1]), recordOf(9, USERS[0])]);
  await env.advance(10);
  assert.deepEqual(
    recordsOf(0).map(({ offset }) => offset),
    [5, 9],
  );
  assert.deepEqual(
    recordsOf(1).map(({ offset }) => offset),
    [6],
  );
  for (const own of frames) {
    const kinds = own.map(({ kind }) => kind).filter((kind) => kind !== 'clock');
    assert.deepEqual(kinds, ['splits', 'data']);
    const announced = own.find((frame) => frame.kind === 'splits')!;
    assert.deepEqual(announced.splits, [splitOf(0)]);
    assert.equal(announced.replayUntil, 0, 'a fresh start repeats nothing');
  }
  assert.deepEqual(reader.assigned, [{ split: splitOf(0), offset: 5, clock: -1 }]);
  await stop(source, env, run);
  assert.equal(reader.closed, true);
});

test("a restored source names its log's end as the end of a possible replay", async () => {
  const { env, reader, frames, source, assign } = rig({ restored: true });
  assign(0);
  assign(0, 1);
  const run = source.run();
  reader.give([recordOf(0)], { endOffset: 700 });
  reader.give([recordOf(1)], { endOffset: 900 });
  reader.give([], { splitIndex: 1, endOffset: -1 });
  await env.advance(10);
  const announced = frames[1]!.filter((frame) => frame.kind === 'splits');
  assert.deepEqual(
    announced.map(({ splits, replayUntil }) => [splits[0]!.index, replayUntil]),
    [
      [0, 700],
      [1, 0],
    ],
    'once per split',
  );
  await stop(source, env, run);
});

test('a position is the next offset, over gaps inside and at the end of a batch', async () => {
  const { env, reader, source, assign } = rig();
  assign(10);
  const run = source.run();
  reader.give([recordOf(12), recordOf(40)], { nextOffset: 55, endOffset: 60 });
  await env.advance(10);
  assert.equal(source.positions()[0]!.offset, 55);
  assert.equal(source.stats.recordsRead, 2, 'records are counted, not offsets (P27)');
  assert.equal(source.stats.pendingRecords, 5);
  assert.equal(source.stats.recordsLagMax, 5);
  assert.equal(source.stats.emitEventTimeLagMs, -1, 'the records bear no time');
  const timed = recordOf(56, USERS[0], env.now() - 40);
  reader.give([timed], { nextOffset: 57, endOffset: 60 });
  await env.advance(10);
  const { emitEventTimeLagMs } = source.stats;
  assert.ok(emitEventTimeLagMs >= 40 && emitEventTimeLagMs <= 50, `${emitEventTimeLagMs} ms`);
  reader.give([], { nextOffset: 60, endOffset: 60 });
  await env.advance(10);
  assert.equal(source.positions()[0]!.offset, 60);
  assert.equal(source.stats.pendingRecords, 0);
  await stop(source, env, run);
});

test('a barrier divides records exactly also while the source is blocked on credit', async () => {
  // Two records of about 60 bytes fit in a buffer, and there is credit for one buffer.
  const { env, reader, frames, senders, source, assign } = rig({}, 1, 140);
  assign(0);
  const run = source.run();
  reader.give(
    Array.from({ length: 12 }, (_, n) => recordOf(n * 3, USERS[0])),
    {
      endOffset: 99,
    },
  );
  await env.advance(10);
  const blockedAt = source.positions()[0]!.offset;
  assert.ok(blockedAt > 0 && blockedAt < 33, `blocked at ${blockedAt}`);
  const positions = source.barrier(1, 123, SCRIPT);
  for (let n = 0; n < 40; n++) {
    senders[0]!.grant(null);
    source.resume();
    await env.advance(10);
  }
  const [before, after] = dividedBy(frames[0]!, 1);
  assert.ok(
    before.every((offset) => offset < positions[0]!.offset),
    'one is in neither part',
  );
  assert.ok(
    after.every((offset) => offset >= positions[0]!.offset),
    'one is in both parts',
  );
  assert.deepEqual(
    [...before, ...after],
    Array.from({ length: 12 }, (_, n) => n * 3),
  );
  const barrier = frames[1]!.find((frame) => frame.kind === 'barrier')!;
  assert.deepEqual([barrier.triggeredAt, barrier.script], [123, SCRIPT]);
  assert.ok(source.stats.backPressuredMs > 0);
  await stop(source, env, run);
});

test('a source that is held up says so while it waits, not when it is over', async () => {
  const { env, source, assign } = rig();
  assign(0);
  source.pause(true);
  const run = source.run();
  const seen: number[] = [];
  for (let n = 0; n < 3; n++) {
    await env.advance(10_000);
    seen.push(source.stats.backPressuredMs);
  }
  assert.deepEqual(seen, [10_000, 20_000, 30_000]);
  source.pause(false);
  await env.advance(10_000);
  assert.equal(source.stats.backPressuredMs, 30_000);
  await stop(source, env, run);
});

test('positions divide a split at every barrier, for any batches, credit, moments', async () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('give' as const), records: fc.nat(9) }) },
    { weight: 3, arbitrary: fc.constant({ do: 'grant' as const }) },
    { weight: 2, arbitrary: fc.constant({ do: 'barrier' as const }) },
    { weight: 2, arbitrary: fc.constant({ do: 'time' as const }) },
  );
  let blocked = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { size: 'max', maxLength: 40 }), async (steps) => {
      const { env, reader, frames, senders, source, assign } = rig({}, 1, 140);
      assign(0);
      const run = source.run();
      let next = 0;
      const taken = new Map<number, number>();
      const barrier = () => {
        const id = taken.size + 1;
        taken.set(id, source.barrier(id, 0, SCRIPT)[0]!.offset);
      };
      for (const one of steps) {
        if (one.do === 'give') {
          const records: SourceRecord[] = [];
          for (let n = 0; n < one.records; n++) records.push(recordOf(next++, USERS[n % 2]));
          reader.give(records, { nextOffset: next, endOffset: next });
        } else if (one.do === 'barrier') barrier();
        else if (one.do === 'time') await env.advance(7);
        else for (const sender of senders) sender.grant(null);
        source.resume();
        await turns(1);
      }
      blocked += source.stats.backPressuredMs > 0 ? 1 : 0;
      for (let n = 0; n < 60 || source.positions()[0]!.offset < next; n++) {
        for (const sender of senders) sender.grant(null);
        source.resume();
        await env.advance(7);
      }
      barrier();
      for (const [id, offset] of taken) {
        const parts = frames.map((own) => dividedBy(own, id));
        const before = parts.flatMap(([own]) => own).sort((a, b) => a - b);
        assert.deepEqual(
          before,
          Array.from({ length: offset }, (_, n) => n),
          `barrier ${id} at ${offset}`,
        );
      }
      assert.equal([...taken.values()].at(-1), next);
      await stop(source, env, run);
    }),
    { seed: 15, numRuns: 40 },
  );
  assert.ok(blocked > 5, `blocked in ${blocked} runs`);
});

/**
 * P27, I1: for a file the offset is a byte. The position between two records of one batch must be
 * where the next line begins; `offset + 1` lies inside the line just sent, whose rest would be read
 * again as poison.
 */
test('a barrier inside a batch of a file resumes at the next line', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'source-task-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'events.ndjson');
  const lines = Array.from({ length: 20 }, (_, n) => `{"user_id":"${USERS[0]}","n":${n}}\n`);
  await writeFile(path, lines.join(''));
  const read = async (offset: number) => {
    const plan = { kind: 'file', paths: [path], maxRecordBytes: 1000 } as const;
    const counters = { records: 0, bytes: 0 } as never;
    const reader = new FileReader({ ...plan, paths: [path] }, new HandEnv(), counters);
    reader.assign([{ split: { ...splitOf(0), id: path }, offset, clock: -1 }]);
    const batch = await reader.poll(1);
    await reader.close();
    return batch!;
  };
  const batch = await read(0);
  const { env, reader, frames, source, assign } = rig({}, 1, 140);
  assign(0);
  const run = source.run();
  reader.give([...batch.records], { ...batch });
  await env.advance(10);
  const [position] = source.barrier(1, 0, SCRIPT);
  const [before] = dividedBy(frames[0]!, 1);
  assert.ok(before.length > 0 && before.length < 20, 'inside the batch');
  const rest = await read(position!.offset);
  const again = [...rest.records].map(({ value }) => value!.toString());
  assert.deepEqual(
    again,
    lines.slice(before.length).map((line) => line.trimEnd()),
  );
  await stop(source, env, run);
});

test('time of a split is its running maximum, capped at now + skew and never behind', async () => {
  const { env, reader, source, assign, recordsOf } = rig();
  const now = env.now();
  assign(0, 0, 500);
  assign(0, 1);
  const run = source.run();
  const stamps = [-1, 100, 900, 700, now + 10_000_000, now];
  reader.give(stamps.map((timestamp, offset) => recordOf(offset, USERS[0], timestamp)));
  reader.give([recordOf(0, USERS[0], 3), recordOf(1, USERS[0], -1)], { splitIndex: 1 });
  await env.advance(10);
  const times = (index: number) =>
    recordsOf(0)
      .filter(({ split }) => split.index === index)
      .map(({ time }) => time);
  assert.deepEqual(times(0), [500, 500, 900, 900, now + 60_000, now + 60_000]);
  assert.deepEqual(times(1), [3, 3], 'the clock of another split is no concern of it');
  assert.deepEqual(
    recordsOf(0)
      .slice(0, 6)
      .map(({ timestamp }) => timestamp),
    stamps,
    "the record's own stamp stays",
  );
  assert.equal(source.stats.skewedRecords, 1);
  assert.deepEqual(
    source.positions().map(({ clock }) => clock),
    [now + 60_000, 3],
  );
  await stop(source, env, run);
});

test('the clock is the slowest split; one at its end counts as when it was asked', async () => {
  const { env, reader, source, assign, clocks } = rig();
  const run = source.run();
  assert.deepEqual(clocks(), [Number.POSITIVE_INFINITY], 'no split holds nobody back');
  assign(0, 0);
  assign(0, 1, 70);
  reader.give([recordOf(0, USERS[0], 4000)], { endOffset: 10 });
  await env.advance(1200);
  assert.equal(clocks().at(-1), 70, 'restored, not heard of yet');
  reader.give([recordOf(0, USERS[0], 5000)], { splitIndex: 1, endOffset: 10 });
  await env.advance(1200);
  assert.equal(clocks().at(-1), 4000);
  const answeredAt = env.now();
  reader.give([], { nextOffset: 10, endOffset: 10 });
  await env.advance(1200);
  assert.equal(clocks().at(-1), 5000, 'split 0 is at its end');
  reader.give([], { splitIndex: 1, nextOffset: 10, endOffset: 10 });
  await env.advance(1200);
  const last = clocks().at(-1)!;
  assert.ok(last >= answeredAt && last <= answeredAt + 200, 'the older of the two answers');
  assert.deepEqual(clocks(1), clocks(0));
  await stop(source, env, run);
});

test('while nobody looks for new splits, time does not pass their grace', async () => {
  const { env, reader, source, assign, clocks } = rig({}, 100, 4096, false);
  assign(0);
  const run = source.run();
  const begun = env.now();
  source.discovered(begun);
  const later = begun + 3 * GRACE_MS;
  await env.advance(3 * GRACE_MS);
  reader.give([recordOf(0, USERS[0], later)], { endOffset: 10 });
  await env.advance(1200);
  assert.equal(clocks().at(-1), begun + GRACE_MS);
  source.discovered(begun + GRACE_MS);
  await env.advance(1200);
  assert.equal(clocks().at(-1), begun + 2 * GRACE_MS);
  source.discovered(later);
  await env.advance(1200);
  assert.equal(clocks().at(-1), later);
  await stop(source, env, run);
});

test('a source without splits says no more than was looked for (P37)', async () => {
  const { env, source, clocks } = rig({}, 100, 4096, false);
  source.assign([]);
  const run = source.run();
  await env.advance(1200);
  assert.equal(clocks().at(-1), GRACE_MS, 'nobody has looked yet');
  source.discovered(50_000);
  await env.advance(1200);
  assert.equal(clocks().at(-1), 50_000 + GRACE_MS);
  await stop(source, env, run);
});

test('after a pause the end of the log is news of before it', async () => {
  const { env, reader, source, assign, clocks } = rig();
  assign(0);
  const run = source.run();
  reader.give([recordOf(0, USERS[0], 4000)]);
  await env.advance(1500);
  const pausedAt = env.now();
  source.pause(true);
  const { polls } = reader;
  await env.advance(3_600_000);
  assert.ok(reader.polls <= polls + 1, 'a paused source reads nothing');
  const before = clocks().length;
  source.pause(false);
  await turns();
  for (const time of clocks().slice(before)) {
    assert.ok(time <= pausedAt + 200, 'what came during the pause is unread: purging its users');
  }
  await stop(source, env, run);
});

test('a recorded stream never counts as now; a finished split holds nobody back', async () => {
  const { env, reader, source, assign, clocks } = rig({ liveTimestamps: false });
  assign(0);
  assign(0, 1);
  const run = source.run();
  reader.give([recordOf(0, USERS[0], 4000)]);
  reader.give([recordOf(0, USERS[0], 6000)], { splitIndex: 1 });
  await env.advance(2000);
  assert.equal(clocks().at(-1), 4000);
  reader.give([], { nextOffset: 1, endOffset: 1, finished: true });
  await env.advance(2000);
  assert.equal(clocks().at(-1), 6000);
  assert.equal(source.stats.pendingRecords, 0);
  await stop(source, env, run);
});

test('records without a key go by their place, tombstones too', async () => {
  const { env, reader, source, assign, recordsOf } = rig();
  assign(0);
  const run = source.run();
  const values = [null, Buffer.from('no json'), Buffer.from('{"user_id":7}'), Buffer.alloc(0)];
  reader.give(values.map((value, offset) => ({ offset, timestamp: -1, value })));
  await env.advance(10);
  const all = [...recordsOf(0), ...recordsOf(1)].sort((a, b) => a.offset - b.offset);
  assert.deepEqual(
    all.map(({ value }) => value && Buffer.from(value)),
    values,
  );
  for (const channel of [0, 1]) {
    const { first, last } = RANGES[channel]!;
    for (const { keyGroup } of recordsOf(channel)) assert.ok(keyGroup >= first && keyGroup <= last);
  }
  await stop(source, env, run);
});

test('a part of a buffer leaves after the timeout, at the latest when credit is back', async () => {
  const { env, reader, senders, source, assign, recordsOf } = rig({}, 0);
  assign(0);
  const run = source.run();
  await env.advance(1);
  // The announcement overdraws nothing: there is no data yet.
  reader.give([recordOf(0)], { endOffset: 5 });
  await turns();
  assert.equal(recordsOf(0).length, 0);
  await env.advance(50);
  assert.equal(recordsOf(0).length, 0, 'no credit');
  senders[0]!.grant(null);
  await env.advance(10);
  assert.equal(recordsOf(0).length, 1);
  await stop(source, env, run);
});

test('a long batch gives the event loop turns, and a barrier may fall into it', async () => {
  const { env, reader, frames, source, assign } = rig({}, 1e6);
  assign(0);
  const run = source.run();
  reader.give(Array.from({ length: 2000 }, (_, n) => recordOf(n)));
  await turns(2);
  const { offset } = source.barrier(1, 0, SCRIPT)[0]!;
  assert.ok(offset > 0 && offset < 2000, `at ${offset}`);
  await env.advance(20);
  const [before, after] = dividedBy(frames[0]!, 1);
  assert.equal(before.length, offset);
  assert.equal(before.length + after.length, 2000);
  await stop(source, env, run);
});

test('a held source sends nothing behind the barrier, inside a batch or after it', async () => {
  const { env, reader, frames, source, assign } = rig({}, 1e6);
  assign(0);
  const run = source.run();
  reader.give(Array.from({ length: 2000 }, (_, n) => recordOf(n)));
  await turns(2);
  source.hold(true);
  const { offset } = source.barrier(1, 0, SCRIPT)[0]!;
  assert.ok(offset > 0 && offset < 2000, `at ${offset}`);
  // Credit and the end of a stall wake it, and change nothing.
  reader.give([recordOf(2000)]);
  source.resume();
  source.pause(false);
  await env.advance(500);
  assert.deepEqual(dividedBy(frames[0]!, 1)[1], []);
  assert.equal(source.positions()[0]!.offset, offset);
  source.hold(false);
  await env.advance(500);
  const [before, after] = dividedBy(frames[0]!, 1);
  assert.deepEqual(
    [...before, ...after],
    Array.from({ length: 2001 }, (_, n) => n),
  );
  await stop(source, env, run);
});

test("the reader's refusal ends the run", async () => {
  const { reader, source, assign } = rig();
  assign(0);
  const fault = new Error('offset out of range');
  reader.poll = () => Promise.reject(fault);
  await assert.rejects(source.run(), fault);
});

test('a split that is read stays where it is when a new leader assigns it again', () => {
  const { source, reader } = rig();
  const held = { split: splitOf(1), offset: 4, clock: -1, held: true } as const;
  source.assign([{ split: splitOf(0), offset: 40, clock: -1 }, held]);
  source.assign([{ split: splitOf(0), offset: 7, clock: -1 }, held]);
  assert.deepEqual(
    source.known().map(({ offset, held: still }) => [offset, still]),
    [
      [40, undefined],
      [4, true],
    ],
  );
  source.assign([{ split: splitOf(1), offset: 4, clock: -1 }]);
  source.assign([held]);
  assert.deepEqual(
    source.positions().map(({ offset }) => offset),
    [40, 4],
  );
  assert.deepEqual(
    reader.assigned.map((one) => [one.split.index, one.held === true]),
    [
      [0, false],
      [1, true],
      [1, false],
    ],
  );
});

test('P37: an end of the log counts as now only as far as new splits were looked for', async () => {
  const { env, reader, source, assign, clocks } = rig({}, 100, 4096, false);
  const startedAt = env.now();
  const run = source.run();
  assign(0, 0);
  reader.give([recordOf(0, USERS[0], 4000)], { nextOffset: 1, endOffset: 1 });
  await env.advance(1200);
  assert.equal(clocks().at(-1), 4000, 'nobody has looked yet');
  source.discovered(startedAt);
  reader.give([], { nextOffset: 1, endOffset: 1 });
  await env.advance(5000);
  assert.equal(clocks().at(-1), startedAt, 'nobody has looked since: a user may have moved');
  source.discovered(startedAt + 2000);
  source.discovered(startedAt + 1000);
  await env.advance(1200);
  reader.give([], { nextOffset: 1, endOffset: 1 });
  await env.advance(1200);
  assert.equal(clocks().at(-1), startedAt + 2000);
  await stop(source, env, run);
});
