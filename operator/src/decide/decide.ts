/**
 * From what one look has found to what the status says then, and what is done about it. Pure: the
 * same facts give the same decision, so that whoever takes over goes on where the last one ended.
 */
import type { Facts } from '../observe/facts.ts';
import { type Decision, Draft, type Settings } from './decision.ts';
import { deletion, FINALIZER, overdueDeletion } from './deletion.ts';
import { live } from './lifecycle.ts';
import { requests } from './requests.ts';
import { steady } from './steady.ts';
import { stuckPods } from './stuck-pods.ts';
import { describe } from './view.ts';

export function decide(facts: Facts, settings: Settings): Decision {
  const { job, now } = facts;
  const { deletionTimestamp, finalizers = [] } = job.metadata;
  if (deletionTimestamp !== undefined) {
    const forced = overdueDeletion(job, now);
    if (forced !== null) return forced;
  } else if (!finalizers.includes(FINALIZER)) {
    const actions = [{ do: 'finalizers', finalizers: [...finalizers, FINALIZER] } as const];
    return { status: job.status ?? {}, actions, events: [], requeueAfterMs: 0 };
  }
  const draft = new Draft(facts, settings);
  if (deletionTimestamp !== undefined) {
    const over = finalizers.includes(FINALIZER) ? deletion(draft) : null;
    if (over !== null) return over;
  } else if (draft.annotation('paused') !== 'true') live(draft);
  requests(draft);
  if (deletionTimestamp === undefined && draft.annotation('paused') !== 'true') steady(draft);
  stuckPods(draft);
  describe(draft);
  const { status, actions, events, requeueMs } = draft;
  return { status, actions, events, requeueAfterMs: requeueMs };
}
