/**
 * The operator as a process, but for what it does with a job: connection, caches, election, queue,
 * endpoints, and an end in order.
 *
 *     caches fill (standby too) -> lead -> reconcile -> SIGTERM: finish, release the Lease, exit 0
 *                                      '-> Lease lost: nothing more is written, exit 1
 */
import type { Logger } from 'pino';
import { Controller } from './controller.ts';
import { probe, serve } from './endpoints.ts';
import { type Env, sleep } from './env.ts';
import { KubeClient } from './kube/client.ts';
import { type CredentialSource, inClusterSource, kubeconfigSource } from './kube/connection.ts';
import { EventRecorder } from './kube/events.ts';
import { Informer } from './kube/informer.ts';
import { LeaderElection } from './kube/leader-election.ts';
import { KINDS, type Lease } from './kube/objects.ts';
import type { KubeApi } from './kube/port.ts';
import type { Work } from './kube/work-queue.ts';
import { Metrics } from './metrics.ts';
import type { OperatorOptions } from './options.ts';
import type { Caches } from './watched-kinds.ts';

const CONTROLLER_NAME = 'triggerjob.io/operator';
/** How often it is looked whether the first lists are in. */
const SYNC_POLL_MS = 50;

export interface OperatorParts {
  env: Env;
  log: Logger;
  options: OperatorOptions;
  source: CredentialSource;
  /** What is done with a job; `key` is namespace/name. */
  reconcile(deps: { kube: KubeApi; caches: Caches; env: Env; log: Logger }): Work;
}

/** Where the API server is, by flag, by pod, or by nothing. */
export async function credentialSource(
  kubeconfig: string | undefined,
  environment: NodeJS.ProcessEnv,
): Promise<CredentialSource> {
  if (kubeconfig !== undefined && kubeconfig !== '') return await kubeconfigSource(kubeconfig);
  const inCluster = inClusterSource(environment);
  if (inCluster !== null) return inCluster;
  throw new Error('no API server: not in a pod, and neither --kubeconfig nor KUBECONFIG is given');
}

export class Operator {
  readonly #parts: OperatorParts;
  readonly #metrics: Metrics;
  readonly #client: KubeClient;
  readonly #election: LeaderElection | null;
  readonly #controller: Controller;
  readonly #leaseInformer: Informer<Lease> | null;

  constructor(parts: OperatorParts) {
    const { env, log, options, source } = parts;
    this.#parts = parts;
    this.#metrics = new Metrics(options.concurrency, options.leaseName);
    const limit = { perSecond: options.apiQps, burst: options.apiBurst };
    this.#client = KubeClient.open({ env, source, limit, metrics: this.#metrics.request });
    const identity = `${options.identity}_${env.id().slice(0, 12)}`;
    this.#election = options.leaderElect ? this.#electionOf(identity) : null;
    this.#leaseInformer = this.#election === null ? null : this.#leaseInformerOf(this.#election);
    const kube = this.#kubeApi(identity);
    this.#controller = new Controller({
      env,
      log,
      api: this.#client,
      namespaces: options.namespaces,
      concurrency: options.concurrency,
      metrics: this.#metrics,
      resyncMs: options.resyncMs,
      reconcile: (caches) => parts.reconcile({ kube, caches, env, log }),
    });
  }

  /** Exit code of the process: 0 after `stop`, 1 when leadership was lost. */
  async run(stop: AbortSignal): Promise<number> {
    const { options, log } = this.#parts;
    const alive = this.#parts.env.keepAlive();
    const end = new AbortController();
    const mirrors = [this.#controller.run(end.signal), this.#leaseInformer?.run(end.signal)];
    const servers = await this.#serve();
    try {
      if (!(await this.#untilSynced(stop))) return 0;
      log.info({ namespaces: options.namespaces }, 'caches are filled');
      return await this.#lead(stop);
    } finally {
      for (const server of servers) server.close();
      end.abort();
      await this.#client.close();
      await Promise.all(mirrors);
      alive.cancel();
    }
  }

  async #lead(stop: AbortSignal): Promise<number> {
    const election = this.#election;
    if (election !== null && !(await election.acquire(stop))) return 0;
    this.#controller.queue.start();
    // The Lease is renewed while the last reconciles are finished.
    const finished = new AbortController();
    const holding = election?.hold(finished.signal);
    const stopped = whenAborted(stop).then(async () => {
      await this.#finish();
      finished.abort();
      return (await holding) ?? true;
    });
    const kept = await (holding === undefined ? stopped : Promise.race([holding, stopped]));
    if (!kept) {
      void this.#controller.queue.stop();
      this.#parts.log.error('the Lease is lost: nothing more is written');
      return 1;
    }
    await election?.release();
    this.#parts.log.info('stopped in order');
    return 0;
  }

  /** Reconciles under way may end, none begins. */
  async #finish(): Promise<void> {
    const { env, options, log } = this.#parts;
    const { queue } = this.#controller;
    const late = new AbortController();
    await Promise.race([
      queue.stop().then(() => late.abort()),
      sleep(env, options.shutdownMs, late.signal),
    ]);
    if (queue.active > 0)
      log.warn({ active: queue.active }, 'reconciles were not finished in time');
  }

  async #untilSynced(stop: AbortSignal): Promise<boolean> {
    while (!this.#controller.synced || this.#leaseInformer?.synced === false) {
      if (!(await sleep(this.#parts.env, SYNC_POLL_MS, stop))) return false;
    }
    return true;
  }

  #electionOf(identity: string): LeaderElection {
    const { env, log, options } = this.#parts;
    return new LeaderElection({
      env,
      log,
      api: this.#client.withDeadline(options.electionTimes.renewDeadlineMs / 2),
      namespace: options.leaseNamespace,
      name: options.leaseName,
      identity,
      times: options.electionTimes,
    });
  }

  /** A released Lease is heard of at once. */
  #leaseInformerOf(election: LeaderElection): Informer<Lease> {
    const { env, log, options } = this.#parts;
    return new Informer<Lease>({
      env,
      log,
      api: this.#client,
      kind: KINDS.Lease,
      namespaces: [options.leaseNamespace],
      fieldSelector: `metadata.name=${options.leaseName}`,
      metrics: this.#metrics.reflector,
      handlers: {
        added: (lease) => election.observe(lease),
        updated: (lease) => election.observe(lease),
        deleted: () => {},
      },
    });
  }

  #kubeApi(identity: string): KubeApi {
    const { env } = this.#parts;
    const election = this.#election;
    const client = election === null ? this.#client : this.#client.fencedBy(() => election.fence());
    const recorder = new EventRecorder({
      env,
      api: client,
      controller: CONTROLLER_NAME,
      instance: identity,
      onDropped: (reason) => this.#metrics.eventDropped(reason),
    });
    return {
      get: (ref) => client.get(ref),
      apply: (object, options) => client.apply(object, options),
      create: (object) => client.create(object),
      patch: (ref, patch, subresource) => client.patch(ref, patch, subresource),
      delete: (ref, options) => client.delete(ref, options),
      event: (note) => recorder.record(note),
    };
  }

  /** Mirrors that have not been heard of for too long: the process is to be started anew. */
  #deafMirrors(): string[] {
    const { staleMs } = this.#parts.options;
    return [...this.#controller.informers, ...(this.#leaseInformer ? [this.#leaseInformer] : [])]
      .filter((informer) => informer.stalenessMs() > staleMs)
      .map(({ kind }) => `the watch of ${kind} has said nothing for more than ${staleMs / 1000} s`);
  }

  async #serve(): Promise<{ close(): void }[]> {
    const { options, log } = this.#parts;
    const { queue, informers, caches } = this.#controller;
    this.#metrics.show({
      states: () => [...caches.TriggerJob.list()].map(({ status }) => status?.state ?? 'New'),
      queue: () => ({ depth: queue.depth, active: queue.active, ...queue.unfinished() }),
      leading: () => this.#election?.leading ?? true,
      caches: () =>
        informers.map((informer) => ({
          kind: informer.kind,
          objects: informer.size,
          stalenessSeconds: informer.stalenessMs() / 1000,
        })),
    });
    const unsynced = () =>
      informers.filter(({ synced }) => !synced).map(({ kind }) => `${kind} is not listed yet`);
    const health = {
      '/healthz': probe(() => this.#deafMirrors()),
      '/readyz': probe(() => [...unsynced(), ...this.#deafMirrors()]),
    };
    const metrics = {
      '/metrics': async () => ({ status: 200, ...(await this.#metrics.text()) }),
    };
    const servers = [];
    for (const [address, routes] of [
      [options.healthAddress, health],
      [options.metricsAddress, metrics],
    ] as const) {
      if (address === null) continue;
      const server = await serve(address, routes);
      log.info({ port: server.port, paths: Object.keys(routes) }, 'listens');
      servers.push(server);
    }
    return servers;
  }
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
