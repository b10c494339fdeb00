/**
 * In place of kubelets and workers: pods that the StatefulSet controller has made begin to run when
 * what they mount is there, are ready once somebody answers in them, and end a moment after they
 * are told to. In each namespace a model's JobManager answers; what lies in its store outlives
 * the pods.
 */
import { realEnv, sleep } from '../../operator/src/env.ts';
import type { KubeClient } from '../../operator/src/kube/client.ts';
import { type Pod, refOf } from '../../operator/src/kube/objects.ts';
import type { KubeObject, ObjectCache } from '../../operator/src/kube/port.ts';
import { type Cluster, ModelJobs } from '../../operator/src/model/model-jobmanager.ts';
import type { TriggerJobObject } from '../../operator/src/watched-kinds.ts';
import { ClusterMirror } from './cluster-mirror.ts';

const KUBELET_MS = 50;
const JOBMANAGER_MS = 250;
/** From Running to Ready: what answers in the pod has begun by then. */
const READY_MS = 2 * JOBMANAGER_MS;
/** From the deletion of a pod to its end. */
const ENDS_MS = 700;
/** A pod that no node has is gone at once when it is deleted, unless somebody holds it. */
const HELD = 'e2e.test/ends';
const SEEN = ['TriggerJob', 'StatefulSet', 'Pod', 'ConfigMap', 'Secret', 'Service'] as const;

export class PodsStandIn {
  readonly #client: KubeClient;
  readonly #abort = new AbortController();
  readonly #mirror: ClusterMirror;
  readonly #jobs = new Map<string, ModelJobs>();
  /** When a pod was first seen to run or to end, by uid and which. */
  readonly #since = new Map<string, number>();
  readonly #underWay = new Set<string>();
  #done: Promise<unknown> = Promise.resolve();

  constructor(client: KubeClient) {
    this.#client = client;
    this.#mirror = new ClusterMirror(client, SEEN);
  }

  async start(): Promise<void> {
    await this.#mirror.start();
    const kubelet = this.#every(KUBELET_MS, () => {
      for (const pod of this.cache<Pod>('Pod').list()) this.#look(pod);
    });
    const jobManagers = this.#every(JOBMANAGER_MS, () => {
      for (const jobs of this.#jobs.values()) jobs.tick();
    });
    this.#done = Promise.all([kubelet, jobManagers]);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await Promise.all([this.#done, this.#mirror.stop()]);
  }

  cache<T extends KubeObject>(kind: (typeof SEEN)[number]): ObjectCache<T> {
    return this.#mirror.cache<T>(kind);
  }

  in<T extends KubeObject>(namespace: string, kind: (typeof SEEN)[number]): T[] {
    return this.#mirror.in<T>(namespace, kind);
  }

  job(namespace: string, name: string): TriggerJobObject | undefined {
    return this.#mirror.job(namespace, name);
  }

  /** The JobManagers of a namespace, and what lies in their store. */
  jobsIn(namespace: string): ModelJobs {
    const known = this.#jobs.get(namespace);
    if (known !== undefined) return known;
    const cluster: Cluster = {
      find: (kind, where, name) => this.cache(kind as 'Pod').get(where, name) as never,
      all: (kind) => this.in(namespace, kind as 'Pod'),
      count: () => {},
    };
    const jobs = new ModelJobs(cluster, () => realEnv.now());
    this.#jobs.set(namespace, jobs);
    return jobs;
  }

  async #every(ms: number, work: () => void): Promise<void> {
    while (await sleep(realEnv, ms, this.#abort.signal)) work();
  }

  #look(pod: Pod): void {
    const { metadata, status } = pod;
    const { uid = '', finalizers = [], deletionTimestamp } = metadata;
    if (this.#underWay.has(uid)) return;
    if (deletionTimestamp !== undefined) {
      if (!finalizers.includes(HELD) || !this.#past(`${uid} ends`, ENDS_MS)) return;
      this.#patch(pod, { metadata: { finalizers: [] } });
    } else if (!finalizers.includes(HELD)) {
      this.#patch(pod, { metadata: { finalizers: [...finalizers, HELD] } });
    } else if (status?.phase !== 'Running') {
      if (this.#mounted(pod)) this.#patch(pod, { status: { phase: 'Running' } }, 'status');
    } else if (!status.conditions?.some(({ type }) => type === 'Ready')) {
      if (!this.#past(`${uid} runs`, READY_MS)) return;
      const conditions = [{ type: 'Ready', status: 'True' }];
      this.#patch(pod, { status: { conditions } }, 'status');
    }
  }

  /** A kubelet waits for what a pod's volumes name. */
  #mounted({ metadata: { namespace = '' }, spec }: Pod): boolean {
    return (spec?.volumes ?? []).every(({ secret, configMap }) => {
      const { secretName = '' } = secret ?? {};
      if (secret !== undefined && !this.cache('Secret').get(namespace, secretName)) return false;
      return (
        configMap === undefined || this.cache('ConfigMap').get(namespace, configMap.name ?? '')
      );
    });
  }

  #past(what: string, ms: number): boolean {
    const since = this.#since.get(what) ?? realEnv.monotonic();
    this.#since.set(what, since);
    return realEnv.monotonic() - since >= ms;
  }

  #patch(pod: Pod, patch: object, subresource?: 'status'): void {
    const { uid = '', resourceVersion } = pod.metadata;
    this.#underWay.add(uid);
    const whole = { ...patch, metadata: { resourceVersion, uid, ...metadataOf(patch) } };
    const isNews = (): boolean => {
      const { namespace = '', name } = pod.metadata;
      const now = this.cache<Pod>('Pod').get(namespace, name);
      return now?.metadata.resourceVersion !== resourceVersion;
    };
    void (async () => {
      try {
        await this.#client.patch(refOf(pod), whole, subresource);
        // Until the mirror has it, it would be written once more.
        while (!isNews() && !this.#abort.signal.aborted) await sleep(realEnv, 10);
      } catch {
        // Changed or gone meanwhile: the next look sees it.
      }
      this.#underWay.delete(uid);
    })();
  }
}

const metadataOf = (patch: object): object => (patch as { metadata?: object }).metadata ?? {};
