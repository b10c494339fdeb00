/**
 * What the job's log says to a JobManager of one run before that claims anything: it may lead, a
 * later run has begun, or the job has ended and stays so. A hint that spares useless claims; the
 * claim itself decides (JobLog.takeover).
 */
import { JobLog } from '../checkpoint/log.ts';
import { readState } from '../checkpoint/log-record.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { LogRecord, ObjectRef } from '../checkpoint/snapshot.ts';
import type { Env } from '../runtime/env.ts';

/** The newest checkpoint, and what the end left to be shown. */
export interface EndedRun {
  record: LogRecord & { kind: 'end' };
  lineage: string;
  newest: ObjectRef | null;
  restarts: number;
}

export type Standing =
  /** `leaderEpoch`: the newest one. */
  | { kind: 'free'; leaderEpoch: number }
  | { kind: 'superseded'; run: number }
  | ({ kind: 'ended' } & EndedRun);

export async function standingOf(store: ObjectStore, env: Env, run: number): Promise<Standing> {
  const log = new JobLog({ store, env, writer: 'standby', retained: 1 });
  const records = await log.readTail();
  const { leaderEpoch, run: newest, end, lineage, line } = readState(records);
  if (end !== null && end.run >= run) {
    const restore = records.findLast((record) => record.kind === 'restore');
    return {
      kind: 'ended',
      record: end,
      lineage: lineage ?? '',
      newest: line.at(-1)?.manifest ?? null,
      restarts: restore?.deployment?.restarts ?? 0,
    };
  }
  return newest > run ? { kind: 'superseded', run: newest } : { kind: 'free', leaderEpoch };
}

/** Index of the log's last record, by two reads where it is still `hint`. */
export function endOfLog(store: ObjectStore, env: Env, hint: number): Promise<number> {
  return new JobLog({ store, env, writer: 'standby', hint, retained: 1 }).findEnd();
}
