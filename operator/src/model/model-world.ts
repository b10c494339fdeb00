/** A cluster of models with one operator in it that may end and begin again, under virtual time. */

import type { Settings } from '../decide/decision.ts';
import { checkSpec } from '../decide/spec.ts';
import { desiredObjects, type OperatorSettings } from '../desired/desired.ts';
import { OPERATOR_NAME } from '../desired/names.ts';
import { isKubeError } from '../kube/kube-error.ts';
import type { KubeObject } from '../kube/port.ts';
import { ManualEnv } from '../manual-env.ts';
import { type ReconcileDeps, reconcile } from '../reconcile.ts';
import type { Caches, TriggerJobObject } from '../watched-kinds.ts';
import { ModelJobs } from './model-jobmanager.ts';
import { ModelKube, ProcessEnded } from './model-kube.ts';
import { ModelStatefulSets } from './model-stateful-sets.ts';

const KEY = { namespace: 'triggers', name: 'user-events' };
export const JOB_REF = { apiVersion: 'triggerjob.io/v1alpha1', kind: 'TriggerJob', ...KEY };

export const OPERATOR: OperatorSettings = {
  workerImage: 'triggerjob-worker:0.1.0',
  hmacKeys: ['0123456789abcdef0123456789abcdef'],
  clusterDomain: '',
  operatorNamespace: OPERATOR_NAME,
  restClients: [],
};

export const SETTINGS: Settings = {
  desired: (spec, deployment) => desiredObjects(spec.job, deployment, OPERATOR),
  check: checkSpec,
};

export const SPEC: Readonly<Record<string, unknown>> = {
  source: { kafka: { bootstrapServers: 'kafka:9092', topic: 'events' } },
  filter: { script: 'event.triggerable' },
  action: { debug: {} },
  checkpointing: { directory: 's3://bucket/checkpoints' },
  taskManager: { replicas: 2, slots: 4 },
  jobManager: { replicas: 1 },
  upgradeMode: 'savepoint',
  upgrade: { healthTimeout: '90s' },
};

const KINDS = [
  'TriggerJob',
  'StatefulSet',
  'Pod',
  'PersistentVolumeClaim',
  'PersistentVolume',
  'Node',
  'Service',
  'ConfigMap',
  'ServiceAccount',
  'Role',
  'RoleBinding',
  'PodDisruptionBudget',
  'NetworkPolicy',
] as const;

export type Reconcile = typeof reconcile;

export class ModelWorld {
  readonly env = new ManualEnv();
  readonly kube = new ModelKube();
  readonly jobs = new ModelJobs(this.kube, () => this.env.now());
  readonly sets = new ModelStatefulSets(this.kube, () => this.env.now());
  readonly #reconcile: Reconcile;
  #deps: ReconcileDeps;
  #dueAt = 0;
  /** How often the operator has ended. */
  ends = 0;
  /** Looks that a new operator takes with caches that lag, and by how many changes. */
  staleness = { looks: 0, lag: 0 };

  constructor(reconcileWith: Reconcile = reconcile) {
    this.#reconcile = reconcileWith;
    this.#deps = this.#newDeps();
    this.kube.now = () => this.env.now();
    this.kube.onWrite = (object) => this.#judge(object);
  }

  #newDeps(): ReconcileDeps {
    const caches = Object.fromEntries(KINDS.map((kind) => [kind, this.kube.cache(kind)]));
    return {
      env: this.env,
      kube: this.kube,
      caches: caches as unknown as Caches,
      jobManager: this.jobs,
      settings: SETTINGS,
      memories: new Map(),
    };
  }

  create(spec: object = {}): void {
    const { apiVersion, kind } = JOB_REF;
    const object = { apiVersion, kind, metadata: { ...KEY }, spec: { ...SPEC, ...spec } };
    this.kube.put(object as KubeObject);
  }

  get job(): TriggerJobObject | undefined {
    return this.kube.find<TriggerJobObject>('TriggerJob', KEY.namespace, KEY.name);
  }

  /** `kubectl patch`. */
  edit(spec: object): void {
    this.kube.change(JOB_REF, { spec });
    this.#dueAt = 0;
  }

  annotate(name: string, token: string): void {
    this.kube.change(JOB_REF, { metadata: { annotations: { [`triggerjob.io/${name}`]: token } } });
    this.#dueAt = 0;
  }

  deleteJob(): void {
    this.kube.remove(JOB_REF);
    this.#dueAt = 0;
  }

  /** Runs until `reached`; throws after `seconds` of virtual time, naming what it waited for. */
  async until(goal: string, reached: () => boolean, seconds = 400): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      if (reached()) return;
      await this.second();
    }
    const { status } = this.job ?? {};
    throw new Error(`not reached in ${seconds} s: ${goal}; status ${JSON.stringify(status)}`);
  }

  async second(): Promise<void> {
    if (this.env.now() >= this.#dueAt) await this.look();
    this.sets.tick();
    this.jobs.tick();
    await this.env.advance(1000);
  }

  /** One look of the operator; it may end in it, and then another one begins. */
  async look(): Promise<void> {
    const { looks, lag } = this.staleness;
    this.kube.lag = looks > 0 ? lag : 0;
    this.staleness.looks = Math.max(0, looks - 1);
    try {
      const { requeueAfterMs = 60_000 } = await this.#reconcile(this.#deps, KEY);
      this.#dueAt = this.env.now() + Math.min(requeueAfterMs, 5_000);
    } catch (error) {
      if (error instanceof ProcessEnded) {
        this.ends += 1;
        this.#deps = this.#newDeps();
        // Behind by a number of changes that differs from point to point.
        this.staleness = { looks: 2, lag: (this.kube.endAfter % 7) * 3 };
      } else if (!isKubeError(error, 'KUBE_CONFLICT')) throw error;
      this.#dueAt = 0;
    } finally {
      this.kube.lag = 0;
    }
  }

  /** L1: no object speaks of a run that the status does not know. */
  #judge(object: KubeObject): void {
    if (object.kind !== 'StatefulSet' || !object.metadata.name.endsWith('-jobmanager')) return;
    const template = JSON.stringify(object);
    const run = Number(/"--run","(\d+)"/.exec(template)?.[1] ?? 0);
    const known = this.job?.status?.run ?? 0;
    if (run > known) this.jobs.faults.push(`objects of run ${run} while the status says ${known}`);
    if (run < known && (object as { spec?: { replicas?: number } }).spec?.replicas !== 0) {
      this.jobs.faults.push(`objects of run ${run} again after run ${known}`);
    }
  }
}
