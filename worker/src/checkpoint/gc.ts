/**
 * Sweeps what no restore can need any more (P46-P48). An object goes only if it was listed *before*
 * the roots were collected, no root names it, it is old enough, and its writer is done with it. The
 * log itself is never touched.
 */
import { messageOf } from '../runtime/errors.ts';
import type { JobLog } from './log.ts';
import type { LogState } from './log-record.ts';
import { decodeManifest, objectsOf } from './manifest.ts';
import type { ObjectStore, StoredObject } from './object-store.ts';
import { MANIFESTS, parseManifestPath, parseSegmentPath, SEGMENTS } from './paths.ts';
import { fetchObject } from './segment-reader.ts';
import type { Manifest } from './snapshot.ts';

/** Objects deleted between two looks at the log's end (P48). */
const BATCH = 100;

/**
 * A running task's answer to "what may you still refer to?": owed deltas, bases not yet published,
 * uploads under way, what it restores or hydrates from. Complete: what it leaves out, it has given
 * up.
 */
export interface TaskRoots {
  attempt: number;
  subtask: number;
  names: readonly string[];
}

export interface GarbageFacts {
  /** Listed before all the rest was collected. */
  objects: readonly StoredObject[];
  state: LogState;
  /** This leader's. */
  leaderEpoch: number;
  /** The newest checkpoints of the line, read just now; null = one of them is unreadable. */
  retained: readonly { name: string; manifest: Manifest }[] | null;
  /** Answers of all running tasks; null = one has not answered. */
  tasks: readonly TaskRoots[] | null;
  /** Objects of running savepoint copies. */
  pinned: ReadonlySet<string>;
  /** Attempts above are not known to this leader, so not known to have ended. */
  highestAttempt: number;
  nowMs: number;
  minAgeMs: number;
}

export interface GarbagePlan {
  /** In the order of deletion: a manifest goes before what it names. */
  names: string[];
  /** Why nothing may be deleted; null if it may. */
  refused: string | null;
}

/** What may be deleted. Pure. */
export function planGarbage(facts: GarbageFacts): GarbagePlan {
  if (facts.tasks === null) return { names: [], refused: 'a task has not named its objects' };
  if (facts.retained === null) return { names: [], refused: 'a retained manifest is unreadable' };
  const roots = new Set(facts.pinned);
  for (const { name, manifest } of facts.retained) {
    roots.add(name);
    for (const object of objectsOf(manifest)) roots.add(object.name);
  }
  for (const task of facts.tasks) for (const name of task.names) roots.add(name);
  const tasks = facts.tasks;
  const dead = facts.objects.filter(
    ({ name, modifiedAt }) =>
      !roots.has(name) &&
      facts.nowMs - modifiedAt >= facts.minAgeMs &&
      (isDeadManifest(name, facts) || isDeadSegment(name, facts.highestAttempt, tasks)),
  );
  const names = dead.map((object) => object.name);
  const manifests = names.filter((name) => name.startsWith(MANIFESTS));
  return { names: [...manifests, ...names.filter((n) => !n.startsWith(MANIFESTS))], refused: null };
}

/** Its publish is over: the log has gone beyond its id, or its leader is no leader any more. */
function isDeadManifest(name: string, { state, leaderEpoch }: GarbageFacts): boolean {
  const parsed = parseManifestPath(name);
  if (parsed === null) return false;
  const { checkpointId } = parsed;
  const decided = Math.max(0, ...state.published, ...state.aborted);
  return checkpointId <= decided || parsed.leaderEpoch < leaderEpoch;
}

function isDeadSegment(name: string, highest: number, tasks: readonly TaskRoots[]): boolean {
  const parsed = parseSegmentPath(name);
  if (parsed === null || parsed.attempt > highest) return false;
  if (tasks.every((task) => task.attempt !== parsed.attempt)) return true;
  // The task itself has given it up, or was lost and is replaced: its attempt runs on in others.
  return tasks.some((task) => task.subtask === parsed.subtask && task.attempt >= parsed.attempt);
}

export interface GarbageReport {
  deleted: number;
  /** Why nothing was deleted, or null. */
  refused: string | null;
}

/**
 * One sweep. `tasks` asks every running task, given what was listed, and gives null if one does not
 * answer. Throws LEADERSHIP_LOST, LOG_UNAVAILABLE and what the store throws; a sweep that broke off
 * is simply done again.
 */
export async function collectGarbage(request: {
  log: Pick<JobLog, 'confirmEnd' | 'state' | 'leaderEpoch'>;
  store: ObjectStore;
  tasks: (listed: readonly StoredObject[]) => Promise<readonly TaskRoots[] | null>;
  pinned: () => ReadonlySet<string>;
  highestAttempt: number;
  /** Checkpoints to keep, at least 1. */
  retained: number;
  minAgeMs: number;
  now: () => number;
}): Promise<GarbageReport> {
  const { log, store } = request;
  const objects = [...(await store.list(MANIFESTS)), ...(await store.list(SEGMENTS))];
  const tasks = await request.tasks(objects);
  if (tasks === null) return { deleted: 0, refused: 'a task has not named its objects' };
  await log.confirmEnd();
  const state = log.state;
  const newest = state.line.slice(-Math.max(1, request.retained));
  const retained: { name: string; manifest: Manifest }[] = [];
  for (const { manifest: ref } of newest) {
    try {
      const manifest = decodeManifest(await fetchObject(store, ref), ref.name);
      retained.push({ name: ref.name, manifest });
    } catch (fault) {
      return { deleted: 0, refused: `a retained manifest is unreadable: ${messageOf(fault)}` };
    }
  }
  const { highestAttempt, minAgeMs } = request;
  const { names, refused } = planGarbage({
    objects,
    state,
    leaderEpoch: log.leaderEpoch,
    retained,
    tasks,
    pinned: request.pinned(),
    highestAttempt,
    nowMs: request.now(),
    minAgeMs,
  });
  for (let at = 0; at < names.length; at += BATCH) {
    await log.confirmEnd();
    await store.delete(names.slice(at, at + BATCH));
  }
  return { deleted: names.length, refused };
}
