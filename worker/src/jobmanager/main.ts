/**
 * The `jobmanager` role: one process, one job. Signals, port file, exit code; no logic of the job.
 */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { type Logger, pino } from 'pino';
import { openStore } from '../checkpoint/open-store.ts';
import { compileFilter } from '../filter/compile.ts';
import type { FilterPlan, JobPlan } from '../plan/job-plan.ts';
import { startRest } from '../rest/rest-server.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import { keysFor } from '../rpc/transport-secret.ts';
import { type Env, realEnv, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { createSplitEnumerator } from '../source/open.ts';
import type { PhaseHooks } from './checkpoint-driver.ts';
import { type JobManager, startJobManager } from './jobmanager.ts';
import type { StartFrom } from './start-point.ts';

/** Another leader took over, or whether a record was written can't be known: start me again. */
const EXIT_RESTART = 5;
/** How long a phase stands still for a test's killer (TRIGGERJOB_PHASE_EVENTS). */
const PHASE_DELAY_MS = 150;

export interface JobManagerRunOptions {
  /** The user's TriggerJob, YAML; watched for script changes. */
  planFile: string;
  /** A resolved JobPlan as JSON, in place of what `planFile` resolves to. */
  planJson?: string | null;
  /** Checkpoint directory in place of the plan's; the job's folder is below it. */
  storeUrl?: string | null;
  /** 0 = any free port; null or left out = the plan's. */
  rpcPort?: number | null;
  restPort?: number | null;
  /** `earliest` or `latest` offsets of a first start, or a retained checkpoint's id. */
  from?: string | null;
  /** The job's secret (transport-secret.ts); needed unless spec.security.internal is off. */
  secretFile?: string | null;
  /** {rpcPort, restPort, pid} is written there as JSON once both listen. */
  portFile?: string | null;
}

/**
 * Runs until the job ends or SIGTERM/SIGINT stops it with a final checkpoint. Rejects when it can't
 * start, and with the job's own verdict when it failed: starting it again would end the same way.
 * Ends the process with 5 when only this leader has to go (P39: at once, nothing is closed in
 * order).
 */
export async function runJobManager(options: JobManagerRunOptions): Promise<void> {
  const env = realEnv;
  const phases = process.env['TRIGGERJOB_PHASE_EVENTS'] === '1';
  const log = pino({ name: 'jobmanager', level: phases ? 'debug' : 'info' });
  const plan = await planOf(options);
  const { secretFile = null } = options;
  const keys = keysFor(plan.internalTls, secretFile, env, (fault) => log.warn(fault));
  const { s3 } = plan.checkpointing;
  const manager = await startJobManager({
    plan,
    watchFiles: [options.planFile, ...scriptFilesOf(plan.filter)],
    loadScript: () => loadScript(options.planFile),
    script: compiled(plan.filter),
    env,
    log,
    keys,
    store: await openStore(jobFolder(plan), env, { s3 }),
    openStore: (url, options) => openStore(url, env, { s3, ...options }),
    openEnumerator: (source, known) => createSplitEnumerator(source, env, { known }),
    from: parseFrom(options.from ?? null),
    writer: `${hostname()}/${process.pid}`,
    ...(phases ? { hooks: phaseEvents(env, log) } : {}),
  });
  // Installed before anyone can know this process: a signal from here on is a stop, never a kill.
  const stop = () => void manager.stop({ finalCheckpoint: true }).catch(() => undefined);
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  try {
    await serve(env, log, plan, manager, options.portFile ?? null);
  } finally {
    process.off('SIGTERM', stop);
    process.off('SIGINT', stop);
    await manager.close();
  }
}

async function serve(
  env: Env,
  log: Logger,
  plan: JobPlan,
  manager: JobManager,
  portFile: string | null,
): Promise<void> {
  const { port, bindAddress } = plan.rest;
  const rest = await startRest({ plan, jobManager: manager, port, bindAddress, env });
  try {
    log.info({ rpcPort: manager.rpcPort, restPort: rest.port }, 'the JobManager listens');
    if (portFile !== null) {
      const ports = { rpcPort: manager.rpcPort, restPort: rest.port, pid: process.pid };
      // A reader must never see half of it.
      await writeFile(`${portFile}.tmp`, JSON.stringify(ports));
      await rename(`${portFile}.tmp`, portFile);
    }
    const outcome = await manager.done.catch((error: unknown) => {
      log.fatal({ error: messageOf(error) }, `this JobManager ends: ${messageOf(error)}`);
      process.exit(EXIT_RESTART);
    });
    if (outcome.kind === 'failed') {
      throw new TriggerJobError(outcome.code, `the job failed: ${outcome.message}`);
    }
    await rest.answersRead();
  } finally {
    await rest.close();
  }
}

async function planOf(options: JobManagerRunOptions): Promise<JobPlan> {
  const { planJson, storeUrl, rpcPort, restPort } = options;
  const plan =
    planJson === undefined || planJson === null
      ? await loadPlan(options.planFile)
      : (JSON.parse(await readFile(planJson, 'utf8')) as JobPlan);
  return {
    ...plan,
    // The tasks open the store by what the plan says.
    checkpointing: {
      ...plan.checkpointing,
      directory: storeUrl ?? plan.checkpointing.directory,
    },
    rpc: { ...plan.rpc, port: rpcPort ?? plan.rpc.port },
    rest: { ...plan.rest, port: restPort ?? plan.rest.port },
  };
}

/** Loads the schema only when a file is read: a launcher hands the plan over resolved. */
async function loadPlan(planFile: string): Promise<JobPlan> {
  const { loadPlanFile } = await import('../plan/plan-file.ts');
  const { plan, faults } = await loadPlanFile(planFile);
  if (plan !== null) return plan;
  const lines = faults.map(
    (fault) => `${fault.line}:${fault.column} ${fault.path}: ${fault.message}`,
  );
  throw new TriggerJobError('PLAN_INVALID', `${planFile} is invalid:\n${lines.join('\n')}`);
}

async function loadScript(planFile: string): Promise<ScriptVersion> {
  return compiled((await loadPlan(planFile)).filter);
}

function compiled(filter: FilterPlan): ScriptVersion {
  const { version, language, script } = compileFilter(filter);
  return { version, language, text: script };
}

/** `origin` names a file unless the script lies in the TriggerJob itself. */
function scriptFilesOf({ origin }: FilterPlan): string[] {
  return origin.startsWith('spec.') ? [] : [origin];
}

function jobFolder(plan: JobPlan): string {
  const directory = plan.checkpointing.directory.replace(/\/+$/, '');
  return `${directory}/${plan.namespace}/${plan.name}`;
}

function parseFrom(from: string | null): StartFrom {
  if (from === null || from === 'earliest' || from === 'latest') return from;
  if (/^[1-9][0-9]*$/.test(from)) return Number(from);
  throw new TriggerJobError(
    'BAD_FROM',
    `--from ${from}: expected earliest, latest or a checkpoint id`,
  );
}

function phaseEvents(env: Env, log: Logger): PhaseHooks {
  return {
    async phase(name, checkpointId) {
      log.debug({ phase: name, checkpointId });
      await sleep(env, PHASE_DELAY_MS);
    },
  };
}
