/**
 * Runs the coordinator's commands: triggers, collects snapshots, publishes, notifies, collects
 * garbage. It lives as long as this leader; attempts come and go. Order at the end of a checkpoint,
 * each step of which may be the last one: manifest and log record -> notify the tasks -> group
 * offsets -> garbage.
 *
 * Calls to the journal are queued: one leader appends one record at a time.
 */
import type { Logger } from 'pino';
import type { SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Command, Report, ScriptVersion } from '../rpc/messages.ts';
import type { Bound } from '../runtime/bound.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { AdoptedTasks } from './adoption.ts';
import {
  coordinate,
  initialCoordinator,
  MAX_QUEUED_REQUESTS,
  nextWakeAt,
} from './checkpoint-coordinator.ts';
import { describeFailure } from './checkpoint-failure.ts';
import type { CheckpointHistory } from './checkpoint-history.ts';
import type {
  CheckpointKind,
  CoordinatorCommand,
  CoordinatorEvent,
  CoordinatorState,
} from './coordinator-model.ts';
import type { Journal, StoredCheckpoint } from './journal.ts';
import { manifestOf } from './manifest-of.ts';
import type { ScriptSwitch } from './script-switch.ts';
import type { SplitBook } from './split-book.ts';

export type PhaseName = 'barrier' | 'upload' | 'manifest' | 'before-notify';

/**
 * For tests that kill processes in a chosen phase: the checkpoint stands still until it resolves.
 */
export interface PhaseHooks {
  phase(name: PhaseName, checkpointId: number): Promise<void>;
}

export interface CheckpointDriverDeps {
  env: Env;
  log: Logger;
  plan: JobPlan;
  journal: Journal;
  nextId: number;
  history: CheckpointHistory;
  scripts: ScriptSwitch;
  splits: SplitBook;
  hooks: PhaseHooks | undefined;
  /** To every TaskManager of the running attempt. */
  send(command: Command): void;
  /** Too many checkpoints failed: the job restarts. */
  onFailJob(reason: string): void;
  /**
   * Whether a record was written is unknown, or another leader took over: this process must end.
   */
  onFatal(error: unknown): void;
}

export type CheckpointReport = Report & { type: 'ack' | 'decline' | 'drained' };

interface InFlight {
  readonly id: number;
  /** The newest of the tasks' attempts, and each one's. */
  readonly attempt: number;
  readonly attempts: readonly number[];
  readonly triggeredAt: number;
  readonly script: ScriptVersion;
  readonly snapshots: Map<number, SubtaskSnapshot>;
}

type Waiter = PromiseWithResolvers<StoredCheckpoint>;

export class CheckpointDriver {
  readonly #deps: CheckpointDriverDeps;
  #state: CoordinatorState;
  #inFlight: InFlight | null = null;
  #published: StoredCheckpoint | null = null;
  readonly #waiters = new Map<string, Waiter>();
  #tokens = 0;
  #timer: Timer | null = null;
  #closed = false;
  /** Journal calls, in order; never rejects. */
  #journalQueue: Promise<void> = Promise.resolve();
  /** With hooks only: reports wait behind the phase that is held. */
  #gate: Promise<void> | null = null;
  #uploadSeen = 0;
  readonly #pinned = new Set<StoredCheckpoint>();
  #collecting = false;

  constructor(deps: CheckpointDriverDeps) {
    this.#deps = deps;
    this.#state = initialCoordinator(deps.nextId);
  }

  started({ attempt, parallelism }: { attempt: number; parallelism: number }): void {
    this.#feed({ type: 'started', attempt, parallelism });
  }

  /**
   * Tasks of another leader run on (P45): what it had under way is aborted, what it had completed
   * is told again, and no id is drawn that any of them has seen.
   */
  adopted(tasks: AdoptedTasks, newest: number): void {
    const { log, journal } = this.#deps;
    const { attempt, parallelism, seen, unsettled } = tasks;
    const { leaderEpoch } = journal;
    if (seen > newest) {
      log.info({ checkpointId: seen }, 'the checkpoint of the last leader is aborted');
      this.#enqueue(() => journal.abort(seen, 'the leader changed'));
      this.#deps.send({ type: 'abort', leaderEpoch, attempt, checkpointId: seen });
    }
    this.#deps.send({ type: 'notify', leaderEpoch, attempt, checkpointId: newest });
    // Of a stop-with-savepoint that ended with its leader.
    this.#deps.send({ type: 'hold-sources', leaderEpoch, attempt, held: false });
    this.#feed({ type: 'adopted', attempt, parallelism, checkpointId: seen, unsettled });
  }

  /**
   * These tasks are lost, the others run on. Resolves when nothing is appended any more before
   * `tasksReplaced`.
   */
  async tasksLost(subtasks: readonly number[]): Promise<void> {
    this.#feed({ type: 'tasks-lost', subtasks });
    await this.#journalQueue;
  }

  tasksReplaced(attempt: number, attempts: readonly number[]): void {
    this.#feed({ type: 'tasks-replaced', attempt, attempts });
  }

  /** The last checkpoint that this leader completed; null = none yet. */
  get newest(): StoredCheckpoint | null {
    return this.#published;
  }

  /** The attempt is over. Resolves when no record of it can be appended any more (P42). */
  async suspended(): Promise<void> {
    this.#feed({ type: 'suspended' });
    await this.#journalQueue;
  }

  report(report: CheckpointReport): void {
    if (this.#gate === null) this.#handle(report);
    else this.#gate = this.#gate.then(() => this.#handle(report));
  }

  /** Resolves when it is complete; rejects with CHECKPOINT_<reason>. */
  request(kind: Exclude<CheckpointKind, 'periodic'>): Promise<StoredCheckpoint> {
    this.#tokens += 1;
    const token = `${kind}-${this.#tokens}`;
    const waiter = Promise.withResolvers<StoredCheckpoint>();
    this.#waiters.set(token, waiter);
    this.#feed({ type: 'request', kind, token });
    return waiter.promise;
  }

  /** Somebody waits for a checkpoint: a savepoint, a stop, a script of a user. */
  get awaited(): boolean {
    return this.#waiters.size > 0;
  }

  /** As `request`; its objects stay in the store until `release` is called (P47). */
  async requestPinned(
    kind: 'savepoint' | 'stop',
  ): Promise<{ checkpoint: StoredCheckpoint; release: () => void }> {
    const checkpoint = await this.request(kind);
    return { checkpoint, release: () => this.#pinned.delete(checkpoint) };
  }

  /** The job goes on after a `stop` checkpoint, as what was to follow it failed. */
  goOn(): void {
    this.#feed({ type: 'go-on' });
  }

  /** This leader leaves, its tasks stay. Resolves when it has nothing more to append. */
  async handOver(): Promise<void> {
    this.close();
    await this.#journalQueue;
  }

  /** Requests that wait for their turn. */
  get queued(): Bound {
    return { value: this.#state.queue.length, limit: MAX_QUEUED_REQUESTS };
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    for (const token of [...this.#waiters.keys()]) {
      this.#reject(token, 'CHECKPOINT_STOPPING', 'the JobManager stops');
    }
  }

  #feed(event: CoordinatorEvent): void {
    const now = this.#deps.env.monotonic();
    const result = coordinate(this.#deps.plan.checkpointing, this.#state, event, now);
    this.#state = result.state;
    if (event.type === 'ack' && result.answer !== 'ok') {
      const { checkpointId, subtask } = event;
      this.#deps.log.info({ checkpointId, subtask, answer: result.answer }, 'ack refused');
    }
    for (const command of result.commands) this.#run(command);
    this.#arm();
  }

  #arm(): void {
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#closed) return;
    const { env, plan } = this.#deps;
    const at = nextWakeAt(plan.checkpointing, this.#state);
    if (at === null) return;
    this.#timer = env.timer(Math.max(0, at - env.monotonic()), () => this.#feed({ type: 'tick' }));
  }

  #handle(report: CheckpointReport): void {
    const { attempt, checkpointId } = report;
    if (this.#deps.hooks !== undefined && this.#uploadSeen < checkpointId) {
      // The first word of a task about this checkpoint: its uploads run now.
      this.#uploadSeen = checkpointId;
      this.#hold('upload', checkpointId);
      this.report(report);
      return;
    }
    switch (report.type) {
      case 'drained':
      case 'decline':
        this.#feed(report);
        return;
      case 'ack': {
        const { snapshot } = report;
        // Stored first: the last ack publishes at once. An ack that is refused belongs to no open
        // one.
        const open = this.#inFlight;
        const fits = open?.id === checkpointId && open.attempts[snapshot.subtask] === attempt;
        if (fits && !open.snapshots.has(snapshot.subtask)) {
          open.snapshots.set(snapshot.subtask, snapshot);
          this.#deps.history.acknowledged(checkpointId, snapshot, this.#deps.env.now());
        }
        this.#feed({ type: 'ack', attempt, checkpointId, subtask: snapshot.subtask });
      }
    }
  }

  #hold(phase: PhaseName, checkpointId: number): void {
    const { hooks } = this.#deps;
    if (hooks !== undefined) this.#gate = hooks.phase(phase, checkpointId);
  }

  #run(command: CoordinatorCommand): void {
    switch (command.type) {
      case 'trigger':
        this.#trigger(command);
        return;
      case 'publish':
        this.#publish(command.checkpointId);
        return;
      case 'complete':
        this.#complete(command);
        return;
      case 'abort':
        this.#abort(command);
        return;
      case 'reject': {
        const { token, reason } = command;
        this.#reject(token, `CHECKPOINT_${reason}`, describeFailure(reason, null));
        return;
      }
      case 'fail-job':
        this.#deps.onFailJob(command.reason);
    }
  }

  #trigger(command: CoordinatorCommand & { type: 'trigger' }): void {
    const { env, journal, history, scripts } = this.#deps;
    const { checkpointId } = command;
    const { attempt, attempts } = this.#state.tasks ?? { attempt: 0, attempts: [] };
    const triggeredAt = env.now();
    const script = scripts.wanted;
    const tasks = { attempt, attempts };
    this.#inFlight = { id: checkpointId, ...tasks, triggeredAt, script, snapshots: new Map() };
    history.triggered(checkpointId, command.kind, triggeredAt, attempts.length);
    const { leaderEpoch } = journal;
    this.#deps.send({ type: 'trigger', leaderEpoch, attempt, checkpointId, triggeredAt, script });
    this.#hold('barrier', checkpointId);
  }

  #publish(checkpointId: number): void {
    const open = this.#inFlight;
    if (open === null) return;
    this.#enqueue(async () => {
      await this.#deps.hooks?.phase('manifest', checkpointId);
      const outcome = await this.#tryPublish(open);
      if (typeof outcome === 'string') {
        this.#feed({ type: 'publish-failed', checkpointId, error: outcome });
        return;
      }
      this.#published = outcome;
      await this.#deps.hooks?.phase('before-notify', checkpointId);
      this.#feed({ type: 'published', checkpointId });
    });
  }

  /**
   * The stored checkpoint, or why it is surely not stored. Anything else is thrown and ends the
   * process.
   */
  async #tryPublish(open: InFlight): Promise<StoredCheckpoint | string> {
    const { env, plan, journal, splits } = this.#deps;
    const snapshots = [...open.snapshots.values()];
    const manifest = manifestOf({
      plan,
      lineage: journal.lineage,
      leaderEpoch: journal.leaderEpoch,
      attempt: open.attempt,
      parallelism: open.attempts.length,
      checkpointId: open.id,
      triggeredAt: open.triggeredAt,
      completedAt: env.now(),
      splits: splits.advanced(snapshots.flatMap((snapshot) => snapshot.splits)),
      script: open.script,
      snapshots,
    });
    try {
      return await journal.publish(manifest);
    } catch (error) {
      if (error instanceof TriggerJobError && error.code === 'CHECKPOINT_NOT_PUBLISHED') {
        return messageOf(error);
      }
      throw error;
    }
  }

  #complete(command: CoordinatorCommand & { type: 'complete' }): void {
    const { env, log, journal, history, scripts, splits } = this.#deps;
    const { checkpointId, kind, token } = command;
    const stored = this.#published;
    const { attempt, attempts } = this.#inFlight ?? { attempt: 0, attempts: [] };
    this.#inFlight = null;
    if (stored === null) return;
    const { manifest } = stored;
    history.completed(checkpointId, stored.ref.name, env.now());
    const durationMs = manifest.completedAt - manifest.triggeredAt;
    log.info({ checkpointId, durationMs }, 'checkpoint');
    if (kind === 'savepoint' || kind === 'stop') this.#pinned.add(stored);
    scripts.inForce(manifest.script);
    this.#deps.send({ type: 'notify', leaderEpoch: journal.leaderEpoch, attempt, checkpointId });
    splits.completed(manifest.splits.filter((position) => position.held !== true));
    this.#collectGarbage(attempts);
    if (token === null) return;
    this.#waiters.get(token)?.resolve(stored);
    this.#waiters.delete(token);
  }

  #abort(command: CoordinatorCommand & { type: 'abort' }): void {
    const { env, log, journal, history } = this.#deps;
    const { checkpointId, token } = command;
    const reason = describeFailure(command.reason, command.detail);
    const attempt = this.#inFlight?.attempt ?? 0;
    this.#inFlight = null;
    history.failed(checkpointId, reason, env.now());
    log.warn({ checkpointId, reason }, 'checkpoint failed');
    this.#deps.send({ type: 'abort', leaderEpoch: journal.leaderEpoch, attempt, checkpointId });
    if (token !== null) this.#reject(token, `CHECKPOINT_${command.reason}`, reason);
    this.#enqueue(() => journal.abort(checkpointId, reason));
  }

  #collectGarbage(attempts: readonly number[]): void {
    const { log, plan, journal, history } = this.#deps;
    if (this.#collecting) return;
    this.#collecting = true;
    const pinned = [...this.#pinned];
    journal
      .collectGarbage({ retained: plan.checkpointing.retained, pinned, attempts })
      .then((retained) => history.markDiscarded(retained))
      // Never fatal here: what stays is collected after a later checkpoint.
      .catch((error: unknown) => log.warn({ error: messageOf(error) }, 'garbage collection failed'))
      .finally(() => {
        this.#collecting = false;
      });
  }

  #reject(token: string, code: string, message: string): void {
    this.#waiters.get(token)?.reject(new TriggerJobError(code, message, { retryable: true }));
    this.#waiters.delete(token);
  }

  #enqueue(work: () => Promise<void>): void {
    this.#journalQueue = this.#journalQueue.then(work).catch((error: unknown) => {
      if (!this.#closed) this.#deps.onFatal(error);
    });
  }
}
