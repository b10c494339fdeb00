/**
 * What the job's log says to a JobManager of one run before that claims anything: it may lead, a
 * later run has begun, or the job has ended and stays so. A hint that spares useless claims; the
 * claim itself decides (JobLog.takeover).
 */
import { JobLog } from '../checkpoint/log.ts';
import { readState } from '../checkpoint/log-record.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import {
  compareRuns,
  type EndRecord,
  hasEnded,
  orderOf,
  type RunClaim,
} from '../checkpoint/run-claim.ts';
import type { ObjectRef } from '../checkpoint/snapshot.ts';
import type { Env } from '../runtime/env.ts';

/** The newest checkpoint, and what the end left to be shown. */
export interface EndedRun {
  record: EndRecord;
  lineage: string;
  newest: ObjectRef | null;
  restarts: number;
}

export type Standing =
  /** `leaderEpoch`: the newest one. */
  | { kind: 'free'; leaderEpoch: number }
  | { kind: 'superseded'; run: number }
  | ({ kind: 'ended' } & EndedRun);

export async function standingOf(store: ObjectStore, env: Env, own: RunClaim): Promise<Standing> {
  const log = new JobLog({ store, env, writer: 'standby', retained: 1 });
  const records = await log.readTail();
  const state = readState(records);
  const { leaderEpoch, run: newest, end, lineage, line } = state;
  if (end !== null && hasEnded(end, own)) {
    const restore = records.findLast((record) => record.kind === 'restore');
    return {
      kind: 'ended',
      record: end,
      lineage: lineage ?? '',
      newest: line.at(-1)?.manifest ?? null,
      restarts: restore?.deployment?.restarts ?? 0,
    };
  }
  if (compareRuns(state, orderOf(own)) <= 0) return { kind: 'free', leaderEpoch };
  return { kind: 'superseded', run: newest };
}

/** Index of the log's last record, by two reads where it is still `hint`. */
export function endOfLog(store: ObjectStore, env: Env, hint: number): Promise<number> {
  return new JobLog({ store, env, writer: 'standby', hint, retained: 1 }).findEnd();
}
