/**
 * What one look at a job has found: all that decide/ knows. Plain data, taken before anything is
 * decided; times are wall-clock milliseconds.
 */
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod } from '../kube/objects.ts';
import type { KubeObject } from '../kube/port.ts';
import type { TriggerJobObject } from '../watched-kinds.ts';
import type { JobManagerStatus, TriggerProgress } from './jobmanager-api.ts';

/** A TaskManager pod that waits for a volume whose node may be lost. */
export interface WaitingDisk {
  pod: Pod;
  claim: PersistentVolumeClaim;
  volume: PersistentVolume;
  /** null: there is no such node any more. */
  node: Node | null;
}

/** A pod that is being deleted, and the node it is on. */
export interface StuckPod {
  pod: Pod;
  node: Node;
}

export interface Facts {
  now: number;
  /** Uniform in [0, 1): spreads the polls of many jobs. */
  chance: number;
  job: TriggerJobObject;
  /**
   * The job and its StatefulSets were read from the server for this look. Caches may lag behind,
   * each by its own time: what ends a run is not decided by them.
   */
  live: boolean;
  /** Looks an object of the job's namespace up, whosever it is. */
  find(kind: string, name: string): KubeObject | undefined;
  /** Pods of the job's StatefulSets, and what is left of former ones. */
  pods: readonly Pod[];
  disks: readonly WaitingDisk[];
  /** The claims that RocksDB of the TaskManagers is on, with a pod or without. */
  claims: readonly PersistentVolumeClaim[];
  /** Pods of the job that are being deleted, where their node is known. */
  terminating: readonly StuckPod[];
  /** null: it was not asked, since nothing can be there. */
  jobManager: { status: JobManagerStatus } | { unreachable: string } | null;
  /** By trigger id; null: the JobManager knows no such trigger. Absent: it was not asked. */
  progress: ReadonlyMap<string, TriggerProgress | null>;
  memory: JobMemory;
}

/**
 * What a process remembers of a job beyond the API server's objects. Losing it costs a few requests
 * and never a decision: everything that must survive is in the status.
 */
export interface JobMemory {
  /** Of the job that it is about: another one of its name begins with none. */
  uid: string;
  /** When the Secret was tried last; 0: not yet. It can't be read, so it is tried now and then. */
  secretTriedAt: number;
  /** When a try found it there last; 0: not yet. */
  secretFoundAt: number;
  /** When this process wrote the status last; 0: not yet. */
  statusWrittenAt: number;
  /** What the API server said of the objects of a spec, by their digest; `error` null: accepted. */
  rehearsal: { digest: string; error: string | null; at: number } | null;
  /** What the API server refused last when the objects were applied; null: nothing. */
  applyError: string | null;
  /** What the JobManager said to triggers that it would not take, by their id. */
  refusals: ReadonlyMap<string, string>;
}

export const NO_MEMORY: JobMemory = {
  uid: '',
  secretTriedAt: 0,
  secretFoundAt: 0,
  statusWrittenAt: 0,
  rehearsal: null,
  applyError: null,
  refusals: new Map(),
};
