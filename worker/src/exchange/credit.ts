/** How many buffers a channel may have under way. */
import type { JobPlan } from '../plan/job-plan.ts';

/** Of plan/memory.ts too: one that is filled and one under way. */
const MIN_CREDIT = 2;
const MAX_CREDIT = 8;

/**
 * Buffers per channel that the network budget of a slot allows. Both ends of a channel compute it:
 * the sender keeps to it, the receiver holds it to that.
 */
export function channelCredit(plan: JobPlan, channels: number): number {
  const perSlot = plan.memory.networkBytes / plan.slotsPerTaskManager;
  const buffers = Math.floor(perSlot / (plan.bufferBytes * channels));
  return Math.max(MIN_CREDIT, Math.min(MAX_CREDIT, buffers));
}

/** Subtasks to which every slot can have a channel within its network budget. */
export function mostSubtasks(plan: JobPlan): number {
  const perSlot = plan.memory.networkBytes / plan.slotsPerTaskManager;
  return Math.floor(perSlot / (plan.bufferBytes * MIN_CREDIT));
}
