/**
 * The savepoints of the running job: those asked for, the one that a job is stopped with, and the
 * periodic ones with their retention. Each is a checkpoint of the job and then a copy of it in a
 * folder of its own (P49); the coordinator decides when the checkpoint comes, this file what
 * follows it.
 *
 * Stop: sources are held -> (drain) -> `stop` checkpoint -> copy -> the job ends. No record behind
 * that checkpoint's barrier is ever emitted. If a step fails, sources and checkpoints go on.
 */
import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { type OpenOptions, removeEmptyStore } from '../checkpoint/open-store.ts';
import { savepointPrefix } from '../checkpoint/paths.ts';
import { readWholeSavepoint } from '../checkpoint/savepoint.ts';
import { disposeSavepoint, listSavepoints } from '../checkpoint/savepoint-folder.ts';
import type { Manifest } from '../checkpoint/snapshot.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { CheckpointDriver } from './checkpoint-driver.ts';
import type { CheckpointHistory } from './checkpoint-history.ts';
import type { JobLifecycle } from './job-lifecycle.ts';
import type { SavepointRequest, SavepointTaken, StopRequest } from './job-view.ts';
import type { Journal, SavepointWriting } from './journal.ts';

/** Between two looks at what is still parked or undelivered; each is a small checkpoint. */
const DRAIN_POLL_MS = 500;
/** After a periodic savepoint that failed; at most, since the period may be shorter. */
const PERIODIC_RETRY_MS = 60_000;
/** Timers take no more than 24 days. */
const LONGEST_SLEEP_MS = 3_600_000;

export interface JobSavepointsDeps {
  env: Env;
  log: Logger;
  plan: JobPlan;
  journal: Journal;
  driver: CheckpointDriver;
  lifecycle: Pick<JobLifecycle, 'attempt' | 'current' | 'end'>;
  history: CheckpointHistory;
  /** URL of the job's own folder: marks the savepoints that are this job's to delete. */
  storeUrl: string;
  openStore(url: string, options?: Pick<OpenOptions, 'readOnly'>): Promise<ObjectStore>;
}

export class JobSavepoints {
  readonly #deps: JobSavepointsDeps;
  readonly #closing = new AbortController();
  /** The stop under way or over: whether the job ends by it. */
  #stop: Promise<boolean> | null = null;

  constructor(deps: JobSavepointsDeps) {
    this.#deps = deps;
  }

  async take(request: SavepointRequest): Promise<SavepointTaken> {
    const { triggerId, directory } = request;
    const made =
      triggerId === undefined ? null : await this.#made('savepoint', triggerId, directory);
    if (made !== null) return made;
    const { checkpointId, location } = await this.#take('savepoint', 'user', request);
    return { checkpointId, location };
  }

  /** Of a request in the plan's directory, or of the stop that this run ended with. */
  async find(triggerId: string): Promise<SavepointTaken | null> {
    const stop = this.#deps.journal.ended?.savepoint ?? null;
    if (stop?.triggerId === triggerId) return stop;
    return this.#made('savepoint', triggerId, undefined);
  }

  /**
   * Resolves when the savepoint is complete; the job then ends by itself. Rejects with
   * CHECKPOINT_<reason>, DRAIN_TIMEOUT, SAVEPOINT_JOB_RESTARTED or what the copy met.
   */
  stop(request: StopRequest): Promise<SavepointTaken> {
    if (this.#stop !== null) {
      const fault = 'the job is being stopped with a savepoint already';
      return Promise.reject(new TriggerJobError('CHECKPOINT_STOPPING', fault));
    }
    const stopping = this.#stopWith(request);
    this.#stop = stopping.then(
      () => true,
      () => {
        this.#stop = null;
        return false;
      },
    );
    return stopping;
  }

  /** Waits for a stop that is under way. true: the job ends, or has ended, by it. */
  async stopped(): Promise<boolean> {
    return (await this.#stop) ?? false;
  }

  async dispose(location: string): Promise<void> {
    const { env, log, openStore } = this.#deps;
    const store = await openStore(location, { readOnly: true });
    const { deleted, bytes } = await disposeSavepoint(store, env.now());
    await removeEmptyStore(store.url);
    log.info({ location, deleted, bytes }, 'savepoint disposed of');
  }

  /** At once if this job has none in the directory yet, then by the age of its newest one. */
  startPeriodic(): void {
    const { everyMs, maxCount } = this.#deps.plan.periodicSavepoints;
    if (everyMs !== null) void this.#runPeriodic(everyMs, maxCount);
  }

  /** Copies under way end, and what they copied is deleted. */
  close(): void {
    this.#closing.abort(new TriggerJobError('SAVEPOINT_ABANDONED', 'the JobManager ends'));
  }

  async #take(
    kind: 'savepoint' | 'stop',
    trigger: SavepointWriting['trigger'],
    { directory, triggerId, onProgress }: SavepointRequest,
  ): Promise<SavepointTaken & { attempt: number }> {
    const { driver, journal, plan, history } = this.#deps;
    const { checkpoint, release } = await driver.requestPinned(kind);
    const { checkpointId, attempt } = checkpoint.manifest;
    try {
      const location = await journal.writeSavepoint(
        checkpoint,
        directory ?? plan.savepointDirectory,
        {
          trigger,
          ...(triggerId === undefined ? {} : { name: this.#folderOf(kind, triggerId) }),
          signal: this.#closing.signal,
          ...(onProgress === undefined ? {} : { onProgress }),
        },
      );
      history.savepointWritten(checkpointId, location);
      return { checkpointId, location, attempt };
    } catch (error) {
      history.savepoints.failed += 1;
      throw error;
    } finally {
      release();
    }
  }

  async #stopWith(request: StopRequest): Promise<SavepointTaken> {
    const { driver, journal, lifecycle, log } = this.#deps;
    const { triggerId = null } = request;
    try {
      if (triggerId !== null) await this.#disposeUntold(triggerId, request.directory);
      this.#hold(true);
      if (request.drain) await this.#drain();
      const { attempt, ...taken } = await this.#take('stop', 'user', request);
      if (attempt !== lifecycle.attempt) {
        const fault = `a savepoint was taken at ${taken.location}, but the job restarted meanwhile`;
        throw new TriggerJobError('SAVEPOINT_JOB_RESTARTED', `${fault}: it goes on`);
      }
      const savepoint = { ...taken, triggerId };
      await journal.end({ outcome: { kind: request.as }, savepoint });
      log.info(taken, 'stopped with a savepoint');
      lifecycle.end(request.as);
      return taken;
    } catch (fault) {
      driver.goOn();
      this.#hold(false);
      throw fault;
    }
  }

  /** The same for the same id, so that who leads next finds it; a stop is no mere savepoint. */
  #folderOf(kind: 'savepoint' | 'stop', triggerId: string): string {
    const { lineage } = this.#deps.journal;
    const hash = createHash('sha256').update(`${lineage} ${kind} ${triggerId}`).digest('hex');
    return `${savepointPrefix(lineage)}${hash.slice(0, 12)}`;
  }

  async #made(
    kind: 'savepoint' | 'stop',
    triggerId: string,
    directory = this.#deps.plan.savepointDirectory,
  ): Promise<SavepointTaken | null> {
    const location = `${directory.replace(/\/+$/, '')}/${this.#folderOf(kind, triggerId)}`;
    const store = await this.#deps.openStore(location, { readOnly: true });
    try {
      const { checkpointId } = await readWholeSavepoint(store);
      return { checkpointId, location: store.url };
    } catch (fault) {
      if (fault instanceof TriggerJobError && fault.code === 'SAVEPOINT_MISSING') return null;
      throw fault;
    }
  }

  /**
   * A leader died between this stop's savepoint and the record of the job's end: the job has gone
   * on, so that savepoint is not where it stopped, and nobody was told of it.
   */
  async #disposeUntold(triggerId: string, directory: string | undefined): Promise<void> {
    const made = await this.#made('stop', triggerId, directory);
    if (made !== null) await this.dispose(made.location);
  }

  #hold(held: boolean): void {
    const { journal, lifecycle } = this.#deps;
    const { leaderEpoch } = journal;
    const { attempt } = lifecycle;
    lifecycle.current?.send({ type: 'hold-sources', leaderEpoch, attempt, held });
  }

  /** Asked by checkpoints, since only a barrier finds every record in exactly one place (I9). */
  async #drain(): Promise<void> {
    const { env, driver, plan } = this.#deps;
    const { timeoutMs } = plan.checkpointing;
    const until = env.monotonic() + timeoutMs;
    for (;;) {
      const { manifest } = await driver.request('manual');
      const left = undelivered(manifest);
      if (left === 0) return;
      if (env.monotonic() >= until) {
        const fault = `${left} events were still parked or undelivered after ${timeoutMs / 1000} s`;
        throw new TriggerJobError('DRAIN_TIMEOUT', `${fault}; stop without draining`);
      }
      await sleep(env, DRAIN_POLL_MS, this.#closing.signal);
    }
  }

  async #runPeriodic(everyMs: number, maxCount: number): Promise<void> {
    const { env, log } = this.#deps;
    const { signal } = this.#closing;
    let dueAt: number | null = null;
    while (!signal.aborted) {
      try {
        dueAt ??= ((await this.#ownPeriodic())[0]?.completedAt ?? -everyMs) + everyMs;
        const waitMs = dueAt - env.now();
        if (waitMs > 0) {
          await sleep(env, Math.min(waitMs, LONGEST_SLEEP_MS), signal);
          continue;
        }
        await this.#take('savepoint', 'periodic', {});
        dueAt = env.now() + everyMs;
        for (const { location } of (await this.#ownPeriodic()).slice(maxCount)) {
          await this.dispose(location);
        }
      } catch (fault) {
        if (signal.aborted) return;
        log.warn({ error: messageOf(fault) }, 'no periodic savepoint; it is tried again');
        await sleep(env, Math.min(everyMs, PERIODIC_RETRY_MS), signal).catch(() => {});
      }
    }
  }

  /**
   * Periodic savepoints that this very job took, newest first: not those of a user, nor of another
   * job that began with one of them and has the same lineage.
   */
  async #ownPeriodic(): Promise<{ location: string; completedAt: number }[]> {
    const { plan, journal, openStore, storeUrl } = this.#deps;
    const parent = plan.savepointDirectory.replace(/\/+$/, '');
    const open = (folder: string) => openStore(`${parent}/${folder}`, { readOnly: true });
    const directory = await openStore(parent, { readOnly: true });
    const found = await listSavepoints(directory, open, savepointPrefix(journal.lineage));
    return found.flatMap(({ folder, content }) => {
      if (content.state !== 'complete') return [];
      const { manifest, origin } = content;
      const own = origin?.trigger === 'periodic' && origin.store === storeUrl;
      if (!own || manifest.lineage !== journal.lineage) return [];
      return [{ location: `${parent}/${folder}`, completedAt: manifest.completedAt }];
    });
  }
}

function undelivered({ subtasks }: Manifest): number {
  return subtasks.reduce((sum, { ledger }) => sum + ledger.parked + ledger.inOutbox, 0);
}
