/**
 * A local run from the lock to the last line: the state directory is taken, the processes start,
 * Ctrl-C takes a final checkpoint, and the messages say from what the job resumed and what the next
 * start will resume from. `run` and `demo` are this with different views.
 */
import { writeFileSync } from 'node:fs';
import type { JobPlan } from '../plan/job-plan.ts';
import { slotHeapMebibytes } from '../plan/memory.ts';
import { ensureSecretFile } from '../rpc/transport-secret.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { formatAge, formatBytes } from './amounts.ts';
import { EXIT } from './exit-codes.ts';
import { freePort } from './free-port.ts';
import { type Interrupts, watchInterrupts } from './interrupts.ts';
import { type LaunchEnd, Launcher } from './launcher.ts';
import { Progress } from './progress.ts';
import { fetchStatus, type JobStatus } from './rest-client.ts';
import { lockStateDir, type StateDir } from './state-dir.ts';
import { type CheckpointFacts, newestCheckpoint } from './stored-job.ts';
import type { Terminal } from './terminal.ts';

const STATUS_POLL_MS = 200;
/** A final checkpoint may take as long as any other, but Ctrl-C should not wait for minutes. */
const STOP_LIMIT_MS = 60_000;

/** Metrics come every 500 ms: two looks see different ones. */
const DRAINED_POLL_MS = 1_000;

type StopReason = 'interrupted' | 'drained';

export interface LocalRunOptions {
  env: Env;
  terminal: Terminal;
  planFile: string;
  plan: JobPlan;
  dir: StateDir;
  storeUrl: string;
  from: string | null;
  /** JobManager processes, the standbys included; 1 unless the user asks for more. */
  jobManagers?: number;
  /** TaskManager processes; 1 unless the user asks for more. */
  taskManagers: number;
  /** Port the user asked for; null = the plan's, or the next free one. */
  restPort: number | null;
}

/** What is shown while the job runs. `stop` is called once, before the final checkpoint. */
export interface LocalRunView {
  start(restUrl: string): void;
  stop(): void;
}

/** Does `work` while the directory is this process's own. Nothing may write into it before. */
export async function withStateDir<T>(dir: StateDir, env: Env, work: () => Promise<T>): Promise<T> {
  dir.create();
  const unlock = lockStateDir(dir, env);
  try {
    return await work();
  } finally {
    unlock();
  }
}

/** Runs until Ctrl-C or the end of the job; the exit code. Inside of `withStateDir`. */
export async function runLocally(options: LocalRunOptions, view?: LocalRunView): Promise<number> {
  const { plan, taskManagers } = options;
  if (taskManagers > plan.parallelism) {
    const text = `--task-managers ${taskManagers}, but spec.parallelism is ${plan.parallelism}`;
    throw new TriggerJobError('USAGE', `${text}: some would have nothing to do`);
  }
  const interrupts = watchInterrupts(options.env, process);
  try {
    return await runWatched(options, interrupts, view);
  } finally {
    interrupts.release();
  }
}

async function runWatched(
  options: LocalRunOptions,
  interrupts: Interrupts,
  view: LocalRunView | undefined,
): Promise<number> {
  const { env, terminal, storeUrl, jobManagers = 1 } = options;
  // However many a cluster has of them.
  const plan = { ...options.plan, jobManagers };
  const { bindAddress } = plan.rest;
  // Only for messages: what can't be read is judged by the JobManager.
  const before = await newestCheckpoint(storeUrl, plan, env, plan.checkpointing.s3).catch(
    () => null,
  );
  const restPort = options.restPort ?? (await freePort(plan.rest.port, bindAddress));
  const planJson = options.dir.file('plan.json');
  writeFileSync(planJson, JSON.stringify(plan, null, 2));
  const secretFile = plan.internalTls ? options.dir.file('secret') : null;
  if (secretFile !== null) ensureSecretFile(secretFile, options.env);
  const launcher = new Launcher({
    ...options,
    planJson,
    restPort,
    secretFile,
    dataPort: plan.dataPort,
    // One machine: however the file spreads the slots over a cluster, here they are divided evenly.
    slots: Math.ceil(plan.parallelism / options.taskManagers),
    slotHeapMebibytes: slotHeapMebibytes(plan),
  });
  try {
    await launcher.start();
    terminal.print(`REST API and metrics: ${launcher.restUrl}   logs: ${options.dir.root}/logs`);
    let over = false;
    const stopped = interrupts.first.then((): LaunchEnd | StopReason => 'interrupted');
    const drained = untilDrained(options, launcher.restUrl, () => over);
    const ended = Promise.race([launcher.ended, stopped, drained]).finally(() => {
      over = true;
    });
    const running = await untilRunning(options, launcher.restUrl, () => over);
    if (running !== null) {
      terminal.print(startMessage(env, running, before));
      view?.start(launcher.restUrl);
    }
    const end = await ended;
    view?.stop();
    if (typeof end !== 'string') return reportEnd(terminal, end);
    return await stop(options, launcher, interrupts, end);
  } finally {
    view?.stop();
    await launcher.kill();
  }
}

async function untilRunning(
  { env, terminal }: LocalRunOptions,
  restUrl: string,
  over: () => boolean,
): Promise<JobStatus | null> {
  const progress = new Progress({ env, terminal, what: 'starting' });
  try {
    while (!over()) {
      try {
        const status = await fetchStatus(env, restUrl);
        if (status.state === 'RUNNING') return status;
        const { restoredSubtasks: done, parallelism, restoredCheckpoint: id } = status;
        const share = id !== null && parallelism > 0 ? done / parallelism : null;
        const from = id === null ? '' : `restoring checkpoint ${id}, `;
        progress.update(share, `${from}${done} of ${parallelism} subtasks are ready`);
      } catch {
        // The JobManager is starting, or starting again; its death is reported elsewhere.
      }
      await sleep(env, STATUS_POLL_MS);
    }
    return null;
  } finally {
    progress.end();
  }
}

/**
 * Resolves once a source that ends has ended and all of its events are judged and delivered, as two
 * looks in a row have found it. Never for other sources.
 */
async function untilDrained(
  { env, plan, terminal }: LocalRunOptions,
  restUrl: string,
  over: () => boolean,
): Promise<StopReason> {
  const { source } = plan;
  const ends = source.kind === 'file' || (source.kind === 'datagen' && source.limit !== null);
  if (!ends) return new Promise(() => {});
  for (let before = -1; !over(); ) {
    await sleep(env, DRAINED_POLL_MS);
    const status = await fetchStatus(env, restUrl).catch(() => null);
    const idle = status !== null && status.parked === 0 && status.outbox === 0;
    if (!idle || !status.inputEnded || status.state !== 'RUNNING') {
      before = -1;
    } else if (status.processed !== before) {
      before = status.processed;
    } else {
      const { processed, matched, delivered, deadLettered } = status;
      terminal.print(
        `the input has ended: ${processed} events, ${matched} matched, ${delivered} delivered, ` +
          `${deadLettered} to the dead letter`,
      );
      return 'drained';
    }
  }
  return 'drained';
}

function startMessage(env: Env, status: JobStatus, before: CheckpointFacts | null): string {
  const restored = status.restoredCheckpoint;
  const known = before?.checkpointId === restored ? before : null;
  if (restored === null || known?.kind === 'initial') return 'started fresh: no checkpoint yet';
  const age = known === null ? '' : ` taken ${formatAge(env.now() - known.completedAt)} ago`;
  return `resumed from checkpoint ${restored}${age}`;
}

async function stop(
  options: LocalRunOptions,
  launcher: Launcher,
  interrupts: Interrupts,
  reason: StopReason,
): Promise<number> {
  const { env, terminal, plan, storeUrl } = options;
  const again = reason === 'interrupted' ? ' again' : '';
  terminal.print(`stopping: taking a final checkpoint (Ctrl-C${again} ends at once)`);
  const before = await newestCheckpoint(storeUrl, plan, env, plan.checkpointing.s3).catch(
    () => null,
  );
  const progress = new Progress({ env, terminal, what: 'final checkpoint' });
  const outcome = await Promise.race([
    launcher.stop(STOP_LIMIT_MS),
    (reason === 'interrupted' ? interrupts.second : interrupts.first).then(
      () => 'interrupted' as const,
    ),
  ]).finally(() => progress.end());
  if (outcome === 'interrupted') {
    await launcher.kill();
    terminal.print('ended at once, without a final checkpoint');
    return EXIT.interrupted;
  }
  const after = await newestCheckpoint(storeUrl, plan, env, plan.checkpointing.s3);
  if (after !== null && after.checkpointId !== before?.checkpointId) {
    const size = `${formatBytes(after.uploadedBytes)} of ${formatBytes(after.stateBytes)} written`;
    terminal.print(
      `final checkpoint ${after.checkpointId} (${size}) taken; the next start resumes from it`,
    );
    return EXIT.ok;
  }
  const why = outcome ? 'it failed; see the log' : `it took longer than ${STOP_LIMIT_MS / 1000} s`;
  const next = after === null ? 'starts fresh' : `resumes from checkpoint ${after.checkpointId}`;
  terminal.error(`no final checkpoint: ${why}. The next start ${next}; nothing is lost`);
  return EXIT.failed;
}

function reportEnd(terminal: Terminal, end: LaunchEnd): number {
  if (end.kind === 'finished') {
    terminal.print('the job has finished');
    return EXIT.ok;
  }
  terminal.error(`the job failed: ${end.message}`);
  return EXIT.failed;
}
