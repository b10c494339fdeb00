/**
 * The JobManager of one job: wires the parts together and is their public face. Stages of a start:
 * takeover and choice of the checkpoint (start-point.ts) -> RPC listens -> the job's loop
 * (job-lifecycle.ts) with its checkpoints (checkpoint-driver.ts) -> outcome.
 */
import type { DisposalReport } from '../checkpoint/disposal.ts';
import type { Report, ScriptVersion } from '../rpc/messages.ts';
import { RpcServer } from '../rpc/server.ts';
import { refusalLog } from '../rpc/transport.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { LogText } from '../runtime/log-tail.ts';
import type { Split } from '../source/source.ts';
import { CheckpointDriver } from './checkpoint-driver.ts';
import { CheckpointHistory } from './checkpoint-history.ts';
import { disposeStored, runOf } from './job-disposal.ts';
import { JobExceptions } from './job-exceptions.ts';
import { JobInspection } from './job-inspection.ts';
import { JobLifecycle, type JobOutcome } from './job-lifecycle.ts';
import { JobSavepoints } from './job-savepoints.ts';
import { JobSeries } from './job-series.ts';
import { JobStateMachine } from './job-state.ts';
import { JobTotals } from './job-totals.ts';
import type {
  JobManager,
  JobView,
  SavepointRequest,
  SavepointTaken,
  StopRequest,
} from './job-view.ts';
import { viewOf } from './job-view-of.ts';
import type { JobManagerOptions } from './jobmanager-options.ts';
import { expectedOf, Reattachment } from './reattach.ts';
import { type JobScaling, scalingOf, wantedAtStart } from './scaling.ts';
import { ScriptSwitch } from './script-switch.ts';
import { ScriptWatch } from './script-watch.ts';
import { SplitBook } from './split-book.ts';
import { findStart, type StartPoint, startingSource } from './start-point.ts';
import { type TaskManager, TaskManagers } from './task-managers.ts';

/**
 * Rejects with what keeps the job from starting: START_OFFSETS_WITH_STATE, CHECKPOINT_NOT_FOUND,
 * MAX_PARALLELISM_CHANGED, RPC_LISTEN, LOG_CORRUPT, what the store or the source throws.
 */
export async function startJobManager(options: JobManagerOptions): Promise<JobManager> {
  const manager = new RunningJobManager(options);
  try {
    await manager.start();
  } catch (error) {
    await manager.close();
    throw error;
  }
  return manager;
}

class RunningJobManager implements JobManager {
  readonly #options: JobManagerOptions;
  readonly #job: JobStateMachine;
  readonly #history = new CheckpointHistory();
  readonly #totals = new JobTotals();
  readonly #series = new JobSeries();
  readonly #exceptions = new JobExceptions();
  readonly #scripts: ScriptSwitch;
  readonly #done = Promise.withResolvers<JobOutcome>();
  #parts: {
    start: StartPoint & { splits: SplitBook };
    driver: CheckpointDriver;
    taskManagers: TaskManagers;
    lifecycle: JobLifecycle;
    reattachment: Reattachment | null;
    scaling: JobScaling;
    savepoints: JobSavepoints;
    inspection: JobInspection;
    server: Pick<RpcServer, 'port' | 'close'>;
  } | null = null;
  #splits: SplitBook | null = null;
  #watch: ScriptWatch | null = null;
  #stopping: Promise<void> | null = null;

  constructor(options: JobManagerOptions) {
    this.#options = options;
    this.#job = new JobStateMachine(options.env.now());
    this.#scripts = new ScriptSwitch(options.script);
    // Nobody may be waiting yet when the job ends; the rejection is not lost, `done` keeps it.
    this.#done.promise.catch(() => undefined);
  }

  get done(): Promise<JobOutcome> {
    return this.#done.promise;
  }

  get rpcPort(): number {
    return this.#started.server.port;
  }

  get jobId(): string {
    return this.#started.start.journal.lineage.slice(0, 32);
  }

  async start(): Promise<void> {
    const { env, log, plan, from = null, run = null, after = null } = this.#options;
    const start = await findStart({
      ...this.#options,
      logger: log,
      from,
      run,
      after,
      onLeading: async (leaderEpoch, confirm) => {
        await this.#options.onLeading?.(leaderEpoch, confirm);
      },
      openSplits: (known) => this.#openSplits(known),
    });
    this.#history.inherit(start.checkpoint.manifest, start.checkpoint.ref.name, null);
    const driver = this.#openDriver(start);
    const taskManagers = this.#openTaskManagers(start);
    const expected = expectedOf(plan, start.attempt);
    const candidates = () => taskManagers.all();
    const reattachment = start.reattach
      ? new Reattachment({ env, log, expected, candidates })
      : null;
    const wanted = await wantedAtStart(plan, start.journal, log);
    const scaling = scalingOf(this.#options, start.journal, driver, taskManagers, wanted);
    const lifecycle = new JobLifecycle(
      {
        env,
        log,
        plan,
        jobId: start.journal.lineage.slice(0, 32),
        journal: start.journal,
        driver,
        taskManagers,
        scaling,
        job: this.#job,
        splits: start.splits,
        scripts: this.#scripts,
        history: this.#history,
        totals: this.#totals,
        exceptions: this.#exceptions,
        reattachment,
      },
      start,
    );
    const listen = this.#options.listen ?? RpcServer.listen;
    const server = await listen({
      host: plan.rpc.bindAddress,
      port: plan.rpc.port,
      keys: this.#options.keys ?? null,
      onConnection: (connection) => taskManagers.accept(connection),
      onRefused: refusalLog(env, log, 'rpc'),
    });
    const savepoints = this.#openSavepoints(start, driver, lifecycle);
    const { journal } = start;
    const looked = { ...this.#options, journal, lifecycle, scripts: this.#scripts };
    const inspection = new JobInspection(looked);
    const parts = { driver, taskManagers, lifecycle, scaling, savepoints, server };
    this.#parts = { start, ...parts, inspection, reattachment };
    this.#job.move(start.reattach ? 'RECONCILING' : 'CREATED', env.now());
    start.splits.start();
    this.#watchScript();
    savepoints.startPeriodic();
    this.#series.start(env, () => this.view());
    lifecycle.run(start.checkpoint).then(this.#done.resolve, this.#done.reject);
  }

  view(): JobView {
    const { start, ...parts } = this.#started;
    const { journal, splits } = start;
    const told = { ...parts, journal, splits, storeUrl: this.#options.store.url, job: this.#job };
    const kept = { history: this.#history, exceptions: this.#exceptions, totals: this.#totals };
    const shown = { series: this.#series, scripts: this.#scripts };
    return viewOf({ ...this.#options, ...told, ...kept, ...shown });
  }

  get inspection(): JobInspection {
    return this.#started.inspection;
  }

  changeScript(script: ScriptVersion): void {
    const { version } = script;
    if (version !== this.#scripts.wanted.version)
      this.#options.log.info({ version }, 'a new filter comes with the next barrier');
    this.#scripts.want(script);
  }

  savepoint(request: SavepointRequest = {}): Promise<SavepointTaken> {
    return this.#started.savepoints.take(request);
  }

  findSavepoint(triggerId: string): Promise<SavepointTaken | null> {
    return this.#started.savepoints.find(triggerId);
  }

  stopWithSavepoint(request: StopRequest): Promise<SavepointTaken> {
    return this.#started.savepoints.stop(request);
  }

  taskManagerLog(id: string): Promise<LogText> {
    return this.#started.taskManagers.logOf(id);
  }

  disposeSavepoint(location: string): Promise<void> {
    return this.#started.savepoints.dispose(location);
  }

  async checkpoint(): Promise<number> {
    return (await this.#started.driver.request('manual')).manifest.checkpointId;
  }

  async rescale(parallelism: number): Promise<void> {
    const { scaling } = this.#started;
    try {
      await scaling.ask(parallelism);
    } catch (error) {
      // As of any other record: whether it is there is unknown, or another leader took over.
      const refused = error instanceof TriggerJobError && error.code === 'PARALLELISM';
      if (!refused) this.#done.reject(error);
      throw error;
    }
  }

  stop(options: { finalCheckpoint: boolean }): Promise<void> {
    this.#stopping ??= this.#stop(options.finalCheckpoint);
    return this.#stopping;
  }

  async cancel(): Promise<void> {
    this.#started.lifecycle.end('canceled');
    await this.#done.promise;
  }

  async dispose(): Promise<DisposalReport> {
    runOf(this.#options);
    if (!this.#job.terminal) await this.cancel();
    return disposeStored(this.#options);
  }

  async handOver(): Promise<void> {
    this.#watch?.close();
    await this.#started.driver.handOver();
  }

  retire(): void {
    this.#watch?.close();
    this.#series.close();
    this.#parts?.scaling.close();
    this.#parts?.savepoints.close();
    this.#parts?.inspection.close();
    this.#parts?.driver.close();
  }

  async close(): Promise<void> {
    this.retire();
    this.#parts?.taskManagers.close();
    await this.#parts?.server.close();
    await this.#splits?.close().catch((error: unknown) => {
      this.#options.log.warn({ error: messageOf(error) }, 'closing the source failed');
    });
  }

  get #started() {
    if (this.#parts !== null) return this.#parts;
    throw new TriggerJobError('NOT_STARTED', 'the JobManager has not started');
  }

  async #stop(finalCheckpoint: boolean): Promise<void> {
    const { driver, lifecycle, savepoints } = this.#started;
    if (finalCheckpoint && (await savepoints.stopped())) {
      await this.#done.promise;
      return;
    }
    let as: 'finished' | 'canceled' = 'canceled';
    if (finalCheckpoint && this.#job.status === 'RUNNING') {
      try {
        await driver.request('final');
        as = 'finished';
      } catch (error) {
        // Nothing is lost: the next start goes on from the checkpoint before and replays.
        this.#options.log.error({ error: messageOf(error) }, 'no final checkpoint');
      }
    }
    lifecycle.end(as);
    await this.#done.promise;
  }

  #openSplits(known: readonly Split[]): SplitBook {
    const { env, log, plan, openEnumerator, from } = this.#options;
    this.#splits = new SplitBook({
      env,
      log,
      source: plan.source,
      enumerator: openEnumerator(startingSource(plan.source, from ?? null), known),
      onAssigned: (positions) => this.#parts?.lifecycle.current?.addSplits(positions),
      onFault: (error) => {
        const { code, message } = error;
        this.#parts?.lifecycle.fail({ code, message, subtask: null, taskManagerId: null });
      },
    });
    return this.#splits;
  }

  #openDriver(start: StartPoint & { splits: SplitBook }): CheckpointDriver {
    const { env, log, plan, hooks } = this.#options;
    return new CheckpointDriver({
      env,
      log,
      plan,
      journal: start.journal,
      nextId: start.nextCheckpointId,
      history: this.#history,
      scripts: this.#scripts,
      splits: start.splits,
      hooks,
      send: (command) => this.#parts?.lifecycle.current?.send(command),
      onFailJob: (message) => {
        const failure = { code: 'CHECKPOINTS_FAILED', message, subtask: null, taskManagerId: null };
        this.#parts?.lifecycle.fail(failure);
      },
      onFatal: (error) => this.#done.reject(error),
    });
  }

  #openSavepoints(
    { journal }: StartPoint,
    driver: CheckpointDriver,
    lifecycle: JobLifecycle,
  ): JobSavepoints {
    const storeUrl = this.#options.store.url;
    const history = this.#history;
    const job = { journal, driver, lifecycle, history, storeUrl };
    return new JobSavepoints({ ...this.#options, ...job });
  }

  #openTaskManagers(start: StartPoint): TaskManagers {
    const { env, log, plan } = this.#options;
    const { leaderEpoch } = start.journal;
    const { heartbeatTimeoutMs } = plan;
    return new TaskManagers(
      { env, log, leaderEpoch, heartbeatTimeoutMs },
      {
        onRegistered: () => {
          this.#parts?.reattachment?.look();
          this.#parts?.scaling.slotsChanged();
          this.#parts?.lifecycle.slotsChanged();
        },
        onLost: (taskManager, reason) => {
          this.#parts?.reattachment?.look();
          this.#parts?.scaling.slotsChanged();
          this.#parts?.lifecycle.current?.lost(taskManager, reason);
          this.#parts?.inspection.queries.lost(taskManager);
        },
        admits: (running) => this.#parts?.reattachment?.admits(running) ?? false,
        discoveredAt: () => this.#splits?.discoveredAt ?? null,
        onStoodStill: (ms) => {
          const text = `this JobManager stood still for ${ms} ms; its tasks look for a leader`;
          this.#done.reject(new TriggerJobError('PROCESS_FROZEN', text));
        },
        onNewerLeader: () => {
          start.journal.confirm().catch((error: unknown) => this.#done.reject(error));
        },
        onReport: (taskManager, report) => this.#onReport(taskManager, report),
      },
    );
  }

  #onReport(taskManager: TaskManager, report: Report): void {
    const { driver, lifecycle, inspection } = this.#started;
    switch (report.type) {
      case 'heartbeat': {
        const now = this.#options.env.monotonic();
        for (const subtask of report.metrics.subtasks) this.#totals.update(subtask, now);
        return;
      }
      case 'answer':
        inspection.queries.answered(taskManager, report);
        return;
      case 'ack':
      case 'decline':
      case 'drained':
        driver.report(report);
        return;
      default:
        if (report.type === 'peer-lost') this.#started.reattachment?.look();
        lifecycle.report(taskManager, report);
    }
  }

  #watchScript(): void {
    const { env, log, watchFiles, loadScript } = this.#options;
    if (watchFiles.length === 0) return;
    this.#watch = new ScriptWatch({
      env,
      log,
      files: watchFiles,
      loadScript,
      onScript: (script) => this.changeScript(script),
      onRefused: (refused) => {
        this.#scripts.refused = refused;
      },
    });
  }
}
