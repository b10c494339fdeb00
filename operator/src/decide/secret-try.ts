/**
 * When to try to create the job's Secret: it can't be read, so whether one that was deleted is
 * missing shows only in the answer. At each look from when a pod waits for its volumes, of which it
 * is one, or objects are being deployed, until an answer says that it is there; else more often
 * than a resync, and so rarely that an idle job costs next to nothing. What a pod waits for from
 * then on is not ours: an image, mostly, and many pods pull one at once.
 */
import type { Pod } from '../kube/objects.ts';
import { type Draft, POLL, timeOf } from './decision.ts';

const IDLE_MS = 600_000;
/** While a pod waits for something else, such as a node or an image. */
const PENDING_MS = 30_000;
/** A pod that waits for its volumes for longer waits for something that is not ours. */
const MOUNT_LIMIT_MS = 600_000;

export function secretDue(draft: Draft): boolean {
  const { facts, operation } = draft;
  const { secretTriedAt, secretFoundAt } = facts.memory;
  const waits = facts.pods.filter((pod) => pod.status?.phase === 'Pending');
  const since = waits.flatMap((pod) => waitsForVolumesSince(pod, facts.now) ?? []);
  const mounts = since.some((at) => at >= secretFoundAt);
  if (mounts) draft.within(POLL.soonMs);
  const deploying = operation?.step === 'Deploying';
  const soon = mounts || (deploying && timeOf(operation?.stepStartedAt) >= secretFoundAt);
  const pending = deploying || waits.length > 0;
  const spacing = soon ? POLL.soonMs : pending ? PENDING_MS : IDLE_MS;
  return facts.now - secretTriedAt >= spacing;
}

/** On a node, or soon, and none of its containers has come as far as its image; null: otherwise. */
function waitsForVolumesSince({ status, metadata }: Pod, now: number): number | null {
  const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (scheduled?.status === 'False' || metadata.deletionTimestamp !== undefined) return null;
  const since = timeOf(scheduled?.lastTransitionTime ?? metadata.creationTimestamp);
  if (now - since > MOUNT_LIMIT_MS) return null;
  const creating = (status?.containerStatuses ?? []).every(
    ({ state }) => (state?.waiting?.reason ?? 'ContainerCreating') === 'ContainerCreating',
  );
  return creating ? since : null;
}
