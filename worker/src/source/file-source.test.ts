/** NDJSON files: every line once, by its byte position, whatever the line ends and sizes. */
import assert from 'node:assert/strict';
import { appendFile, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import type { FileSourcePlan } from '../plan/job-plan.ts';
import { realEnv } from '../runtime/env.ts';
import { KEPT_OVERSIZE } from './file-source.ts';
import { createSplitEnumerator, createSplitReader } from './open.ts';
import type { SourceBatch, SplitPosition } from './source.ts';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'triggerjob-file-'));
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
});

const planOf = (paths: string[], maxRecordBytes = 1024): FileSourcePlan => ({
  kind: 'file',
  paths,
  maxRecordBytes,
});

const at = (path: string, offset = 0, index = 0): SplitPosition => ({
  split: { index, id: path, sourceId: `file:${path}`, partition: index },
  offset,
  clock: -1,
});

async function readAll(plan: FileSourcePlan, positions: SplitPosition[]): Promise<SourceBatch[]> {
  const reader = await createSplitReader(plan, realEnv);
  reader.assign(positions);
  const batches: SourceBatch[] = [];
  for (let finished = 0; finished < positions.length; ) {
    const batch = await reader.poll(1);
    assert.ok(batch !== null);
    batches.push(batch);
    if (batch.finished) finished++;
  }
  assert.equal(await reader.poll(1), null);
  await reader.close();
  return batches;
}

const lines = (batches: SourceBatch[]) =>
  batches.flatMap((batch) =>
    [...batch.records].map(({ offset, value }) => [offset, String(value)]),
  );

test('lines by byte position: LF, CRLF, blank lines, no line end at the end', async () => {
  const path = join(folder, 'mixed.ndjson');
  await writeFile(path, '{"a":1}\r\n\n{"ü":2}\n\r\nlast');
  const batches = await readAll(planOf([path]), [at(path)]);
  assert.deepEqual(lines(batches), [
    [0, '{"a":1}'],
    [10, '{"ü":2}'],
    [21, 'last'],
  ]);
  assert.equal(batches.at(-1)!.nextOffset, 25);
  assert.equal(batches.at(-1)!.endOffset, 25);
  assert.equal(batches[0]!.records.timestamps[0], -1);
  assert.deepEqual(lines(await readAll(planOf([path]), [at(path, 10)])), lines(batches).slice(1));
  assert.deepEqual(lines(await readAll(planOf([path]), [at(path, 25)])), []);
});

test('any lines, resumed at the position of any batch, come once each', async () => {
  const path = join(folder, 'property.ndjson');
  // Lines around the chunk size, so that they straddle chunks in every way.
  const line = fc.oneof(
    fc.stringMatching(/^[a-z]{1,40}$/),
    fc.integer({ min: 250_000, max: 270_000 }).map((size) => 'x'.repeat(size)),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 12 }), fc.boolean(), async (texts, closed) => {
      await writeFile(path, texts.join('\n') + (closed ? '\n' : ''));
      const plan = planOf([path], 1024 * 1024);
      const batches = await readAll(plan, [at(path)]);
      assert.deepEqual(
        lines(batches).map(([, text]) => text),
        texts,
      );
      for (const [index, { nextOffset }] of batches.entries()) {
        const rest = await readAll(plan, [at(path, nextOffset)]);
        assert.deepEqual(lines(rest), lines(batches.slice(index + 1)));
      }
    }),
    { seed: 3, numRuns: 25 },
  );
});

test('an oversize line is cut at a multiple of the limit, and the next line is whole', async () => {
  const path = join(folder, 'oversize.ndjson');
  await writeFile(path, `${'y'.repeat(700_000)}\nnext\n${'z'.repeat(600_000)}`);
  const batches = await readAll(planOf([path], 1_000), [at(path)]);
  const records = batches.flatMap((batch) => [...batch.records]);
  assert.deepEqual(
    records.map(({ offset, value }) => [offset, value!.length]),
    [
      [0, 1_000 * KEPT_OVERSIZE],
      [700_001, 4],
      [700_006, 1_000 * KEPT_OVERSIZE],
    ],
  );
});

test('several files end one by one; what is appended later is not followed', async () => {
  const paths = ['one', 'two', 'empty'].map((name) => join(folder, name));
  await writeFile(paths[0]!, 'a\nb\n');
  await writeFile(paths[1]!, 'c\n');
  await writeFile(paths[2]!, '');
  const positions = paths.map((path, index) => at(path, 0, index));
  const batches = await readAll(planOf(paths), positions);
  assert.deepEqual(
    batches.map((b) => [b.splitIndex, b.records.count, b.finished]),
    [
      [0, 2, true],
      [1, 1, true],
      [2, 0, true],
    ],
  );
  const big = join(folder, 'growing');
  await writeFile(big, 'z'.repeat(300_000));
  const reader = await createSplitReader(planOf([big]), realEnv);
  reader.assign([at(big)]);
  await reader.poll(1);
  await appendFile(big, '\nlater\n');
  const last = await reader.poll(1);
  assert.equal(last!.finished, true);
  assert.equal(last!.nextOffset, 300_000);
  await reader.close();
});

test('a missing or shortened file is named', async () => {
  const path = join(folder, 'gone');
  const reader = await createSplitReader(planOf([path]), realEnv);
  reader.assign([at(path)]);
  await assert.rejects(reader.poll(1), { code: 'SOURCE_FILE_UNREADABLE' });
  await writeFile(path, 'abc\ndef\n');
  const enumerator = createSplitEnumerator(planOf([path]), realEnv);
  const splits = (await enumerator.discover()).map((s, index) => ({ ...s, index }));
  assert.deepEqual([...(await enumerator.endOffsets(splits))], [[0, 8]]);
  await truncate(path, 4);
  const shorter = await createSplitReader(planOf([path]), realEnv);
  shorter.assign([at(path, 8)]);
  await assert.rejects(shorter.poll(1), (error: Error) => {
    assert.match(error.message, /\[4,8\) are lost/);
    return true;
  });
});
