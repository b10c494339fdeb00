/**
 * A pod that is being deleted on a node that is not ready stays until somebody knows what has
 * become of that machine: its kubelet may run the pod still. The operator never forces it away. A
 * worker that is cut off could do no harm (the checkpoint store refuses what an older leader or
 * attempt writes, P38, P39), but its disk and its address are another's to give away, and so is the
 * promise of a StatefulSet that there is one pod of a name. It says what is waited for, and what
 * would end the wait.
 */
import { formatDuration } from '../../../worker/src/plan/duration.ts';
import type { StuckPod } from '../observe/facts.ts';
import { type Draft, timeOf, timeText } from './decision.ts';
import { lifecycleOf } from './spec.ts';

export function stuckPods(draft: Draft): void {
  const { facts, operation } = draft;
  // The node controller has waited for 40 s already before it calls a node not ready.
  const { lostNodeTimeoutMs } = lifecycleOf(facts.job.spec);
  for (const one of facts.terminating) {
    const since = stuckSince(one);
    if (since === null) continue;
    const due = since + lostNodeTimeoutMs;
    if (facts.now < due) {
      draft.within(due - facts.now);
      continue;
    }
    draft.stuck = { reason: 'PodStuck', message: messageOf(one, since, lostNodeTimeoutMs) };
    if (operation?.step === 'ScalingDown') operation.error = draft.stuck.message;
    return;
  }
}

/** When the last of the two began: it is to go, and its node is silent. null: its node is well. */
function stuckSince({ pod, node }: StuckPod): number | null {
  const ready = node.status?.conditions?.find(({ type }) => type === 'Ready');
  if (ready?.status === 'True') return null;
  return Math.max(timeOf(ready?.lastTransitionTime), timeOf(pod.metadata.deletionTimestamp));
}

function messageOf({ pod, node }: StuckPod, since: number, limitMs: number): string {
  const [name, on] = [pod.metadata.name, node.metadata.name];
  return (
    `pod ${name} is being deleted on node ${on}, which is not ready, for more than ` +
    `${formatDuration(limitMs)} (since ${timeText(since)}): if that machine is off for good, ` +
    `kubectl delete node ${on}, or kubectl taint node ${on} ` +
    'node.kubernetes.io/out-of-service=nodeshutdown:NoExecute; ' +
    'nothing is forced by the operator'
  );
}
