/**
 * Keeps one collection of the API server mirrored in an ObjectStore: list, then watch from the
 * list's resourceVersion on, for as long as the process lives. The informer of
 * @kubernetes/client-node goes deaf in three ways; each has its rule here.
 *
 * R1 Any failure is followed by another try. The loop ends only by its signal.
 * R2 A watch that says nothing - no event, no bookmark - for `silenceMs` is given up and resumed: a
 *    connection whose other end is gone is silent for ever.
 * R3 Waiting comes after failures only, at most 5 s. A watch that the server ended is resumed at
 *    once, unless it ended as soon as it began.
 * R4 410, as status or as event: what happened in between is unknown; list again and compare.
 * R5 Every `resyncMs` it is listed again in any case, and handlers hear of every object.
 */
import { backoffMs, type Env, sleep } from '../env.ts';
import type { ListWatch, Selection, WatchEvent } from './client.ts';
import { KubeError, kubeErrorOf, messageOf, SilentWatch } from './kube-error.ts';
import type { ObjectStore } from './object-store.ts';
import type { KubeObject } from './port.ts';

const PAGE = 500;
const WATCH_SECONDS = 290;
const WATCH_JITTER_SECONDS = 60;
/** The API server sends a bookmark about every minute. */
const SILENCE_MS = 75_000;
const RESYNC_MS = 30 * 60_000;
const BACKOFF_BASE_MS = 100;
const BACKOFF_CAP_MS = 5_000;
/** A watch that ended sooner than this, and said nothing, counts as a failure (R3). */
const SHORT_WATCH_MS = 1_000;
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

export interface ReflectorMetrics {
  listed(kind: string): void;
  watchStarted(kind: string): void;
  /** `reason`: expired, silent, failed. */
  watchFailed(kind: string, reason: string): void;
}

export interface ReflectorOptions<T extends KubeObject> {
  env: Env;
  api: ListWatch;
  selection: Selection;
  store: ObjectStore<T>;
  /** Drops what nobody reads, before the object is kept. */
  keep?: (object: T) => T;
  metrics: ReflectorMetrics;
  log: { info(facts: object, text: string): void; warn(facts: object, text: string): void };
  pageSize?: number;
  /** 0: a silent watch is never given up (only a test wants that). */
  silenceMs?: number;
  resyncMs?: number;
}

export class Reflector<T extends KubeObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #kind: string;
  /** Where the watch goes on; null: list first. */
  #resourceVersion: string | null = null;
  #synced = false;
  /** Monotonic ms of the last sign that this mirror is true: a byte of its watch, or its list. */
  #freshAt: number;
  #listedAt = Number.NEGATIVE_INFINITY;
  #failures = 0;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#kind = options.selection.kind.kind;
    this.#freshAt = options.env.monotonic();
  }

  /** Whether the first list is in. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Milliseconds since the server last said anything to this reflector. */
  stalenessMs(): number {
    return this.#options.env.monotonic() - this.#freshAt;
  }

  /** Resolves when the signal is aborted; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#resourceVersion === null || this.#resyncIsDue()) await this.#list(signal);
        else await this.#watch(this.#resourceVersion, signal);
      } catch (error) {
        if (signal.aborted) return;
        await this.#afterFailure(error, signal);
      }
    }
  }

  #resyncIsDue(): boolean {
    const { env, resyncMs = RESYNC_MS } = this.#options;
    return env.monotonic() - this.#listedAt >= resyncMs;
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { api, selection, store, env, metrics, pageSize = PAGE } = this.#options;
    const objects: T[] = [];
    let resourceVersion = '';
    let next: string | undefined;
    do {
      const page = await api.list(selection, {
        limit: pageSize,
        ...(next === undefined ? {} : { continue: next }),
      });
      if (signal.aborted) return;
      for (const item of page.items) objects.push(this.#kept(item));
      // All pages are of one moment; the first one names it, a later one may not.
      resourceVersion ||= page.resourceVersion;
      next = page.continue;
    } while (next !== undefined);
    metrics.listed(this.#kind);
    store.replace(objects, selection.namespace, this.#synced && this.#resyncIsDue());
    this.#synced = true;
    this.#resourceVersion = resourceVersion;
    this.#listedAt = this.#freshAt = env.monotonic();
  }

  /** Resolves when the server ended the watch in order, or the resync is due. */
  async #watch(resourceVersion: string, signal: AbortSignal): Promise<void> {
    const { env, api, selection, metrics, resyncMs = RESYNC_MS } = this.#options;
    const startedAt = env.monotonic();
    let events = 0;
    const ear = new Ear(env, this.#options.silenceMs ?? SILENCE_MS, signal);
    const resync = env.timer(Math.max(0, this.#listedAt + resyncMs - startedAt), () => ear.end());
    metrics.watchStarted(this.#kind);
    try {
      const stream = api.watch(
        selection,
        {
          resourceVersion,
          timeoutSeconds: Math.round(WATCH_SECONDS + env.random() * WATCH_JITTER_SECONDS),
          onBytes: () => {
            this.#freshAt = env.monotonic();
            ear.heard();
          },
        },
        ear.signal,
      );
      for await (const event of stream) {
        this.#take(event);
        events += 1;
        this.#failures = 0;
      }
    } catch (error) {
      // A stream that was ended on purpose fails in whatever way the socket likes.
      if (ear.outcome === null) throw error;
    } finally {
      resync.cancel();
      ear.close();
    }
    if (ear.outcome === 'silent') throw new SilentWatch(this.#options.silenceMs ?? SILENCE_MS);
    if (ear.outcome !== null) return;
    if (events === 0 && env.monotonic() - startedAt < SHORT_WATCH_MS) {
      throw new KubeError('KUBE_UNAVAILABLE', 'the watch ended as soon as it began');
    }
    this.#failures = 0;
  }

  #take(event: WatchEvent): void {
    const { store } = this.#options;
    if (event.type === 'ERROR') {
      throw kubeErrorOf(`watch of ${this.#kind}`, event.object.code ?? 500, event.object);
    }
    if (event.type !== 'BOOKMARK') {
      const object = this.#kept(event.object);
      if (event.type === 'DELETED') store.remove(object);
      else store.put(object);
    }
    const version = event.object.metadata.resourceVersion;
    // An object without one can't be a place to go on from.
    if (version !== undefined && version !== '') this.#resourceVersion = version;
  }

  #kept(item: KubeObject): T {
    // Items of a list name neither; what the cache hands out should be whole.
    item.apiVersion ??= this.#options.selection.kind.apiVersion;
    item.kind ??= this.#kind;
    delete item.metadata.managedFields;
    delete item.metadata.annotations?.[LAST_APPLIED];
    const object = item as T;
    return this.#options.keep?.(object) ?? object;
  }

  async #afterFailure(error: unknown, signal: AbortSignal): Promise<void> {
    const { env, metrics, log, selection } = this.#options;
    const expired = error instanceof KubeError && error.code === 'KUBE_EXPIRED';
    const reason = expired ? 'expired' : error instanceof SilentWatch ? 'silent' : 'failed';
    metrics.watchFailed(this.#kind, reason);
    if (expired) this.#resourceVersion = null;
    this.#failures += 1;
    const asked = error instanceof KubeError ? (error.retryAfterMs ?? 0) : 0;
    const full = backoffMs(env, this.#failures, BACKOFF_BASE_MS, BACKOFF_CAP_MS);
    const waitMs = Math.min(BACKOFF_CAP_MS, Math.max(asked, full));
    const facts = { kind: this.#kind, namespace: selection.namespace, reason, waitMs };
    log.info({ ...facts, error: messageOf(error) }, 'list and watch go on after a failure');
    // The first 410 or silence is the way of the world, and its cure is known.
    if (reason !== 'failed' && this.#failures === 1) return;
    await sleep(env, waitMs, signal);
  }
}

/** Listens to one watch: ends it when it is silent too long, or when it is told to. */
class Ear {
  readonly #env: Env;
  readonly #silenceMs: number;
  readonly #outer: AbortSignal;
  readonly #abort = new AbortController();
  readonly #onOuter = () => this.#finish('stopped');
  #heardAt: number;
  #timer: { cancel(): void } | null = null;
  outcome: 'silent' | 'resync' | 'stopped' | null = null;

  constructor(env: Env, silenceMs: number, outer: AbortSignal) {
    this.#env = env;
    this.#silenceMs = silenceMs;
    this.#outer = outer;
    this.#heardAt = env.monotonic();
    outer.addEventListener('abort', this.#onOuter, { once: true });
    if (silenceMs > 0) this.#arm(silenceMs);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** One timer for many bytes: it looks at the clock when it rings. */
  #arm(ms: number): void {
    this.#timer = this.#env.timer(ms, () => {
      const left = this.#heardAt + this.#silenceMs - this.#env.monotonic();
      if (left > 0) this.#arm(left);
      else this.#finish('silent');
    });
  }

  heard(): void {
    this.#heardAt = this.#env.monotonic();
  }

  /** Ends the watch in order. */
  end(): void {
    this.#finish('resync');
  }

  #finish(outcome: 'silent' | 'resync' | 'stopped'): void {
    this.outcome ??= outcome;
    this.#abort.abort(outcome === 'silent' ? new SilentWatch(this.#silenceMs) : undefined);
  }

  close(): void {
    this.#timer?.cancel();
    this.#outer.removeEventListener('abort', this.#onOuter);
  }
}
