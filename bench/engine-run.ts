/**
 * One measured run of one engine: start, fill (each user's first event), the measured window, the
 * end of the topic, the check of the results. Or, where a TaskManager is killed: start, fill, a
 * steady stream, a checkpoint, SIGKILL, until it has caught up, the check.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { Expected } from './dataset.ts';
import type { Engine, EngineRun, Launch, Processes } from './engine.ts';
import type { TopicLoader } from './load-topic.ts';
import { PacedStream } from './paced-stream.ts';
import { cpuSeconds, peakRssBytes } from './process-figures.ts';
import { quantile } from './quantile.ts';

const POLL_MS = 100;
/** What is timed by it is seen in files that tell moments: it bounds nothing that is printed. */
const RECOVERY_POLL_MS = 50;
const STALLED_AFTER_MS = 180_000;
/** A JVM without memory goes on for hours, a little at a time. */
const RUN_LIMIT_MS = 20 * 60_000;
/** Of the measured events: the cache is as full as it gets, and the code is compiled. */
const WINDOW = { from: 0.1, to: 0.95 };
/** In which the same users have events: all of them in turn. */
const PACED_INTERVAL_MS = 10_000;
/** From a checkpoint's end to the kill: what has to be processed again on both sides. */
const KILL_AFTER_CHECKPOINT_MS = 3_000;
const MEBIBYTE = 1024 ** 2;

/** NaN: not measured in this run. */
export interface RunFigures {
  startUpSeconds: number;
  fillSeconds: number;
  eventsPerSecond: number;
  /** User + system of JobManager and TaskManager. */
  eventsPerCpuSecond: number;
  /** Peaks of both processes, added up. */
  rssMebibytes: number;
  checkpoints: number;
  checkpointP50Ms: number;
  checkpointP99Ms: number;
  checkpointMebibytes: number;
  pauseP99Ms: number;
  firstRecordSeconds: number;
  caughtUpSeconds: number;
  /** What is wrong with the results, or why the run ended early; null: they are right. */
  wrong: string | null;
}

/** Of a run that did not come so far as to measure anything. */
export const NO_FIGURES: RunFigures = {
  startUpSeconds: Number.NaN,
  fillSeconds: Number.NaN,
  eventsPerSecond: Number.NaN,
  eventsPerCpuSecond: Number.NaN,
  rssMebibytes: Number.NaN,
  checkpoints: 0,
  checkpointP50Ms: Number.NaN,
  checkpointP99Ms: Number.NaN,
  checkpointMebibytes: Number.NaN,
  pauseP99Ms: Number.NaN,
  firstRecordSeconds: Number.NaN,
  caughtUpSeconds: Number.NaN,
  wrong: null,
};

/** What a run needs of its topic: what lies in it, and for r to write on. */
type Topic = Pick<TopicLoader, 'expected' | 'write'>;

interface Sample {
  at: number;
  processed: number;
  cpuSeconds: number;
}

/** Never rejects for what the engine does: then `wrong` says it. */
export async function measureRun(
  engine: Engine,
  launch: Launch,
  topic: Topic,
): Promise<RunFigures> {
  if (launch.setting.webhook) await launch.service.reset();
  let run: EngineRun | null = null;
  const figures = { ...NO_FIGURES };
  try {
    run = await engine.start(launch);
    const measured = new MeasuredRun(run, launch, topic, figures);
    await measured.measure();
  } catch (error) {
    figures.wrong = String(error);
  } finally {
    await run?.end();
  }
  return figures;
}

class MeasuredRun {
  readonly #run: EngineRun;
  readonly #launch: Launch;
  readonly #topic: Topic;
  readonly #figures: RunFigures;

  constructor(run: EngineRun, launch: Launch, topic: Topic, figures: RunFigures) {
    this.#run = run;
    this.#launch = launch;
    this.#topic = topic;
    this.#figures = figures;
  }

  async measure(): Promise<void> {
    const { users, events, killAtEventsPerSecond } = this.#launch.setting;
    const firstAt = await this.#firstRecord();
    this.#figures.startUpSeconds = (firstAt - this.#run.startedAt) / 1_000;
    const begun = await this.#reach(1);
    if (events === 0 && killAtEventsPerSecond === null) {
      await this.#window(users * (1 - WINDOW.to), users * WINDOW.to, begun);
    }
    const filled = await this.#reach(users);
    this.#figures.fillSeconds = (filled.at - firstAt) / 1_000;
    if (events > 0) {
      await this.#window(users + events * WINDOW.from, users + events * WINDOW.to, filled);
    }
    if (killAtEventsPerSecond !== null) await this.#kill(killAtEventsPerSecond);
    this.#figures.wrong = await this.#results();
    await this.#checkpoints(events > 0 ? filled.at : firstAt);
    this.#figures.pauseP99Ms = (await this.#run.pauseP99Ms()) ?? Number.NaN;
    const { jobManager, taskManager } = await this.#run.processes();
    this.#figures.rssMebibytes = (peakRssBytes(jobManager) + peakRssBytes(taskManager)) / MEBIBYTE;
  }

  async #firstRecord(): Promise<number> {
    for (const deadline = Date.now() + STALLED_AFTER_MS; ; await wait(POLL_MS)) {
      const at = await this.#run.firstRecordAt();
      if (at !== null) return at;
      await this.#run.progress();
      if (Date.now() > deadline) throw new Error('no record came');
    }
  }

  /** The first look at the counter that finds so many events. */
  async #reach(target: number): Promise<Sample> {
    let seen = -1;
    for (let deadline = Date.now() + STALLED_AFTER_MS; ; await wait(POLL_MS)) {
      const progress = await this.#run.progress();
      const processed = progress?.processed ?? seen;
      if (progress !== null && processed >= target) {
        return { ...progress, cpuSeconds: cpuOf(await this.#run.processes()) };
      }
      if (processed > seen) deadline = Date.now() + STALLED_AFTER_MS;
      seen = processed;
      const isLate = Date.now() > this.#run.startedAt + RUN_LIMIT_MS;
      if (!isLate && Date.now() < deadline) continue;
      throw new Error(`stalled at ${seen} of ${target} events`);
    }
  }

  /** `before` stands in for the beginning if both ends are seen at one look: tiny settings. */
  async #window(from: number, to: number, before: Sample): Promise<void> {
    const first = await this.#reach(from);
    const last = await this.#reach(to);
    const start = last.processed > first.processed ? first : before;
    const events = last.processed - start.processed;
    if (events === 0) return;
    const used = last.cpuSeconds - start.cpuSeconds;
    this.#figures.eventsPerSecond = (events * 1_000) / (last.at - start.at);
    if (used > 0) this.#figures.eventsPerCpuSecond = events / used;
  }

  async #kill(eventsPerSecond: number): Promise<void> {
    const { users } = this.#launch.setting;
    const since = Date.now();
    const pace = { eventsPerSecond, intervalMs: PACED_INTERVAL_MS, touched: users };
    const stream = new PacedStream(this.#topic, pace);
    try {
      await this.#until('a checkpoint', async () => {
        const all = await this.#run.checkpoints();
        return all.find(({ triggeredAt }) => triggeredAt > since) ?? null;
      });
      await wait(KILL_AFTER_CHECKPOINT_MS);
      await this.#run.killTaskManager();
      const recovery = await this.#until('the recovery', async () => this.#run.recovery());
      this.#figures.firstRecordSeconds = recovery.firstRecordMs / 1_000;
      this.#figures.caughtUpSeconds = recovery.caughtUpMs / 1_000;
    } finally {
      await stream.stop();
    }
  }

  async #until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
    for (const deadline = Date.now() + STALLED_AFTER_MS; ; await wait(RECOVERY_POLL_MS)) {
      // The REST API may be busy with a restart.
      const found = await look().catch(() => null);
      if (found !== null) return found;
      if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    }
  }

  /** Waits until they are right; what they are, if they stay wrong. */
  async #results(): Promise<string | null> {
    const { expected } = this.#topic;
    let last = '';
    for (let deadline = Date.now() + STALLED_AFTER_MS; ; await wait(POLL_MS)) {
      const { events, fired, firedSum, faults } = await this.#run.outcome();
      const found: Expected = { events: events ?? expected.events, fired, firedSum };
      const text = JSON.stringify(found);
      if (text === JSON.stringify(expected) && faults.length === 0) return null;
      if (text !== last) deadline = Date.now() + STALLED_AFTER_MS;
      last = text;
      if (Date.now() < deadline) continue;
      return [`found ${text}, expected ${JSON.stringify(expected)}`, ...faults].join('; ');
    }
  }

  async #checkpoints(since: number): Promise<void> {
    const all = await this.#run.checkpoints();
    const counted = all.filter(({ triggeredAt }) => triggeredAt >= since);
    const took = counted.map(({ durationMs }) => durationMs);
    const bytes = counted.reduce((sum, { uploadedBytes }) => sum + uploadedBytes, 0);
    this.#figures.checkpoints = counted.length;
    this.#figures.checkpointP50Ms = quantile(took, 0.5);
    this.#figures.checkpointP99Ms = quantile(took, 0.99);
    this.#figures.checkpointMebibytes = bytes / MEBIBYTE / counted.length;
  }
}

function cpuOf({ jobManager, taskManager }: Processes): number {
  return cpuSeconds(jobManager) + cpuSeconds(taskManager);
}
