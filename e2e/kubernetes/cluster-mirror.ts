/** Some kinds of the API server, mirrored for a test by the operator's own informers. */
import { realEnv, sleep } from '../../operator/src/env.ts';
import type { KubeClient } from '../../operator/src/kube/client.ts';
import { Informer } from '../../operator/src/kube/informer.ts';
import { KINDS } from '../../operator/src/kube/objects.ts';
import type { KubeObject, ObjectCache } from '../../operator/src/kube/port.ts';
import type { TriggerJobObject } from '../../operator/src/watched-kinds.ts';

type MirroredKind = keyof typeof KINDS;

const OF_A_JOB = 'app.kubernetes.io/name=triggerjob';
const SYNC_POLL_MS = 20;

/** TriggerJobs, and of the other kinds what the operator has made for them. */
export class ClusterMirror {
  readonly #informers: ReadonlyMap<MirroredKind, Informer<KubeObject>>;
  readonly #end = new AbortController();
  #done: Promise<unknown> = Promise.resolve();

  constructor(client: KubeClient, kinds: readonly MirroredKind[]) {
    this.#informers = new Map(
      kinds.map((kind) => [
        kind,
        new Informer<KubeObject>({
          env: realEnv,
          api: client,
          kind: KINDS[kind],
          namespaces: [],
          ...(kind === 'TriggerJob' ? {} : { labelSelector: OF_A_JOB }),
          metrics: { listed: () => {}, watchStarted: () => {}, watchFailed: () => {} },
          log: { info: () => {}, warn: () => {} },
          handlers: { added: () => {}, updated: () => {}, deleted: () => {} },
        }),
      ]),
    );
  }

  /** Resolves when the first lists are in. */
  async start(): Promise<void> {
    const informers = [...this.#informers.values()];
    this.#done = Promise.all(informers.map((informer) => informer.run(this.#end.signal)));
    while (!informers.every(({ synced }) => synced)) await sleep(realEnv, SYNC_POLL_MS);
  }

  async stop(): Promise<void> {
    this.#end.abort();
    await this.#done;
  }

  cache<T extends KubeObject>(kind: MirroredKind): ObjectCache<T> {
    const informer = this.#informers.get(kind);
    if (informer === undefined) throw new Error(`${kind} is not mirrored`);
    return informer.cache as unknown as ObjectCache<T>;
  }

  in<T extends KubeObject>(namespace: string, kind: MirroredKind): T[] {
    return [...this.cache<T>(kind).list()].filter((one) => one.metadata.namespace === namespace);
  }

  job(namespace: string, name: string): TriggerJobObject | undefined {
    return this.cache<TriggerJobObject>('TriggerJob').get(namespace, name);
  }
}
