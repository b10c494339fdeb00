/**
 * Stands in for what a cluster of API server and etcd alone has not: the StatefulSet controller,
 * the kubelet and the pods. It makes and ends small Pods that are ready at once, writes the status
 * of StatefulSets, and answers for every JobManager on one port of loopback (`jobManagerUrl` is for
 * the operator's --jobmanager-url). It sees the API server as a controller does, by watches.
 *
 * `faults` is what must never be: pods of two runs of a job at once, an older run after a newer.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { realEnv, sleep } from '../../operator/src/env.ts';
import { KubeClient } from '../../operator/src/kube/client.ts';
import { kubeconfigSource } from '../../operator/src/kube/connection.ts';
import { Informer } from '../../operator/src/kube/informer.ts';
import { isKubeError } from '../../operator/src/kube/kube-error.ts';
import {
  type ConfigMap,
  KINDS,
  type Kind,
  type Pod,
  type StatefulSet,
} from '../../operator/src/kube/objects.ts';
import type { KubeObject, ObjectRef } from '../../operator/src/kube/port.ts';
import { WorkQueue } from '../../operator/src/kube/work-queue.ts';
import { jobKeyOf } from '../../operator/src/watched-kinds.ts';
import { StandInJobManager } from './stand-in-jobmanager.ts';

const OURS = 'app.kubernetes.io/managed-by=triggerjob-operator';
const OF_A_JOB = 'app.kubernetes.io/name=triggerjob';
const REVISION = 'stand-in/revision';
const ROLES = ['jobmanager', 'taskmanager'] as const;
const RUN = 'stand-in/run';
const READY = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] };
const SYNC_POLL_MS = 20;

interface StandInOptions {
  /** Jobs that are worked on at once. */
  concurrency?: number;
}

export class StandIn {
  readonly faults: string[] = [];
  readonly #client: KubeClient;
  /** REST requests that were answered. */
  requests = 0;
  readonly #podsByJob = new Map<string, Map<string, Pod>>();
  readonly #jobs = new Map<string, StandInJobManager>();
  readonly #queue: WorkQueue;
  readonly #sets: Informer<StatefulSet>;
  readonly #pods: Informer<Pod>;
  readonly #configs: Informer<ConfigMap>;
  readonly #server: Server;
  readonly #end = new AbortController();
  #mirrors: Promise<unknown> = Promise.resolve();
  #port = 0;

  private constructor(client: KubeClient, options: StandInOptions) {
    this.#client = client;
    const changed = (object: KubeObject) => {
      const key = jobKeyOf(object);
      if (key !== null) this.#queue.add(key);
    };
    this.#sets = this.#informer(KINDS.StatefulSet, OURS, changed);
    this.#configs = this.#informer(KINDS.ConfigMap, OURS, changed);
    this.#pods = this.#informer(KINDS.Pod, OF_A_JOB, (pod, there) => this.#podSeen(pod, there));
    this.#queue = new WorkQueue({
      env: realEnv,
      work: (key) => this.#settle(key),
      concurrency: options.concurrency ?? 4,
      metrics: { added: () => {}, retried: () => {}, taken: () => {}, finished: () => {} },
      onError: (key, error) => {
        // A cache behind the server, or a server that is being restarted: it comes again.
        const usual = isKubeError(error, 'KUBE_CONFLICT') || isKubeError(error, 'KUBE_NOT_FOUND');
        const away = isKubeError(error, 'KUBE_UNAVAILABLE');
        if (!usual && !away) this.faults.push(`the stand-in itself, ${key}: ${String(error)}`);
      },
      backoffBaseMs: 20,
      backoffCapMs: 1_000,
    });
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  /** `kubeconfig`: path of an administrator's. */
  static async start(kubeconfig: string, options: StandInOptions = {}): Promise<StandIn> {
    const client = KubeClient.open({
      env: realEnv,
      source: await kubeconfigSource(kubeconfig),
      limit: { perSecond: 10_000, burst: 10_000 },
      metrics: { request: () => {} },
    });
    const standIn = new StandIn(client, options);
    await standIn.#start();
    return standIn;
  }

  get jobManagerUrl(): string {
    return `http://127.0.0.1:${this.#port}/{namespace}/{name}`;
  }

  /** Of a job that was seen; `key` is namespace/name. What it stored outlives the job. */
  job(key: string): StandInJobManager {
    const known = this.#jobs.get(key);
    if (known !== undefined) return known;
    const made = new StandInJobManager();
    this.#jobs.set(key, made);
    return made;
  }

  /** Everything wrong that was seen, of the cluster and of every job. */
  allFaults(): string[] {
    const ofJobs = [...this.#jobs].flatMap(([key, job]) =>
      job.faults.map((fault) => `${key}: ${fault}`),
    );
    return [...this.faults, ...ofJobs];
  }

  async stop(): Promise<void> {
    await this.#queue.stop();
    this.#end.abort();
    this.#server.closeAllConnections();
    await new Promise<void>((done) => this.#server.close(() => done()));
    await this.#client.close();
    await this.#mirrors;
  }

  async #start(): Promise<void> {
    const mirrors = [this.#sets, this.#pods, this.#configs];
    this.#mirrors = Promise.all(mirrors.map((informer) => informer.run(this.#end.signal)));
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    this.#port = address.port;
    while (!mirrors.every(({ synced }) => synced)) await sleep(realEnv, SYNC_POLL_MS);
    this.#queue.start();
  }

  #informer<T extends KubeObject>(
    kind: Kind,
    labelSelector: string,
    changed: (object: T, there: boolean) => void,
  ): Informer<T> {
    return new Informer<T>({
      env: realEnv,
      api: this.#client,
      kind,
      namespaces: [],
      labelSelector,
      metrics: { listed: () => {}, watchStarted: () => {}, watchFailed: () => {} },
      log: { info: () => {}, warn: () => {} },
      handlers: {
        added: (object) => changed(object, true),
        updated: (object) => changed(object, true),
        deleted: (object) => changed(object, false),
      },
    });
  }

  #podSeen(pod: Pod, there: boolean): void {
    const key = jobKeyOf(pod);
    if (key === null) return;
    const pods = this.#podsByJob.get(key) ?? new Map<string, Pod>();
    this.#podsByJob.set(key, pods);
    if (there) pods.set(pod.metadata.name, pod);
    else pods.delete(pod.metadata.name);
    const runs = new Set([...pods.values()].map(runOf));
    if (runs.size > 1) {
      this.faults.push(`${key}: pods of runs ${[...runs].toSorted().join(' and ')} at once`);
    }
    this.#queue.add(key);
  }

  // StatefulSets and their pods.

  async #settle(key: string): Promise<Record<string, never>> {
    const [namespace = '', name = ''] = key.split('/');
    const pods = [...(this.#podsByJob.get(key)?.values() ?? [])];
    const leader = pods.find((pod) => roleOf(pod) === 'jobmanager' && isReady(pod));
    const job = this.job(key);
    const ref = { apiVersion: 'v1', kind: 'ConfigMap', namespace, name: `${name}-config` };
    // A kubelet mounts what is there when the pod begins, and brings changes later.
    const fresh = leader !== undefined && job.isNewRun(argsOf(leader));
    const config = fresh
      ? await this.#client.get<ConfigMap>(ref)
      : this.#configs.cache.get(namespace, ref.name);
    job.configure(config?.data?.['triggerjob.yaml'] ?? '{}');
    job.pods({
      leader: leader === undefined ? null : argsOf(leader),
      workers: pods.filter((pod) => roleOf(pod) === 'taskmanager' && isReady(pod)).length,
    });
    const sets = ROLES.flatMap((role) => this.#sets.cache.get(namespace, `${name}-${role}`) ?? []);
    // The pods of an earlier run are gone before one of a later run is made.
    await Promise.all(pods.map((pod) => (isWanted(pod, sets) ? null : this.#remove(pod))));
    const [leaders] = sets;
    const run = leaders?.metadata.name.endsWith('-jobmanager') ? runIn(argsIn(leaders)) : '';
    await Promise.all(pods.map((pod) => (isReady(pod) ? null : this.#makeReady(pod))));
    for (const set of sets) await this.#grow(set, pods, run);
    return {};
  }

  async #remove({ metadata }: Pod): Promise<void> {
    const { namespace = '', name, uid = '' } = metadata;
    await this.#client.delete({ apiVersion: 'v1', kind: 'Pod', namespace, name }, { uid });
  }

  async #makeReady({ metadata }: Pod): Promise<void> {
    const { namespace = '', name, uid } = metadata;
    const ref: ObjectRef = { apiVersion: 'v1', kind: 'Pod', namespace, name };
    await this.#client.patch(ref, { metadata: { uid }, status: READY }, 'status');
  }

  /** Makes the pods that are not there, and says what there is. */
  async #grow(set: StatefulSet, pods: readonly Pod[], run: string): Promise<void> {
    const { namespace = '', name, uid = '', generation = 0, deletionTimestamp } = set.metadata;
    const own = pods.filter((pod) => ownerOf(pod) === uid && isWanted(pod, [set]));
    const replicas = set.spec?.replicas ?? 1;
    for (let ordinal = 0; ordinal < replicas && deletionTimestamp === undefined; ordinal++) {
      const pod = `${name}-${ordinal}`;
      if (!pods.some(({ metadata }) => metadata.name === pod)) {
        await this.#client.create(podOf(set, pod, run));
      }
    }
    const revision = revisionOf(set);
    const status = {
      observedGeneration: generation,
      replicas: own.length,
      readyReplicas: own.filter(isReady).length,
      currentReplicas: own.length,
      updatedReplicas: own.length,
      availableReplicas: own.filter(isReady).length,
      currentRevision: revision,
      updateRevision: revision,
    };
    const known: Record<string, unknown> = { ...set.status };
    if (Object.entries(status).every(([field, value]) => (known[field] ?? 0) === value)) return;
    const ref = { apiVersion: 'apps/v1', kind: 'StatefulSet', namespace, name };
    await this.#client.patch(ref, { metadata: { uid }, status }, 'status');
  }

  // The JobManagers' REST.

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, namespace = '', name = '', ...rest] = (request.url ?? '').split('/');
    const { method = 'GET', headers } = request;
    let text = '';
    for await (const part of request.setEncoding('utf8')) text += part;
    this.requests += 1;
    const unknown = method !== 'GET' && headers.authorization?.startsWith('Bearer ') !== true;
    const answer = unknown
      ? { status: 401, body: { errors: ['no token'] } }
      : this.#jobs
          .get(`${namespace}/${name}`)
          ?.answer(method, `/${rest.join('/')}`, text === '' ? {} : JSON.parse(text));
    const { status, body } = answer ?? { status: 503, body: { errors: ['nobody answers'] } };
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  }
}

const runIn = (args: readonly string[]): string => args[args.indexOf('--run') + 1] ?? '';
const argsIn = ({ spec }: StatefulSet): readonly string[] =>
  spec?.template.spec?.containers[0]?.args ?? [];
const argsOf = ({ spec }: Pod): readonly string[] => spec?.containers[0]?.args ?? [];
const runOf = ({ metadata }: Pod): string => metadata.annotations?.[RUN] ?? '';
const roleOf = ({ metadata }: Pod): string =>
  metadata.labels?.['app.kubernetes.io/component'] ?? '';
const ownerOf = ({ metadata }: Pod): string => metadata.ownerReferences?.[0]?.uid ?? '';
const isReady = ({ metadata, status }: Pod): boolean =>
  metadata.deletionTimestamp === undefined && status?.phase === READY.phase;

const revisionOf = ({ metadata, spec }: StatefulSet): string => {
  const digest = createHash('sha256').update(JSON.stringify(spec?.template)).digest('hex');
  return `${metadata.name}-${digest.slice(0, 10)}`;
};

/** Of one of the StatefulSets, of its newest template, and within its replicas. */
function isWanted(pod: Pod, sets: readonly StatefulSet[]): boolean {
  const set = sets.find(({ metadata }) => metadata.uid === ownerOf(pod));
  if (set === undefined || set.metadata.deletionTimestamp !== undefined) return false;
  const ordinal = Number(pod.metadata.name.slice(set.metadata.name.length + 1));
  const current = pod.metadata.annotations?.[REVISION] === revisionOf(set);
  return current && ordinal < (set.spec?.replicas ?? 1);
}

/** As small as the API server and the operator allow. */
function podOf(set: StatefulSet, name: string, run: string): Pod {
  const { namespace = '', uid = '' } = set.metadata;
  const owner = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: set.metadata.name, uid };
  const { labels = {}, annotations = {} } = set.spec?.template.metadata ?? {};
  const { serviceAccountName } = set.spec?.template.spec ?? {};
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels,
      annotations: { ...annotations, [REVISION]: revisionOf(set), [RUN]: run },
      ownerReferences: [{ ...owner, controller: true }],
    },
    spec: {
      automountServiceAccountToken: false,
      ...(serviceAccountName === undefined ? {} : { serviceAccountName }),
      containers: [{ name: 'main', image: 'stand-in', args: [...argsIn(set)] }],
    },
  };
}
