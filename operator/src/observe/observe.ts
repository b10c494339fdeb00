/**
 * One look at a job: caches for everything that only lags behind, the server itself for what a run
 * is ended by, the JobManager for the rest. Reads alone; each question has a deadline.
 */

import { localClaimOrdinal, roleName } from '../desired/names.ts';
import type { Env } from '../env.ts';
import { messageOf } from '../kube/kube-error.ts';
import type { PersistentVolumeClaim, Pod, StatefulSet } from '../kube/objects.ts';
import type { KubeApi, ObjectRef } from '../kube/port.ts';
import { type Caches, cacheOf, type TriggerJobObject } from '../watched-kinds.ts';
import { type Facts, type JobMemory, NO_MEMORY, type StuckPod, type WaitingDisk } from './facts.ts';
import type { JobManagerApi, TriggerKind, TriggerProgress } from './jobmanager-api.ts';

export interface ObserveDeps {
  env: Env;
  kube: Pick<KubeApi, 'get'>;
  caches: Caches;
  jobManager: Pick<JobManagerApi, 'status' | 'progress'>;
}

export interface JobKey {
  namespace: string;
  name: string;
}

const ROLES = ['jobmanager', 'taskmanager'] as const;

const refOf = (key: JobKey): ObjectRef => ({
  apiVersion: 'triggerjob.io/v1alpha1',
  kind: 'TriggerJob',
  ...key,
});

/** null: there is no such job any more. `live`: nothing of the job itself is taken from a cache. */
export async function observe(
  deps: ObserveDeps,
  key: JobKey,
  remembered: JobMemory,
  live: boolean,
): Promise<Facts | null> {
  const { caches, kube, env } = deps;
  const cached = caches.TriggerJob.get(key.namespace, key.name);
  const asked = live || cached === undefined || isBusy(cached);
  const job = asked ? await kube.get<TriggerJobObject>(refOf(key)) : cached;
  if (job === null) return null;
  const { uid = '' } = job.metadata;
  const memory = remembered.uid === uid ? remembered : { ...NO_MEMORY, uid };
  const sets = await statefulSets(deps, job, asked);
  const pods = podsOf(caches, job, sets, asked);
  const jobManager = await askJobManager(deps, job, pods);
  return {
    now: env.now(),
    chance: env.random(),
    job,
    live: asked,
    find: (kind, name) =>
      kind === 'StatefulSet'
        ? sets.find(({ metadata }) => metadata.name === name)
        : cacheOf(caches, kind)?.get(key.namespace, name),
    pods,
    disks: waitingDisks(caches, pods),
    claims: claimsOf(caches, job),
    terminating: terminating(caches, pods),
    jobManager,
    progress: await progressOf(deps, job, jobManager, memory),
    memory,
  };
}

/** Something is under way whose steps must not be judged by what was true a moment ago. */
const isBusy = ({ metadata, status }: TriggerJobObject): boolean =>
  status?.operation !== undefined || metadata.deletionTimestamp !== undefined;

async function statefulSets(
  { caches, kube }: ObserveDeps,
  job: TriggerJobObject,
  live: boolean,
): Promise<StatefulSet[]> {
  const { namespace = '' } = job.metadata;
  const names = ROLES.map((role) => roleName(job.metadata, role));
  const found = live
    ? await Promise.all(
        names.map((name) =>
          kube.get<StatefulSet>({ apiVersion: 'apps/v1', kind: 'StatefulSet', namespace, name }),
        ),
      )
    : names.map((name) => caches.StatefulSet.get(namespace, name));
  return found.filter((set) => set !== null && set !== undefined);
}

/** By owner; while something ends, by label too: a pod may outlive its StatefulSet. */
function podsOf(
  caches: Caches,
  job: TriggerJobObject,
  sets: readonly StatefulSet[],
  live: boolean,
): Pod[] {
  const pods = new Set(sets.flatMap(({ metadata }) => caches.Pod.ownedBy(metadata.uid ?? '')));
  if (!live) return [...pods];
  for (const pod of caches.Pod.list()) {
    const { namespace, labels } = pod.metadata;
    if (namespace !== job.metadata.namespace) continue;
    if (labels?.['triggerjob.io/job'] === job.metadata.name) pods.add(pod);
  }
  return [...pods];
}

async function askJobManager(
  { jobManager }: ObserveDeps,
  job: TriggerJobObject,
  pods: readonly Pod[],
): Promise<Facts['jobManager']> {
  const component = 'app.kubernetes.io/component';
  if (!pods.some(({ metadata }) => metadata.labels?.[component] === 'jobmanager')) return null;
  try {
    return { status: await jobManager.status(jobRef(job)) };
  } catch (error) {
    return { unreachable: messageOf(error) };
  }
}

export function jobRef({ metadata }: TriggerJobObject) {
  const { namespace = '', name, uid = '' } = metadata;
  return { namespace, name, uid };
}

/** Of every trigger that the status says is under way. */
async function progressOf(
  { jobManager }: ObserveDeps,
  job: TriggerJobObject,
  answer: Facts['jobManager'],
  memory: JobMemory,
): Promise<Map<string, TriggerProgress | null>> {
  const found = new Map<string, TriggerProgress | null>();
  if (answer === null || 'unreachable' in answer) return found;
  for (const [kind, id] of triggersOf(job)) {
    const refusal = memory.refusals.get(id);
    if (refusal !== undefined) found.set(id, { phase: 'Failed', error: refusal });
    else {
      try {
        found.set(id, await jobManager.progress(jobRef(job), kind, id));
      } catch {
        // Not known this time; asked again at the next look.
      }
    }
  }
  return found;
}

function triggersOf({ status }: TriggerJobObject): [TriggerKind, string][] {
  const triggers: [TriggerKind, string][] = [];
  const { operation, savepoint, checkpoint } = status ?? {};
  if (operation?.triggerId !== undefined && operation.step === 'Stopping') {
    triggers.push(['stop', operation.triggerId]);
  }
  if (operation?.triggerId !== undefined && operation.step === 'Cleaning') {
    triggers.push(['disposal', operation.triggerId]);
  }
  for (const [kind, request] of [
    ['savepoint', savepoint],
    ['checkpoint', checkpoint],
  ] as const) {
    const ended = request?.phase === 'Completed' || request?.phase === 'Failed';
    if (request?.triggerId !== undefined && !ended) triggers.push([kind, request.triggerId]);
  }
  return triggers;
}

function terminating(caches: Caches, pods: readonly Pod[]): StuckPod[] {
  return pods.flatMap((pod) => {
    if (pod.metadata.deletionTimestamp === undefined) return [];
    const node = caches.Node.get('', pod.spec?.nodeName ?? '');
    return node === undefined ? [] : [{ pod, node }];
  });
}

function waitingDisks(caches: Caches, pods: readonly Pod[]): WaitingDisk[] {
  return pods.flatMap((pod) => {
    const { namespace = '', labels } = pod.metadata;
    const worker = labels?.['app.kubernetes.io/component'] === 'taskmanager';
    if (!worker || pod.status?.phase !== 'Pending' || pod.spec?.nodeName !== undefined) return [];
    return (pod.spec?.volumes ?? []).flatMap(({ persistentVolumeClaim: used }) => {
      if (used === undefined) return [];
      const claim = caches.PersistentVolumeClaim.get(namespace, used.claimName);
      const volume = caches.PersistentVolume.get('', claim?.spec?.volumeName ?? '');
      if (claim === undefined || volume === undefined) return [];
      const host = hostOf(volume);
      return host === null ? [] : [{ pod, claim, volume, node: nodeOf(caches, host) }];
    });
  });
}

const HOST_LABEL = 'kubernetes.io/hostname';

/** The one node that a local volume can be reached from; null: it is not tied to one. */
function hostOf({ spec }: WaitingDisk['volume']): string | null {
  const terms = spec?.nodeAffinity?.required?.nodeSelectorTerms ?? [];
  const hosts = terms.flatMap(({ matchExpressions = [] }) =>
    matchExpressions.flatMap(({ key, values = [] }) => (key === HOST_LABEL ? values : [])),
  );
  return hosts.length === 1 ? (hosts[0] ?? null) : null;
}

function nodeOf(caches: Caches, host: string): WaitingDisk['node'] {
  const named = caches.Node.get('', host);
  if (named !== undefined) return named;
  for (const node of caches.Node.list()) {
    if (node.metadata.labels?.[HOST_LABEL] === host) return node;
  }
  return null;
}

function claimsOf(caches: Caches, { metadata }: TriggerJobObject): PersistentVolumeClaim[] {
  return [...caches.PersistentVolumeClaim.list()].filter(
    (claim) =>
      claim.metadata.namespace === metadata.namespace &&
      localClaimOrdinal(metadata, claim.metadata.name) !== null,
  );
}
