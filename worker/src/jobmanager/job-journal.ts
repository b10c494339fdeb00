/**
 * The Journal on the job's store: checkpoint/log.ts and its neighbours, with every doubt settled
 * here.
 */
import type { Logger } from 'pino';
import { collectGarbage, type TaskRoots } from '../checkpoint/gc.ts';
import type { JobLog, LogBody } from '../checkpoint/log.ts';
import { decodeManifest, objectsOf } from '../checkpoint/manifest.ts';
import type { ObjectStore, StoredObject } from '../checkpoint/object-store.ts';
import { parseSegmentPath, savepointPrefix } from '../checkpoint/paths.ts';
import { publishCheckpoint } from '../checkpoint/publish.ts';
import { recoverJob } from '../checkpoint/recover.ts';
import { writeSavepoint } from '../checkpoint/savepoint.ts';
import { fetchObject } from '../checkpoint/segment-reader.ts';
import type {
  AskedParallelism,
  Manifest,
  ObjectRef,
  RecordedDeployment,
} from '../checkpoint/snapshot.ts';
import type { Bound } from '../runtime/bound.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { Journal, RecordedEnd, SavepointWriting, StoredCheckpoint } from './journal.ts';

/** Nothing younger is collected: the store's clock and ours may differ by less than this. */
const GARBAGE_MIN_AGE_MS = 60_000;
/**
 * Between two tries of a store that does not answer, on top of the log's own half minute of tries.
 */
const UNAVAILABLE_PAUSE_MS = 5_000;

/**
 * After these the leader must end; anything else thrown before the record is a failed checkpoint.
 */
const FATAL_CODES: ReadonlySet<string> = new Set(['LEADERSHIP_LOST', 'INVARIANT', 'LOG_CORRUPT']);

export interface JobJournalOptions {
  env: Env;
  logger: Logger;
  log: JobLog;
  store: ObjectStore;
  lineage: string;
  retained: number;
  run: number | null;
  openStore(url: string): Promise<ObjectStore>;
}

export class JobJournal implements Journal {
  readonly #options: JobJournalOptions;
  /**
   * Segments named by a published manifest. A chain only loses members, so one that a later
   * manifest no longer names is given up by its task; one that no manifest ever named may be owed
   * (P16).
   */
  readonly #named = new Set<string>();
  #ended: RecordedEnd | null = null;
  /** A record whose outcome is unknown is settled before another one is appended. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: JobJournalOptions) {
    this.#options = options;
  }

  get leaderEpoch(): number {
    return this.#options.log.leaderEpoch;
  }

  get recordsKept(): Bound {
    return this.#options.log.kept;
  }

  get lineage(): string {
    return this.#options.lineage;
  }

  get run(): number | null {
    return this.#options.run;
  }

  get ended(): RecordedEnd | null {
    return this.#ended;
  }

  end(end: RecordedEnd): Promise<void> {
    return this.#inTurn(async () => {
      const { run } = this;
      if (run === null || this.#ended !== null) return;
      await this.#append({ kind: 'end', run, ...end });
      this.#ended = end;
    });
  }

  get lastIndex(): number {
    return this.#options.log.records.at(-1)?.logIndex ?? 0;
  }

  confirm(): Promise<void> {
    return this.#options.log.confirmEnd();
  }

  /**
   * What the leaders before have published of tasks that run on (P45): without it their segments
   * would count as owed for as long as the attempt lives.
   */
  async knowRetained(): Promise<void> {
    const { store, logger } = this.#options;
    for (const ref of this.retained) {
      try {
        const manifest = decodeManifest(await fetchObject(store, ref), ref.name);
        for (const object of objectsOf(manifest)) this.#named.add(object.name);
      } catch (error) {
        logger.warn({ manifest: ref.name, error: messageOf(error) }, 'an older manifest is unread');
      }
    }
  }

  get retained(): ObjectRef[] {
    const { log, retained } = this.#options;
    return log.state.line.slice(-retained).map(({ manifest }) => manifest);
  }

  get wantedParallelism(): AskedParallelism | null {
    return this.#options.log.state.wantedParallelism;
  }

  want(wantedParallelism: AskedParallelism | null): Promise<void> {
    return this.#inTurn(() => this.#append({ kind: 'rescale', wantedParallelism }));
  }

  publish(manifest: Manifest): Promise<StoredCheckpoint> {
    return this.#inTurn(() => this.#publish(manifest));
  }

  restore(
    reason: string,
    deployment: RecordedDeployment,
    verify: 'manifest' | 'full' = 'manifest',
  ): Promise<StoredCheckpoint> {
    return this.#inTurn(() => this.#restore(reason, deployment, verify));
  }

  abort(checkpointId: number, reason: string): Promise<void> {
    return this.#inTurn(() => this.#abort(checkpointId, reason));
  }

  async #publish(manifest: Manifest): Promise<StoredCheckpoint> {
    const { env, log, store } = this.#options;
    const { checkpointId } = manifest;
    const failed = (error: unknown): TriggerJobError =>
      new TriggerJobError('CHECKPOINT_NOT_PUBLISHED', messageOf(error));
    try {
      const published = await publishCheckpoint({ log, store, env, manifest });
      for (const object of objectsOf(manifest)) this.#named.add(object.name);
      return { manifest, ref: published.manifest };
    } catch (error) {
      if (error instanceof TriggerJobError && FATAL_CODES.has(error.code)) throw error;
      if (!isUnavailable(error)) throw failed(error);
      await this.#settle();
      const landed = log.state.line.findLast((known) => known.checkpointId === checkpointId);
      if (landed === undefined) throw failed(error);
      for (const object of objectsOf(manifest)) this.#named.add(object.name);
      return { manifest, ref: landed.manifest };
    }
  }

  async #restore(
    reason: string,
    deployment: RecordedDeployment,
    verify: 'manifest' | 'full',
  ): Promise<StoredCheckpoint> {
    const { log, store, logger, retained } = this.#options;
    const recovery = await this.#patiently(() => recoverJob({ log, store, retained, verify }));
    if (recovery.kind !== 'restore') {
      // The initial manifest precedes every deployment (P25), so there is always one.
      throw new TriggerJobError('INVARIANT', 'the log names no checkpoint to restart from');
    }
    for (const passed of recovery.passedOver) {
      logger.error(passed, `checkpoint ${passed.checkpointId} is damaged: ${passed.reason}`);
    }
    const { checkpointId, manifest, ref } = recovery;
    const record = { kind: 'restore', checkpointId, manifest: ref, reason, deployment } as const;
    await this.#append({ ...record, savepoint: null });
    return { manifest, ref };
  }

  async #abort(checkpointId: number, reason: string): Promise<void> {
    if (this.#options.log.state.aborted.has(checkpointId)) return;
    await this.#append({ kind: 'abort', checkpointId, reason });
  }

  async writeSavepoint(
    { manifest }: StoredCheckpoint,
    directory: string,
    { trigger, name: given, ...options }: SavepointWriting,
  ): Promise<string> {
    const { env, store, lineage, openStore } = this.#options;
    const name = given ?? `${savepointPrefix(lineage)}${env.id().slice(0, 12)}`;
    const to = await openStore(`${directory.replace(/\/+$/, '')}/${name}`);
    const origin = { trigger, store: store.url };
    await writeSavepoint({ ...options, from: store, manifest, to, env, origin });
    return to.url;
  }

  async collectGarbage(options: {
    retained: number;
    pinned: readonly StoredCheckpoint[];
    attempts: readonly number[];
  }): Promise<ReadonlySet<number>> {
    const { env, log, store, logger } = this.#options;
    const pinned = new Set(
      options.pinned.flatMap(({ manifest, ref }) => [
        ref.name,
        ...objectsOf(manifest).map((object) => object.name),
      ]),
    );
    const named = [...this.#named];
    const { deleted, refused } = await collectGarbage({
      log,
      store,
      tasks: (listed) => Promise.resolve(this.#taskRoots(options.attempts, named, listed)),
      pinned: () => pinned,
      highestAttempt: Math.max(0, ...options.attempts),
      retained: options.retained,
      minAgeMs: GARBAGE_MIN_AGE_MS,
      now: () => env.now(),
    });
    if (refused !== null) logger.warn({ refused }, 'no garbage was collected');
    if (deleted > 0) logger.debug({ deleted }, 'garbage collected');
    const kept = log.state.line.slice(-options.retained);
    return new Set(kept.map((candidate) => candidate.checkpointId));
  }

  /**
   * What the running tasks may still need, without asking them: every segment of their attempts
   * that no published manifest has named yet. Only what the sweep has listed can be deleted by it,
   * so nothing else matters. `named`: what was named before the listing began.
   */
  #taskRoots(
    attempts: readonly number[],
    named: readonly string[],
    listed: readonly StoredObject[],
  ): TaskRoots[] {
    const roots = attempts.map((attempt, subtask) => ({ attempt, subtask, names: [] as string[] }));
    const present = new Set<string>();
    for (const { name } of listed) {
      present.add(name);
      const segment = parseSegmentPath(name);
      const task = segment === null ? undefined : roots[segment.subtask];
      if (task === undefined || segment?.attempt !== task.attempt) continue;
      if (!this.#named.has(name)) task.names.push(name);
    }
    // Bounded by the store: what is gone from it needs no memory here.
    for (const name of named) if (!present.has(name)) this.#named.delete(name);
    return roots;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#turn.then(work);
    this.#turn = run.catch(() => undefined);
    return run;
  }

  async #append(body: LogBody): Promise<void> {
    try {
      await this.#options.log.append(body);
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      await this.#settle();
    }
  }

  /** The store may be away for long: tasks go on meanwhile, only checkpoints wait. */
  #settle(): Promise<void> {
    return this.#patiently(() => this.#options.log.settle());
  }

  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    const { env, logger } = this.#options;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isUnavailable(error)) throw error;
        logger.error({ error: messageOf(error) }, 'the checkpoint store does not answer');
        await sleep(env, UNAVAILABLE_PAUSE_MS);
      }
    }
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof TriggerJobError && error.code === 'LOG_UNAVAILABLE';
}
