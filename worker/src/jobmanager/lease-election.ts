/**
 * Election by a Lease of Kubernetes. The Lease says who should lead, nothing more: authority is the
 * claim in the job's log (I5, P39), so an API server that errs costs a leader change, and one that
 * is away costs nothing: a leader that can't renew goes on for as long as the log shows no other
 * one. As in client-go, a standby counts from its own first sight of the newest renewal, by its own
 * monotonic clock; no two clocks are compared.
 *
 * The holder is known by its RPC address, which only one process has at a time: started again in
 * its pod it need not wait for its own lease.
 */
import type { Logger } from 'pino';
import type { JobEnd } from '../checkpoint/snapshot.ts';
import type { LeaderElectionPlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { Lease, Leases } from './kube-leases.ts';
import type { LeaderAddress, LeaderElection, Turn } from './leader-election.ts';
import { Renewal } from './renewal.ts';
import type { Standing } from './standing.ts';

const RPC = 'triggerjob.io/rpc';
const REST = 'triggerjob.io/rest';
const EPOCH = 'triggerjob.io/leader-epoch';
const NOBODY = { [RPC]: '', [REST]: '', [EPOCH]: '' };
/** A later run's leader comes soon; until then there is no need to read the log once a second. */
const SUPERSEDED_PAUSE_MS = 5_000;
/** Conflicts of one write in a row: somebody else's annotation is set less often. */
const TRIES = 3;

export interface LeaseElectionDeps {
  env: Env;
  log: Logger;
  leases: Leases;
  plan: LeaderElectionPlan;
  /** Of this process. */
  address: LeaderAddress;
  /** What the job's log says to this process's run. */
  standing(): Promise<Standing>;
}

interface Observed {
  lease: Lease | null;
  /** What changes at each renewal. */
  sign: string;
  /** When this sign was first seen; monotonic, ms. */
  since: number;
}

interface Holding {
  lease: Lease;
  readonly renewal: Renewal;
  /** null: held, but the epoch is not claimed yet. */
  leading: { leaderEpoch: number; confirm(): Promise<void>; onLost(error: Error): void } | null;
  lost: Error | null;
}

export class LeaseElection implements LeaderElection {
  readonly #deps: LeaseElectionDeps;
  #observed: Observed | null = null;
  /** Another one was seen to hold it. */
  #followed = false;
  /** When the log last told that a later run has begun. */
  #supersededAt = Number.NEGATIVE_INFINITY;
  #holding: Holding | null = null;
  #renewing: Promise<void> = Promise.resolve();

  constructor(deps: LeaseElectionDeps) {
    this.#deps = deps;
  }

  get leader(): LeaderAddress | null {
    const { address } = this.#deps;
    if (this.#holding?.leading != null && !this.#holding.renewal.over) return address;
    const lease = this.#observed?.lease ?? null;
    const { [RPC]: rpc, [REST]: rest } = lease?.annotations ?? {};
    if (lease === null || lease.holder === '' || lease.holder === address.rpc) return null;
    return rpc && rest ? { rpc, rest } : null;
  }

  async turn(signal: AbortSignal): Promise<Turn> {
    const { env, log, plan } = this.#deps;
    // What was held for a claim that came to nothing.
    this.#letGo();
    for (;;) {
      signal.throwIfAborted();
      try {
        const turn = await this.#look();
        if (turn !== null) return turn;
      } catch (error) {
        if (error instanceof TriggerJobError && error.code === 'LOG_CORRUPT') throw error;
        log.warn({ error: messageOf(error) }, 'a standby can not see who leads');
      }
      await sleep(env, plan.retryMs, signal);
    }
  }

  async lead(
    leaderEpoch: number,
    confirm: () => Promise<void>,
    onLost: (error: Error) => void,
  ): Promise<void> {
    const holding = this.#holding;
    const lost = holding === null ? new TriggerJobError('LEASE_LOST', 'not held') : holding.lost;
    if (lost !== null || holding === null) throw lost;
    holding.leading = { leaderEpoch, confirm, onLost };
    // Shown at once, so that standbys and clients need not wait for the next renewal.
    await this.#renew(holding);
  }

  /** `end`: the next one finds it in the log. */
  async release(_end: JobEnd | null): Promise<void> {
    const { env, log, plan } = this.#deps;
    const holding = this.#holding;
    if (holding === null || holding.renewal.over) return;
    this.#letGo();
    const late = Promise.withResolvers<void>();
    const limit = env.timer(plan.renewDeadlineMs, late.resolve);
    const written = this.#renewing
      .then(() => this.#write(holding, (from) => this.#freed(from, holding.lease)))
      .catch((error: unknown) => {
        log.warn({ error: messageOf(error) }, 'the next leader waits for the lease to run out');
      });
    await Promise.race([written, late.promise]);
    limit.cancel();
  }

  close(): void {
    this.#letGo();
    this.#deps.leases.close();
  }

  /** null: somebody leads, or may. */
  async #look(): Promise<Turn | null> {
    const { env, address, leases, plan, standing } = this.#deps;
    const askedAt = env.monotonic();
    const lease = await leases.get();
    const observed = this.#observe(lease);
    const { holder = '' } = lease ?? {};
    // A Lease that was deleted under its holder comes back, and one that never was is nobody's.
    const free = lease === null ? !this.#followed : holder === '' || holder === address.rpc;
    if (!free && askedAt - observed.since < plan.leaseMs) return null;
    if (askedAt - this.#supersededAt < SUPERSEDED_PAUSE_MS) return null;
    // Read while nobody leads: whoever claims before us makes our claim fail (CLAIM_LOST).
    const now = await standing();
    if (now.kind === 'ended') return { kind: 'ended', end: now.record.outcome };
    if (now.kind === 'superseded') {
      this.#supersededAt = askedAt;
      return null;
    }
    const startedAt = env.monotonic();
    const held = await leases.put(this.#taken(lease));
    if (held === null) return null;
    this.#hold(held, startedAt);
    return { kind: 'claim', after: now.leaderEpoch, followed: this.#followed };
  }

  #observe(lease: Lease | null): Observed {
    const { env, address } = this.#deps;
    const { holder = '', renewedAt, acquiredAt, transitions } = lease ?? {};
    const sign = JSON.stringify([lease === null, holder, renewedAt, acquiredAt, transitions]);
    if (holder !== '' && holder !== address.rpc) this.#followed = true;
    // A change is seen when the answer is there, later than it was written.
    if (this.#observed?.sign !== sign) this.#observed = { lease, sign, since: env.monotonic() };
    else this.#observed.lease = lease;
    return this.#observed;
  }

  /** Taken over from whoever had it. Nobody is sent here before the epoch is claimed. */
  #taken(from: Lease | null): Lease {
    const { plan, address } = this.#deps;
    const now = this.#now();
    return {
      holder: address.rpc,
      leaseSeconds: Math.max(1, Math.ceil(plan.leaseMs / 1_000)),
      acquiredAt: now,
      renewedAt: now,
      transitions: (from?.transitions ?? -1) + 1,
      annotations: NOBODY,
      metadata: from?.metadata ?? null,
    };
  }

  #renewed(from: Lease | null, { lease, leading }: Holding): Lease {
    const { rpc, rest } = this.#deps.address;
    const annotations =
      leading === null
        ? NOBODY
        : { [RPC]: rpc, [REST]: rest, [EPOCH]: String(leading.leaderEpoch) };
    return { ...lease, annotations, renewedAt: this.#now(), metadata: from?.metadata ?? null };
  }

  #freed(from: Lease | null, lease: Lease): Lease {
    const free = { holder: '', leaseSeconds: 1, renewedAt: null, annotations: NOBODY };
    return { ...lease, ...free, metadata: from?.metadata ?? null };
  }

  /** MicroTime, for people. */
  #now(): string {
    return new Date(this.#deps.env.now()).toISOString().replace('Z', '000Z');
  }

  #hold(lease: Lease, renewedAt: number): void {
    const { env, plan } = this.#deps;
    const options = {
      env,
      plan,
      renew: () => this.#renew(holding),
      onOverdue: (silentMs: number) => {
        const text = `the Lease was not renewed for ${silentMs} ms`;
        this.#lose(holding, new TriggerJobError('LEASE_LOST', text, { retryable: true }));
      },
    };
    const renewal = new Renewal(options, renewedAt);
    const holding: Holding = { lease, renewal, leading: null, lost: null };
    this.#holding = holding;
    renewal.guard();
    renewal.schedule();
  }

  #renew(holding: Holding): Promise<void> {
    this.#renewing = this.#renewing.then(() => this.#tryRenew(holding));
    return this.#renewing;
  }

  async #tryRenew(holding: Holding): Promise<void> {
    if (holding.renewal.over || holding.renewal.isOverdue()) return;
    const { env, log } = this.#deps;
    const startedAt = env.monotonic();
    try {
      const renewed = await this.#write(holding, (from) => this.#renewed(from, holding));
      if (renewed) holding.renewal.renewedAt = startedAt;
    } catch (error) {
      if (holding.renewal.over) return;
      log.warn({ error: messageOf(error) }, 'the Lease could not be renewed');
      await this.#confirm(holding);
    }
  }

  /** false: it is lost. */
  async #write(holding: Holding, make: (from: Lease | null) => Lease): Promise<boolean> {
    const { address, leases } = this.#deps;
    let from: Lease | null = holding.lease;
    for (let left = TRIES; left > 0; left--) {
      const written = await leases.put(make(from));
      if (written !== null) {
        holding.lease = written;
        return true;
      }
      // Changed under us: annotated, deleted, or taken. Or by us, and the reply was lost.
      from = await leases.get();
      if (from !== null && from.holder !== '' && from.holder !== address.rpc) {
        this.#observe(from);
        const text = `${from.holder} holds the Lease`;
        this.#lose(holding, new TriggerJobError('LEASE_LOST', text, { retryable: true }));
        return false;
      }
    }
    throw new TriggerJobError('KUBERNETES_API', 'the Lease changes faster than it is renewed');
  }

  /** Without the API server the log alone says whether another one leads. */
  async #confirm(holding: Holding): Promise<void> {
    const { env, log } = this.#deps;
    const startedAt = env.monotonic();
    try {
      if (holding.leading === null) return;
      await holding.leading.confirm();
      holding.renewal.renewedAt = Math.max(holding.renewal.renewedAt, startedAt);
    } catch (error) {
      if (error instanceof TriggerJobError && error.code === 'LEADERSHIP_LOST') {
        this.#lose(holding, error);
      } else if (!holding.renewal.over) {
        log.warn({ error: messageOf(error) }, 'nor does the checkpoint store answer');
      }
    }
  }

  #lose(holding: Holding, error: Error): void {
    if (holding.renewal.over) return;
    holding.lost = error;
    this.#letGo();
    holding.leading?.onLost(error);
  }

  #letGo(): void {
    this.#holding?.renewal.stop();
  }
}
