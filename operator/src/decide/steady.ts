/** What holds at any time: the objects are as desired, the JobManager as told, disks are there. */
import type { Deployment } from '../desired/desired.ts';
import { isCreateOnly } from '../desired/desired.ts';
import { roleName } from '../desired/names.ts';
import type { KubeObject } from '../kube/port.ts';
import { type Draft, isControlledBy, POLL } from './decision.ts';
import { lostDisks, unusedDisks } from './disks.ts';
import { holds, mustReplace } from './drift.ts';
import { withHeldPods } from './held-pods.ts';
import { secretDue } from './secret-try.ts';
import type { CheckedSpec } from './spec.ts';
import { isTerminal } from './stopping.ts';

/** Of those that are made only if the spec says so. */
const OPTIONAL = 'NetworkPolicy';

/** Read by nobody: a changed annotation makes the kubelet look at the pod's volumes at once. */
const REFRESH = 'triggerjob.io/script-version';

export function steady(draft: Draft): void {
  const { status, deployed } = draft;
  const step = status.operation?.step;
  if (status.run === undefined || deployed === null) return;
  if (step === 'Stopping' || step === 'ScalingDown' || step === 'Cleaning') return;
  const deployment = deploymentOf(draft, deployed);
  applyObjects(draft, deployed, deployment);
  unusedDisks(draft, deployment.replicas?.taskManagers ?? deployed.plan.taskManagers);
  if (status.resumeFrom !== undefined) return;
  tellJobManager(draft, deployed);
  lostDisks(draft, deployed.lostNodeTimeoutMs);
}

export function deploymentOf(draft: Draft, { plan }: CheckedSpec): Deployment {
  const { run = 0, runFrom, resumeFrom } = draft.status;
  const suspended = resumeFrom !== undefined;
  return {
    run,
    stateless: runFrom?.mode === 'stateless',
    first: runFrom?.mode === 'fresh',
    podsGeneration: draft.status.podsGeneration ?? 0,
    savepoint: runFrom?.savepoint ?? null,
    replicas: suspended
      ? { jobManagers: 0, taskManagers: 0 }
      : { jobManagers: plan.jobManagers, taskManagers: taskManagersOf(draft, plan) },
  };
}

/** The job gives slots up before their pods go: a rescale costs less than a loss. */
function taskManagersOf(draft: Draft, plan: CheckedSpec['plan']): number {
  const present = draft.statefulSet('taskmanager')?.spec?.replicas ?? 0;
  const { jobManager } = draft;
  const still = draft.running && (jobManager?.desiredParallelism ?? 0) > plan.parallelism;
  return still ? Math.max(present, plan.taskManagers) : plan.taskManagers;
}

function applyObjects(draft: Draft, deployed: CheckedSpec, deployment: Deployment): void {
  const objects = draft.settings.desired(deployed, deployment);
  takeBack(draft, objects);
  for (const wanted of objects) {
    if (isCreateOnly(wanted)) {
      if (secretDue(draft)) draft.act({ do: 'create', object: wanted });
      continue;
    }
    const found = draft.facts.find(wanted.kind, wanted.metadata.name);
    const object = found === undefined ? wanted : withHeldPods(draft, wanted, found);
    if (object !== wanted) draft.heldPods = true;
    if (found === undefined) {
      if (awaitsClaims(draft, wanted)) draft.within(POLL.soonMs);
      else draft.act({ do: 'apply', object, fresh: true });
    } else if (!isControlledBy(found, draft.facts.job)) nameTaken(draft, found);
    else if (mustReplace(object, found)) replace(draft, found);
    else if (!holds(object, found)) draft.act({ do: 'apply', object, fresh: false });
  }
}

/** The TaskManagers are as another operator made them, and are wanted so. */
export function taskManagersHeld(draft: Draft): boolean {
  const { deployed } = draft;
  const live = draft.statefulSet('taskmanager');
  if (deployed === null || live === null) return false;
  const objects = draft.settings.desired(deployed, deploymentOf(draft, deployed));
  return objects.some(
    (one) =>
      one.kind === live.kind &&
      one.metadata.name === live.metadata.name &&
      withHeldPods(draft, one, live) !== one,
  );
}

/** What this job got once and wants no longer. */
function takeBack(draft: Draft, objects: readonly KubeObject[]): void {
  for (const role of ['jobmanager', 'taskmanager'] as const) {
    const name = roleName(draft.facts.job.metadata, role);
    if (objects.some((one) => one.kind === OPTIONAL && one.metadata.name === name)) continue;
    const found = draft.find(OPTIONAL, name);
    if (found === null || found.metadata.deletionTimestamp !== undefined) continue;
    const { namespace = '', uid = '' } = found.metadata;
    const { apiVersion, kind } = found;
    draft.act({ do: 'delete', ref: { apiVersion, kind, namespace, name }, uid });
  }
}

/** Of an earlier job of that name, whose remains go soon; or somebody's, and then it stays. */
function nameTaken(draft: Draft, { kind, metadata }: KubeObject): void {
  draft.within(POLL.busyMs);
  const fix = 'it is left alone; delete it, or give the job another name';
  draft.blocked = {
    reason: 'NameTaken',
    message: `${kind} ${metadata.name} exists and is not this job's: ${fix}`,
  };
}

/** Only between two runs: with pods, a StatefulSet stays as it is until the next one. */
function replace(draft: Draft, found: KubeObject): void {
  const { status, facts } = draft;
  const { name } = found.metadata;
  if (status.operation?.step !== 'Deploying' || facts.pods.length > 0) return;
  // Its claims before it: whoever goes on from here finds none that the next one would take.
  const going = name === roleName(facts.job.metadata, 'taskmanager') ? facts.claims : [];
  for (const { apiVersion, kind, metadata } of [...going, found]) {
    if (metadata.deletionTimestamp !== undefined) continue;
    const { namespace = '', name, uid = '' } = metadata;
    draft.act({ do: 'delete', ref: { apiVersion, kind, namespace, name }, uid });
  }
  draft.within(POLL.soonMs);
}

/** Where there is no StatefulSet of the TaskManagers, claims that one owns are of an older one. */
function awaitsClaims({ facts }: Draft, { kind, metadata }: KubeObject): boolean {
  const { name } = metadata;
  if (kind !== 'StatefulSet' || name !== roleName(facts.job.metadata, 'taskmanager')) return false;
  return facts.claims.some(
    ({ metadata: { deletionTimestamp, ownerReferences = [] } }) =>
      deletionTimestamp !== undefined || ownerReferences.some((owner) => owner.kind === kind),
  );
}

function tellJobManager(draft: Draft, { plan, scriptVersion }: CheckedSpec): void {
  const { jobManager } = draft;
  if (jobManager === null || isTerminal(jobManager.state)) return;
  // Nothing in the cluster tells of it when all subtasks run again.
  if (!draft.running || jobManager.parallelism !== plan.parallelism) draft.within(POLL.busyMs);
  if (draft.running && jobManager.desiredParallelism !== plan.parallelism) {
    draft.act({ do: 'rescale', parallelism: plan.parallelism });
    draft.within(POLL.busyMs);
  }
  const waits = scriptVersion !== null && jobManager.scriptVersion !== scriptVersion;
  if (!waits || jobManager.refusedScript?.version === scriptVersion) return;
  draft.within(POLL.busyMs);
  for (const { metadata, apiVersion, kind } of draft.facts.pods) {
    if (metadata.labels?.['app.kubernetes.io/component'] !== 'jobmanager') continue;
    if (metadata.annotations?.[REFRESH] === scriptVersion) continue;
    const { namespace = '', name } = metadata;
    const ref = { apiVersion, kind, namespace, name };
    draft.act({ do: 'annotate', ref, annotations: { [REFRESH]: scriptVersion } });
  }
}
