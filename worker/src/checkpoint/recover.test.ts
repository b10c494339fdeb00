import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Env } from '../runtime/env.ts';
import { probeCreateOnly } from './create-only-probe.ts';
import { collectGarbage, type GarbageFacts, planGarbage } from './gc.ts';
import { JobLog } from './log.ts';
import { readState } from './log-record.ts';
import { decodeManifest, mapObjects, objectsOf } from './manifest.ts';
import { MemoryStore } from './memory-store.ts';
import { importedPath, parseSegmentPath, SAVEPOINT_METADATA, segmentPath } from './paths.ts';
import { publishCheckpoint } from './publish.ts';
import { recoverJob } from './recover.ts';
import { readSavepoint, restoreSavepoint, writeSavepoint } from './savepoint.ts';
import type { Manifest, ObjectRef } from './snapshot.ts';

const GOLDEN = decodeManifest(
  readFileSync(new URL('./testdata/manifest-v1.json', import.meta.url)),
  'golden',
);

async function world() {
  let nowMs = 1000;
  let ids = 0;
  const env: Env = {
    now: () => nowMs++,
    monotonic: () => nowMs,
    random: () => 0.5,
    id: () => `id${ids++}`,
    timer: (_, fn) => {
      queueMicrotask(fn);
      return { cancel: () => {} };
    },
  };
  const store = new MemoryStore(env);
  const log = new JobLog({ store, env, writer: 'w', retained: 2 });
  await log.takeover({ lineage: 'lineage', restoredFrom: null });
  /** The golden manifest as checkpoint `id`, its objects stored under names of their own. */
  const publish = async (id: number, kind: Manifest['kind'] = 'checkpoint') => {
    const objects = new Map<string, ObjectRef>();
    for (const { name } of objectsOf(GOLDEN)) {
      const content = Buffer.from(`${id} ${name}`);
      const copy = `${name}${id}`;
      await store.put(copy, content);
      const sha256 = createHash('sha256').update(content).digest('hex');
      objects.set(name, { name: copy, bytes: content.length, sha256 });
    }
    const shift = (n: number) => (n === 0 ? 0 : n + id);
    const moved = mapObjects(GOLDEN, (ref) => objects.get(ref.name) ?? ref);
    const manifest: Manifest = {
      ...moved,
      kind,
      checkpointId: GOLDEN.checkpointId + id,
      subtasks: moved.subtasks.map((subtask) => ({
        ...subtask,
        bases: subtask.bases.map((base) => ({ ...base, epoch: base.epoch + id })),
        deltas: subtask.deltas.map((one) => ({ ...one, from: shift(one.from), to: one.to + id })),
      })),
    };
    if (kind === 'initial') manifest.subtasks = [];
    const { manifest: ref } = await publishCheckpoint({ log, store, env, manifest });
    return { manifest, ref };
  };
  const recover = (verify: 'manifest' | 'full' = 'manifest') =>
    recoverJob({ log, store, retained: 2, verify });
  return { env, store, log, publish, recover };
}

const changed = (store: MemoryStore, name: string) => {
  const content = store.objects.get(name)?.content;
  assert.ok(content);
  content[3] = content[3]! ^ 1;
};

test('the newest checkpoint is restored; a damaged one is passed over, by a record', async () => {
  const { store, log, publish, recover } = await world();
  assert.deepEqual(await recover(), { kind: 'fresh' });
  const one = await publish(1);
  const two = await publish(2);
  const found = await recover('full');
  assert.ok(found.kind === 'restore' && found.checkpointId === 11);
  assert.deepEqual(found.manifest, two.manifest);
  // Same length: only a full verification can tell.
  changed(store, objectsOf(two.manifest)[0]!.name);
  assert.equal((await recover('manifest')).kind, 'restore');
  assert.notEqual(log.records.at(-1)?.kind, 'restore');
  const older = await recover('full');
  assert.ok(older.kind === 'restore' && older.checkpointId === 10);
  assert.deepEqual(older.ref, one.ref);
  assert.deepEqual(
    older.passedOver.map((p) => p.checkpointId),
    [11],
  );
  assert.equal(log.records.at(-1)?.kind, 'restore');
  const again = await recover('manifest');
  assert.ok(again.kind === 'restore' && again.checkpointId === 10 && again.passedOver.length === 0);
});

test('a bad manifest, an absent object, another length: damage; nothing left: stop', async () => {
  for (const how of ['manifest', 'missing', 'length', 'manifest gone']) {
    const { store, publish, recover } = await world();
    const one = await publish(1);
    const two = await publish(2);
    const victim = objectsOf(two.manifest)[1]!.name;
    if (how === 'manifest') changed(store, two.ref.name);
    if (how === 'missing') store.objects.delete(victim);
    if (how === 'length') await store.put(victim, Buffer.from('x'));
    if (how === 'manifest gone') store.objects.delete(two.ref.name);
    const found = await recover();
    assert.ok(found.kind === 'restore' && found.checkpointId === 10, how);
    changed(store, one.ref.name);
    await assert.rejects(recover(), { code: 'RESTORE_IMPOSSIBLE', message: /savepoint/ });
  }
});

test('a failing store is no damage, and the initial manifest is no substitute (I6)', async () => {
  const { store, log, publish, recover } = await world();
  await publish(1, 'initial');
  const initial = await recover();
  assert.ok(initial.kind === 'restore' && initial.manifest.kind === 'initial');
  const { ref } = await publish(2);
  store.onCall = ({ name }) => {
    if (name === ref.name) throw new Error('503');
  };
  await assert.rejects(recover(), { message: '503' });
  store.onCall = null;
  changed(store, ref.name);
  await assert.rejects(recover(), { code: 'RESTORE_IMPOSSIBLE', message: /initial/ });
  assert.notEqual(log.records.at(-1)?.kind, 'restore');
});

test('a manifest with a gap, or of another epoch, is not published', async () => {
  const { env, store, log } = await world();
  const [first, second] = GOLDEN.subtasks;
  const manifest = { ...GOLDEN, subtasks: [first!, { ...second!, deltas: [] }] };
  const refused = publishCheckpoint({ log, store, env, manifest });
  await assert.rejects(refused, { code: 'CHAIN_GAP' });
  const old = { ...GOLDEN, leaderEpoch: 0 };
  await assert.rejects(publishCheckpoint({ log, store, env, manifest: old }), {
    code: 'LEADERSHIP_LOST',
  });
  assert.equal((await store.list('manifests/')).length, 0);
});

test('a sweep keeps every root, what is young, and what its writer may still use', () => {
  const seg = (attempt: number, subtask: number, nonce: string) =>
    segmentPath({ attempt, checkpointId: 3, subtask, kind: 'delta', n: 0, nonce });
  const manifest = mapObjects(GOLDEN, (ref) => ref);
  const [used] = objectsOf(manifest);
  const object = (name: string, modifiedAt = 0) => ({ name, bytes: 1, modifiedAt });
  const facts: GarbageFacts = {
    objects: [
      object(used!.name),
      object(seg(1, 0, 'ended')),
      object(seg(1, 0, 'young'), 950),
      object(seg(1, 0, 'pinned')),
      object(seg(4, 0, 'owed')),
      object(seg(4, 0, 'given-up')),
      object(seg(4, 1, 'of-a-silent-subtask')),
      object(seg(5, 0, 'of-an-unknown-attempt')),
      object(importedPath(3, 'old')),
      object('segments/stranger'),
      object('manifests/9-1-retained.json'),
      object('manifests/8-1-subsumed.json'),
      object('manifests/8-1-young.json', 950),
      object('manifests/10-1-orphan-of-a-dead-leader.json'),
      object('manifests/10-2-under-way.json'),
    ],
    state: readState([]),
    leaderEpoch: 2,
    retained: [{ name: 'manifests/9-1-retained.json', manifest }],
    tasks: [{ attempt: 4, subtask: 0, names: [seg(4, 0, 'owed')] }],
    pinned: new Set([seg(1, 0, 'pinned')]),
    highestAttempt: 4,
    nowMs: 1000,
    minAgeMs: 100,
  };
  assert.deepEqual(planGarbage(facts), {
    refused: null,
    names: [
      'manifests/8-1-subsumed.json',
      'manifests/10-1-orphan-of-a-dead-leader.json',
      seg(1, 0, 'ended'),
      seg(4, 0, 'given-up'),
      importedPath(3, 'old'),
    ],
  });
  assert.deepEqual(planGarbage({ ...facts, tasks: null }).names, []);
  assert.deepEqual(planGarbage({ ...facts, retained: null }).names, []);
  assert.deepEqual(parseSegmentPath(seg(4, 1, 'x')), { attempt: 4, subtask: 1 });
});

test('a sweep leaves what the retained checkpoints need, and never the log', async () => {
  const { store, log, publish, recover } = await world();
  for (const id of [1, 2, 3]) await publish(id);
  const logged = (await store.list('log/')).length;
  const sweep = () =>
    collectGarbage({
      log,
      store,
      tasks: async () => [],
      pinned: () => new Set(),
      highestAttempt: 3,
      retained: 2,
      minAgeMs: 0,
      now: () => 1e9,
    });
  assert.deepEqual(await sweep(), { deleted: 7, refused: null });
  assert.equal((await store.list('log/')).length, logged);
  assert.equal((await store.list('manifests/')).length, 2);
  assert.equal((await recover('full')).kind, 'restore');
  assert.deepEqual(await sweep(), { deleted: 0, refused: null });
});

test('a savepoint stands alone: its job may vanish, and then the savepoint', async () => {
  const { env, store: from, publish } = await world();
  const { manifest } = await publish(1);
  const folder = new MemoryStore(env, new Map(), 'memory://savepoint');
  await assert.rejects(readSavepoint(folder), { code: 'SAVEPOINT_MISSING' });
  const written = await writeSavepoint({ from, manifest, to: folder, env });
  assert.equal([...folder.objects.keys()].at(-1), SAVEPOINT_METADATA);
  await assert.rejects(writeSavepoint({ from, manifest, to: folder, env }), {
    code: 'SAVEPOINT_EXISTS',
  });
  from.objects.clear();
  assert.deepEqual(await readSavepoint(folder), written);

  const to = new MemoryStore(env);
  const log = new JobLog({ store: to, env, writer: 'w', retained: 2 });
  await log.takeover({ lineage: 'lineage', restoredFrom: 'token' });
  const recover = () => recoverJob({ log, store: to, retained: 2, verify: 'full' });
  assert.deepEqual(await recover(), { kind: 'savepoint', savepoint: 'token' });
  await restoreSavepoint({ log, from: folder, to, env, savepoint: 'token' });
  folder.objects.clear();
  const found = await recover();
  assert.ok(found.kind === 'restore' && found.checkpointId === manifest.checkpointId);
  assert.ok(objectsOf(found.manifest).every((object) => object.name.startsWith('segments/0/')));
  assert.ok(log.state.nextCheckpointId > manifest.checkpointId);
  assert.ok(log.state.usedSavepoints.has('token'));
});

test('a damaged or unfinished savepoint is refused', async () => {
  const { env, store: from, publish } = await world();
  const { manifest } = await publish(1);
  const to = new MemoryStore(env);
  to.onCall = ({ name }) => {
    if (name === SAVEPOINT_METADATA) throw new Error('crash');
  };
  await assert.rejects(writeSavepoint({ from, manifest, to, env }));
  to.onCall = null;
  await assert.rejects(readSavepoint(to), { code: 'SAVEPOINT_MISSING' });
  await writeSavepoint({ from, manifest, to, env });
  const metadata = to.objects.get(SAVEPOINT_METADATA)!.content;
  for (let at = 0; at < metadata.length; at++) {
    const damaged = Buffer.from(metadata);
    damaged[at] = damaged[at]! ^ 1;
    to.objects.set(SAVEPOINT_METADATA, { content: damaged, modifiedAt: 0 });
    const outcome = await readSavepoint(to).catch((fault: { code: string }) => fault.code);
    if (typeof outcome !== 'string') assert.deepEqual(outcome.checkpointId, manifest.checkpointId);
    else assert.equal(outcome, 'SAVEPOINT_CORRUPT', `byte ${at}`);
  }
});

test('a store whose create overwrites, or fails the second time, is refused', async () => {
  const { store } = await world();
  await probeCreateOnly(store, 'a');
  assert.deepEqual(await store.list('probe/'), []);
  const create = store.create.bind(store);
  store.create = async (name, content) => {
    await store.put(name, content);
    return 'created';
  };
  await assert.rejects(probeCreateOnly(store, 'b'), { code: 'STORE_NOT_CREATE_ONLY' });
  store.create = async (name, content) => {
    if ((await create(name, content)) === 'exists') throw new Error('EPERM: link');
    return 'created';
  };
  const message = /created, EPERM: link.*hard links/;
  await assert.rejects(probeCreateOnly(store, 'c'), { code: 'STORE_NOT_CREATE_ONLY', message });
});
