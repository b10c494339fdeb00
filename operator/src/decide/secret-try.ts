/**
 * When to try to create the job's Secret: it can't be read, so whether one that was deleted is
 * missing shows only in the answer. At each look while a pod waits for its volumes, of which it is
 * one, or objects are being deployed; else more often than a resync, and so rarely that an idle job
 * costs next to nothing.
 */
import type { Pod } from '../kube/objects.ts';
import { type Draft, POLL, timeOf } from './decision.ts';

const IDLE_MS = 600_000;
/** While a pod waits for something else, such as a node or an image. */
const PENDING_MS = 30_000;
/** A pod that waits for its volumes for longer waits for something that is not ours. */
const MOUNT_LIMIT_MS = 600_000;

export function secretDue(draft: Draft): boolean {
  const { facts, status } = draft;
  const waits = facts.pods.filter((pod) => pod.status?.phase === 'Pending');
  const mounts = waits.some((pod) => waitsForVolumes(pod, facts.now));
  if (mounts) draft.within(POLL.soonMs);
  const soon = mounts || status.operation?.step === 'Deploying';
  const spacing = soon ? POLL.soonMs : waits.length > 0 ? PENDING_MS : IDLE_MS;
  return facts.now - facts.memory.secretTriedAt >= spacing;
}

/** On a node, or soon, and none of its containers has come as far as its image. */
function waitsForVolumes({ status, metadata }: Pod, now: number): boolean {
  const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (scheduled?.status === 'False' || metadata.deletionTimestamp !== undefined) return false;
  const since = timeOf(scheduled?.lastTransitionTime ?? metadata.creationTimestamp);
  if (now - since > MOUNT_LIMIT_MS) return false;
  return (status?.containerStatuses ?? []).every(
    ({ state }) => (state?.waiting?.reason ?? 'ContainerCreating') === 'ContainerCreating',
  );
}
