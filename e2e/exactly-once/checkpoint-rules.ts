/**
 * What every completed checkpoint must fulfil by itself, as seen from outside (I9, P35): the
 * ledgers balance, and together they account for exactly the records before the positions. The
 * second is also what aligned barriers mean: a record on the wrong side of one shows here without
 * any crash. Pure.
 */
import type { CheckpointFact, History } from './history.ts';

function ledgerFaults(checkpoint: CheckpointFact): string[] {
  return checkpoint.ledgers.flatMap((one) => {
    const sum = one.noMatch + one.delivered + one.deadLettered + one.parked + one.inOutbox;
    if (sum === one.accepted) return [];
    return [
      `checkpoint ${checkpoint.checkpointId}, subtask ${one.subtask}: accepted ${one.accepted}, ` +
        `but no match + delivered + dead-lettered + parked + in outbox = ${sum}`,
    ];
  });
}

export function checkpointFaults(history: History): string[] {
  const ends = new Map<string, number>();
  for (const { partition, offset } of history.acked) {
    ends.set(String(partition), Math.max(ends.get(String(partition)) ?? 0, offset + 1));
  }
  const faults: string[] = [];
  let before: CheckpointFact | null = null;
  for (const one of history.checkpoints) {
    // The initial manifest has positions and no tasks yet (P25).
    if (one.ledgers.length === 0) continue;
    faults.push(...ledgerFaults(one));
    const accepted = one.ledgers.reduce((sum, ledger) => sum + ledger.accepted, 0);
    const covered = Object.values(one.positions).reduce((sum, offset) => sum + offset, 0);
    if (accepted !== covered) {
      faults.push(
        `checkpoint ${one.checkpointId}: positions cover ${covered} records, ` +
          `but ${accepted} were accepted`,
      );
    }
    for (const [partition, offset] of Object.entries(one.positions)) {
      if (offset > (ends.get(partition) ?? 0)) {
        faults.push(
          `checkpoint ${one.checkpointId}: position ${offset} of partition ${partition} is ` +
            `beyond its end ${ends.get(partition) ?? 0}`,
        );
      }
      if (before !== null && offset < (before.positions[partition] ?? 0)) {
        faults.push(
          `checkpoint ${one.checkpointId}: position ${offset} of partition ${partition} is ` +
            `before that of checkpoint ${before.checkpointId}`,
        );
      }
    }
    before = one;
  }
  return faults;
}

/**
 * A kill must be followed by a restore of the newest checkpoint completed before it, or a newer
 * one.
 */
export function restoreFaults(history: History): string[] {
  return history.kills.flatMap((kill, index) => {
    // Coming back from the initial manifest (no state yet) shows as no restored checkpoint.
    const newest = history.checkpoints.findLast(
      (one) => one.kind !== 'initial' && one.completedAt < kill.at,
    );
    const restored = kill.restored ?? 0;
    const name = `kill ${index + 1} (${kill.reason})`;
    if (newest !== undefined && restored < newest.checkpointId) {
      return [`${name}: restored checkpoint ${restored}, but ${newest.checkpointId} was complete`];
    }
    const known = history.checkpoints.some((one) => one.checkpointId === restored);
    return known || restored === 0
      ? []
      : [`${name}: restored checkpoint ${restored}, which the job's log does not name`];
  });
}

/** The last checkpoint must cover every record, with nothing left to do. */
export function drainFaults(history: History): string[] {
  const last = history.checkpoints.at(-1);
  if (last === undefined) return ['no checkpoint was completed'];
  const covered = Object.values(last.positions).reduce((sum, offset) => sum + offset, 0);
  const waiting = last.ledgers.reduce((sum, one) => sum + one.parked + one.inOutbox, 0);
  if (covered === history.acked.length && waiting === 0) return [];
  return [
    `the last checkpoint ${last.checkpointId} covers ${covered} of ${history.acked.length} ` +
      `records, with ${waiting} parked or in an outbox`,
  ];
}
