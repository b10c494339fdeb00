/**
 * What people may look at beyond Flink's API: a user, hot keys, the ledger, a live tap. Whatever
 * lies in a task is asked from it (task-queries.ts), the owner of a user found by its key group and
 * the attempt's ranges.
 */
import type { Logger } from 'pino';
import { sumOfLedgers } from '../checkpoint/conservation.ts';
import { decodeManifest } from '../checkpoint/manifest.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { fetchObject } from '../checkpoint/segment-reader.ts';
import type { Ledger, ObjectRef } from '../checkpoint/snapshot.ts';
import { keyGroupOf, subtaskOf } from '../exchange/key-groups.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type {
  HotKey,
  HotKeyOrder,
  HotKeysAnswer,
  TapRequest,
  UserAnswer,
} from '../rpc/inspection.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { Bound } from '../runtime/bound.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { JobLifecycle } from './job-lifecycle.ts';
import type { Journal } from './journal.ts';
import type { ScriptSwitch } from './script-switch.ts';
import { TapSession, type TapSink } from './tap-session.ts';
import type { TaskAttempt } from './task-attempt.ts';
import { TaskQueries } from './task-queries.ts';

/** Questions of people under way: each may bring megabytes. */
const MAX_LOOKS = 8;
const MAX_TAPS = 8;

export interface UserLook extends Omit<UserAnswer, 'kind'> {
  keyGroup: number;
  subtask: number;
  taskManagerId: string;
}

export type LookBounds = Record<'inspection_looks' | 'inspection_taps', Bound>;

export interface HotKeysLook extends Pick<HotKeysAnswer, 'since' | 'events' | 'bytes'> {
  keys: (HotKey & { subtask: number })[];
}

export interface CheckpointLedger extends Ledger {
  checkpointId: number;
  completedAt: number;
}

/** Rejections are TriggerJobErrors: TASK_UNAVAILABLE and LOOKS_FULL mean to ask again. */
export interface Inspection {
  /** The script that the tasks run. */
  readonly script: ScriptVersion;
  user(userId: string, limits: { historyLimit: number; maxBytes: number }): Promise<UserLook>;
  hotKeys(by: HotKeyOrder, top: number): Promise<HotKeysLook>;
  /** Of the retained checkpoints that can be read, newest first. */
  ledgers(): Promise<CheckpointLedger[]>;
  /** Throws TAPS_FULL. */
  tap(request: Omit<TapRequest, 'id'>, limit: number, sink: TapSink): { close(): void };
  /** `act` as one more question: there are only so many at a time. It must not ask others. */
  look<Result>(act: () => Promise<Result>): Promise<Result>;
  readonly bounds: LookBounds;
}

export interface JobInspectionDeps {
  env: Env;
  log: Logger;
  plan: JobPlan;
  store: ObjectStore;
  journal: Pick<Journal, 'leaderEpoch' | 'retained'>;
  lifecycle: Pick<JobLifecycle, 'current'>;
  scripts: Pick<ScriptSwitch, 'active'>;
}

export class JobInspection implements Inspection {
  readonly #deps: JobInspectionDeps;
  readonly #queries: TaskQueries;
  readonly #taps = new Set<TapSession>();
  /** By manifest: none changes, and only the retained ones are kept. */
  #known = new Map<string, CheckpointLedger>();
  #looks = 0;
  #closed = false;

  constructor(deps: JobInspectionDeps) {
    this.#deps = deps;
    const { env, journal, lifecycle } = deps;
    const { leaderEpoch } = journal;
    this.#queries = new TaskQueries({ env, leaderEpoch, attempt: () => lifecycle.current });
  }

  get script(): ScriptVersion {
    return this.#deps.scripts.active;
  }

  get bounds(): LookBounds {
    return {
      inspection_looks: { value: this.#looks, limit: MAX_LOOKS },
      inspection_taps: { value: this.#taps.size, limit: MAX_TAPS },
    };
  }

  get queries(): TaskQueries {
    return this.#queries;
  }

  user(userId: string, limits: { historyLimit: number; maxBytes: number }): Promise<UserLook> {
    return this.look(async () => {
      const { subtask, keyGroup } = this.#ownerOf(userId);
      const asked = this.#running()
        .tasks()
        .find((task) => task.subtask === subtask);
      const query = { kind: 'user', userId, keyGroup, ...limits } as const;
      const { kind: _, ...answer } = await this.#queries.ask(subtask, query);
      return { ...answer, keyGroup, subtask, taskManagerId: asked?.taskManager.id ?? '' };
    });
  }

  /** Each user is in one subtask alone, so the tops of all are the top of the job. */
  hotKeys(by: HotKeyOrder, top: number): Promise<HotKeysLook> {
    return this.look(async () => {
      const subtasks = Array.from({ length: this.#running().parallelism }, (_, n) => n);
      const query = { kind: 'hot-keys', by, top } as const;
      const answers = await Promise.all(
        subtasks.map((subtask) => this.#queries.ask(subtask, query)),
      );
      const sum = (of: 'events' | 'bytes') => answers.reduce((total, one) => total + one[of], 0);
      const figure = by === 'state' ? 'stateBytes' : by;
      const keys = answers
        .flatMap((answer, subtask) => answer.keys.map((key) => ({ ...key, subtask })))
        .sort((a, b) => (b[figure] ?? 0) - (a[figure] ?? 0))
        .slice(0, top);
      const since = Math.min(...answers.map((answer) => answer.since));
      return { since, events: sum('events'), bytes: sum('bytes'), keys };
    });
  }

  ledgers(): Promise<CheckpointLedger[]> {
    return this.look(async () => {
      const { store, log } = this.#deps;
      const known = new Map<string, CheckpointLedger>();
      for (const ref of this.#deps.journal.retained.toReversed()) {
        try {
          const ledger = this.#known.get(ref.name) ?? (await readLedger(store, ref));
          if (ledger !== null) known.set(ref.name, ledger);
        } catch (error) {
          // One more checkpoint may have completed, and this one been collected.
          log.debug({ manifest: ref.name, error: messageOf(error) }, 'no ledger of it');
        }
      }
      this.#known = known;
      return [...known.values()];
    });
  }

  tap(wanted: Omit<TapRequest, 'id'>, limit: number, sink: TapSink): { close(): void } {
    if (this.#closed || this.#taps.size >= MAX_TAPS) {
      const text = this.#closed ? 'this JobManager ends' : `${MAX_TAPS} taps are open already`;
      throw new TriggerJobError('TAPS_FULL', `${text}; ask again`, { retryable: true });
    }
    const { env } = this.#deps;
    const { userId, stage } = wanted;
    const deps = {
      env,
      queries: this.#queries,
      parallelism: () => this.#deps.lifecycle.current?.parallelism ?? 0,
      // What a source reads is of all users.
      owner: () => (userId === null || stage === 'source' ? null : this.#subtaskOf(userId)),
    };
    const request = { ...wanted, id: env.id() };
    const session: TapSession = new TapSession(deps, request, limit, {
      record: (record) => sink.record(record),
      skipped: (count) => sink.skipped(count),
      end: (reason) => {
        this.#taps.delete(session);
        sink.end(reason);
      },
    });
    this.#taps.add(session);
    return { close: () => session.close('closed') };
  }

  /** Taps end with the leadership. */
  close(): void {
    this.#closed = true;
    for (const session of [...this.#taps]) session.close('the leader changes or the job ends');
    this.#queries.close();
  }

  async look<Result>(act: () => Promise<Result>): Promise<Result> {
    if (this.#looks >= MAX_LOOKS) {
      const text = `${MAX_LOOKS} such questions are under way; ask again`;
      throw new TriggerJobError('LOOKS_FULL', text, { retryable: true });
    }
    this.#looks++;
    try {
      return await act();
    } finally {
      this.#looks--;
    }
  }

  #running(): TaskAttempt {
    const attempt = this.#deps.lifecycle.current;
    if (attempt !== null) return attempt;
    const text = 'no task is deployed: the job starts, restarts or ends; ask again';
    throw new TriggerJobError('TASK_UNAVAILABLE', text, { retryable: true });
  }

  #ownerOf(userId: string): { subtask: number; keyGroup: number } {
    const keyGroup = keyGroupOf(userId, this.#deps.plan.maxParallelism);
    return { subtask: this.#running().ownerOf(keyGroup), keyGroup };
  }

  /** Before any is deployed: that of whoever comes, which is asked again at the next look. */
  #subtaskOf(userId: string): number {
    const { maxParallelism } = this.#deps.plan;
    const keyGroup = keyGroupOf(userId, maxParallelism);
    return (
      this.#deps.lifecycle.current?.ownerOf(keyGroup) ?? subtaskOf(keyGroup, 1, maxParallelism)
    );
  }
}

/** null: of no subtasks yet. */
async function readLedger(store: ObjectStore, ref: ObjectRef): Promise<CheckpointLedger | null> {
  const manifest = decodeManifest(await fetchObject(store, ref), ref.name);
  if (manifest.subtasks.length === 0) return null;
  const { checkpointId, completedAt } = manifest;
  return { checkpointId, completedAt, ...sumOfLedgers(manifest.subtasks) };
}
