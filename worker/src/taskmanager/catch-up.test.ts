import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ChannelSender } from '../exchange/channel-sender.ts';
import { type Frame, readRecords } from '../exchange/frame.ts';
import { keyGroupOf, ownerTable } from '../exchange/key-groups.ts';
import { realEnv } from '../runtime/env.ts';
import { RecordColumns } from '../source/record-columns.ts';
import type { SourceBatch, Split, SplitPosition, SplitReader } from '../source/source.ts';
import { SourceTask } from './source-task.ts';

const GROUPS = 8;
/** The lost one is subtask 1. */
const RANGES = [
  { first: 0, last: 3 },
  { first: 4, last: 7 },
];
const splitOf = (index: number): Split => ({
  index,
  id: `t-${index}`,
  sourceId: 's',
  partition: 0,
});

function ownerOf(offset: number): number {
  return keyGroupOf(`u${offset % 13}`, GROUPS) < 4 ? 0 : 1;
}

/** A log per split; what is appended to it later shows when it is polled next. */
class Log {
  readonly offsets: number[][];

  constructor(offsets: number[][]) {
    this.offsets = offsets;
  }

  reader(batch: number): SplitReader {
    const positions: SplitPosition[] = [];
    return {
      assign: (given) => void positions.push(...given.map((one) => ({ ...one }))),
      poll: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        const position = positions.shift();
        if (position === undefined) return null;
        positions.push(position);
        return this.#next(position, batch);
      },
      close: async () => {},
    };
  }

  #next(position: SplitPosition, batch: number): SourceBatch | null {
    const { index } = position.split;
    const found = this.offsets[index]!.filter((offset) => offset >= position.offset).slice(
      0,
      batch,
    );
    if (found.length === 0) return null;
    const records = RecordColumns.of(
      found.map((offset) => {
        const value = Buffer.from(`{"user_id":"u${offset % 13}"}`);
        return { offset, timestamp: offset, value };
      }),
    );
    position.offset = found.at(-1)! + 1;
    const ends = { nextOffset: position.offset, endOffset: position.offset, finished: false };
    return { splitIndex: index, records, ...ends };
  }
}

/** A live source over `log`, whose channels give credit back only when told. */
function rig(log: Log, options: { batch: number; credit: number }) {
  const frames: Frame[][] = [[], []];
  const senders = frames.map(
    (own) =>
      new ChannelSender({
        bufferBytes: 300,
        credit: options.credit,
        send: (frame) => own.push(frame),
      }),
  );
  const caughtUp = Promise.withResolvers<void>();
  const source = new SourceTask({
    env: realEnv,
    reader: log.reader(options.batch),
    openReader: async () => log.reader(options.batch),
    senders,
    owners: ownerTable(RANGES, GROUPS),
    keyBy: 'user_id',
    maxParallelism: GROUPS,
    allowedSkewMs: 60_000,
    inspection: null,
    bufferTimeoutMs: 1,
    restored: false,
    liveTimestamps: true,
    ttlGraceMs: 60_000,
    onCaughtUp: caughtUp.resolve,
    mutant: null,
  });
  let granted = [0, 0];
  /** Every frame so far is taken by its receiver. */
  const grant = () => {
    frames.forEach((own, target) => {
      const data = own.filter(({ kind }) => kind === 'data').length;
      for (; granted[target]! < data; granted[target]!++) senders[target]!.grant(null);
    });
    source.resume();
  };
  const offsetsOf = (target: number, split: number) =>
    frames[target]!.flatMap((frame) =>
      frame.kind === 'data'
        ? readRecords(frame, splitOf)
            .filter((record) => record.split.index === split)
            .map(({ offset }) => offset)
        : [],
    );
  const forget = (target: number) => {
    frames[target]!.length = 0;
    granted = granted.map((count, index) => (index === target ? 0 : count));
  };
  return { frames, source, grant, offsetsOf, forget, caughtUp: caughtUp.promise };
}

async function until(what: string, test: () => boolean, meanwhile = () => {}): Promise<void> {
  for (let i = 0; i < 1_000; i++) {
    meanwhile();
    if (test()) return;
    await new Promise((resolve) => setTimeout(resolve, i % 10 === 0 ? 1 : 0));
  }
  assert.fail(`never: ${what}`);
}

test('the lost key groups get each record once and in order, the others go on', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        gaps: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 40, maxLength: 120 }),
        from: fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 2, maxLength: 2 }),
        batch: fc.integer({ min: 1, max: 9 }),
        credit: fc.integer({ min: 1, max: 4 }),
        late: fc.integer({ min: 0, max: 20 }),
      }),
      async ({ gaps, from, batch, credit, late }) => {
        const all: number[] = [];
        for (const gap of gaps) all.push((all.at(-1) ?? -1) + gap);
        // Some records are there from the start, the rest come while the catch-up runs.
        const log = new Log([all.slice(0, -late - 1), all.slice(0, -late - 1)]);
        const { source, grant, offsetsOf, forget, caughtUp } = rig(log, { batch, credit });
        source.assign([0, 1].map((index) => ({ split: splitOf(index), offset: 0, clock: -1 })));
        const run = source.run();
        const read = () => source.positions().map(({ offset }) => offset);
        await until('a few records', () => read().every((offset) => offset > 5), grant);
        source.detach([1]);
        forget(1);
        let turns = 0;
        await until('some turns', () => ++turns > 5, grant);
        assert.deepEqual([...offsetsOf(1, 0), ...offsetsOf(1, 1)], [], 'nothing for the lost one');
        const positions = read().map((live, index) => {
          const offset = Math.min(from[index]!, live);
          return { split: splitOf(index), offset, clock: -1 };
        });
        const replaying = source.catchUp(positions);
        log.offsets[0]!.push(...all.slice(-late - 1));
        log.offsets[1]!.push(...all.slice(-late - 1));
        let done = false;
        void caughtUp.then(() => {
          done = true;
        });
        await until('caught up', () => done, grant);
        const last = all.at(-1)!;
        await until('the end', () => read().every((offset) => offset > last), grant);
        await source.close();
        await Promise.all([run, replaying]);
        grant();
        for (const index of [0, 1]) {
          const wanted = (target: number, start: number) =>
            all.filter((offset) => offset >= start && ownerOf(offset) === target);
          const got = offsetsOf(1, index);
          assert.deepEqual(got, wanted(1, positions[index]!.offset).slice(0, got.length));
          assert.deepEqual(offsetsOf(0, index), wanted(0, 0).slice(0, offsetsOf(0, index).length));
        }
        assert.equal(source.stats.handedOver, 2);
      },
    ),
    { numRuns: 40, endOnFailure: true },
  );
});

test('no clock reaches a task whose records come from a catch-up', async () => {
  const log = new Log([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]);
  const { source, frames, grant, caughtUp } = rig(log, { batch: 2, credit: 4 });
  source.assign([{ split: splitOf(0), offset: 0, clock: -1 }]);
  const run = source.run();
  await until('records', () => source.positions()[0]!.offset === 10, grant);
  source.detach([1]);
  frames[1]!.length = 0;
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  assert.equal(frames[1]!.length, 0);
  const replaying = source.catchUp([{ split: splitOf(0), offset: 0, clock: -1 }]);
  await until('announced', () => frames[1]!.length > 0, grant);
  assert.equal(frames[1]![0]!.kind, 'splits');
  assert.equal(frames[1]![0]!.seq, 0, 'a new channel');
  await caughtUp;
  await until('a clock', () => frames[1]!.some(({ kind }) => kind === 'clock'), grant);
  await source.close();
  await Promise.all([run, replaying]);
});

test('a successor has caught up when it has passed what others accepted', async () => {
  const log = new Log([[0, 1, 2, 3, 4, 5, 6, 7]]);
  const { source, grant, caughtUp } = rig(log, { batch: 2, credit: 9 });
  source.assign([{ split: splitOf(0), offset: 2, clock: -1 }]);
  let at = -1;
  void caughtUp.then(() => {
    at = source.positions()[0]!.offset;
  });
  source.replaces([
    { split: 0, offset: 6 },
    { split: 7, offset: 99 },
  ]);
  const run = source.run();
  await until('caught up', () => at >= 0, grant);
  assert.ok(at >= 6, `at ${at}`);
  await source.close();
  await run;
});
