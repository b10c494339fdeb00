import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { JobLog } from '../checkpoint/log.ts';
import { encodeManifest } from '../checkpoint/manifest.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { openStore } from '../checkpoint/open-store.ts';
import { SegmentWriter } from '../checkpoint/segment.ts';
import type { DeltaRef, Manifest } from '../checkpoint/snapshot.ts';
import { realEnv } from '../runtime/env.ts';
import type { UserRow } from '../state/rows.ts';
import * as rows from '../state/rows.ts';
import { SlabArena } from '../state/slab-arena.ts';
import { UserState } from '../state/user-state.ts';
import { dumpCommand } from './dump-command.ts';
import { stateGet } from './state-get.ts';
import { Terminal } from './terminal.ts';

const LIMITS = { historyMaxEvents: 100, maxBytesPerUser: 1_000_000 };
const KEY_GROUPS = 2;

/** Rows of a user whose raw texts have blanks that a re-encoding would lose. */
function userRows(keyGroup: number, id: string, events: number): UserRow[] {
  const answer = {
    profile: `{ "id" : ${JSON.stringify(id)} }`,
    visit: '{"visits":1}',
    history: Array.from({ length: events }, (_, index) => `{"n": ${index}}`),
  };
  const newcomer = { id, keyGroup, lastAccess: 1_700_000_000_000, fetchedBy: 0 };
  const chunks: UserRow[] = [];
  const user = UserState.fromAnswer(new SlabArena(), newcomer, answer, LIMITS, chunks);
  return [...chunks, ...user.takeRows()];
}

async function delta(
  store: ObjectStore,
  interval: [number, number],
  groups: UserRow[][],
): Promise<DeltaRef> {
  const [from, to] = interval;
  const range = { first: 0, last: KEY_GROUPS - 1 };
  const writer = new SegmentWriter({ kind: 'delta', range, from, to, run: 0, epoch: 0 });
  for (const [keyGroup, group] of groups.entries()) {
    await writer.addGroup(
      keyGroup,
      group.toSorted((a, b) => Buffer.compare(a.key, b.key)),
    );
  }
  const { content, bytes, sha256 } = await writer.finish();
  const name = `segments/1/${to}-0-delta-0-x`;
  await store.put(name, content);
  return { range, from, to, run: 0, object: { name, bytes, sha256 } };
}

function manifestOf(checkpointId: number, deltas: DeltaRef[]): Manifest {
  const script = { version: '1', text: 'true', language: 'aviator' } as const;
  const zero = { accepted: 0, noMatch: 0, delivered: 0, deadLettered: 0, parked: 0, inOutbox: 0 };
  const times = { alignmentMs: 0, syncMs: 0, asyncMs: 0, startDelayMs: 0 };
  return {
    format: 1,
    checkpointId,
    leaderEpoch: 1,
    kind: 'checkpoint',
    lineage: 'l1',
    job: { namespace: 'default', name: 'job' },
    maxParallelism: KEY_GROUPS,
    parallelism: 1,
    attempt: 1,
    triggeredAt: 1,
    completedAt: 2,
    splits: [],
    script,
    subtasks: [
      {
        subtask: 0,
        attempt: 1,
        range: { first: 0, last: KEY_GROUPS - 1 },
        bases: [],
        deltas,
        volatile: null,
        splits: [],
        script,
        ledger: zero,
        figures: { ...times, uploadedBytes: 0, stateBytes: 0, users: 0 },
      },
    ],
  };
}

/** Each in its own key group. Checkpoint 1: b, ü and gone. Checkpoint 2: gone deleted, a new. */
async function writeCheckpoints(folder: string): Promise<void> {
  const store = await openStore(join(folder, 'default', 'job'), realEnv);
  const log = new JobLog({ store, env: realEnv, writer: 'test', retained: 3 });
  await log.takeover({ lineage: 'l1', restoredFrom: null });
  const first = await delta(
    store,
    [0, 1],
    [userRows(0, 'ü', 0), [...userRows(1, 'b', 20), ...userRows(1, 'gone', 1)]],
  );
  const second = await delta(
    store,
    [1, 2],
    [userRows(0, 'a', 1), rows.tombstonesOf(1, 'gone', [])],
  );
  for (const manifest of [manifestOf(1, [first]), manifestOf(2, [first, second])]) {
    const { content, bytes, sha256 } = encodeManifest(manifest);
    const name = `manifests/${manifest.checkpointId}-1-x.json`;
    await store.put(name, content);
    const { checkpointId } = manifest;
    await log.append({ kind: 'checkpoint', checkpointId, manifest: { name, bytes, sha256 } });
  }
}

describe('state dump', () => {
  const dumping = async (
    work: (dump: (options?: { checkpoint?: number; job?: string }) => Promise<string[]>) => unknown,
  ) => {
    const folder = mkdtempSync(join(tmpdir(), 'dump-'));
    const silent = { write: () => true };
    const out = join(folder, 'out.ndjson');
    const store = join(folder, 'store');
    try {
      await writeCheckpoints(store);
      await work(async (options = {}) => {
        await dumpCommand(realEnv, new Terminal(silent, silent, {}), { store, out, ...options });
        return readFileSync(out, 'utf8').split('\n');
      });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };

  it('prints the users of the last checkpoint, by the bytes of their id, texts as they came', () =>
    dumping(async (dump) => {
      const lines = await dump();
      const history = Array.from({ length: 20 }, (_, index) => `{"n": ${index}}`).join(',');
      assert.equal(lines.pop(), '');
      assert.deepEqual(
        lines.map((line) => JSON.parse(line).user_id),
        ['a', 'b', 'ü'],
      );
      const [a = '', b = ''] = lines;
      assert.ok(a.startsWith('{"user_id":"a","profile":{ "id" : "a" },"visit":{'), a);
      assert.ok(a.endsWith('"history":[{"n": 0}],"last_access":1700000000000}'), a);
      assert.ok(b.includes(`"history":[${history}]`), b);
    }));

  it('goes back to a named checkpoint, and names the ones there are', () =>
    dumping(async (dump) => {
      const ids = (await dump({ checkpoint: 1 })).filter(Boolean).map((l) => JSON.parse(l).user_id);
      assert.deepEqual(ids, ['b', 'gone', 'ü']);
      await assert.rejects(dump({ checkpoint: 9 }), {
        code: 'NO_CHECKPOINT',
        message: /has no checkpoint 9; recent ones: 1, 2$/,
      });
    }));

  it('gives one user alone, with the line of the dump', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'get-'));
    const written: string[] = [];
    const stream = { write: (text: string | Uint8Array) => written.push(String(text)) > 0 };
    const terminal = new Terminal(stream, stream, {});
    const get = (user: string, output: 'text' | 'json') =>
      stateGet(realEnv, terminal, { user, from: folder, history: 2, rest: '', output });
    try {
      await writeCheckpoints(folder);
      assert.equal(await get('b', 'json'), 0);
      const { userId, user, history, historyEvents } = JSON.parse(written.pop()!);
      assert.deepEqual([userId, user, historyEvents], ['b', { id: 'b' }, 20]);
      assert.deepEqual(history, [{ n: 18 }, { n: 19 }]);
      assert.equal(await get('a', 'text'), 0);
      assert.match(written.join(''), /profile +\{"id":"a"\}\n.*history +1 events, the newest 1:/s);
      assert.equal(await get('gone', 'text'), 1);
      assert.match(written.at(-1)!, /^gone is not in checkpoint 2 in /);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('asks which job is meant', () =>
    dumping(async (dump) => {
      await assert.rejects(dump({ job: 'default/other' }), {
        code: 'NO_JOB',
        message: /default\/job/,
      });
    }));

  it('reads keys as rows.ts writes them', () => {
    const key = rows.rowKey(rows.userPrefix(7, 'ü'), rows.CHUNK, 3);
    const parsed = rows.parseKey(Buffer.from(key.toString('latin1'), 'latin1'));
    assert.deepEqual(parsed, { keyGroup: 7, userId: 'ü', row: rows.CHUNK, chunk: 3 });
  });
});
