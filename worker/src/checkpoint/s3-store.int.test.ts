/**
 * The S3 store against a real S3 server: the contract that its fake can only claim, many racers for
 * one name, objects in parts, more names than a page or a batch holds. Figures are printed.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type S3Server, startS3 } from '../../../e2e/testbed/s3.ts';
import type { S3Plan } from '../plan/job-plan.ts';
import { realEnv } from '../runtime/env.ts';
import { openDirectoryStore } from './directory-store.ts';
import { JobLog } from './log.ts';
import type { ObjectStore } from './object-store.ts';
import { openS3Store } from './s3-store.ts';
import { readSavepoint, writeSavepoint } from './savepoint.ts';
import type { Manifest, ObjectRef } from './snapshot.ts';
import { describeStoreContract } from './store-contract.ts';

const MIB = 1024 * 1024;

let server: S3Server;
let plan: S3Plan;
let folder: string;

before(async () => {
  server = await startS3();
  folder = await mkdtemp(join(tmpdir(), 'triggerjob-s3-int-'));
  plan = {
    endpoint: server.endpoint,
    region: null,
    pathStyle: null,
    credentials: {
      accessKey: { path: server.accessKeyFile },
      secretKey: { path: server.secretKeyFile },
    },
  };
});
after(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const open = (place: string): Promise<ObjectStore> =>
  openS3Store(`s3://${server.bucket}/${place}`, realEnv, { s3: plan, creates: true });

/** Bytes that no compression and no repetition can help with. */
function noise(bytes: number): Buffer {
  const block = createHash('sha512');
  const pieces: Buffer[] = [];
  for (let n = 0; n * 64 < bytes; n++) pieces.push(block.copy().update(String(n)).digest());
  return Buffer.concat(pieces).subarray(0, bytes);
}

/** Of one subtask with one base. */
function manifestWith(object: ObjectRef): Manifest {
  const script = { version: '1', text: 'true', language: 'aviator' } as const;
  const range = { first: 0, last: 0 };
  const ledger = { accepted: 0, noMatch: 0, delivered: 0, deadLettered: 0, parked: 0, inOutbox: 0 };
  const times = { alignmentMs: 0, syncMs: 0, asyncMs: 0, startDelayMs: 0 };
  const figures = { ...times, uploadedBytes: 0, stateBytes: 0, users: 0 };
  const bases = [{ groups: [0], epoch: 1, object }];
  const parts = { bases, deltas: [], volatile: null, splits: [] };
  return {
    format: 1,
    checkpointId: 1,
    leaderEpoch: 1,
    kind: 'checkpoint',
    lineage: 'l1',
    job: { namespace: 'default', name: 'a' },
    maxParallelism: 1,
    parallelism: 1,
    attempt: 1,
    triggeredAt: 1,
    completedAt: 2,
    splits: [],
    script,
    subtasks: [{ subtask: 0, attempt: 1, range, ...parts, script, ledger, figures }],
  };
}

describeStoreContract('the S3 store, on a real server,', { open, racers: 12, rounds: 50 });

describe('the S3 store on a real server', () => {
  it('takes 50 MB in parts and gives back the whole and any range', async (t) => {
    const store = await open('large');
    const content = noise(50 * MIB + 12_345);
    const megabytes = content.length / MIB;
    const rate = (startedAt: number) =>
      `${(megabytes / ((performance.now() - startedAt) / 1000)).toFixed(0)} MiB/s`;
    const putAt = performance.now();
    await store.put('segments/1/large', content);
    t.diagnostic(`put of ${megabytes.toFixed(0)} MiB in parts: ${rate(putAt)}`);
    const getAt = performance.now();
    assert.ok((await store.get('segments/1/large'))?.equals(content));
    t.diagnostic(`get of it: ${rate(getAt)}`);
    for (const [offset, length] of [
      [0, 1],
      [16 * MIB - 5, 10],
      [33 * MIB, 5 * MIB],
      [content.length - 7, 100],
    ] as const) {
      const range = await store.getRange('segments/1/large', offset, length);
      assert.ok(range.equals(content.subarray(offset, offset + length)), `${offset}`);
    }
    const [found] = await store.list('segments/');
    assert.equal(found?.bytes, content.length);
  });

  it('creates in milliseconds', async (t) => {
    const store = await open('fast');
    const took: number[] = [];
    for (let n = 0; n < 100; n++) {
      const startedAt = performance.now();
      assert.equal(await store.create(`log/${n}`, Buffer.alloc(300, 'r')), 'created');
      took.push(performance.now() - startedAt);
    }
    took.sort((a, b) => a - b);
    t.diagnostic(`create: median ${took[50]?.toFixed(1)} ms, 99 % ${took[98]?.toFixed(1)} ms`);
  });

  it('lists and deletes more names than a page or a batch holds', async () => {
    const store = await open('many');
    const names = Array.from({ length: 2_100 }, (_, n) => `segments/${n % 7}/${n}`);
    await Promise.all(names.map((name) => store.put(name, Buffer.from(name))));
    const listed = (await store.list('')).map((one) => one.name);
    assert.deepEqual(listed.toSorted(), names.toSorted());
    await store.delete([...names.slice(0, 2_000), 'segments/never/was']);
    assert.equal((await store.list('')).length, 100);
  });

  it('survives a restart of the server in the middle of its requests', async () => {
    const store = await open('restart');
    await store.put('a', Buffer.from('before'));
    await server.down();
    const putting = store.put('b', noise(20 * MIB));
    const reading = store.get('a');
    const creating = store.create('log/0', Buffer.from('mine'));
    await server.up();
    await putting;
    assert.equal(String(await reading), 'before');
    assert.ok(['created', 'exists'].includes(await creating));
    assert.equal(String(await store.get('log/0')), 'mine');
  });

  it('refuses wrong credentials and buckets by name', async () => {
    const none = openS3Store('s3://no-such-bucket/x', realEnv, { s3: plan, creates: true });
    await assert.rejects(none, { code: 'STORE_UNUSABLE' });
    const swapped = {
      accessKey: { path: server.secretKeyFile },
      secretKey: { path: server.accessKeyFile },
    };
    const s3 = { ...plan, credentials: swapped };
    const wrong = openS3Store(`s3://${server.bucket}/x`, realEnv, { s3, creates: true });
    await assert.rejects(wrong, { code: 'STORE_UNUSABLE' });
  });
});

describe('across stores', () => {
  it('copies a savepoint from S3 into a directory, and back', async () => {
    const inS3 = await open('job/default/a');
    const content = noise(3 * MIB);
    await inS3.put('segments/1/1-0-base-0-x', content);
    const sha256 = createHash('sha256').update(content).digest('hex');
    const object = { name: 'segments/1/1-0-base-0-x', bytes: content.length, sha256 };
    const manifest = manifestWith(object);
    const inDirectory = await openDirectoryStore(join(folder, 'savepoint'), realEnv);
    const first = await writeSavepoint({ from: inS3, manifest, to: inDirectory, env: realEnv });
    const back = await open('savepoints/one');
    await writeSavepoint({ from: inDirectory, manifest: first, to: back, env: realEnv });
    const read = await readSavepoint(back);
    const copy = read.subtasks[0]?.bases[0]?.object;
    assert.equal(copy?.sha256, sha256);
    assert.ok((await back.get(copy?.name ?? ''))?.equals(content));
  });

  it("keeps a job's log: of many leaders each takes over from the one before", async () => {
    const logs = await Promise.all(
      Array.from({ length: 5 }, async (_, n) => {
        const store = await open('leaders');
        return new JobLog({ store, env: realEnv, writer: `leader-${n}`, retained: 1 });
      }),
    );
    await Promise.all(logs.map((log) => log.takeover({ lineage: 'l', restoredFrom: null })));
    const epochs = logs.map((log) => log.leaderEpoch).toSorted();
    assert.deepEqual(epochs, [1, 2, 3, 4, 5]);
    const last = logs.find((log) => log.leaderEpoch === 5);
    await last?.append({ kind: 'abort', checkpointId: 1, reason: 'x' });
    for (const log of logs.filter((one) => one !== last)) {
      const late = log.append({ kind: 'abort', checkpointId: 2, reason: 'late' });
      await assert.rejects(late, { code: 'LEADERSHIP_LOST' });
    }
  });
});
