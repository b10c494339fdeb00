/**
 * Whether a run is evidence at all: which kills count, what was replayed, how long recovery took,
 * and which slots worked. Pure.
 */
import { attemptOf, positionIn, restoredFrom } from './attempts.ts';
import type { Acked, CheckpointFact, History, Kill, Receipt, Sample } from './history.ts';
import { attemptIn, totalRead } from './status.ts';

/** One kill as judged. Times in ms after the kill; null = not seen. */
export interface KillFigures {
  kill: Kill;
  counts: boolean;
  readBefore: boolean;
  /** Records read before the kill and read again after it; a lower bound. */
  replayed: number;
  readAgainMs: number | null;
  caughtUpMs: number | null;
}

export interface SlotFigures {
  subtask: number;
  cpuSeconds: number;
  records: number;
}

const BEFORE_MS = 1_000;

/** The JobManager stays 150 ms in a phase; a kill that comes later than this may be outside it. */
export const PHASE_LATE_LIMIT_MS = 120;

function startOf(checkpoint: CheckpointFact): number {
  return Object.values(checkpoint.positions).reduce((sum, offset) => sum + offset, 0);
}

/** By the counters, or by a delivery of an event that was itself written in the last second. */
function readInTheSecondBefore(
  kill: Kill,
  samples: readonly Sample[],
  receipts: readonly Receipt[],
  acked: ReadonlyMap<string, Acked>,
): boolean {
  const from = kill.at - BEFORE_MS;
  const own = samples.filter(
    (one) => attemptIn(one) === kill.attempt && one.at > from && one.at <= kill.at,
  );
  const first = own[0];
  const last = own.at(-1);
  if (first && last && totalRead(last) > totalRead(first)) return true;
  return receipts.some((receipt) => {
    if (receipt.at <= from || receipt.at > kill.at) return false;
    return (acked.get(`${receipt.user}/${receipt.seq}`)?.timestamp ?? 0) > from;
  });
}

/**
 * How far beyond `restored` the killed attempt had read: by its counters, and, since those come
 * with the heartbeat and are late, by the offsets it had delivered.
 */
function readBeyond(
  history: History,
  attempt: number,
  kill: Kill,
  restored: CheckpointFact,
  delivered: ReadonlyMap<number, ReadonlyMap<number, number>>,
  samples: readonly Sample[],
): number {
  const began = restoredFrom(history, attempt);
  const last = samples.findLast((one) => attemptIn(one) === kill.attempt && one.at <= kill.at);
  const byCounter = began && last ? startOf(began) + totalRead(last) - startOf(restored) : 0;
  let byDelivery = 0;
  for (const [partition, offset] of delivered.get(attempt) ?? []) {
    byDelivery += Math.max(0, offset + 1 - positionIn(restored, partition));
  }
  return Math.max(0, byCounter, byDelivery);
}

/** Highest offset delivered, by attempt and partition. */
function deliveredOffsets(
  history: History,
  acked: ReadonlyMap<string, Acked>,
): Map<number, Map<number, number>> {
  const highest = new Map<number, Map<number, number>>();
  for (const receipt of history.receipts) {
    const event = acked.get(`${receipt.user}/${receipt.seq}`);
    if (event === undefined) continue;
    const attempt = attemptOf(history.kills, receipt);
    const byPartition = highest.get(attempt) ?? new Map<number, number>();
    highest.set(attempt, byPartition);
    const before = byPartition.get(event.partition) ?? -1;
    byPartition.set(event.partition, Math.max(before, event.offset));
  }
  return highest;
}

export function killFigures(history: History, acked: ReadonlyMap<string, Acked>): KillFigures[] {
  const delivered = deliveredOffsets(history, acked);
  const { samples } = history;
  return history.kills.map((kill, index) => {
    const until = history.kills[index + 1]?.at ?? Number.POSITIVE_INFINITY;
    const restored = restoredFrom(history, index + 1);
    const after = samples.filter((one) => {
      const isNext = (attemptIn(one) ?? 0) > kill.attempt;
      return one.at > kill.at && one.at <= until && isNext && totalRead(one) > 0;
    });
    const beyond = restored ? readBeyond(history, index, kill, restored, delivered, samples) : 0;
    const readAgain = after[0];
    const caughtUp = after.find((one) => totalRead(one) >= beyond);
    const readAfter = after.reduce((most, one) => Math.max(most, totalRead(one)), 0);
    const replayed = Math.min(beyond, readAfter);
    const readBefore = readInTheSecondBefore(kill, samples, history.receipts, acked);
    return {
      kill,
      counts: readBefore && replayed > 0,
      readBefore,
      replayed,
      readAgainMs: readAgain ? readAgain.at - kill.at : null,
      caughtUpMs: caughtUp ? caughtUp.at - kill.at : null,
    };
  });
}

/** CPU and records of each slot's thread over all attempts: each attempt's last figures, summed. */
export function slotFigures(samples: readonly Sample[]): SlotFigures[] {
  const last = new Map<string, Sample['subtasks'][number]>();
  for (const sample of samples) {
    for (const one of sample.subtasks) last.set(`${one.subtask}/${one.attempt}`, one);
  }
  const slots = new Map<number, SlotFigures>();
  for (const one of last.values()) {
    const slot = slots.get(one.subtask) ?? { subtask: one.subtask, cpuSeconds: 0, records: 0 };
    slot.cpuSeconds += one.cpuSeconds;
    slot.records += one.recordsProcessed;
    slots.set(one.subtask, slot);
  }
  return [...slots.values()].sort((a, b) => a.subtask - b.subtask);
}

/**
 * Events that the pipeline counted as possibly different at their repeat (P33), over all attempts.
 */
export function divergentCount(samples: readonly Sample[]): number {
  const last = new Map<string, number>();
  for (const sample of samples) {
    for (const one of sample.subtasks) last.set(`${one.subtask}/${one.attempt}`, one.divergent);
  }
  return [...last.values()].reduce((sum, count) => sum + count, 0);
}
