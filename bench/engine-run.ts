/**
 * One measured run of one engine: start, fill (each user's first event), the measured window, the
 * end of the topic, the check of the results. Or, where a TaskManager is killed: start, fill, a
 * steady stream, a checkpoint, SIGKILL, until it has caught up, the check.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { Engine, EngineRun, Launch } from './engine.ts';
import { firstRecord, lookUntil, reach, type Sample, untilRight } from './engine-waits.ts';
import type { TopicLoader } from './load-topic.ts';
import { PacedStream } from './paced-stream.ts';
import { peakRssBytes } from './process-figures.ts';
import { quantile } from './quantile.ts';
import type { Span } from './rate-bins.ts';

/**
 * Of the measured events. From `from` on the cache is as full as it gets and the code is compiled,
 * but the fill's state may still be on its way into a checkpoint: what that costs belongs to the
 * fill. `latest`: an engine whose checkpoint takes that long is measured with it.
 */
const WINDOW = { from: 0.1, latest: 0.5, to: 0.95 };
/** In which the same users have events: all of them in turn. */
const PACED_INTERVAL_MS = 10_000;
/** From a checkpoint's end to the kill: what has to be processed again on both sides. */
const KILL_AFTER_CHECKPOINT_MS = 3_000;
/** At most: by the last look at it, the engine may be at the end of the topic. */
const COUNTER_AGE_MS = 1_000;
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
  /** Median rate while a checkpoint was under way, below that outside of it. */
  dipPercent: number;
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
  dipPercent: Number.NaN,
  firstRecordSeconds: Number.NaN,
  caughtUpSeconds: Number.NaN,
  wrong: null,
};

/** What a run needs of its topic: what lies in it, and for r to write on. */
type Topic = Pick<TopicLoader, 'expected' | 'write'>;

/** Never rejects for what the engine does: then `wrong` says it. */
export async function measureRun(
  engine: Engine,
  launch: Launch,
  topic: Topic,
): Promise<RunFigures> {
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
  #measured: Span | null = null;

  constructor(run: EngineRun, launch: Launch, topic: Topic, figures: RunFigures) {
    this.#run = run;
    this.#launch = launch;
    this.#topic = topic;
    this.#figures = figures;
  }

  async measure(): Promise<void> {
    const { users, events, killAtEventsPerSecond } = this.#launch.setting;
    const firstAt = await firstRecord(this.#run);
    this.#figures.startUpSeconds = (firstAt - this.#run.startedAt) / 1_000;
    const begun = await reach(this.#run, 1);
    if (events === 0 && killAtEventsPerSecond === null) {
      const first = await reach(this.#run, users * (1 - WINDOW.to));
      await this.#window(first, users * WINDOW.to, begun);
    }
    const filled = await reach(this.#run, users);
    this.#figures.fillSeconds = (filled.at - firstAt) / 1_000;
    if (events > 0) {
      await this.#window(await this.#steady(filled), users + events * WINDOW.to, filled);
    }
    if (killAtEventsPerSecond !== null) await this.#kill(killAtEventsPerSecond);
    this.#figures.wrong = await untilRight(this.#run, this.#topic);
    await this.#checkpoints(events > 0 ? filled.at : firstAt);
    this.#figures.pauseP99Ms = (await this.#run.pauseP99Ms()) ?? Number.NaN;
    const { jobManager, taskManager } = await this.#run.processes();
    this.#figures.rssMebibytes = (peakRssBytes(jobManager) + peakRssBytes(taskManager)) / MEBIBYTE;
  }

  /** All users are in a checkpoint, so what comes is what the same job costs for months. */
  async #steady(filled: Sample): Promise<Sample> {
    const { users, events } = this.#launch.setting;
    let sample = await reach(this.#run, users + events * WINDOW.from);
    while (sample.processed < users + events * WINDOW.latest) {
      const all = await this.#run.checkpoints();
      if (all.some(({ triggeredAt }) => triggeredAt >= filled.at)) break;
      sample = await reach(this.#run, sample.processed + 1);
    }
    return sample;
  }

  /** `before` stands in for the beginning if both ends are seen at one look: tiny settings. */
  async #window(first: Sample, to: number, before: Sample): Promise<void> {
    const last = await reach(this.#run, to);
    const start = last.processed > first.processed ? first : before;
    const events = last.processed - start.processed;
    if (events === 0) return;
    const used = last.cpuSeconds - start.cpuSeconds;
    this.#figures.eventsPerSecond = (events * 1_000) / (last.at - start.at);
    if (used > 0) this.#figures.eventsPerCpuSecond = events / used;
    this.#measured = { from: start.at, to: last.at - COUNTER_AGE_MS };
  }

  async #kill(eventsPerSecond: number): Promise<void> {
    const { users } = this.#launch.setting;
    const since = Date.now();
    const pace = { eventsPerSecond, intervalMs: PACED_INTERVAL_MS, touched: users };
    const stream = new PacedStream(this.#topic, pace);
    try {
      await lookUntil('a checkpoint', async () => {
        const all = await this.#run.checkpoints();
        return all.find(({ triggeredAt }) => triggeredAt > since) ?? null;
      });
      await wait(KILL_AFTER_CHECKPOINT_MS);
      await this.#run.killTaskManager();
      const recovery = await lookUntil('the recovery', async () => this.#run.recovery());
      this.#figures.firstRecordSeconds = recovery.firstRecordMs / 1_000;
      this.#figures.caughtUpSeconds = recovery.caughtUpMs / 1_000;
    } finally {
      await stream.stop();
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
    if (this.#measured === null) return;
    const spans = all.map(({ triggeredAt: from, durationMs }) => ({ from, to: from + durationMs }));
    this.#figures.dipPercent = this.#run.handled.dipPercent(this.#measured, spans);
  }
}
