import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { realEnv } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { copyObjects } from './copy-objects.ts';
import { MemoryStore } from './memory-store.ts';
import type { ObjectStore } from './object-store.ts';
import { openStore, removeEmptyStore } from './open-store.ts';
import { SAVEPOINT_METADATA, SAVEPOINT_OBJECTS } from './paths.ts';
import { readSavepoint, writeSavepoint } from './savepoint.ts';
import { disposeSavepoint, listSavepoints } from './savepoint-folder.ts';
import { SegmentWriter } from './segment.ts';
import { PIECE_BYTES } from './segment-reader.ts';
import type { Manifest, ObjectRef, SubtaskSnapshot } from './snapshot.ts';
import { verifyManifest } from './verify-objects.ts';

const GROUPS = 4;

function key(keyGroup: number, text: string): Buffer {
  const prefix = Buffer.alloc(3);
  prefix.writeUInt16BE(keyGroup);
  return Buffer.concat([prefix, Buffer.from(text), Buffer.alloc(4)]);
}

/** A delta of all groups; `bytes` of incompressible rows make it large. */
async function delta(store: ObjectStore, name: string, bytes = 0): Promise<ObjectRef> {
  const range = { first: 0, last: GROUPS - 1 };
  const writer = new SegmentWriter({ kind: 'delta', range, from: 0, to: 1, run: 0, epoch: 0 });
  for (let keyGroup = 0; keyGroup < GROUPS; keyGroup++) {
    const value = Buffer.alloc(Math.max(10, bytes / GROUPS));
    for (let at = 0; at + 32 <= value.length; at += 32) {
      createHash('sha256').update(`${keyGroup} ${at}`).digest().copy(value, at);
    }
    await writer.addGroup(keyGroup, [{ key: key(keyGroup, 'u'), value }]);
  }
  const { content, sha256 } = await writer.finish();
  await store.put(name, content);
  return { name, bytes: content.length, sha256 };
}

function manifestOf(object: ObjectRef): Manifest {
  const script = { version: '1', text: 'true', language: 'aviator' } as const;
  const ledger = { accepted: 0, noMatch: 0, delivered: 0, deadLettered: 0, parked: 0, inOutbox: 0 };
  const times = { alignmentMs: 0, syncMs: 0, asyncMs: 0, startDelayMs: 0 };
  const range = { first: 0, last: GROUPS - 1 };
  const subtask: SubtaskSnapshot = {
    subtask: 0,
    attempt: 1,
    range,
    bases: [],
    deltas: [{ range, from: 0, to: 1, run: 0, object }],
    volatile: null,
    splits: [],
    script,
    ledger,
    figures: { ...times, uploadedBytes: 0, stateBytes: object.bytes, users: GROUPS },
  };
  return {
    format: 1,
    checkpointId: 1,
    leaderEpoch: 1,
    kind: 'checkpoint',
    lineage: 'abcdef0',
    job: { namespace: 'default', name: 'job' },
    maxParallelism: GROUPS,
    parallelism: 1,
    attempt: 1,
    triggeredAt: 1,
    completedAt: 2,
    splits: [],
    script,
    subtasks: [subtask],
  };
}

/** A job's store with a checkpoint, and a directory of savepoints. */
async function world(bytes = 0) {
  const from = new MemoryStore(realEnv);
  const manifest = manifestOf(await delta(from, 'segments/1/1-0-delta-0-x', bytes));
  const directory = new MemoryStore(realEnv, new Map(), 'memory://savepoints');
  const folders = new Map<string, MemoryStore>();
  /** Shows the folder's objects in the directory, as one bucket would. */
  const open = async (folder: string) => {
    const known = folders.get(folder);
    if (known !== undefined) return known;
    const made = new MemoryStore(realEnv, new Map(), `memory://savepoints/${folder}`);
    folders.set(folder, made);
    return made;
  };
  const list = async () => {
    directory.objects.clear();
    for (const [folder, store] of folders) {
      for (const [name, object] of store.objects)
        directory.objects.set(`${folder}/${name}`, object);
    }
    return listSavepoints(directory, open);
  };
  return { from, manifest, open, list };
}

function flip(store: MemoryStore, name: string, at: number): void {
  const content = store.objects.get(name)!.content;
  content[at] = content[at]! ^ 1;
}

test('a copy in pieces is the same bytes, and verification reads every one of them', async () => {
  const { from, manifest, open } = await world(2.5 * PIECE_BYTES);
  const to = await open('large');
  const seen: number[] = [];
  const written = await writeSavepoint({
    from,
    manifest,
    to,
    env: realEnv,
    onProgress: ({ copiedBytes }) => seen.push(copiedBytes),
  });
  const { object } = written.subtasks[0]!.deltas[0]!;
  assert.ok(object !== null && object.bytes > 2 * PIECE_BYTES);
  assert.deepEqual(seen, [0, object.bytes]);
  let heard = 0;
  const whole = await verifyManifest(to, written, (bytes) => {
    heard += bytes;
  });
  assert.deepEqual(whole, { objects: 1, bytes: object.bytes, rows: GROUPS, damaged: [] });
  assert.equal(heard, object.bytes);
  flip(to, object.name, object.bytes - PIECE_BYTES / 2);
  const { damaged } = await verifyManifest(to, written);
  assert.equal(damaged[0]?.object, object.name);
  assert.match(damaged[0]?.fault ?? '', /sha256/);
});

test('a damaged source is named and nothing of the copy stays', async () => {
  for (const bytes of [0, 2 * PIECE_BYTES]) {
    const { from, manifest, open } = await world(bytes);
    const name = 'segments/1/1-0-delta-0-x';
    flip(from, name, 100);
    const to = (await open('copy')) as MemoryStore;
    const message = new RegExp(name);
    await assert.rejects(writeSavepoint({ from, manifest, to, env: realEnv }), {
      code: 'SEGMENT_CORRUPT',
      message,
    });
    assert.deepEqual([...to.objects.keys()], []);
  }
});

test('an aborted copy ends between two pieces and leaves nothing', async () => {
  const { from, manifest, open } = await world(3 * PIECE_BYTES);
  const to = (await open('copy')) as MemoryStore;
  const stop = new AbortController();
  let reads = 0;
  to.onCall = ({ operation, when }) => {
    if (operation === 'getRange' && when === 'after' && ++reads === 1) {
      stop.abort(new TriggerJobError('STOPPED', 'by the test'));
    }
  };
  const copying = writeSavepoint({ from, manifest, to, env: realEnv, signal: stop.signal });
  await assert.rejects(copying, { code: 'STOPPED' });
  assert.equal(reads, 1);
  assert.deepEqual([...to.objects.keys()], []);
});

test('small objects are copied a few at a time, and a fault waits for the others', async () => {
  const from = new MemoryStore(realEnv);
  const ref = await delta(from, 'segments/1/0');
  const base = manifestOf(ref);
  const deltas: SubtaskSnapshot['deltas'] = [];
  for (let n = 0; n < 12; n++) {
    const object = await delta(from, `segments/1/${n}`);
    deltas.push({ range: { first: 0, last: GROUPS - 1 }, from: n, to: n + 1, run: 0, object });
  }
  const manifest = { ...base, subtasks: [{ ...base.subtasks[0]!, deltas }] };
  const to = new MemoryStore(realEnv);
  let under = 0;
  let most = 0;
  to.onCall = async ({ operation, name, when }) => {
    if (operation !== 'put') return;
    under += when === 'before' ? 1 : -1;
    most = Math.max(most, under);
    await new Promise((resolve) => setImmediate(resolve));
    if (when === 'before' && name === 'copy-7') {
      under -= 1;
      throw new Error('full');
    }
  };
  await assert.rejects(copyObjects({ from, to, manifest, newName: (n) => `copy-${n}` }), /full/);
  assert.equal(under, 0);
  assert.equal(most, 4);
  assert.deepEqual([...to.objects.keys()], []);
});

test('verify finds what only the blocks, the header or the chain can tell', async () => {
  const { from, manifest } = await world();
  const { object } = manifest.subtasks[0]!.deltas[0]!;
  assert.ok(object !== null);
  // A right hash over wrong bytes: as if the writer had damaged them before it hashed.
  const damage = (at: number) => {
    const content = Buffer.from(from.objects.get(object.name)!.content);
    content[at] = content[at]! ^ 1;
    from.objects.set(object.name, { content, modifiedAt: 0 });
    const sha256 = createHash('sha256').update(content).digest('hex');
    return manifestOf({ ...object, sha256 });
  };
  const block = await verifyManifest(from, damage(70));
  assert.match(block.damaged[0]?.fault ?? '', /block at offset/);
  damage(70);
  const wrong = structuredClone(manifest);
  wrong.subtasks[0]!.deltas[0]!.run = 3;
  const header = await verifyManifest(from, wrong);
  assert.match(header.damaged[0]?.fault ?? '', /run 0 .*, not delta .* run 3/);
  const gap = structuredClone(manifest);
  gap.subtasks[0]!.deltas[0]!.from = 0;
  gap.checkpointId = 2;
  const chain = await verifyManifest(from, gap);
  assert.equal(chain.damaged[0]?.object, null);
  from.onCall = ({ operation }) => {
    if (operation === 'get') throw new TriggerJobError('STORE_REQUEST', 'away');
  };
  await assert.rejects(verifyManifest(from, manifest), { code: 'STORE_REQUEST' });
});

test('a list shows complete, damaged and unfinished ones as what they are', async () => {
  const { from, manifest, open, list } = await world();
  const origin = { trigger: 'periodic', store: 'memory://job' } as const;
  for (const folder of ['whole', 'damaged', 'unfinished', 'cut']) {
    const to = (await open(folder)) as MemoryStore;
    await writeSavepoint({ from, manifest, to, env: realEnv, origin });
    const object = [...to.objects.keys()].find((name) => name.startsWith(SAVEPOINT_OBJECTS))!;
    if (folder === 'damaged') to.objects.delete(object);
    if (folder === 'unfinished') to.objects.delete(SAVEPOINT_METADATA);
    if (folder === 'cut') flip(to, SAVEPOINT_METADATA, 40);
  }
  await ((await open('other')) as MemoryStore).put('readme.txt', Buffer.from('x'));
  const states = new Map((await list()).map(({ folder, content }) => [folder, content]));
  assert.deepEqual([...states.keys()].sort(), ['cut', 'damaged', 'unfinished', 'whole']);
  const whole = states.get('whole');
  assert.ok(whole?.state === 'complete');
  assert.deepEqual(whole.origin, origin);
  const damaged = states.get('damaged');
  assert.ok(damaged?.state === 'damaged' && /objects\/0-\w+ is missing/.test(damaged.fault));
  assert.equal(states.get('unfinished')?.state, 'unfinished');
  assert.equal(states.get('cut')?.state, 'damaged');
});

test('dispose: metadata first, so no crash in between leaves half a savepoint', async () => {
  const { from, manifest, open } = await world();
  const to = (await open('sp')) as MemoryStore;
  await writeSavepoint({ from, manifest, to, env: realEnv });
  await to.put('notes.txt', Buffer.from('mine'));
  const deletions: string[] = [];
  to.onCall = ({ operation, name, when }) => {
    if (operation !== 'delete') return;
    if (when === 'before' && deletions.length === 1) throw new Error('crash');
    if (when === 'after') deletions.push(name);
  };
  await assert.rejects(disposeSavepoint(to, realEnv.now()), /crash/);
  assert.deepEqual(deletions, [SAVEPOINT_METADATA]);
  await assert.rejects(readSavepoint(to), { code: 'SAVEPOINT_MISSING' });
  to.onCall = null;
  // What is left looks like one that is being written, until it is old enough.
  await assert.rejects(disposeSavepoint(to, realEnv.now()), { code: 'SAVEPOINT_UNFINISHED' });
  const later = realEnv.now() + 3_600_000;
  const done = await disposeSavepoint(to, later);
  assert.deepEqual([done.deleted, done.foreign], [1, ['notes.txt']]);
  assert.deepEqual([...to.objects.keys()], ['notes.txt']);
  to.objects.clear();
  assert.equal((await disposeSavepoint(to, later)).deleted, 0);
});

test('dispose refuses what is no savepoint and touches nothing', async () => {
  const { from } = await world();
  const foreign = new MemoryStore(realEnv);
  await foreign.put(SAVEPOINT_METADATA, Buffer.from('{"mine": true}'));
  for (const store of [from, foreign]) {
    const before = [...store.objects.keys()];
    await assert.rejects(disposeSavepoint(store, realEnv.now()), { code: 'NOT_A_SAVEPOINT' });
    assert.deepEqual([...store.objects.keys()], before);
  }
});

test('a writer whose folder was disposed of meanwhile does not complete it', async () => {
  const { from, manifest, open } = await world();
  const to = (await open('sp')) as MemoryStore;
  to.onCall = ({ operation, when, name }) => {
    if (operation === 'list' && when === 'before' && name === SAVEPOINT_OBJECTS) to.objects.clear();
  };
  await assert.rejects(writeSavepoint({ from, manifest, to, env: realEnv }), {
    code: 'SAVEPOINT_DISTURBED',
  });
  assert.equal(to.objects.has(SAVEPOINT_METADATA), false);
});

test('in a directory: nothing is made by reading, and no empty folder is left', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'savepoint-'));
  t.after(() => rmSync(root, { recursive: true }));
  const { from, manifest } = await world(1.5 * PIECE_BYTES);
  const url = `file://${root}/sp`;
  const absent = await openStore(url, realEnv, { readOnly: true });
  await assert.rejects(readSavepoint(absent), { code: 'SAVEPOINT_MISSING' });
  assert.deepEqual(readdirSync(root), []);
  await writeSavepoint({ from, manifest, to: await openStore(url, realEnv), env: realEnv });
  const store = await openStore(url, realEnv, { readOnly: true });
  assert.deepEqual((await verifyManifest(store, await readSavepoint(store))).damaged, []);
  await disposeSavepoint(store, realEnv.now());
  await removeEmptyStore(store.url);
  assert.deepEqual(readdirSync(root), []);
});
