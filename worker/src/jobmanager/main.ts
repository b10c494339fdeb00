/**
 * The `jobmanager` role: one process, one job. Signals, port file, exit code; no logic of the job.
 */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import type { Logger } from 'pino';
import { openStore } from '../checkpoint/open-store.ts';
import type { RunClaim } from '../checkpoint/run-claim.ts';
import type { RunStart } from '../checkpoint/snapshot.ts';
import { compileFilter } from '../filter/compile.ts';
import type { FilterPlan, JobPlan } from '../plan/job-plan.ts';
import { scriptVersion } from '../plan/script-version.ts';
import { RestTokens } from '../rest/rest-tokens.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import { keysFor } from '../rpc/transport-secret.ts';
import { type Env, realEnv, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { createLog } from '../runtime/log.ts';
import { LogTail } from '../runtime/log-tail.ts';
import { createSplitEnumerator, loadSource } from '../source/open.ts';
import type { PhaseHooks } from './checkpoint-driver.ts';
import { startJobManager } from './jobmanager.ts';
import type { Leases } from './kube-leases.ts';
import { ScriptRefused } from './script-watch.ts';
import { Seat, type SeatDeps } from './seat.ts';
import type { StartFrom } from './start-point.ts';

/**
 * Another leader took over, the lease was not renewed, this one was released, or whether a record
 * was written can't be known: start me again.
 */
const EXIT_RESTART = 5;
/** How long a phase stands still for a test's killer (TRIGGERJOB_PHASE_EVENTS). */
const PHASE_DELAY_MS = 150;

/** Where the kubelet puts what a pod shows the API server. */
const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

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
  /** How TaskManagers and clients reach this process, where it listens on every address. */
  advertiseHost?: string | null;
  /**
   * `release`: SIGTERM ends this leader alone, as a rolling restart wants; the tasks go on under
   * the next one. SIGINT stops the job in any case.
   */
  onSigterm?: 'stop-job' | 'release';
  /** `stay`: a job that has ended is shown by REST until a signal comes; only with `run`. */
  onEnd?: 'exit' | 'stay';
  /** The operator's count of deployments (checkpoint/log.ts), and what this one begins with. */
  run?: number | null;
  start?: RunStart | null;
  /** Of the run's TriggerJob, ms; and whether no run before it has stored anything (RunClaim). */
  jobCreatedAt?: number | null;
  first?: boolean;
  /** Tokens of REST clients that may change something, one a line. */
  restTokenFile?: string | null;
  /** Name of the Lease by which the leader is elected, in the job's namespace; null = the store. */
  lease?: string | null;
  /** uid of the TriggerJob that the Lease goes with; null = it stays. */
  leaseOwner?: string | null;
}

/**
 * Stands by where there are several, then leads until the job ends or a signal stops it with a
 * final checkpoint. Rejects when it can't start, and with the job's own verdict when it failed:
 * starting it again would end the same way. Ends the process with 5 when only this leader has to go
 * (P39: at once, nothing is closed in order).
 */
export async function runJobManager(options: JobManagerRunOptions): Promise<void> {
  const env = realEnv;
  const phases = process.env['TRIGGERJOB_PHASE_EVENTS'] === '1';
  const tail = new LogTail(env, 'jobmanager', process.env['TRIGGERJOB_LOG_FILE'] ?? null);
  const plan = await planOf(options);
  const log = createLog('jobmanager', {
    level: phases ? 'debug' : (process.env['TRIGGERJOB_LOG_LEVEL'] ?? 'info'),
    job: `${plan.namespace}/${plan.name}`,
    tail,
  });
  const { s3 } = plan.checkpointing;
  // Also what refuses several JobManagers on a store that can't decide between them (P44).
  const store = await openStore(jobFolder(plan), env, { s3 });
  const openOther: SeatDeps['openStore'] = (url, how) => openStore(url, env, { s3, ...how });
  const { portFile = null, onSigterm = 'stop-job', onEnd = 'exit' } = options;
  const run = runOf(options);
  const ownLog = () => tail.read();
  const more = { openStore: openOther, run, ownLog };
  const seat = await openSeat(options, { env, log, plan, store, ...more });
  // Installed before anyone can know this process: a signal from here on is a stop, never a kill.
  const stop = () => seat.stopJob();
  const leave = () => (onSigterm === 'release' ? seat.release() : seat.stopJob());
  process.on('SIGTERM', leave);
  process.on('SIGINT', stop);
  const listens = () => listening(log, seat, portFile);
  try {
    const waits = plan.jobManagers > 1 || options.lease != null;
    if (waits) {
      await listens();
      await loadSource(plan.source);
    }
    const end = await seat.hold(async ({ followed, ...claim }) => {
      const manager = await startJobManager({
        ...claim,
        plan,
        watchFiles: [options.planFile, ...scriptFilesOf(plan.filter, options.planFile)],
        loadScript: () => loadScript(options),
        script: compiled(plan.filter),
        env,
        log,
        store,
        openStore: openOther,
        openEnumerator: (source, known) => createSplitEnumerator(source, env, { known }),
        // Asked for once: a later leader goes on with what the first one did.
        from: followed ? null : parseFrom(options.from ?? null),
        run,
        writer: `${hostname()}/${process.pid}`,
        ...(phases ? { hooks: phaseEvents(env, log) } : {}),
      });
      if (!waits) await listens();
      return manager;
    });
    const over = end.kind !== 'released' && end.kind !== 'left';
    if (over && onEnd === 'stay') {
      if ((await seat.stay()) === 'superseded') process.exit(EXIT_RESTART);
      return;
    }
    if (end.kind === 'failed') {
      throw new TriggerJobError(end.code, `the job failed: ${end.message}`);
    }
    // At once: what is closed in order tells the tasks that the job is over.
    const leaves = end.kind === 'released' || (end.kind === 'left' && onSigterm === 'release');
    if (leaves) process.exit(EXIT_RESTART);
  } finally {
    process.off('SIGTERM', leave);
    process.off('SIGINT', stop);
    await seat.close();
  }
}

async function openSeat(
  options: JobManagerRunOptions,
  parts: Pick<SeatDeps, 'env' | 'log' | 'plan' | 'store' | 'openStore' | 'run' | 'ownLog'>,
): Promise<Seat> {
  const { env, log, plan } = parts;
  const { secretFile = null, restTokenFile = null, lease = null, advertiseHost = null } = options;
  const { leaseOwner = null } = options;
  const onFault = (fault: string) => log.warn(fault);
  return Seat.open({
    ...parts,
    keys: keysFor(plan.internalTls, secretFile, env, onFault),
    advertiseHost,
    leases: lease === null ? null : await leasesOf(plan, lease, leaseOwner, env),
    restTokens: restTokenFile === null ? null : new RestTokens(restTokenFile, env, onFault),
    onFatal: (error) => {
      log.fatal({ error: messageOf(error) }, `this JobManager ends: ${messageOf(error)}`);
      process.exit(EXIT_RESTART);
    },
  });
}

function runOf(options: JobManagerRunOptions): RunClaim | null {
  const { run = null, start = null, onEnd, jobCreatedAt, first = false } = options;
  if (run !== null) return { number: run, start, jobCreatedAt: jobCreatedAt ?? 0, first };
  if (start === null && onEnd !== 'stay') return null;
  throw new TriggerJobError(
    'RUN_MISSING',
    '--start, --restore-savepoint and --on-end stay mean something only with --run: give it',
  );
}

/** Loaded only in a cluster, like the API server's address. */
async function leasesOf(
  plan: JobPlan,
  name: string,
  ownerUid: string | null,
  env: Env,
): Promise<Leases> {
  const { apiServerOf, KubeLeases } = await import('./kube-leases.ts');
  const url = apiServerOf(process.env);
  if (url === null) {
    const text =
      '--leader-election kubernetes, but KUBERNETES_SERVICE_HOST is not set: run in a pod';
    throw new TriggerJobError('NOT_IN_A_CLUSTER', text);
  }
  return new KubeLeases({
    env,
    url,
    namespace: plan.namespace,
    name,
    owner: ownerUid === null ? null : { name: plan.name, uid: ownerUid },
    // Room for two more tries before the lease is lost.
    timeoutMs: Math.ceil(plan.leaderElection.renewDeadlineMs / 3),
    serviceAccountDir: process.env['TRIGGERJOB_SERVICE_ACCOUNT_DIR'] ?? SERVICE_ACCOUNT_DIR,
  });
}

async function listening(log: Logger, seat: Seat, portFile: string | null): Promise<void> {
  log.info(seat.ports, 'the JobManager listens');
  if (portFile === null) return;
  // A reader must never see half of it.
  await writeFile(`${portFile}.tmp`, JSON.stringify({ ...seat.ports, pid: process.pid }));
  await rename(`${portFile}.tmp`, portFile);
}

async function planOf(options: JobManagerRunOptions): Promise<JobPlan> {
  const { planJson, storeUrl, rpcPort, restPort } = options;
  const plan =
    planJson === undefined || planJson === null
      ? await loadPlan(options)
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

/**
 * Loads the schema only when a file is read: a launcher hands the plan over resolved. Who does not
 * is the operator: then the file is read as a cluster does, which has no directories of its own.
 */
async function loadPlan({ planFile, planJson }: JobManagerRunOptions): Promise<JobPlan> {
  const { loadPlanFile } = await import('../plan/plan-file.ts');
  const inCluster = planJson === undefined || planJson === null;
  const { plan, faults } = await loadPlanFile(planFile, inCluster ? { stateDir: null } : {});
  if (plan !== null) return plan;
  const lines = faults.map(
    (fault) => `${fault.line}:${fault.column} ${fault.path}: ${fault.message}`,
  );
  throw new TriggerJobError('PLAN_INVALID', `${planFile} is invalid:\n${lines.join('\n')}`);
}

async function loadScript(options: JobManagerRunOptions): Promise<ScriptVersion> {
  const { filter } = await loadPlan(options);
  try {
    return compiled(filter);
  } catch (error) {
    throw new ScriptRefused(scriptVersion(filter.language, filter.script), error);
  }
}

function compiled(filter: FilterPlan): ScriptVersion {
  const { version, language, script } = compileFilter(filter);
  return { version, language, text: script };
}

/** Where the script lies that is not in the job's own file; a relative path starts beside that. */
function scriptFilesOf({ origin }: FilterPlan, planFile: string): string[] {
  const within = origin.startsWith('spec.') || origin.startsWith('ConfigMap ');
  return within ? [] : [resolve(dirname(planFile), origin)];
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
