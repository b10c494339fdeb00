/**
 * Which attempt of the tasks sent a request, which took a checkpoint, and what each attempt was
 * restored from. Attempt 0 runs from the start, attempt n from the n-th kill.
 */
import type { CheckpointFact, History, Kill, Receipt } from './history.ts';

/**
 * A killed process sends nothing more, but what it sent may still wait in the kernel; a new process
 * takes longer than this to start. So a connection opened within this time belongs to the old one.
 */
const KILL_EDGE_MS = 100;

/** A woken process finds its connection to the JobManager closed, and ends, within this. */
const OVERLAP_MS = 1_000;

/**
 * Attempts that were over before the time `at`, by the end of their edge: for everybody, or for
 * the address `from`.
 */
export function attemptAt(kills: readonly Kill[], at: number, from = ''): number {
  let attempt = 0;
  for (const kill of kills) if (overAt(kill, from) < at) attempt++;
  return attempt;
}

function overAt({ at, endedAt, cut }: Kill, from: string): number {
  const decidedAt = (endedAt ?? at) + KILL_EDGE_MS;
  return cut?.addresses.includes(from) ? Math.max(decidedAt, cut.until) : decidedAt;
}

/**
 * Sent over a connection that a woken process may have opened: of which attempt it is can't be told
 * from outside, and that both send is allowed (P32 d).
 */
export function inOverlap(kills: readonly Kill[], { openedAt }: Receipt): boolean {
  return kills.some(
    ({ resumedAt }) =>
      resumedAt !== null && openedAt >= resumedAt && openedAt <= resumedAt + OVERLAP_MS,
  );
}

/**
 * By the connection, not by the arrival: a request can arrive late, but not over another's socket.
 */
export function attemptOf(kills: readonly Kill[], receipt: Receipt): number {
  return attemptAt(kills, receipt.openedAt, receipt.from);
}

/** Positions before any checkpoint: the topic is new and read from its start. */
const BEGINNING: CheckpointFact = {
  checkpointId: 0,
  kind: 'initial',
  triggeredAt: 0,
  completedAt: 0,
  positions: {},
  ledgers: [],
  scriptVersion: null,
};

/**
 * The checkpoint that attempt n was restored from; of attempt 0 the beginning; null = not in the
 * log.
 */
export function restoredFrom(history: History, attempt: number): CheckpointFact | null {
  const kill = history.kills[attempt - 1];
  if (kill === undefined || kill.restored === null || kill.restored === 0) return BEGINNING;
  return history.checkpoints.find((one) => one.checkpointId === kill.restored) ?? null;
}

export function positionIn(checkpoint: CheckpointFact, partition: number): number {
  return checkpoint.positions[String(partition)] ?? 0;
}
