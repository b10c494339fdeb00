import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { eventIdOf, FiredIds } from './fired-ids.ts';
import { FiredLog, FiredLogWriter } from './fired-log.ts';

describe('fired log', () => {
  let folder = '';

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'triggerjob-fired-'));
  });

  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('gives each row of each thread once, and counts an id that comes again', () => {
    const log = new FiredLog(folder);
    const one = FiredLogWriter.open(folder, 11, 1);
    const other = FiredLogWriter.open(folder, 12, 2);
    one.add(5, 0, 100);
    one.flush();
    const rows: number[] = [];
    log.read(({ pid, partition, timestamp }) => rows.push(pid, partition, timestamp));
    other.add(6, 3, 70_000);
    other.add(6, 3, 100);
    other.close();
    one.close();
    log.read(({ pid, partition, timestamp }) => rows.push(pid, partition, timestamp));
    log.read(() => assert.fail('there is nothing new'));
    assert.deepEqual(rows, [11, 0, 5, 12, 3, 6, 12, 3, 6]);
    const { fired, firedSum, repeated } = log.ids;
    assert.deepEqual({ fired, firedSum, repeated }, { fired: 2, firedSum: 70_100, repeated: 1 });
  });
});

describe('fired ids', () => {
  it('reads the id of an enriched body', () => {
    const body = Buffer.from('{"event":{"event_id":1234567,"user_id":"u"},"user":{}}');
    assert.equal(eventIdOf(body), 1_234_567);
  });

  it('holds ids of any size', () => {
    const ids = new FiredIds();
    for (const id of [0, 3_000_000, 0]) ids.add(id);
    assert.deepEqual([ids.fired, ids.firedSum, ids.repeated], [2, 3_000_000, 1]);
  });
});
