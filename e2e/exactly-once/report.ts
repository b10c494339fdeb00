/** A verdict as lines for people. Recovery times are printed with their goal, never asserted. */
import { fileURLToPath } from 'node:url';
import type { KillFigures } from './coverage.ts';
import type { RunResult } from './run.ts';
import type { Verdict, Violation } from './verdict.ts';

const JUDGE = fileURLToPath(new URL('./judge.ts', import.meta.url));
/** reliability.md section 1, row 1: first record after a kill. */
const RECOVERY_GOAL_P95_MS = 20_000;
const MAX_SHOWN_PER_RULE = 5;

export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function killLine(one: KillFigures, index: number): string {
  const late = one.kill.lateMs === null ? '' : ` (${one.kill.lateMs} ms into it)`;
  const why = one.readBefore ? '' : ', nothing read in the second before';
  return (
    `  kill ${String(index + 1).padStart(2)} ${one.kill.reason}${late}: ` +
    `${one.counts ? 'counts' : `DOES NOT COUNT${why}`}, ` +
    `restored checkpoint ${one.kill.restored}, replayed ${one.replayed}, ` +
    `read again after ${one.readAgainMs} ms, caught up after ${one.caughtUpMs} ms`
  );
}

function recoveryLine(name: string, values: readonly number[]): string {
  return (
    `  ${name}: p50 ${quantile(values, 0.5)} ms, p95 ${quantile(values, 0.95)} ms, ` +
    `max ${Math.max(...values)} ms (goal p95 <= ${RECOVERY_GOAL_P95_MS} ms)`
  );
}

export function figureLines({ figures }: Verdict): string[] {
  const { kills, repeats, slots } = figures;
  const counting = kills.filter((one) => one.counts);
  const replayed = counting.reduce((sum, one) => sum + one.replayed, 0);
  const seen = (isFreeze: boolean, pick: (one: KillFigures) => number | null) =>
    kills
      .filter(({ kill }) => (kill.reason === 'freeze') === isFreeze)
      .map(pick)
      .filter((value) => value !== null);
  const recovery = (what: string, isFreeze: boolean) =>
    seen(isFreeze, (one) => one.readAgainMs).length === 0
      ? []
      : [
          recoveryLine(
            `first record after a ${what}`,
            seen(isFreeze, (one) => one.readAgainMs),
          ),
          recoveryLine(
            `caught up after a ${what}`,
            seen(isFreeze, (one) => one.caughtUpMs),
          ),
        ];
  return [
    `events ${figures.events}, matching ${figures.matching}, receipts ${figures.receipts}, ` +
      `completed checkpoints ${figures.checkpoints}, ` +
      `users cached at most ${figures.maxUsersCached}`,
    `kills ${kills.length}, counting ${counting.length}, replayed records ${replayed}`,
    ...kills.map(killLine),
    ...recovery('kill', false),
    ...recovery('freeze', true),
    `repeated deliveries: retry ${repeats.retry}, replay ${repeats.replay}, ` +
      `in flight ${repeats['in-flight']}, overlap ${repeats.overlap}`,
    `events whose repeats differ ${figures.differingRepeats}, ` +
      `counted as divergent ${figures.divergentCounted}`,
    ...slots.map(
      (slot) =>
        `  slot ${slot.subtask}: ${slot.cpuSeconds.toFixed(2)} s of CPU, ${slot.records} records`,
    ),
  ];
}

export function violationLines(violations: readonly Violation[]): string[] {
  return [...Map.groupBy(violations, (one) => one.rule)].flatMap(([rule, all]) => [
    `${rule}: ${all.length}`,
    ...all.slice(0, MAX_SHOWN_PER_RULE).map((one) => `  ${one.message}`),
  ]);
}

export function printRun({ file, trouble }: RunResult, verdict: Verdict): void {
  for (const line of figureLines(verdict)) console.log(line);
  for (const line of violationLines(verdict.violations)) console.log(line);
  for (const line of trouble) console.log(`trouble: ${line}`);
  console.log(`judge it again: node ${JUDGE} ${file}`);
}
