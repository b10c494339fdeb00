/**
 * `npm run bench -- recovery-1g`: what users see when something fails, at 1 GB of state over three
 * TaskManagers, checkpoints in a real S3 server, a steady stream of which 1 % of the users are
 * touched in each checkpoint interval. After the state is filled: checkpoints alone, changes of the
 * leader, rescales, and SIGKILLs of TaskManagers (last: no leader adopts tasks of several
 * attempts). Figures are taken from the moments at which the slot threads handled each event, and
 * compared with as long a time in which nothing failed.
 *
 *   --users N --parallelism N --slots N (of each TaskManager) --kills N --failover region|full
 *   --phases checkpoints,leader,rescale,kills
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { leaderOf, settled, until } from '../e2e/exactly-once/leaders.ts';
import { run as triggerjob } from '../e2e/testbed/command.ts';
import { type S3Server, startS3 } from '../e2e/testbed/s3.ts';
import { Bed } from './bed.ts';
import type { CheckpointFigures, JobProcess, Status } from './job-process.ts';
import { PacedStream } from './paced-stream.ts';
import {
  type Act,
  checkpointFigures,
  killFigures,
  leaderFigures,
  rescaleFigures,
} from './recovery-figures.ts';
import { type Figure, printFigures, printStep } from './report.ts';
import { readTimes } from './slot-times.ts';

const TASK_MANAGERS = 3;
const PARTITIONS = 6;
const EVENTS_PER_SECOND = 900;
const INTERVAL_MS = 3_000;
const TOUCHED_SHARE = 0.01;
const CHECKPOINTS_MS = 75_000;
/** Before and after an act: what is compared. */
const WINDOW_MS = 5_000;
const STEP_LIMIT_MS = 120_000;
const FILL_LIMIT_MS = 10 * 60_000;
const LEASE_MS = 5_000;
const LEADER_CHANGES = 2;

const { values } = parseArgs({
  options: {
    users: { type: 'string', default: '62500' },
    parallelism: { type: 'string', default: '6' },
    slots: { type: 'string', default: '2' },
    kills: { type: 'string', default: '10' },
    failover: { type: 'string', default: 'region' },
    phases: { type: 'string', default: 'checkpoints,leader,rescale,kills' },
  },
});
const USERS = Number(values.users);
const PARALLELISM = Number(values.parallelism);

interface Run {
  bed: Bed;
  job: JobProcess;
  timesFolder: string;
}

async function startJob(bed: Bed, s3: S3Server, timesFolder: string): Promise<JobProcess> {
  const directory = `s3://${s3.bucket}/bench/`;
  const { endpoint, accessKeyFile, secretKeyFile } = s3;
  const processes = ['--task-managers', TASK_MANAGERS, '--job-managers', 2].map(String);
  return await bed.startJob({
    slots: PARALLELISM,
    checkpointInterval: `${INTERVAL_MS}ms`,
    action: 'blackhole',
    timesFolder,
    script: 'true',
    run: [...processes, '--store', directory],
    spec: {
      checkpointing: {
        interval: `${INTERVAL_MS}ms`,
        minPause: '0s',
        directory,
        s3: { endpoint, accessKeyFile, secretKeyFile },
      },
      restartStrategy: {
        type: 'fixed-delay',
        fixedDelay: { attempts: 1_000, delay: '100ms' },
        failover: values.failover,
      },
      scaling: { minInterval: '0s', stabilization: '500ms' },
      jobManager: {
        leaderElection: { lease: `${LEASE_MS}ms`, renewDeadline: '3500ms', retryPeriod: '500ms' },
      },
      taskManager: {
        slots: Number(values.slots),
        resources: { limits: { memory: '2Gi' } },
      },
    },
  });
}

/** All tasks run, on three TaskManagers, and the sources have nothing left behind. */
function isWhole(status: Status, parallelism = PARALLELISM): boolean {
  return (
    status.state === 'RUNNING' &&
    !status.replacements.running &&
    status.taskManagers.length === TASK_MANAGERS &&
    status.subtasks.length === parallelism &&
    (status.lag ?? EVENTS_PER_SECOND) < EVENTS_PER_SECOND
  );
}

/** A checkpoint that began after `since` completed, and the window after the act is over. */
async function calm({ job }: Run, since: number): Promise<void> {
  await until('a checkpoint', async () => {
    const done = await job.checkpoints().catch((): CheckpointFigures[] => []);
    return done.some(({ status, trigger_timestamp: at }) => status === 'COMPLETED' && at > since)
      ? true
      : null;
  });
  await wait(WINDOW_MS + 500);
}

async function checkpoints({ job }: Run): Promise<CheckpointFigures[]> {
  const from = Date.now();
  await wait(CHECKPOINTS_MS);
  const history = await job.checkpoints();
  return history.filter(({ trigger_timestamp: at }) => at >= from);
}

async function kills(run: Run): Promise<Act[]> {
  const acts: Act[] = [];
  for (let index = 0; index < Number(values.kills); index += 1) {
    const { taskManagers, tasks } = await run.job.until(isWhole, STEP_LIMIT_MS, 'whole', true);
    await calm(run, Date.now());
    const victim = taskManagers[index % taskManagers.length]!;
    const lost = tasks.filter(({ taskManagerId }) => taskManagerId === victim.id).length;
    const at = Date.now();
    process.kill(victim.pid, 'SIGKILL');
    await wait(1_000);
    const after = await run.job.until(isWhole, STEP_LIMIT_MS, 'it is whole again', true);
    const newest = Math.max(...after.subtasks.map(({ attempt }) => attempt));
    const restored = after.subtasks.filter(({ attempt }) => attempt === newest);
    const restoreMs = Math.max(...restored.map((one) => one.restoreMs));
    const { replacements, restarts } = after;
    printStep(
      `kill ${index + 1}: ${lost} subtasks, restored in ${Math.round(restoreMs)} ms; ` +
        `replaced alone ${replacements.done} times, given up ${replacements.givenUp} times, ` +
        `restarts ${restarts}`,
    );
    acts.push({ at, pid: victim.pid, lost, tookMs: 0, kind: 'kill' });
  }
  await calm(run, Date.now());
  return acts;
}

async function leaderChanges(run: Run): Promise<Act[]> {
  const acts: Act[] = [];
  const place = { pipeline: { stateDir: join(run.bed.folder, 'state') } };
  for (let index = 0; index < 2 * LEADER_CHANGES; index += 1) {
    await run.job.until(isWhole, STEP_LIMIT_MS, 'whole', true);
    const before = await settled(place);
    await calm(run, Date.now());
    const kind = index % 2 === 0 ? 'leader killed' : 'leader released';
    const at = Date.now();
    process.kill(before.pid, kind === 'leader killed' ? 'SIGKILL' : 'SIGTERM');
    await until('another leader', async () => {
      const next = await leaderOf(place);
      return next !== null && next.epoch > before.epoch ? next : null;
    });
    const tookMs = Date.now() - at;
    printStep(`${kind}: another one in charge after ${tookMs} ms`);
    acts.push({ at, pid: before.pid, lost: 0, tookMs, kind });
  }
  await calm(run, Date.now());
  return acts;
}

async function rescales(run: Run): Promise<Act[]> {
  const acts: Act[] = [];
  for (const parallelism of [PARALLELISM - 2, PARALLELISM]) {
    await calm(run, Date.now());
    const at = Date.now();
    const asked = ['rescale', '--parallelism', String(parallelism), '--rest', run.job.rest];
    const { code, output } = await triggerjob(...asked);
    if (code !== 0) throw new Error(`triggerjob ${asked.join(' ')}: ${output}`);
    const whole = (status: Status) => isWhole(status, parallelism);
    await run.job.until(whole, STEP_LIMIT_MS, `${parallelism} subtasks`, true);
    acts.push({ at, pid: 0, lost: parallelism, tookMs: Date.now() - at, kind: 'rescale' });
  }
  await calm(run, Date.now());
  return acts;
}

async function figuresOf(phase: string, run: Run): Promise<Figure[]> {
  switch (phase) {
    case 'checkpoints':
      return checkpointFigures(await checkpoints(run));
    case 'leader':
      return leaderFigures(
        await leaderChanges(run),
        readTimes(run.timesFolder),
        WINDOW_MS,
        LEASE_MS,
      );
    case 'rescale':
      return rescaleFigures(await rescales(run), readTimes(run.timesFolder), WINDOW_MS);
    case 'kills':
      return killFigures(await kills(run), readTimes(run.timesFolder), WINDOW_MS);
    default:
      throw new Error(`--phases has "${phase}"`);
  }
}

async function main(): Promise<void> {
  const bed = await Bed.open(USERS, PARTITIONS);
  const s3 = await startS3();
  try {
    const timesFolder = join(bed.folder, 'times');
    mkdirSync(timesFolder);
    await bed.loader.load(USERS);
    const job = await startJob(bed, s3, timesFolder);
    await job.until(({ users }) => users >= USERS, FILL_LIMIT_MS, 'the state is filled');
    const { state_size: bytes } = await job.checkpoint();
    printStep(`${USERS} users in state, a checkpoint holds ${Math.round(bytes / 1024 ** 2)} MiB`);
    const touched = Math.round(USERS * TOUCHED_SHARE);
    const pace = { eventsPerSecond: EVENTS_PER_SECOND, intervalMs: INTERVAL_MS, touched };
    const stream = new PacedStream(bed.loader, pace);
    const run: Run = { bed, job, timesFolder };
    await wait(WINDOW_MS);
    for (const phase of values.phases.split(',')) {
      // At once: what was measured is not lost with a later phase.
      printFigures(await figuresOf(phase, run));
    }
    await stream.stop();
  } finally {
    await bed.close();
    await s3.stop();
  }
}

// What was started ends on 'exit', which a signal alone does not cause.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
await main();
process.exit(0);
