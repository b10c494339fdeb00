/**
 * The operator of one namespace, in this process: its client, its informers, its queue and its
 * reconcile, but each life of it ends right after a write that it is told of beforehand. The write
 * is done, its answer is heard by nobody, and nothing that this life still asks for is sent. The
 * next life begins with nothing but what the API server says.
 */
import type { Logger } from 'pino';
import { Controller } from '../../operator/src/controller.ts';
import { realEnv, sleep } from '../../operator/src/env.ts';
import type { KubeClient } from '../../operator/src/kube/client.ts';
import { nameOf, refOf } from '../../operator/src/kube/objects.ts';
import type { KubeApi, KubeObject } from '../../operator/src/kube/port.ts';
import type { Metrics } from '../../operator/src/metrics.ts';
import { ProcessEnded } from '../../operator/src/model/model-kube.ts';
import { SETTINGS } from '../../operator/src/model/model-world.ts';
import type { JobManagerApi } from '../../operator/src/observe/jobmanager-api.ts';
import { type ReconcileDeps, reconcile } from '../../operator/src/reconcile.ts';

export interface MortalOperatorParts {
  namespace: string;
  open(): KubeClient;
  metrics: Metrics;
  log: Logger;
  jobManager: JobManagerApi;
  /** Whether the life that has made the n-th write of all, `what`, ends with it. */
  endsAfter(write: number, what: string): boolean;
  /** Looks at an object just before it is applied. */
  judge(object: KubeObject): Promise<void>;
  reconcile?: typeof reconcile;
}

/** One process; `end` is called by its last write. */
interface Life {
  over: boolean;
  end(): void;
}

export class MortalOperator {
  readonly #parts: MortalOperatorParts;
  #life: Life | null = null;
  #stopped = false;
  #done: Promise<void> = Promise.resolve();
  /** All writes that came through, in words. */
  readonly writes: string[] = [];
  /** The last write of each life that ended by one. */
  readonly ends: string[] = [];

  constructor(parts: MortalOperatorParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#done = this.#lives();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#life?.end();
    await this.#done;
  }

  async #lives(): Promise<void> {
    while (!this.#stopped) await this.#live();
  }

  async #live(): Promise<void> {
    const { open, metrics, log, namespace } = this.#parts;
    const ended = Promise.withResolvers<void>();
    const life: Life = { over: false, end: ended.resolve };
    this.#life = life;
    const client = open();
    const abort = new AbortController();
    const controller = new Controller({
      env: realEnv,
      log,
      api: client,
      namespaces: [namespace],
      concurrency: 1,
      metrics,
      reconcile: (caches) => {
        const deps: ReconcileDeps = {
          env: realEnv,
          kube: this.#kubeOf(life, client),
          caches,
          jobManager: this.#jobManagerOf(life),
          settings: SETTINGS,
          memories: new Map(),
        };
        return (key) => {
          const [where = '', name = ''] = key.split('/');
          return (this.#parts.reconcile ?? reconcile)(deps, { namespace: where, name });
        };
      },
    });
    const mirrors = controller.run(abort.signal);
    while (!controller.synced && !this.#stopped) await sleep(realEnv, 20);
    controller.queue.start();
    await ended.promise;
    life.over = true;
    abort.abort();
    void controller.queue.stop();
    await client.close();
    await mirrors;
  }

  /** Sends a write of this life, and ends the life with it if its time has come. */
  async #write<T>(life: Life, what: string, send: () => Promise<T>): Promise<T> {
    if (life.over) throw new ProcessEnded(what);
    const answer = await send();
    this.writes.push(what);
    if (!this.#parts.endsAfter(this.writes.length, what)) return answer;
    life.over = true;
    this.ends.push(what);
    life.end();
    throw new ProcessEnded(what);
  }

  #read<T>(life: Life, ask: () => Promise<T>): Promise<T> {
    return life.over ? Promise.reject(new ProcessEnded('a read')) : ask();
  }

  #kubeOf(life: Life, client: KubeClient): KubeApi {
    const { judge } = this.#parts;
    return {
      get: (ref) => this.#read(life, () => client.get(ref)),
      apply: async (object, options) => {
        if (options.dryRun) return await this.#read(life, () => client.apply(object, options));
        await judge(object);
        const what = `apply ${wordsOf(object)}`;
        return await this.#write(life, what, () => client.apply(object, options));
      },
      create: (object) =>
        this.#write(life, `create ${wordsOf(object)}`, () => client.create(object)),
      patch: (ref, patch, subresource) =>
        this.#write(life, `patch ${ref.kind} ${subresource ?? keysOf(patch)}`, () =>
          client.patch(ref, patch, subresource),
        ),
      delete: (ref, options) =>
        this.#write(life, `delete ${ref.kind}`, () => client.delete(ref, options)),
      // Best effort by contract: no flow depends on them.
      event: () => {},
    };
  }

  #jobManagerOf(life: Life): JobManagerApi {
    const { jobManager } = this.#parts;
    return {
      status: (job) => this.#read(life, () => jobManager.status(job)),
      progress: (job, kind, id) => this.#read(life, () => jobManager.progress(job, kind, id)),
      trigger: (job, kind, id) =>
        this.#write(life, `trigger ${kind}`, () => jobManager.trigger(job, kind, id)),
      rescale: (job, parallelism) =>
        this.#write(life, 'rescale', () => jobManager.rescale(job, parallelism)),
    };
  }
}

const wordsOf = (object: KubeObject): string => {
  const { kind, name } = refOf(object);
  return nameOf({ kind, name });
};

const keysOf = (patch: object): string => {
  const { metadata, ...rest } = patch as { metadata?: object };
  return [...Object.keys(rest), ...Object.keys(metadata ?? {})].join(',');
};
