/**
 * When each fault was on, and what the pipeline did meanwhile: figures that every fault run prints.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { History } from '../exactly-once/history.ts';
import { figureLines, violationLines } from '../exactly-once/report.ts';
import type { RunResult } from '../exactly-once/run.ts';
import type { Verdict } from '../exactly-once/verdict.ts';

/** Of every checked run (run.ts). */
const CHECKPOINT_INTERVAL_MS = 2_000;

interface FaultWindow {
  name: string;
  from: number;
  to: number;
}

export class FaultWindows {
  readonly all: FaultWindow[] = [];

  /** Switches a fault on for `ms`, then off. Both are part of the window. */
  async during(
    name: string,
    ms: number,
    on: () => Promise<void> | void,
    off: () => Promise<void> | void,
  ): Promise<void> {
    const from = Date.now();
    await on();
    await wait(ms);
    await off();
    this.all.push({ name, from, to: Date.now() });
  }
}

export interface WindowFigures {
  name: string;
  ms: number;
  checkpoints: number;
  /** Checkpoints that were due in the window. */
  due: number;
  /** Longest time from one completion to the next that touches the window. */
  maxAgeMs: number;
  delivered: number;
  maxParked: number;
  maxOutbox: number;
  maxRssBytes: number;
}

export function windowFigures(history: History, window: FaultWindow): WindowFigures {
  const { from, to } = window;
  const within = (at: number) => at >= from && at <= to;
  const completions = history.checkpoints.map((one) => one.completedAt);
  const edges = [from, ...completions, to].sort((a, b) => a - b);
  let maxAgeMs = 0;
  for (const [index, at] of edges.entries()) {
    const next = edges[index + 1];
    if (next !== undefined && at < to && next > from) maxAgeMs = Math.max(maxAgeMs, next - at);
  }
  const samples = history.samples.filter((one) => within(one.at));
  const most = (pick: (sample: History['samples'][number]) => number) =>
    samples.reduce((highest, sample) => Math.max(highest, pick(sample)), 0);
  return {
    name: window.name,
    ms: to - from,
    checkpoints: completions.filter(within).length,
    due: Math.floor((to - from) / CHECKPOINT_INTERVAL_MS),
    maxAgeMs,
    delivered: history.receipts.filter((one) => within(one.at) && one.status === 204).length,
    maxParked: most((sample) => sample.parked),
    maxOutbox: most((sample) => sample.outbox),
    maxRssBytes: most((sample) => sample.rssBytes),
  };
}

const mebibytes = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`;

export function printRun(
  result: RunResult,
  verdict: Verdict,
  windows: readonly WindowFigures[],
): void {
  for (const one of windows) {
    console.log(
      `${one.name}, ${one.ms} ms: ${one.checkpoints} checkpoints of ${one.due} due, ` +
        `oldest ${one.maxAgeMs} ms; ${one.delivered} delivered, at most ${one.maxParked} parked, ` +
        `${one.maxOutbox} in outbox, RSS ${mebibytes(one.maxRssBytes)}`,
    );
  }
  console.log(`highest RSS of the TaskManager: ${mebibytes(highestRss(result.history))}`);
  for (const line of figureLines(verdict)) console.log(line);
  for (const line of violationLines(verdict.violations)) console.log(line);
  for (const line of result.trouble) console.log(`trouble: ${line}`);
  console.log(`judge it again: node e2e/exactly-once/judge.ts ${result.file}`);
}

export function highestRss(history: History): number {
  return history.samples.reduce((highest, one) => Math.max(highest, one.rssBytes), 0);
}
