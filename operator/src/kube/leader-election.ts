/**
 * Which of the operator's processes acts, by one Lease, as client-go does it.
 *
 * E1 No two clocks are compared: a Lease is out when it has not changed for its own duration by the
 *    clock of the one who watches it, counted from when it saw the last change.
 * E2 The leader acts until `renewDeadline` after it began its last renewal that came through, which
 *    is before the Lease can be out for anybody. `fence` says so before each write; afterwards this
 *    process never leads again, it is to end.
 * E3 Every write of the Lease is refused when it is not over the version that was seen.
 * E4 A leader that ends in order says so in the Lease; a standby that watches it acts at once.
 */
import { type Env, sleep, type Timer } from '../env.ts';
import { isKubeError, KubeError, messageOf } from './kube-error.ts';
import { KINDS, type Lease } from './objects.ts';
import type { KubeObject, ObjectRef } from './port.ts';

export interface ElectionTimes {
  /** How long the others wait for a renewal, milliseconds. */
  leaseDurationMs: number;
  /** How long the leader acts without one. */
  renewDeadlineMs: number;
  /** Between two tries. */
  retryPeriodMs: number;
}

const ELECTION_TIMES: ElectionTimes = {
  leaseDurationMs: 15_000,
  renewDeadlineMs: 10_000,
  retryPeriodMs: 2_000,
};

const JITTER = 0.2;

interface LeaseApi {
  get<T extends KubeObject>(ref: ObjectRef): Promise<T | null>;
  create<T extends KubeObject>(object: T): Promise<T>;
  replace<T extends KubeObject>(object: T): Promise<T>;
}

export interface ElectionOptions {
  env: Env;
  /** Not rate limited; each call ends within half of `renewDeadlineMs`. */
  api: LeaseApi;
  namespace: string;
  name: string;
  /** Unlike that of any other process, before and after. */
  identity: string;
  times?: ElectionTimes;
  log: { info(facts: object, text: string): void };
}

export class LeaderElection {
  readonly #options: ElectionOptions;
  readonly #times: ElectionTimes;
  /** The Lease as it was last seen, and when (monotonic ms) it was first seen so. */
  #observed: { lease: Lease; at: number } | null = null;
  /** Monotonic ms until which this process may act; null: it does not lead. */
  #actUntil: number | null = null;
  #lost = false;
  #watchdog: Timer | null = null;
  #onOut: () => void = () => {};
  #wake = new AbortController();

  constructor(options: ElectionOptions) {
    this.#options = options;
    this.#times = options.times ?? ELECTION_TIMES;
  }

  get leading(): boolean {
    return this.#remainingMs() > 0;
  }

  /** Whose Lease it is as far as is known; empty: nobody's. */
  get holder(): string {
    return this.#observed?.lease.spec?.holderIdentity ?? '';
  }

  /** Milliseconds for which a write may be under way; throws KUBE_FENCED when none may be sent. */
  fence(): number {
    const remaining = this.#remainingMs();
    if (remaining > 0) return remaining;
    throw new KubeError('KUBE_FENCED', `${this.#options.identity} does not lead`);
  }

  /** The Lease as a watch tells of it. */
  observe(lease: Lease): void {
    if (!this.#see(lease)) return;
    if (this.#actUntil === null) {
      if (this.#isFree(lease)) this.#wake.abort();
    } else if (lease.spec?.holderIdentity !== this.#options.identity) {
      this.#actUntil = null;
      this.#onOut();
    }
  }

  /** Resolves true once this process leads, false when the signal came first. */
  async acquire(signal: AbortSignal): Promise<boolean> {
    const { env, log, identity } = this.#options;
    const onStop = () => this.#wake.abort();
    signal.addEventListener('abort', onStop);
    try {
      while (!signal.aborted && !this.#lost) {
        this.#wake = new AbortController();
        if (await this.#try()) {
          const transitions = this.#observed?.lease.spec?.leaseTransitions;
          log.info({ identity, transitions }, 'leads');
          return true;
        }
        const waitMs = this.#times.retryPeriodMs * (1 + env.random() * JITTER);
        await sleep(env, waitMs, this.#wake.signal);
      }
      return false;
    } finally {
      signal.removeEventListener('abort', onStop);
    }
  }

  /** Renews until the signal is aborted: true, it still leads. false: it is lost, stop at once. */
  async hold(signal: AbortSignal): Promise<boolean> {
    const ended = new AbortController();
    const onStop = () => ended.abort();
    signal.addEventListener('abort', onStop);
    if (signal.aborted) onStop();
    try {
      // A renewal that hangs must not hold up the news that the time is over.
      const out = new Promise<void>((resolve) => {
        this.#onOut = resolve;
      });
      this.#guard();
      await Promise.race([this.#renew(ended.signal), out]);
    } finally {
      signal.removeEventListener('abort', onStop);
      ended.abort();
      this.#watchdog?.cancel();
    }
    if (this.leading) return true;
    this.#actUntil = null;
    this.#lost = true;
    const { log, identity } = this.#options;
    log.info({ identity, holder: this.holder }, 'leads no more: not renewed in time, or taken');
    return false;
  }

  /** Resolves when it is told to end, or the Lease is another's; the last try is waited for. */
  async #renew(ended: AbortSignal): Promise<void> {
    const { env } = this.#options;
    while (await sleep(env, this.#times.retryPeriodMs, ended)) {
      await this.#try();
      if (this.#actUntil === null) return;
      this.#guard();
    }
  }

  /** Lets the next one begin at once (E4). Nothing may be written afterwards. */
  async release(): Promise<void> {
    const leads = this.leading;
    const { api, log, namespace, name, identity } = this.#options;
    this.#actUntil = null;
    this.#lost = true;
    if (!leads) return;
    const { apiVersion, kind } = KINDS.Lease;
    try {
      const lease = await api.get<Lease>({ apiVersion, kind, namespace, name });
      if (lease?.spec?.holderIdentity !== identity) return;
      const now = this.#microTime();
      const spec = {
        ...lease.spec,
        holderIdentity: '',
        leaseDurationSeconds: 1,
        renewTime: now,
        acquireTime: now,
      };
      await api.replace<Lease>({ ...lease, spec });
    } catch (error) {
      log.info({ error: messageOf(error) }, 'the Lease was not released');
    }
  }

  #remainingMs(): number {
    return this.#actUntil === null ? 0 : this.#actUntil - this.#options.env.monotonic();
  }

  /** Ends `hold` at the moment at which this process may act no more. */
  #guard(): void {
    this.#watchdog?.cancel();
    this.#watchdog = this.#options.env.timer(Math.max(0, this.#remainingMs()), this.#onOut);
  }

  /** Whether this process leads afterwards. Never rejects. */
  async #try(): Promise<boolean> {
    const { env, log } = this.#options;
    const beganAt = env.monotonic();
    try {
      const lease = await this.#write();
      if (lease === null) {
        this.#actUntil = null;
        return false;
      }
      this.#see(lease);
      this.#actUntil = beganAt + this.#times.renewDeadlineMs;
      return true;
    } catch (error) {
      // What was written may have come through; the next look tells.
      log.info({ error: messageOf(error) }, 'the Lease could not be taken or renewed');
      return false;
    }
  }

  /** Takes or renews it; null: it is another's. */
  async #write(): Promise<Lease | null> {
    const { api, namespace, name } = this.#options;
    const known = this.#observed;
    const { identity } = this.#options;
    if (this.#actUntil !== null && known?.lease.spec?.holderIdentity === identity) {
      try {
        return await api.replace<Lease>(this.#mine(known.lease));
      } catch (error) {
        if (!isKubeError(error, 'KUBE_CONFLICT') && !isKubeError(error, 'KUBE_NOT_FOUND')) {
          throw error;
        }
      }
    }
    const { apiVersion, kind } = KINDS.Lease;
    const lease = await api.get<Lease>({ apiVersion, kind, namespace, name });
    if (lease === null) {
      // Somebody deleted it under its leader, who acts on until it looks, and makes it anew then.
      if (this.#actUntil === null && known !== null && !this.#isFree(known.lease)) return null;
      return await api.create<Lease>(
        this.#mine({ apiVersion, kind, metadata: { namespace, name } }),
      );
    }
    this.#see(lease);
    return this.#isFree(lease) ? await api.replace<Lease>(this.#mine(lease)) : null;
  }

  #isFree({ spec }: Lease): boolean {
    const holder = spec?.holderIdentity ?? '';
    if (holder === '' || holder === this.#options.identity) return true;
    const durationMs = (spec?.leaseDurationSeconds ?? 0) * 1000 || this.#times.leaseDurationMs;
    const seenAt = this.#observed?.at ?? this.#options.env.monotonic();
    return this.#options.env.monotonic() >= seenAt + durationMs;
  }

  /** Whether it is news, or at least not older than what is known. */
  #see(lease: Lease): boolean {
    const known = this.#observed;
    if (known !== null && isOlder(lease, known.lease)) return false;
    const same = JSON.stringify(known?.lease.spec) === JSON.stringify(lease.spec);
    this.#observed = {
      lease,
      at: known !== null && same ? known.at : this.#options.env.monotonic(),
    };
    return true;
  }

  #mine(lease: Lease): Lease {
    const now = this.#microTime();
    const { spec } = lease;
    const held = spec?.holderIdentity === this.#options.identity;
    return {
      ...lease,
      spec: {
        ...spec,
        holderIdentity: this.#options.identity,
        leaseDurationSeconds: Math.ceil(this.#times.leaseDurationMs / 1000),
        acquireTime: held ? (spec.acquireTime ?? now) : now,
        renewTime: now,
        leaseTransitions: (spec?.leaseTransitions ?? -1) + (held ? 0 : 1),
      },
    };
  }

  /** RFC 3339 with exactly six digits: the API server refuses any other number of them. */
  #microTime(): string {
    return new Date(this.#options.env.now()).toISOString().replace('Z', '000Z');
  }
}

/** A watch may tell of a Lease after a call has told of a newer one. */
function isOlder(lease: Lease, known: Lease): boolean {
  return Number(lease.metadata.resourceVersion) < Number(known.metadata.resourceVersion);
}
