/**
 * RocksDB's disks: the lost ones, and those that nobody needs.
 *
 * A TaskManager whose node is lost with its disk waits for that node for ever: its claim names a
 * volume that is there and nowhere else. The state is in the checkpoints, the disk only a cache of
 * it; so claim and pod are deleted and made anew elsewhere. A whole cluster that looks lost, since
 * the API server can't reach it, must not cost every disk: one claim at a time.
 */
import { localClaimOrdinal } from '../desired/names.ts';
import type { Node } from '../kube/objects.ts';
import type { WaitingDisk } from '../observe/facts.ts';
import { type Draft, timeOf } from './decision.ts';

/** From one claim that was made anew to the next that is deleted, per job. */
const BUDGET_MS = 60_000;

export function lostDisks(draft: Draft, lostNodeTimeoutMs: number): void {
  const { facts } = draft;
  for (const disk of facts.disks) {
    const since = lostSince(disk);
    if (since === null) continue;
    const due = Math.max(since + lostNodeTimeoutMs, newestClaimAt(draft) + BUDGET_MS);
    if (facts.now < due) {
      draft.within(due - facts.now);
      continue;
    }
    giveUp(draft, disk);
    return;
  }
}

/**
 * Of pods beyond the replicas that are gone, or of all while the job is suspended. Kept, a claim
 * would hold its disk for nothing, and tie the pod of a later scale-up to a node that may be lost
 * by then. From one run to the next all replicas keep theirs.
 */
export function unusedDisks(draft: Draft, taskManagers: number): void {
  const { facts } = draft;
  const set = draft.statefulSet('taskmanager');
  // With more replicas on the server the pod may be on its way.
  if (set === null || (set.spec?.replicas ?? 1) > taskManagers) return;
  for (const { apiVersion, kind, metadata } of facts.claims) {
    const { namespace = '', name, uid = '', deletionTimestamp } = metadata;
    const ordinal = localClaimOrdinal(facts.job.metadata, name) ?? 0;
    if (ordinal < taskManagers || deletionTimestamp !== undefined) continue;
    const pod = `${set.metadata.name}-${ordinal}`;
    if (facts.pods.some((one) => one.metadata.name === pod)) continue;
    draft.act({ do: 'delete', ref: { apiVersion, kind, namespace, name }, uid });
  }
}

const newestClaimAt = ({ facts }: Draft): number =>
  Math.max(0, ...facts.claims.map(({ metadata }) => timeOf(metadata.creationTimestamp)));

/** When the disk's node was last known to be well; null: it is well. */
function lostSince({ pod, node }: WaitingDisk): number | null {
  if (node === null) {
    const scheduled = pod.status?.conditions?.find(({ type }) => type === 'PodScheduled');
    return timeOf(scheduled?.lastTransitionTime ?? pod.metadata.creationTimestamp);
  }
  const ready = readyCondition(node);
  return ready?.status === 'True' ? null : timeOf(ready?.lastTransitionTime);
}

const readyCondition = (node: Node) =>
  node.status?.conditions?.find(({ type }) => type === 'Ready');

function giveUp(draft: Draft, { pod, claim, volume, node }: WaitingDisk): void {
  const where = node === null ? 'is gone' : 'is not ready';
  const { name } = pod.metadata;
  const note =
    `${name} waits for volume ${volume.metadata.name}, whose node ${where}: ` +
    `claim ${claim.metadata.name} is deleted, its state comes back from the checkpoint`;
  draft.tell('Warning', 'LocalDiskLost', 'ReplaceDisk', note);
  for (const object of [claim, pod]) {
    const { namespace = '', uid = '' } = object.metadata;
    const { apiVersion, kind } = object;
    draft.act({
      do: 'delete',
      ref: { apiVersion, kind, namespace, name: object.metadata.name },
      uid,
    });
  }
}
