import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import type { StateBackend } from './backend.ts';
import { MemoryBackend } from './memory-backend.ts';
import { openRocksDb } from './rocksdb-backend.ts';

const MEBIBYTE = 1024 * 1024;
const SIZES = { blockCacheBytes: 8 * MEBIBYTE, memtableBytes: 16 * MEBIBYTE };

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'rocksdb-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

async function open(t: TestContext): Promise<StateBackend> {
  const path = await mkdtemp(join(tmpdir(), 'rocksdb-'));
  const backend = await openRocksDb({ directory: join(path, 'db'), ...SIZES });
  // One hook: they run in the order of their registration, and an open database needs its folder.
  t.after(async () => {
    await backend.close();
    await rm(path, { recursive: true, force: true });
  });
  return backend;
}

const keyOf = (n: number) => Buffer.from(`k${String(n).padStart(6, '0')}`);
const ALL = { gte: Buffer.from('k'), lt: Buffer.from('l'), maxRows: 100, maxBytes: MEBIBYTE };

test('a found database is never opened as state, and none is left behind', async (t) => {
  const directory = join(await folder(t), 'slot-0');
  const first = await openRocksDb({ directory, ...SIZES });
  first.write([{ key: keyOf(1), value: Buffer.from('old') }]);
  await first.close();
  assert.equal(existsSync(directory), false);
  await mkdir(directory);
  await writeFile(join(directory, 'CURRENT'), 'MANIFEST-000001\n');
  const second = await openRocksDb({ directory, ...SIZES });
  assert.deepEqual(second.getMany([keyOf(1)]), [undefined]);
  await second.close();
});

test('absent, empty and deleted are told apart, in the order asked', async (t) => {
  const backend = await open(t);
  backend.write([]);
  backend.write([
    { key: keyOf(1), value: Buffer.alloc(0) },
    { key: keyOf(2), value: Buffer.from('two') },
    { key: keyOf(3), value: Buffer.from('three') },
    { key: keyOf(3), value: null },
    { key: keyOf(4), value: null },
    { key: keyOf(4), value: Buffer.from('four') },
  ]);
  const found = backend.getMany([4, 9, 1, 3, 2, 2].map(keyOf));
  assert.deepEqual(
    found.map((value) => value?.toString()),
    ['four', undefined, '', undefined, 'two', 'two'],
  );
  assert.deepEqual(backend.getMany([]), []);
});

/** P3: rows beyond the high-water mark come back as null, which is neither absent nor an error. */
test('a multi-get of far more than its high-water mark returns every row', async (t) => {
  const backend = await open(t);
  const keys: Buffer[] = [];
  for (let n = 0; n < 24; n++) {
    backend.write([{ key: keyOf(n), value: Buffer.alloc(6 * MEBIBYTE, n + 1) }]);
    keys.push(keyOf(n), keyOf(1000 + n));
  }
  const found = backend.getMany(keys);
  assert.equal(found.length, 48);
  for (const [i, value] of found.entries()) {
    if (i % 2 === 1) assert.equal(value, undefined, 'a row that does not exist');
    else {
      assert.equal(value?.length, 6 * MEBIBYTE);
      assert.equal(value?.[0], i / 2 + 1);
      assert.equal(value?.at(-1), i / 2 + 1);
    }
  }
});

test('one row above the high-water mark is read, beside small ones', async (t) => {
  const backend = await open(t);
  backend.write([
    { key: keyOf(1), value: Buffer.alloc(70 * MEBIBYTE, 7) },
    { key: keyOf(2), value: Buffer.from('small') },
  ]);
  const [small, big, none] = backend.getMany([keyOf(2), keyOf(1), keyOf(3)]);
  assert.equal(small?.toString(), 'small');
  assert.equal(big?.length, 70 * MEBIBYTE);
  assert.equal(none, undefined);
});

async function all(backend: StateBackend, options = ALL): Promise<string[]> {
  const rows: string[] = [];
  for await (const batch of backend.scan(options)) {
    rows.push(...batch.map(({ key, value }) => `${key}=${value.toString('latin1')}`));
  }
  return rows;
}

test('it answers as the memory backend does', async (t) => {
  const real = await open(t);
  const memory = new MemoryBackend();
  const op = fc.record({ n: fc.nat(40), value: fc.option(fc.uint8Array({ maxLength: 20 })) });
  await fc.assert(
    fc.asyncProperty(fc.array(op, { maxLength: 30 }), fc.nat(40), fc.nat(40), async (ops, a, b) => {
      const rows = ops.map(({ n, value }) => ({
        key: keyOf(n),
        value: value === null ? null : Buffer.from(value),
      }));
      for (const backend of [real, memory]) backend.write(rows);
      const keys = Array.from({ length: 42 }, (_, n) => keyOf(n));
      assert.deepEqual(real.getMany(keys), memory.getMany(keys));
      const range = { gte: keyOf(Math.min(a, b)), lt: keyOf(Math.max(a, b)) };
      const options = { ...range, maxRows: 3, maxBytes: MEBIBYTE };
      assert.deepEqual(await all(real, options), await all(memory, options));
    }),
    { seed: 8, numRuns: 60 },
  );
});

test('a scan shows the rows as of its call, not of its first step', async (t) => {
  const backend = await open(t);
  const old = Array.from({ length: 1000 }, (_, n) => ({ key: keyOf(n), value: Buffer.from('o') }));
  backend.write(old);
  const scan = backend.scan(ALL);
  backend.write(old.map(({ key }) => ({ key, value: Buffer.from('new') })));
  let seen = 0;
  for await (const batch of scan) {
    assert.ok(batch.length <= ALL.maxRows);
    for (const { value } of batch) assert.equal(value.toString(), 'o');
    seen += batch.length;
    backend.write([
      { key: keyOf(5000 + seen), value: Buffer.from('later') },
      { key: keyOf(999), value: null },
    ]);
  }
  assert.equal(seen, 1000);
});

test('a batch of a scan keeps to its bytes, and a row larger than them still comes', async (t) => {
  const backend = await open(t);
  const rows = Array.from({ length: 200 }, (_, n) => ({
    key: keyOf(n),
    value: Buffer.alloc(1000),
  }));
  rows.push({ key: keyOf(500), value: Buffer.alloc(3 * MEBIBYTE) });
  rows.push({ key: keyOf(501), value: Buffer.alloc(1) });
  backend.write(rows);
  let seen = 0;
  for await (const batch of backend.scan({ ...ALL, maxRows: 1000, maxBytes: 5000 })) {
    const bytes = batch.reduce((sum, { value }) => sum + value.length, 0);
    assert.ok(bytes <= 6000 || batch.some(({ value }) => value.length > 5000), `${bytes} bytes`);
    seen += batch.length;
  }
  assert.equal(seen, 202);
});

test('a scan that is left early gives its iterator back', async (t) => {
  const backend = await open(t);
  backend.write(Array.from({ length: 500 }, (_, n) => ({ key: keyOf(n), value: keyOf(n) })));
  for await (const batch of backend.scan({ ...ALL, maxRows: 10 })) {
    assert.equal(batch.length, 10);
    break;
  }
  assert.equal((await all(backend)).length, 500);
});

test('close with open scans: the folder goes, a scan under way ends with an error', async (t) => {
  const directory = join(await folder(t), 'db');
  const backend = await openRocksDb({ directory, ...SIZES });
  backend.write(Array.from({ length: 500 }, (_, n) => ({ key: keyOf(n), value: keyOf(n) })));
  const begun = backend.scan({ ...ALL, maxRows: 10 });
  await begun.next();
  backend.scan(ALL);
  await backend.close();
  assert.equal(existsSync(directory), false);
  await assert.rejects(Promise.resolve(begun.next()));
});

/**
 * A base or a purge may have a batch under way in a thread of libuv when the slot closes. A crash
 * here takes the TaskManager with all its slots, on each restart of the job. In a process of its
 * own, for it may end by SIGSEGV or SIGABRT.
 */
test('close while a batch of a scan is under way does not crash the process', async (t) => {
  const directory = await folder(t);
  const module = JSON.stringify(import.meta.resolve('./rocksdb-backend.ts'));
  const script = `
    const { openRocksDb } = await import(${module});
    const value = Buffer.alloc(1000, 1);
    const rows = Array.from({ length: 4000 }, (_, n) => ({ key: Buffer.from('k' + n), value }));
    const all = { gte: Buffer.from('k'), lt: Buffer.from('l'), maxRows: 4000, maxBytes: 1e9 };
    for (let round = 0; round < 6; round++) {
      const directory = ${JSON.stringify(directory)} + '/' + round;
      const db = await openRocksDb({ directory, ...${JSON.stringify(SIZES)} });
      db.write(rows);
      const scans = Array.from({ length: 4 }, () => db.scan(all).next().catch(() => {}));
      await new Promise((resolve) => setTimeout(resolve, round % 5));
      await db.close();
      void scans;
    }`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = await new Promise<string>((resolve) => {
    child.on('exit', (code, signal) => resolve(`${code ?? signal}`));
  });
  assert.equal(ended, '0', stderr.slice(0, 300));
});

test('the figures are numbers, and an idle database asks for no pause', async (t) => {
  const backend = await open(t);
  backend.write([{ key: keyOf(1), value: Buffer.alloc(100) }]);
  assert.equal(backend.stalled(), false);
  const stats = backend.stats();
  assert.ok(Object.keys(stats).length > 0);
  for (const [name, value] of Object.entries(stats)) {
    assert.ok(Number.isFinite(value) && value >= 0, `${name} is ${value}`);
  }
});

test('used after its close it throws: native code would end the process', async (t) => {
  const directory = join(await folder(t), 'db');
  const backend = await openRocksDb({ directory, ...SIZES });
  await backend.close();
  const closed = { code: 'BACKEND_CLOSED' };
  assert.throws(() => backend.write([{ key: keyOf(1), value: keyOf(1) }]), closed);
  assert.throws(() => backend.getMany([keyOf(1)]), closed);
  assert.throws(() => backend.scan(ALL), closed);
  assert.throws(() => backend.stalled(), closed);
  assert.throws(() => backend.stats(), closed);
});

test('a write that threw leaves nothing to the next one', async (t) => {
  const backend = await open(t);
  const wrong = { key: keyOf(2), value: 7 as unknown as Buffer };
  assert.throws(() => backend.write([{ key: keyOf(1), value: keyOf(1) }, wrong]));
  backend.write([{ key: keyOf(3), value: keyOf(3) }]);
  assert.deepEqual(backend.getMany([1, 2, 3].map(keyOf)), [undefined, undefined, keyOf(3)]);
});

test('a write of more than one batch keeps the order of its rows', async (t) => {
  const backend = await open(t);
  const large = Array.from({ length: 50 }, (_, n) => ({
    key: keyOf(n % 7),
    value: Buffer.alloc(100_000 + n, n),
  }));
  backend.write([...large, { key: keyOf(0), value: null }]);
  const found = backend.getMany([0, 1, 6].map(keyOf));
  assert.deepEqual(
    found.map((value) => value?.length),
    [undefined, 100_043, 100_048],
  );
});

/** The package's classes kept each batch and iterator that was closed synchronously: 0.5 KB. */
test('writes and scans leave nothing in the heap', async (t) => {
  const backend = await open(t);
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const work = async (rounds: number) => {
    for (let n = 0; n < rounds; n++) {
      backend.write([{ key: keyOf(n % 100), value: keyOf(n) }]);
      if (n % 20 === 0) for await (const _ of backend.scan(ALL)) break;
    }
    collect();
    return process.memoryUsage().heapUsed;
  };
  const warm = await work(2_000);
  const grown = (await work(20_000)) - warm;
  assert.ok(grown < 2 * MEBIBYTE, `${grown} bytes`);
});
