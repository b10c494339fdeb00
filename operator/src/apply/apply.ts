/** Does what was decided, one call after the other; each may be repeated at no harm. */

import { type Action, isControlledBy } from '../decide/decision.ts';
import { OPERATOR_NAME } from '../desired/names.ts';
import { isKubeError, KubeError } from '../kube/kube-error.ts';
import { nameOf, refOf } from '../kube/objects.ts';
import type { KubeApi, KubeObject } from '../kube/port.ts';
import type { JobMemory } from '../observe/facts.ts';
import { type JobManagerApi, JobManagerError } from '../observe/jobmanager-api.ts';
import { jobRef } from '../observe/observe.ts';
import type { TriggerJobObject } from '../watched-kinds.ts';

export interface ApplyDeps {
  kube: KubeApi;
  jobManager: Pick<JobManagerApi, 'trigger' | 'rescale'>;
}

const SERVER_SIDE = { fieldManager: OPERATOR_NAME, force: true } as const;
/** Refusals of one job that are kept; the oldest goes. */
const MAX_REFUSALS = 16;

/** What is to be remembered of it. Rejects with what is to be tried again. */
export async function apply(
  deps: ApplyDeps,
  job: TriggerJobObject,
  actions: readonly Action[],
  memory: JobMemory,
  now: number,
): Promise<JobMemory> {
  let known: JobMemory = { ...memory };
  if (actions.some((action) => action.do === 'apply')) known.applyError = null;
  for (const action of actions) known = await act(deps, job, action, known, now);
  return known;
}

async function act(
  deps: ApplyDeps,
  job: TriggerJobObject,
  action: Action,
  memory: JobMemory,
  now: number,
): Promise<JobMemory> {
  const { kube, jobManager } = deps;
  switch (action.do) {
    case 'apply':
      return await applyObject(kube, job, action, memory);
    case 'create': {
      const created = await createOnce(kube, action.object);
      return { ...memory, secretTriedAt: now, ...(created ? {} : { secretFoundAt: now }) };
    }
    case 'scale':
      await ifThere(kube.patch(action.ref, { spec: { replicas: action.replicas } }));
      return memory;
    case 'delete':
      await kube.delete(action.ref, { uid: action.uid, propagation: 'Background' });
      return memory;
    case 'annotate':
      await ifThere(kube.patch(action.ref, { metadata: { annotations: action.annotations } }));
      return memory;
    case 'finalizers':
      await setFinalizers(kube, job, action.finalizers);
      return memory;
    case 'trigger': {
      const { kind, triggerId } = action;
      const refusal = await refusalOf(jobManager.trigger(jobRef(job), kind, triggerId));
      if (refusal === null) return memory;
      const kept = [...memory.refusals, [triggerId, refusal] as const].slice(-MAX_REFUSALS);
      return { ...memory, refusals: new Map(kept) };
    }
    case 'rescale':
      await refusalOf(jobManager.rescale(jobRef(job), action.parallelism));
      return memory;
    case 'rehearse': {
      const error = await rehearse(kube, action.objects);
      return { ...memory, rehearsal: { digest: action.digest, error, at: now } };
    }
  }
}

/** What the server will not have is a verdict on the spec, and stays until the next try. */
async function applyObject(
  kube: KubeApi,
  job: TriggerJobObject,
  { object, fresh }: { object: KubeObject; fresh: boolean },
  memory: JobMemory,
): Promise<JobMemory> {
  try {
    const taken = fresh ? await strangerAt(kube, job, object) : null;
    if (taken !== null) return { ...memory, applyError: memory.applyError ?? taken };
    await kube.apply(object, SERVER_SIDE);
    return memory;
  } catch (error) {
    if (!isVerdict(error)) throw error;
    return { ...memory, applyError: memory.applyError ?? error.message };
  }
}

/** Server-side apply would take over whatever has the name. */
async function strangerAt(
  kube: KubeApi,
  job: TriggerJobObject,
  object: KubeObject,
): Promise<string | null> {
  const found = await kube.get(refOf(object));
  if (found === null || isControlledBy(found, job)) return null;
  const fix = 'it is left alone; delete it, or give the job another name';
  return `${nameOf(refOf(object))} exists and is not this job's: ${fix}`;
}

const isVerdict = (error: unknown): error is KubeError =>
  error instanceof KubeError && (error.code === 'KUBE_INVALID' || error.code === 'KUBE_FORBIDDEN');

/** Under names that nobody has: an existing object would bring its immutable fields into it. */
async function rehearse(kube: KubeApi, objects: readonly KubeObject[]): Promise<string | null> {
  for (const object of objects) {
    const name = `${object.metadata.name}-rehearsal`;
    const renamed = { ...object, metadata: { ...object.metadata, name } };
    try {
      await kube.apply(renamed, { ...SERVER_SIDE, dryRun: true });
    } catch (error) {
      if (isVerdict(error)) return error.message;
      throw error;
    }
  }
  return null;
}

/** false: it was there. */
async function createOnce(kube: KubeApi, object: KubeObject): Promise<boolean> {
  try {
    await kube.create(object);
    return true;
  } catch (error) {
    if (!isKubeError(error, 'KUBE_CONFLICT')) throw error;
    return false;
  }
}

async function ifThere(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!isKubeError(error, 'KUBE_NOT_FOUND')) throw error;
  }
}

/** Of the object that was looked at alone; another one of its name has its own. */
async function setFinalizers(
  kube: KubeApi,
  { apiVersion, kind, metadata }: TriggerJobObject,
  finalizers: readonly string[],
): Promise<void> {
  const { namespace = '', name, resourceVersion, uid } = metadata;
  const patch = { metadata: { finalizers, resourceVersion, uid } };
  await ifThere(kube.patch({ apiVersion, kind, namespace, name }, patch));
}

/** null: it was taken, or nobody answered, which the next look will find. */
async function refusalOf(call: Promise<void>): Promise<string | null> {
  try {
    await call;
    return null;
  } catch (error) {
    if (!(error instanceof JobManagerError)) throw error;
    return error.code === 'JOBMANAGER_REFUSED' ? error.message : null;
  }
}
