/**
 * Election by the checkpoint store alone: the leader of epoch E replaces `leader/<E>` every retry
 * period; a standby finds E at the log's end and claims E + 1 when that object has stood still for
 * a whole lease, or says that it was given up. What is decided is lease.ts.
 */
import type { Logger } from 'pino';
import { JobLog } from '../checkpoint/log.ts';
import { decodeRecord } from '../checkpoint/log-record.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { leaderPath, logPath } from '../checkpoint/paths.ts';
import type { JobEnd } from '../checkpoint/snapshot.ts';
import type { LeaderElectionPlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { LeaderAddress, LeaderElection, Turn } from './leader-election.ts';
import { readSign, type SignOfLife, type Watched, watch } from './lease.ts';
import { Renewal } from './renewal.ts';

/** A standby looks more often than a leader writes: a clean handover takes no longer than this. */
const LOOKS_PER_RETRY = 4;

export interface StoreElectionDeps {
  env: Env;
  log: Logger;
  store: ObjectStore;
  plan: LeaderElectionPlan;
  /** Of this process. */
  address: LeaderAddress;
}

interface Leading {
  readonly leaderEpoch: number;
  readonly confirm: () => Promise<void>;
  readonly onLost: (error: Error) => void;
  readonly renewal: Renewal;
  counter: number;
}

/** The last sign of life: the job is over, or with null only this leader's time. */
export async function writeEnd(
  store: ObjectStore,
  leader: Omit<SignOfLife, 'released' | 'end'>,
  end: JobEnd | null,
): Promise<void> {
  await writeSign(store, { ...leader, released: true, end });
}

async function writeSign(store: ObjectStore, sign: SignOfLife): Promise<void> {
  await store.replace(leaderPath(sign.leaderEpoch), Buffer.from(JSON.stringify(sign)));
}

export class StoreElection implements LeaderElection {
  readonly #deps: StoreElectionDeps;
  #watched: Watched | null = null;
  #logEnd = 0;
  #leading: Leading | null = null;
  #renewing: Promise<void> = Promise.resolve();

  constructor(deps: StoreElectionDeps) {
    this.#deps = deps;
  }

  get leader(): LeaderAddress | null {
    if (this.#leading !== null) return this.#deps.address;
    const sign = readSign(this.#watched?.content ?? null);
    if (sign === null || sign.released || sign.end !== null) return null;
    return { rpc: sign.rpc, rest: sign.rest };
  }

  async turn(signal: AbortSignal): Promise<Turn> {
    const { env, log, plan } = this.#deps;
    for (;;) {
      signal.throwIfAborted();
      try {
        const turn = await this.#look();
        if (turn !== null) return turn;
      } catch (error) {
        if (error instanceof TriggerJobError && error.code === 'LOG_CORRUPT') throw error;
        log.warn({ error: messageOf(error) }, 'the checkpoint store does not answer a standby');
      }
      await sleep(env, plan.retryMs / LOOKS_PER_RETRY, signal);
    }
  }

  async lead(
    leaderEpoch: number,
    confirm: () => Promise<void>,
    onLost: (error: Error) => void,
  ): Promise<void> {
    const { env, plan } = this.#deps;
    const options = {
      env,
      plan,
      renew: () => this.#renew(leading),
      onOverdue: (silentMs: number) => {
        const text = `epoch ${leaderEpoch} was not renewed for ${silentMs} ms`;
        this.#lose(leading, new TriggerJobError('LEASE_LOST', text));
      },
    };
    const renewal = new Renewal(options, env.monotonic());
    const leading: Leading = { leaderEpoch, confirm, onLost, renewal, counter: 0 };
    this.#leading = leading;
    renewal.guard();
    // Shown before anything else is done, so that a standby that looks now need not guess.
    await this.#renew(leading);
    renewal.schedule();
  }

  async release(end: JobEnd | null): Promise<void> {
    const { env, log, plan, store } = this.#deps;
    const leading = this.#leading;
    if (leading === null || leading.renewal.over) return;
    leading.renewal.stop();
    const late = Promise.withResolvers<void>();
    const limit = env.timer(plan.renewDeadlineMs, late.resolve);
    // After the renewal under way: it must not land behind this one.
    const written = this.#renewing
      .then(() => writeEnd(store, this.#next(leading), end))
      .catch((error: unknown) => {
        log.warn({ error: messageOf(error) }, 'the next leader waits for the lease to run out');
      });
    await Promise.race([written, late.promise]);
    limit.cancel();
  }

  close(): void {
    this.#leading?.renewal.stop();
  }

  /** null: somebody leads, or may. */
  async #look(): Promise<Turn | null> {
    const { env, store, plan } = this.#deps;
    const before = this.#watched;
    const askedAt = env.monotonic();
    const leaderEpoch = before === null ? await this.#newestEpoch() : before.leaderEpoch;
    const content = (await store.get(leaderPath(leaderEpoch)))?.toString() ?? null;
    const answeredAt = env.monotonic();
    const seen = watch(before, { leaderEpoch, content, askedAt, answeredAt }, plan.leaseMs);
    // A sign of life needs no second look; silence may mean that a newer leader is there.
    const silent = before !== null && seen.watched === before;
    if (silent || seen.turn !== null) {
      const newest = before === null ? leaderEpoch : await this.#newestEpoch();
      if (newest !== leaderEpoch) {
        this.#watched = { ...seen.watched, leaderEpoch: newest, content: null, since: answeredAt };
        this.#watched.followed = true;
        return null;
      }
    }
    this.#watched = seen.watched;
    return seen.turn;
  }

  /** Of the last record of the log; 0 if there is none. */
  async #newestEpoch(): Promise<number> {
    const { env, store } = this.#deps;
    const reader = new JobLog({ store, env, writer: 'standby', hint: this.#logEnd, retained: 1 });
    const end = await reader.findEnd();
    if (end < 0) return 0;
    this.#logEnd = end;
    const content = await store.get(logPath(end));
    return content === null ? 0 : decodeRecord(content, end).leaderEpoch;
  }

  #renew(leading: Leading): Promise<void> {
    this.#renewing = this.#tryRenew(leading);
    return this.#renewing;
  }

  async #tryRenew(leading: Leading): Promise<void> {
    const { env, log, store } = this.#deps;
    if (leading.renewal.isOverdue()) return;
    const startedAt = env.monotonic();
    try {
      await leading.confirm();
      if (leading.renewal.over) return;
      await writeSign(store, { ...this.#next(leading), released: false, end: null });
      leading.renewal.renewedAt = startedAt;
    } catch (error) {
      if (error instanceof TriggerJobError && error.code === 'LEADERSHIP_LOST') {
        this.#lose(leading, error);
      } else if (!leading.renewal.over) {
        log.warn({ error: messageOf(error) }, 'the leadership could not be renewed');
      }
    }
  }

  #next(leading: Leading): Omit<SignOfLife, 'released' | 'end'> {
    const { leaderEpoch } = leading;
    return { leaderEpoch, counter: leading.counter++, ...this.#deps.address };
  }

  #lose({ renewal, onLost }: Leading, error: Error): void {
    if (renewal.over) return;
    renewal.stop();
    onLost(error);
  }
}
