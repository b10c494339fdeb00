/** The volumes of a pod, and where they are mounted. The root file system is read-only. */
import { posix } from 'node:path';
import type {
  V1PersistentVolumeClaim,
  V1PersistentVolumeClaimSpec,
  V1Volume,
  V1VolumeMount,
} from '@kubernetes/client-node';
import { configPath, secretPath } from '../../../worker/src/plan/site.ts';
import type { DeployedJob } from './deployed-job.ts';
import { configName, JOB_SECRET, LOCAL_STATE, PATHS, podSelector, type Role } from './names.ts';

export interface MountedVolume {
  /** Absent: of the StatefulSet's volumeClaimTemplates. */
  volume?: V1Volume;
  mount: V1VolumeMount;
}

/** The worker refuses a secret that everybody on the machine could read. */
const OWNER_AND_GROUP = 0o440;
/** Where the spec names no size: enough for a crash's leftovers, too little to fill a node. */
const SCRATCH_SIZE = '1Gi';

interface Space {
  storageClassName?: string;
  size: string | number;
}

function claimSpec({ storageClassName, size }: Space): V1PersistentVolumeClaimSpec {
  return {
    accessModes: ['ReadWriteOnce'],
    ...(storageClassName === undefined ? {} : { storageClassName }),
    resources: { requests: { storage: String(size) } },
    volumeMode: 'Filesystem',
  };
}

/** Space that lives as long as its pod: of the node, or of a class that the spec names. */
function scratch(
  name: string,
  mountPath: string,
  space: Space | undefined,
  labels: Record<string, string>,
): MountedVolume {
  const mount = { name, mountPath };
  if (space?.storageClassName === undefined) {
    return {
      volume: { name, emptyDir: { sizeLimit: String(space?.size ?? SCRATCH_SIZE) } },
      mount,
    };
  }
  const volumeClaimTemplate = { metadata: { labels }, spec: claimSpec(space) };
  return { volume: { name, ephemeral: { volumeClaimTemplate } }, mount };
}

/** /tmp and /var/log/flink. */
export function scratchVolumes(job: DeployedJob, role: Role): MountedVolume[] {
  const { tmp, logs } = role === 'taskmanager' ? job.spec.taskManager : {};
  const labels = podSelector(job, role);
  return [scratch('tmp', PATHS.tmp, tmp, labels), scratch('logs', PATHS.logs, logs, labels)];
}

/** RocksDB's: a claim per pod, kept while the pod moves between containers and images. */
export function localStateClaim(job: DeployedJob): V1PersistentVolumeClaim {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: LOCAL_STATE, labels: podSelector(job, 'taskmanager') },
    spec: claimSpec(job.spec.taskManager.localState),
  };
}

export function localStateMount(job: DeployedJob): MountedVolume {
  return { mount: { name: LOCAL_STATE, mountPath: job.plan.localStateDir } };
}

export function jobConfigVolume(job: DeployedJob): MountedVolume {
  return {
    volume: { name: 'job', configMap: { name: configName(job) } },
    mount: { name: 'job', mountPath: PATHS.job, readOnly: true },
  };
}

const secretVolume = (name: string, secretName: string, mountPath: string): MountedVolume => ({
  volume: { name, secret: { secretName, defaultMode: OWNER_AND_GROUP } },
  mount: { name, mountPath, readOnly: true },
});

export function jobSecretVolume(secretName: string): MountedVolume {
  return secretVolume(JOB_SECRET, secretName, PATHS.secret);
}

/**
 * The Secrets and ConfigMaps that the spec refers to, each whole and in a folder of its name (the
 * worker's plan/site.ts): a rotated one reaches the pod without a restart, and a pod whose Secret
 * is missing waits for it with an Event that says so. A role gets only what it uses.
 */
export function referredVolumes(job: DeployedJob, role: Role): MountedVolume[] {
  const { source, deadLetter, action, checkpointing, filter } = job.spec;
  const forBoth = [
    source.kafka?.securityRef?.name,
    deadLetter?.kafka?.securityRef?.name,
    checkpointing.s3.credentialsRef?.name,
  ];
  const forTasks = role === 'taskmanager' ? [action.webhook?.signingSecretRef?.name] : [];
  const script = role === 'jobmanager' ? [filter.scriptFrom?.configMapKeyRef.name] : [];
  return [
    ...sorted([...forBoth, ...forTasks]).map((name, index) =>
      secretVolume(`user-secret-${index}`, name, posix.dirname(secretPath(name, 'key'))),
    ),
    ...sorted(script).map((name, index) => ({
      volume: { name: `user-config-${index}`, configMap: { name } },
      mount: {
        name: `user-config-${index}`,
        mountPath: posix.dirname(configPath(name, 'key')),
        readOnly: true,
      },
    })),
  ];
}

/** Each once, in an order that does not depend on where the spec names them. */
function sorted(names: (string | undefined)[]): string[] {
  return [...new Set(names.filter((name) => name !== undefined))].sort();
}
