/** The two StatefulSets: their pods' arguments are the worker's command line (cli/program.ts). */
import type { V1StatefulSet } from '@kubernetes/client-node';
import { SLOT_HEAP, slotHeapMebibytes } from '../../../worker/src/plan/memory.ts';
import type { DeployedJob } from './deployed-job.ts';
import type { Deployment } from './desired.ts';
import {
  ANNOTATIONS,
  jobManagerHost,
  leaseName,
  metadataOf,
  PATHS,
  PORTS,
  podSelector,
  type Role,
  roleName,
  serviceHost,
  type Typed,
} from './names.ts';
import { type PodParts, podTemplateOf } from './pod.ts';
import { jobManagerHeapOption, jobManagerResources, taskManagerResources } from './resources.ts';
import {
  jobConfigVolume,
  jobSecretVolume,
  localStateClaim,
  localStateMount,
  referredVolumes,
  scratchVolumes,
} from './volumes.ts';

/** What both StatefulSets are told of a deployment. */
export interface PodSettings {
  image: string;
  secretName: string;
  clusterDomain: string;
  replicas: number;
}

/** A leader finishes what it writes to the store before it lets go of its Lease. */
const JOB_MANAGER_GRACE_SECONDS = 60;
const TASK_MANAGER_GRACE_SECONDS = 30;

function statefulSet(
  job: DeployedJob,
  role: Role,
  replicas: number,
  parts: PodParts,
): Typed<V1StatefulSet> {
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: metadataOf(job, roleName(job, role), role),
    spec: {
      serviceName: roleName(job, role),
      replicas,
      // Pods do not wait for each other: they all take part at once, or wait together.
      podManagementPolicy: 'Parallel',
      revisionHistoryLimit: 3,
      selector: { matchLabels: podSelector(job, role) },
      updateStrategy: { type: 'RollingUpdate' },
      template: podTemplateOf(job, role, parts),
    },
  };
}

export function jobManagers(
  job: DeployedJob,
  settings: PodSettings,
  run: Pick<Deployment, 'run' | 'stateless' | 'first'>,
): Typed<V1StatefulSet> {
  const resources = jobManagerResources(job);
  return statefulSet(job, 'jobmanager', settings.replicas, {
    image: settings.image,
    args: jobManagerArgs(job, settings, run),
    ports: ['rpc', 'rest'],
    probed: 'rest',
    env: [{ name: 'NODE_OPTIONS', value: jobManagerHeapOption(resources) }],
    resources,
    volumes: [
      jobConfigVolume(job),
      jobSecretVolume(settings.secretName),
      ...referredVolumes(job, 'jobmanager'),
      ...scratchVolumes(job, 'jobmanager'),
    ],
    // The arguments say it too; here people and `kubectl -o jsonpath` find it.
    annotations: { [ANNOTATIONS.run]: String(run.run) },
    apiAccess: true,
    terminationGracePeriodSeconds: JOB_MANAGER_GRACE_SECONDS,
  });
}

function jobManagerArgs(
  job: DeployedJob,
  { clusterDomain }: PodSettings,
  { run, stateless = false, first = false }: Pick<Deployment, 'run' | 'stateless' | 'first'>,
): string[] {
  const start = stateless ? 'stateless' : first && run > 1 ? 'first' : null;
  const { createdAt = 0 } = job;
  return [
    'jobmanager',
    ...['--plan', `${PATHS.job}/${PATHS.jobFile}`],
    ...['--rpc-port', `${PORTS.rpc}`, '--rest-port', `${PORTS.rest}`],
    ...['--advertise-host', jobManagerHost(job, '$(POD_NAME)', clusterDomain)],
    ...['--on-sigterm', 'release', '--on-end', 'stay', '--run', `${run}`],
    ...transportArgs(job),
    ...['--rest-token-file', `${PATHS.secret}/rest-token`],
    ...['--leader-election', 'kubernetes', '--lease', leaseName(job)],
    ...['--lease-owner', job.uid],
    ...(createdAt === 0 ? [] : ['--job-created-at', `${createdAt}`]),
    ...(start === null ? [] : ['--start', start]),
  ];
}

/** A TaskManager given a secret speaks TLS, whatever the job says. */
function transportArgs({ plan }: DeployedJob): string[] {
  return plan.internalTls ? ['--secret-file', `${PATHS.secret}/transport`] : [];
}

/**
 * Whatever their number is: another one must not restart the tasks. Two by name, and any of them by
 * the Service's; whoever is asked names the leader.
 */
function jobManagerAddresses(job: DeployedJob, { clusterDomain }: PodSettings): string[] {
  const service = roleName(job, 'jobmanager');
  const hosts = [
    ...[0, 1].map((index) => jobManagerHost(job, `${service}-${index}`, clusterDomain)),
    serviceHost(job, service, clusterDomain),
  ];
  return hosts.map((host) => `${host}:${PORTS.rpc}`);
}

/**
 * Without the run: TaskManagers are told everything by the JobManager that deploys to them, so a
 * new run alone restarts none of them.
 */
export function taskManagers(job: DeployedJob, settings: PodSettings): Typed<V1StatefulSet> {
  const { plan } = job;
  const set = statefulSet(job, 'taskmanager', settings.replicas, {
    image: settings.image,
    args: [
      'taskmanager',
      ...['--jobmanager', jobManagerAddresses(job, settings).join(',')],
      ...['--slots', `${plan.slotsPerTaskManager}`],
      ...['--local-state-dir', plan.localStateDir],
      ...['--id', '$(POD_NAME)'],
      ...['--shuffle-port', `${PORTS.shuffle}`, '--shuffle-host', '$(POD_IP)'],
      ...['--health-port', `${PORTS.health}`],
      ...transportArgs(job),
    ],
    ports: ['shuffle', 'health'],
    probed: 'health',
    // No argument: a job may name an image of a release that has no such option.
    env: [{ name: SLOT_HEAP, value: `${slotHeapMebibytes(plan)}` }],
    resources: taskManagerResources(job),
    volumes: [
      localStateMount(job),
      jobSecretVolume(settings.secretName),
      ...referredVolumes(job, 'taskmanager'),
      ...scratchVolumes(job, 'taskmanager'),
    ],
    annotations: {},
    apiAccess: false,
    terminationGracePeriodSeconds: TASK_MANAGER_GRACE_SECONDS,
  });
  const spec = {
    ...set.spec!,
    volumeClaimTemplates: [localStateClaim(job)],
    /**
     * Claims beyond the replicas are deleted by the operator (decide/disks.ts). With `Delete` for
     * whenScaled the controller does it, and between two runs, from some pods to none and back, it
     * may never make the new ones: it skips a pod whose claim still names the old pod as its owner,
     * and nothing tells it when that claim is gone.
     */
    persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Delete', whenScaled: 'Retain' },
  };
  return { ...set, spec };
}
