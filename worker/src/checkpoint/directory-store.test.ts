import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { realEnv } from '../runtime/env.ts';
import { openDirectoryStore } from './directory-store.ts';
import { openStore } from './open-store.ts';

const root = await mkdtemp(join(tmpdir(), 'triggerjob-store-'));
after(() => rm(root, { recursive: true }));
let folders = 0;
const fresh = () => join(root, `s${folders++}`, 'nested');
const bytes = (text: string) => Buffer.from(text);

test('objects are created once, read, listed by prefix and deleted', async () => {
  const store = await openDirectoryStore(fresh(), realEnv);
  assert.equal(await store.create('log/00000000', bytes('a')), 'created');
  assert.equal(await store.create('log/00000000', bytes('b')), 'exists');
  assert.equal(String(await store.get('log/00000000')), 'a');
  assert.equal(await store.get('log/00000001'), null);
  assert.equal(await store.get('absent/deeper/one'), null);
  await store.put('segments/1/2-0-delta-0-x', bytes('0123456789'));
  await store.put('segments/1/2-0-delta-0-x', bytes('0123456789'));
  await store.put('segments/10/2-0-delta-0-y', bytes('y'));
  const other = store.put('segments/10/2-0-delta-0-y', bytes('z'));
  await assert.rejects(other, { code: 'STORE_NAME_TAKEN' });
  assert.equal(String(await store.getRange('segments/1/2-0-delta-0-x', 3, 4)), '3456');
  assert.equal(String(await store.getRange('segments/1/2-0-delta-0-x', 8, 4)), '89');
  await assert.rejects(store.getRange('absent', 0, 1));
  const names = async (prefix: string) => (await store.list(prefix)).map((one) => one.name).sort();
  assert.deepEqual(await names(''), [
    'log/00000000',
    'segments/1/2-0-delta-0-x',
    'segments/10/2-0-delta-0-y',
  ]);
  assert.deepEqual(await names('segments/1'), (await names('')).slice(1));
  assert.deepEqual(await names('segments/1/'), ['segments/1/2-0-delta-0-x']);
  assert.deepEqual(await names('nothing/'), []);
  const [found] = await store.list('segments/1/');
  assert.equal(found?.bytes, 10);
  assert.ok(Math.abs((found?.modifiedAt ?? 0) - Date.now()) < 600_000);
  await store.delete(['log/00000000', 'log/00000000', 'never/was']);
  assert.deepEqual(await names('log/'), []);
});

test('of many racers for one name exactly one wins, and nobody sees half an object', async () => {
  const dir = fresh();
  const stores = await Promise.all(
    Array.from({ length: 8 }, () => openDirectoryStore(dir, realEnv)),
  );
  for (let round = 0; round < 20; round++) {
    const name = `log/${round}`;
    let seen: Buffer | null = null;
    const answers = await Promise.all(
      stores.map(async (store, i) => {
        const answer = await store.create(name, Buffer.alloc(70_000, i));
        seen ??= await store.get(name);
        assert.equal((await store.get(name))?.length, 70_000);
        return answer;
      }),
    );
    assert.equal(answers.filter((answer) => answer === 'created').length, 1);
    assert.equal((seen as Buffer | null)?.[0], answers.indexOf('created'));
  }
  assert.deepEqual(await readdir(join(dir, '.tmp')), []);
});

test('names that leave the folder, or reach the temporary files, are refused', async () => {
  const store = await openDirectoryStore(fresh(), realEnv);
  for (const name of [
    '',
    '..',
    '../x',
    'a/../../x',
    '/etc/x',
    'a//b',
    './a',
    'a/',
    '.tmp/x',
    'a\0b',
  ]) {
    await assert.rejects(store.put(name, bytes('x')), { code: 'STORE_NAME' }, name);
    await assert.rejects(store.get(name), { code: 'STORE_NAME' }, name);
    await assert.rejects(store.delete([name]), { code: 'STORE_NAME' }, name);
  }
  await assert.rejects(store.list('../'), { code: 'STORE_NAME' });
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
    ['s3://bucket/x', /S3 comes with the cluster/],
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
