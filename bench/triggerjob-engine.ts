/** TriggerJob under measurement: the processes of `triggerjob run`, seen by REST and fired log. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { isAlive } from '../e2e/testbed/end-process.ts';
import {
  CAUGHT_UP_WITHIN_MS,
  type Checkpoint,
  type Engine,
  type EngineRun,
  HEARTBEAT,
  type Launch,
  type Outcome,
  type Processes,
  type Progress,
  RESTART_DELAY_MS,
  type Recovery,
  SLOTS,
} from './engine.ts';
import { FiredLog, type FiredRow } from './fired-log.ts';
import { type JobSettings, jobFile } from './job-file.ts';
import { JobProcess } from './job-process.ts';
import { PARTITIONS } from './load-topic.ts';
import { RateBins } from './rate-bins.ts';
import type { Setting } from './settings.ts';

/** Elsewhere counters come with it: often. */
const COUNTING_HEARTBEAT_MS = 250;
const END_POLL_MS = 50;
/** In that of the run: what fired, as the black hole or the webhook's receiver saw it. */
export const FIRED_FOLDER = 'fired';

export const triggerjobEngine: Engine = {
  name: 'TriggerJob',
  async start(launch) {
    const { setting, folder, bootstrap, topic, service } = launch;
    const firedFolder = join(folder, FIRED_FOLDER);
    await mkdir(firedFolder);
    if (setting.webhook) await service.logPostsIn(firedFolder);
    const file = join(folder, 'job.yaml');
    const surroundings = { bootstrap, topic, serviceUrl: service.url };
    await writeFile(file, JSON.stringify(jobFile(settingsOf(launch), surroundings), null, 2));
    const { heavy } = setting;
    const job = await JobProcess.start(file, folder, {
      TRIGGERJOB_BENCH_BLACK_HOLE: setting.webhook ? '0' : '1',
      TRIGGERJOB_BENCH_SYNTHETIC: setting.httpProfiles ? '0' : '1',
      TRIGGERJOB_BENCH_FIRED: firedFolder,
      ...(heavy !== null && { TRIGGERJOB_BENCH_HEAVY: JSON.stringify(heavy) }),
    });
    const portFile = join(folder, 'state', 'jobmanager.json');
    const { pid: jobManager } = JSON.parse(await readFile(portFile, 'utf8')) as { pid: number };
    const taskManager = (await job.status()).taskManagers[0]!.pid;
    return new TriggerjobRun(job, { jobManager, taskManager }, new FiredLog(firedFolder));
  },
};

function settingsOf({ setting, checkpointIntervalMs }: Launch): JobSettings {
  const { slotCache, webhook, script, historyMaxEvents } = setting;
  const processMebibytes = setting.ownMebibytes ?? setting.processMebibytes;
  return {
    slots: SLOTS,
    checkpointInterval: `${checkpointIntervalMs}ms`,
    action: webhook ? 'webhook' : 'blackhole',
    script,
    ...(historyMaxEvents !== null && { historyMaxEvents }),
    spec: {
      heartbeat: heartbeatOf(setting),
      restartStrategy: {
        type: 'fixed-delay',
        fixedDelay: { attempts: 100, delay: `${RESTART_DELAY_MS}ms` },
      },
      taskManager: {
        slots: SLOTS,
        ...(slotCache !== null && { memory: { slotCache } }),
        resources: { limits: { memory: `${processMebibytes}Mi` } },
      },
    },
  };
}

function heartbeatOf({ killAtEventsPerSecond }: Setting): object {
  const killed = killAtEventsPerSecond !== null;
  const intervalMs = killed ? HEARTBEAT.intervalMs : COUNTING_HEARTBEAT_MS;
  return { interval: `${intervalMs}ms`, timeout: `${HEARTBEAT.timeoutMs}ms` };
}

class TriggerjobRun implements EngineRun {
  readonly startedAt: number;
  /** Of the events that fired: 1 in 25, at moments that no status has waited for. */
  readonly handled = new RateBins();
  readonly #job: JobProcess;
  #seen: Processes;
  /** Of the black hole, or of the webhook's receiver. */
  readonly #fired: FiredLog;
  #killed: { at: number; pid: number } | null = null;
  #firstAfterKill: number | null = null;
  readonly #caughtUp = new Map<number, number>();

  constructor(job: JobProcess, processes: Processes, fired: FiredLog) {
    this.startedAt = job.startedAt;
    this.#job = job;
    this.#seen = processes;
    this.#fired = fired;
  }

  async progress(): Promise<Progress | null> {
    if (this.#job.hasEnded) throw new Error('triggerjob run ended');
    // A busy machine may keep one request waiting for too long: the next one tells.
    const status = await this.#job.status().catch(() => null);
    if (status === null) return null;
    if (status.restarts > 0 && this.#killed === null) {
      throw new Error(`the job restarted: ${status.failure}`);
    }
    return { at: Date.now(), processed: status.processed };
  }

  async firstRecordAt(): Promise<number | null> {
    this.#readFired();
    return this.#fired.firstAt;
  }

  async processes(): Promise<Processes> {
    const { taskManagers } = await this.#job.status();
    const taskManager = taskManagers.find(({ pid }) => pid !== this.#killed?.pid)?.pid;
    if (taskManager === undefined) throw new Error('there is no TaskManager now');
    this.#seen = { ...this.#seen, taskManager };
    return this.#seen;
  }

  async checkpoints(): Promise<Checkpoint[]> {
    const done = (await this.#job.checkpoints()).filter(({ status }) => status === 'COMPLETED');
    return done.map((one) => ({
      triggeredAt: one.trigger_timestamp,
      durationMs: one.end_to_end_duration,
      uploadedBytes: one.checkpointed_size,
    }));
  }

  async pauseP99Ms(): Promise<number | null> {
    const measured = (await this.#job.status()).subtasks.filter(({ pauseCount }) => pauseCount > 0);
    if (measured.length === 0) return null;
    return Math.max(...measured.map(({ pauseP99Ms }) => pauseP99Ms));
  }

  async outcome(): Promise<Outcome> {
    const { processed, lag, parked, outbox } = await this.#job.status();
    this.#readFired();
    const { fired, firedSum, repeated } = this.#fired.ids;
    const faults = lag === 0 && parked === 0 && outbox === 0 ? [] : ['not all is done'];
    if (repeated > 0 && this.#killed === null) {
      faults.push(`${repeated} fired twice, though nothing failed`);
    }
    const events = this.#killed === null ? processed : null;
    return { events, fired, firedSum, faults };
  }

  async killTaskManager(): Promise<number> {
    const { taskManager } = await this.processes();
    this.#readFired();
    this.#killed = { at: Date.now(), pid: taskManager };
    process.kill(taskManager, 'SIGKILL');
    return this.#killed.at;
  }

  async recovery(): Promise<Recovery | null> {
    this.#readFired();
    if (this.#killed === null || this.#firstAfterKill === null) return null;
    if (this.#caughtUp.size < PARTITIONS) return null;
    return {
      firstRecordMs: this.#firstAfterKill - this.#killed.at,
      caughtUpMs: Math.max(...this.#caughtUp.values()) - this.#killed.at,
    };
  }

  /** Resolves when all of its processes are gone: the next run has the machine for itself. */
  async end(): Promise<void> {
    const { jobManager, taskManager } = this.#seen;
    await this.#job.end();
    while ([jobManager, taskManager].some(isAlive)) await wait(END_POLL_MS);
  }

  #readFired(): void {
    this.#fired.read((row) => this.#take(row));
  }

  #take({ pid, at, timestamp, partition }: FiredRow): void {
    this.handled.add(at, at, 1);
    if (this.#killed === null || pid === this.#killed.pid) return;
    this.#firstAfterKill = Math.min(at, this.#firstAfterKill ?? at);
    const isNew = at - timestamp < CAUGHT_UP_WITHIN_MS;
    if (isNew && !this.#caughtUp.has(partition)) this.#caughtUp.set(partition, at);
  }
}
