/** One job as a look finds it, for tests: running well unless a test says otherwise. */
import type { TriggerJobStatus } from '../../../worker/src/plan/status-schema.ts';
import { isCreateOnly } from '../desired/desired.ts';
import type { Pod, StatefulSet } from '../kube/objects.ts';
import type { KubeObject } from '../kube/port.ts';
import { SETTINGS, SPEC } from '../model/model-world.ts';
import { type Facts, NO_MEMORY } from '../observe/facts.ts';
import type { JobManagerStatus } from '../observe/jobmanager-api.ts';
import type { TriggerJobObject } from '../watched-kinds.ts';
import { decide } from './decide.ts';
import type { Action, Decision } from './decision.ts';
import { FINALIZER } from './deletion.ts';
import { checkSpec } from './spec.ts';

type Fields = Record<string, unknown>;

/** Now, in every test. */
export const NOW = Date.parse('2026-11-25T10:00:00Z');
export const ago = (ms: number): string => new Date(NOW - ms).toISOString();
/** From the run's begin, a minute ago, to the checkpoint that proves it healthy. */
const RUNNING_SINCE = NOW - 60_000;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function merge(base: Fields, patch: Fields): Fields {
  const merged: Fields = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    const old = merged[key];
    merged[key] = isFields(value) && isFields(old) ? merge(old, value) : value;
  }
  return merged;
}

export interface Situation {
  /** Patched over the spec that runs. */
  spec?: Fields;
  /** Patched over the spec that was deployed. */
  deployed?: Fields;
  metadata?: Partial<TriggerJobObject['metadata']>;
  status?: Partial<TriggerJobStatus>;
  /** null: nobody answers. */
  jobManager?: Partial<JobManagerStatus> | null;
  /** false: as many as there should be. */
  pods?: readonly Pod[];
  facts?: Partial<Facts>;
}

const STATUS: TriggerJobStatus = {
  state: 'Running',
  run: 1,
  deployedAt: ago(120_000),
  runFrom: { mode: 'fresh' },
  deployedGeneration: 1,
  stableGeneration: 1,
};

const HEALTHY: JobManagerStatus = {
  run: 1,
  state: 'RUNNING',
  since: RUNNING_SINCE,
  parallelism: 8,
  desiredParallelism: 8,
  taskManagers: { registered: 2, slotsTotal: 8, slotsFree: 0 },
  numRestarts: 0,
  lastCheckpoint: {
    id: 7,
    completedAt: NOW - 5_000,
    durationMs: 40,
    bytes: 1_000,
    location: 's3://c/7',
  },
  failedCheckpoints: 0,
  lastSavepoint: null,
  scriptVersion: '',
  refusedScript: null,
  lag: 0,
  error: null,
};

/** The claim that RocksDB of a TaskManager is on; `more` of its metadata. */
export const claimOf = (ordinal: number, more: object = {}) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: {
    namespace: 'triggers',
    name: `local-user-events-taskmanager-${ordinal}`,
    uid: `claim-${ordinal}`,
    ...more,
  },
});

export function factsOf(situation: Situation): Facts {
  const deployed = merge({ ...SPEC }, situation.deployed ?? {});
  const job = jobOf(situation, deployed);
  const verdict = checkSpec(job, deployed);
  const spec = 'spec' in verdict ? verdict.spec : null;
  const objects = spec === null ? [] : liveObjects(job, spec);
  const { jobManager } = situation;
  const scriptVersion = spec?.scriptVersion ?? '';
  return {
    now: NOW,
    chance: 0.5,
    job,
    live: true,
    find: (kind, name) => objects.find((one) => one.kind === kind && one.metadata.name === name),
    pods: situation.pods ?? [
      podOf('jobmanager', 0),
      podOf('taskmanager', 0),
      podOf('taskmanager', 1),
    ],
    disks: [],
    claims: [],
    terminating: [],
    jobManager:
      jobManager === null
        ? { unreachable: 'no JobManager answers' }
        : { status: { ...HEALTHY, scriptVersion, ...jobManager } },
    progress: new Map(),
    memory: { ...NO_MEMORY, uid: 'uid-1', secretTriedAt: NOW },
    ...situation.facts,
  };
}

function jobOf(situation: Situation, deployed: Fields): TriggerJobObject {
  const { metadata, status, spec = {} } = situation;
  const text = JSON.stringify(deployed);
  return {
    apiVersion: 'triggerjob.io/v1alpha1',
    kind: 'TriggerJob',
    metadata: {
      namespace: 'triggers',
      name: 'user-events',
      uid: 'uid-1',
      generation: 1,
      resourceVersion: '1',
      finalizers: [FINALIZER],
      ...metadata,
    },
    spec: merge(deployed, spec),
    status: { ...STATUS, deployedSpec: text, stableSpec: text, ...status },
  };
}

/** As they are on the server, their StatefulSets as they are when all pods are there. */
function liveObjects(
  job: TriggerJobObject,
  spec: Parameters<typeof SETTINGS.desired>[0],
): KubeObject[] {
  const { run = 1, runFrom } = job.status ?? {};
  const deployment = { run, savepoint: runFrom?.savepoint ?? null };
  const settings = SETTINGS.desired(spec, deployment);
  return settings.filter((object) => !isCreateOnly(object)).map(settledSet);
}

function settledSet(object: KubeObject): KubeObject {
  if (object.kind !== 'StatefulSet') return object;
  const set = object as StatefulSet;
  const replicas = set.spec?.replicas ?? 0;
  const status = {
    observedGeneration: 1,
    replicas,
    currentRevision: 'r1',
    updateRevision: 'r1',
  };
  const metadata = { ...set.metadata, generation: 1, uid: set.metadata.name };
  const settled: StatefulSet = { ...set, metadata, status };
  return settled;
}

export function podOf(role: 'jobmanager' | 'taskmanager', ordinal: number): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: 'triggers',
      name: `user-events-${role}-${ordinal}`,
      uid: `pod-${role}-${ordinal}`,
      labels: { 'app.kubernetes.io/component': role, 'triggerjob.io/job': 'user-events' },
    },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

export const decided = (situation: Situation): Decision => decide(factsOf(situation), SETTINGS);

/** With what the API server says of a new spec's objects, asked for as often as need be. */
export function decidedAfterRehearsal(situation: Situation, error: string | null = null): Decision {
  const first = decided(situation);
  const asked = first.actions.find((action) => action.do === 'rehearse');
  if (asked === undefined) return first;
  const memory = {
    ...NO_MEMORY,
    uid: 'uid-1',
    secretTriedAt: NOW,
    rehearsal: { digest: asked.digest, error, at: NOW },
  };
  return decided({ ...situation, facts: { ...situation.facts, memory } });
}

export const kindsOf = (actions: readonly Action[]): string[] =>
  actions.map((action) =>
    action.do === 'trigger'
      ? `trigger ${action.kind}`
      : action.do === 'scale'
        ? `scale ${action.ref.name} ${action.replicas}`
        : action.do === 'apply'
          ? `apply ${action.object.kind}`
          : action.do === 'delete'
            ? `delete ${action.ref.kind}`
            : action.do,
  );

export const conditionOf = ({ status }: Decision, type: string) =>
  status.conditions?.find((one) => one.type === type);
