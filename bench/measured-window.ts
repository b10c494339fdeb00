/**
 * The steady part of a run: all users are in state and the cache is as full as it gets. From there
 * on a window of whole checkpoint intervals, so that it bears exactly its share of checkpoints.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { CheckpointFigures, JobProcess, Status } from './job-process.ts';
import { cpuSeconds, machineBusySeconds, peakRssBytes } from './process-figures.ts';

const FILL_LIMIT_MS = 10 * 60_000;
const WARM_UP_LIMIT_MS = 2 * 60_000;
/** Of uniformly drawn users 1 in 22,000 has had no event then. */
const WARM_UP_EVENTS_PER_USER = 10;
const POLL_MS = 100;
/** With fewer records left the sources no longer run at full speed: the window ends before. */
const LEAST_LAG = 50_000;

export interface WindowFigures {
  seconds: number;
  events: number;
  matched: number;
  /** User + system of the TaskManager process. */
  cpuSeconds: number;
  /** CPU of each slot's thread. */
  threadSeconds: number[];
  brokerCpuSeconds: number;
  /** Share of the machine's cores that was busy with anything, and with other than this job. */
  machineBusy: number;
  checkpoints: number;
  /** The events ended before the window did. */
  short: boolean;
  hitShare: number;
  usersCached: number;
  users: number;
  peakRssBytes: number;
  last: Status;
}

interface Sample {
  at: number;
  status: Status;
  cpu: number;
  brokerCpu: number;
  machine: number;
}

interface WindowOptions {
  job: JobProcess;
  brokerPid: number;
  seconds: number;
}

/** Every user has had an event: their profiles are fetched, their state is made. */
export async function untilFilled(job: JobProcess, users: number): Promise<void> {
  const filled = (status: Status) => status.users >= users && status.parked === 0;
  await job.until(filled, FILL_LIMIT_MS, `${users} users are in state`);
}

/** The cache holds what it can hold, and the code is compiled. */
export async function untilWarm(job: JobProcess, users: number): Promise<void> {
  const events = users * WARM_UP_EVENTS_PER_USER;
  const warm = (status: Status) => status.processed >= events;
  await job.until(warm, WARM_UP_LIMIT_MS, `${events} events are processed`);
}

export async function measureWindow(options: WindowOptions): Promise<WindowFigures> {
  const { job, brokerPid, seconds } = options;
  const pid = (await job.status()).taskManagers[0]!.pid;
  const first = await nextSample(job, pid, brokerPid, -1);
  let last = first;
  let short = false;
  let checkpoints = 0;
  // A checkpoint that began in the window is in it to its end: none is measured by half.
  while (last.at - first.at < seconds * 1_000 || checkpoints === 0) {
    checkpoints = await completedSince(job, first.at);
    const sample = await nextSample(job, pid, brokerPid, last.status.processed);
    if (sample.status.lag !== null && sample.status.lag < LEAST_LAG) {
      short = true;
      break;
    }
    last = sample;
  }
  checkpoints = await completedSince(job, first.at);
  return figuresOf(first, last, { short, checkpoints, pid });
}

async function completedSince(job: JobProcess, since: number): Promise<number> {
  const isOurs = ({ trigger_timestamp: at, status }: CheckpointFigures) =>
    status === 'COMPLETED' && at >= since;
  return (await job.checkpoints()).filter(isOurs).length;
}

/** The next status whose counter has moved: counters come in steps, with the heartbeat. */
async function nextSample(
  job: JobProcess,
  pid: number,
  brokerPid: number,
  known: number,
): Promise<Sample> {
  let before = known;
  for (;;) {
    const status = await job.status();
    if (before === -1) before = status.processed;
    else if (status.processed !== before || status.lag === 0) {
      const cpu = cpuSeconds(pid);
      const brokerCpu = cpuSeconds(brokerPid);
      return { at: Date.now(), status, cpu, brokerCpu, machine: machineBusySeconds() };
    }
    await wait(POLL_MS);
  }
}

function figuresOf(
  first: Sample,
  last: Sample,
  more: { short: boolean; checkpoints: number; pid: number },
): WindowFigures {
  const seconds = (last.at - first.at) / 1_000;
  const sum = (status: Status, of: (subtask: Status['subtasks'][number]) => number) =>
    status.subtasks.reduce((total, subtask) => total + of(subtask), 0);
  const moved = (of: (subtask: Status['subtasks'][number]) => number) =>
    sum(last.status, of) - sum(first.status, of);
  const hits = moved(({ cacheHits }) => cacheHits);
  const misses = moved(({ cacheMisses }) => cacheMisses);
  return {
    seconds,
    events: last.status.processed - first.status.processed,
    matched: last.status.matched - first.status.matched,
    cpuSeconds: last.cpu - first.cpu,
    threadSeconds: last.status.subtasks.map(
      ({ cpuSeconds: thread }, i) => thread - first.status.subtasks[i]!.cpuSeconds,
    ),
    brokerCpuSeconds: last.brokerCpu - first.brokerCpu,
    machineBusy: last.machine - first.machine,
    checkpoints: more.checkpoints,
    short: more.short,
    hitShare: 1 - misses / Math.max(1, hits + misses),
    usersCached: sum(last.status, ({ usersCached }) => usersCached),
    users: last.status.users,
    peakRssBytes: peakRssBytes(more.pid),
    last: last.status,
  };
}
