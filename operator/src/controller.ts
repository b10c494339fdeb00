/**
 * From changes in the cluster to reconciles: every object that belongs to a job puts the job's key
 * into the queue; workers take it from there. Caches fill and keys gather from the start; work
 * begins with `start`, which is what makes a standby warm.
 */
import type { Logger } from 'pino';
import type { Env } from './env.ts';
import type { ListWatch } from './kube/client.ts';
import { Informer } from './kube/informer.ts';
import { isKubeError, messageOf } from './kube/kube-error.ts';
import { KINDS, type Node } from './kube/objects.ts';
import type { KubeObject } from './kube/port.ts';
import { type Work, WorkQueue } from './kube/work-queue.ts';
import type { Metrics } from './metrics.ts';
import {
  type Caches,
  jobKeyOf,
  jobsWithDiskOn,
  readinessChanged,
  WATCHED,
  type Watched,
  type WatchedKind,
  type WatchedTypes,
} from './watched-kinds.ts';

export interface ControllerOptions {
  env: Env;
  api: ListWatch;
  /** Empty: all of them. */
  namespaces: readonly string[];
  /** `key` is namespace/name. */
  reconcile: (caches: Caches) => Work;
  concurrency: number;
  metrics: Metrics;
  log: Logger;
  resyncMs?: number;
  silenceMs?: number;
}

export class Controller {
  readonly caches: Caches;
  readonly queue: WorkQueue;
  readonly informers: readonly Informer<KubeObject>[];
  readonly #options: ControllerOptions;

  constructor(options: ControllerOptions) {
    this.#options = options;
    const informers = (Object.keys(WATCHED) as WatchedKind[]).map(
      (kind) => [kind, this.#informerOf(kind)] as const,
    );
    this.informers = informers.map(([, informer]) => informer as unknown as Informer<KubeObject>);
    this.caches = Object.fromEntries(
      informers.map(([kind, informer]) => [kind, informer.cache]),
    ) as unknown as Caches;
    this.queue = new WorkQueue({
      env: options.env,
      work: options.reconcile(this.caches),
      concurrency: options.concurrency,
      metrics: options.metrics.queue,
      onError: (job, error, failures, retryInMs) => {
        const facts = { job, error: messageOf(error), failures, retryInMs };
        // Somebody else wrote in between: the next look sees it.
        if (isKubeError(error, 'KUBE_CONFLICT')) options.log.debug(facts, 'reconcile comes again');
        else options.log.warn(facts, 'reconcile failed, comes again');
      },
    });
  }

  get synced(): boolean {
    return this.informers.every((informer) => informer.synced);
  }

  /** Mirrors the cluster until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.informers.map((informer) => informer.run(signal)));
  }

  #informerOf<Kind extends WatchedKind>(kind: Kind): Informer<WatchedTypes[Kind]> {
    const { env, api, namespaces, metrics, log, resyncMs, silenceMs } = this.#options;
    // The compiler loses the connection between the key and its value here.
    const watched = WATCHED[kind] as unknown as Watched<WatchedTypes[Kind]>;
    return new Informer<WatchedTypes[Kind]>({
      env,
      api,
      kind: KINDS[kind],
      namespaces,
      ...watched,
      metrics: metrics.reflector,
      log,
      ...(resyncMs === undefined ? {} : { resyncMs }),
      ...(silenceMs === undefined ? {} : { silenceMs }),
      handlers: {
        added: (object) => this.#changed(object),
        updated: (object, before) => this.#changed(object, before),
        deleted: (object) => this.#deleted(object),
      },
    });
  }

  #changed(object: KubeObject, before?: KubeObject): void {
    if (object.kind === KINDS.Node.kind) {
      if (before !== undefined && readinessChanged(object as Node, before as Node)) {
        this.#nodeChanged(object);
      }
      return;
    }
    const key = jobKeyOf(object);
    // A resync tells of every object; the jobs alone stand for all of theirs.
    if (object === before && object.kind !== KINDS.TriggerJob.kind) return;
    if (key !== null) this.queue.add(key, this.#asks(object, before));
  }

  /** Somebody asks for something by it: neither a first list nor the echo of a status. */
  #asks({ kind, metadata }: KubeObject, before?: KubeObject): boolean {
    if (kind !== KINDS.TriggerJob.kind) return false;
    if (before === undefined) return this.caches.TriggerJob.synced;
    const { generation, deletionTimestamp, annotations } = before.metadata;
    return (
      metadata.generation !== generation ||
      metadata.deletionTimestamp !== deletionTimestamp ||
      JSON.stringify(metadata.annotations) !== JSON.stringify(annotations)
    );
  }

  #deleted(object: KubeObject): void {
    if (object.kind === KINDS.Node.kind) {
      this.#nodeChanged(object);
      return;
    }
    const key = jobKeyOf(object);
    if (key === null) return;
    if (object.kind === KINDS.TriggerJob.kind) this.queue.forget(key);
    this.queue.add(key);
  }

  #nodeChanged(node: KubeObject): void {
    for (const key of jobsWithDiskOn(node.metadata.name, this.caches)) this.queue.add(key);
  }
}
