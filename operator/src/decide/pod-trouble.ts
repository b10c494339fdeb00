/** The pod that keeps a job from running, and why, in the kubelet's and scheduler's own words. */
import type { Pod } from '../kube/objects.ts';

export interface PodTrouble {
  pod: string;
  /** Such as ImagePullBackOff, CrashLoopBackOff, Unschedulable, OOMKilled. */
  reason: string;
  message: string;
}

/** Ordinary on the way up. */
const PASSING: readonly string[] = ['ContainerCreating', 'PodInitializing'];
const MAX_MESSAGE = 300;

export function podTrouble(pods: readonly Pod[]): PodTrouble | null {
  for (const pod of pods) {
    if (pod.metadata.deletionTimestamp !== undefined) continue;
    const found = containerTrouble(pod) ?? placementTrouble(pod);
    if (found === null) continue;
    const { reason, message } = found;
    return { pod: pod.metadata.name, reason, message: message.slice(0, MAX_MESSAGE) };
  }
  return null;
}

type Found = { reason: string; message: string } | null;

function containerTrouble({ status }: Pod): Found {
  const all = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
  for (const { state, lastState, restartCount } of all) {
    const { reason, message = '' } = state?.waiting ?? {};
    if (reason === undefined || PASSING.includes(reason)) continue;
    const last = lastState?.terminated;
    if (reason !== 'CrashLoopBackOff' || last === undefined) return { reason, message };
    const said = lastLine(last.message);
    const ended =
      `${last.reason ?? 'ended'}, exit code ${last.exitCode}, ${restartCount} restarts` +
      (said === '' ? '' : `: ${said}`);
    return { reason: last.reason === 'OOMKilled' ? 'OOMKilled' : reason, message: ended };
  }
  return null;
}

const lastLine = (text = ''): string => text.trimEnd().split('\n').at(-1)?.trim() ?? '';

function placementTrouble({ status }: Pod): Found {
  const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (scheduled?.status !== 'False') return null;
  return { reason: scheduled.reason ?? 'Unschedulable', message: scheduled.message ?? '' };
}

export const isPodReady = ({ metadata, status }: Pod): boolean =>
  metadata.deletionTimestamp === undefined &&
  (status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') ?? false);
