import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { realEnv } from '../runtime/env.ts';
import { openDirectoryStore } from './directory-store.ts';
import { openStore } from './open-store.ts';
import { describeStoreContract } from './store-contract.ts';

const root = await mkdtemp(join(tmpdir(), 'triggerjob-store-'));
after(() => rm(root, { recursive: true }));
let folders = 0;
const fresh = () => join(root, `s${folders++}`, 'nested');
const bytes = (text: string) => Buffer.from(text);

describeStoreContract('the directory store', {
  open: (place) => openDirectoryStore(join(root, place, 'nested'), realEnv),
  racers: 8,
  rounds: 20,
});

test('an upload is never replaced by one of its name, and leaves no temporary file', async () => {
  const dir = fresh();
  const store = await openDirectoryStore(dir, realEnv);
  await store.put('a', bytes('mine'));
  await store.put('a', bytes('mine'));
  await assert.rejects(store.put('a', bytes('other')), { code: 'STORE_NAME_TAKEN' });
  assert.equal(await store.create('a', bytes('other')), 'exists');
  assert.equal(String(await store.get('a')), 'mine');
  assert.deepEqual(await readdir(join(dir, '.tmp')), []);
});

test('temporary files older than an hour go at the next start, younger ones stay', async () => {
  const dir = fresh();
  await openDirectoryStore(dir, realEnv);
  for (const name of ['old', 'young']) await writeFile(join(dir, '.tmp', name), 'torn');
  const old = new Date(Date.now() - 61 * 60_000);
  await utimes(join(dir, '.tmp', 'old'), old, old);
  const store = await openDirectoryStore(dir, realEnv);
  assert.deepEqual(await readdir(join(dir, '.tmp')), ['young']);
  assert.deepEqual(await store.list(''), []);
});

test('a store is opened by file URL or path; others are refused by name', async () => {
  const dir = fresh();
  const store = await openStore(pathToFileURL(dir).href, realEnv);
  await store.put('a', bytes('1'));
  assert.equal(String(await (await openStore(dir, realEnv)).get('a')), '1');
  assert.equal(store.url, pathToFileURL(dir).href);
  const refused: [string, RegExp][] = [
    ['s3a://bucket/x', /write s3:/],
    ['s3:///x', /names no bucket/],
    ['hdfs://host/x', /hdfs/],
    ['gs://bucket', /gs:/],
    ['file://host/x', /file:\/\/\/dir/],
    ['', /empty/],
  ];
  for (const [url, message] of refused) {
    await assert.rejects(openStore(url, realEnv), { code: 'STORE_UNSUPPORTED', message });
  }
  await writeFile(join(root, 'plain'), '');
  await assert.rejects(openStore(join(root, 'plain'), realEnv), { code: 'STORE_UNUSABLE' });
});
