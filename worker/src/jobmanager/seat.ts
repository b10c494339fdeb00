/**
 * A JobManager process from its start to its end, whether it leads or not: both ports open, the
 * store at hand, waiting for its turn (LeaderElection); then the job, until that ends, or this
 * leader does. Two ways to leave: with the job, or without it, so that the tasks go on under the
 * next leader. Where the operator counts runs, a process whose run has ended neither waits nor
 * leads: it shows how the job ended.
 */
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { RunClaim } from '../checkpoint/run-claim.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { type RestServer, startRest } from '../rest/rest-server.ts';
import type { RestTokens } from '../rest/rest-tokens.ts';
import type { TransportKeys } from '../rpc/transport-secret.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { LogText } from '../runtime/log-tail.ts';
import { endedJob } from './ended-job.ts';
import { FrontDoor } from './front-door.ts';
import type { JobOutcome } from './job-lifecycle.ts';
import type { JobControl, JobManager } from './job-view.ts';
import type { JobManagerOptions } from './jobmanager-options.ts';
import type { Leases } from './kube-leases.ts';
import type { LeaderAddress, LeaderElection, Turn } from './leader-election.ts';
import { LeaseElection } from './lease-election.ts';
import { type EndedRun, endOfLog, type Standing, standingOf } from './standing.ts';
import { StoreElection, writeEnd } from './store-election.ts';

export interface SeatDeps {
  env: Env;
  log: Logger;
  plan: JobPlan;
  store: ObjectStore;
  openStore: JobManagerOptions['openStore'];
  /** Who may connect; null = whoever can reach the port. */
  keys: TransportKeys | null;
  /** Name or address under which others reach this process; null = as the plan binds it. */
  advertiseHost: string | null;
  /** Of the operator's deployment; null = not deployed by it. */
  run: RunClaim | null;
  /** The Lease that decides who leads; null = the store decides, or the only JobManager leads. */
  leases: Leases | null;
  /** Of REST clients that may change something; null = anybody may. */
  restTokens: RestTokens | null;
  /** The newest lines of this process's log. */
  ownLog?: () => Promise<LogText>;
  /** This leader must end at once (P39): nothing is closed in order. */
  onFatal(error: unknown): void;
}

/** `followed`: another one has led since this process started. */
export type Claim = Pick<JobManagerOptions, 'after' | 'onLeading' | 'listen'> & {
  followed: boolean;
};

/** Between two looks of a process that has nothing to do, for a run that it is not of. */
const LOOK_AGAIN_MS = 5_000;

/** `released`: this process leaves, the job goes on. `left`: it never led. */
export type SeatEnd = JobOutcome | { kind: 'released' } | { kind: 'left' };

export class Seat {
  readonly #deps: SeatDeps;
  readonly #address: LeaderAddress = { rpc: '', rest: '' };
  readonly #leaving = new AbortController();
  /** null: the only JobManager, who starts leads. */
  #election: LeaderElection | null = null;
  #door: FrontDoor | null = null;
  #rest: RestServer | null = null;
  #manager: JobManager | null = null;
  /** The job of a run that has ended, where this process did not lead it then. */
  #ended: JobControl | null = null;
  #left: 'job' | 'seat' | null = null;
  /** The job has ended under this leader: there is nothing to stop or to hand over. */
  #over = false;
  readonly #released = Promise.withResolvers<SeatEnd>();

  private constructor(deps: SeatDeps) {
    this.#deps = deps;
  }

  /** Rejects with RPC_LISTEN, REST_LISTEN. */
  static async open(deps: SeatDeps): Promise<Seat> {
    const seat = new Seat(deps);
    try {
      await seat.#open();
    } catch (error) {
      await seat.close();
      throw error;
    }
    return seat;
  }

  get ports(): { rpcPort: number; restPort: number } {
    return { rpcPort: this.#door?.port ?? 0, restPort: this.#rest?.port ?? 0 };
  }

  /** Waits for its turn, leads; resolves with how that ended, rejects with what `start` does. */
  async hold(start: (claim: Claim) => Promise<JobManager>): Promise<SeatEnd> {
    for (;;) {
      const standing = await this.#standing();
      if (standing.kind === 'ended') return this.#showEnd(standing);
      const turn = await this.#turn(standing);
      if (turn === null) return { kind: 'left' };
      if (turn === 'again') continue;
      if (turn.kind === 'ended') {
        const end = await this.#standing();
        return end.kind === 'ended' ? this.#showEnd(end) : turn.end;
      }
      try {
        this.#manager = await start(this.#claim(turn));
      } catch (error) {
        if (!this.#maySeeAgain(error)) {
          await this.#election?.release(null);
          throw error;
        }
        this.#deps.log.info({ reason: messageOf(error) }, 'another one leads');
        continue;
      }
      return this.#lead(this.#manager);
    }
  }

  /** The end stays to be seen until this process is told to leave, or another run begins. */
  async stay(): Promise<'told' | 'superseded'> {
    const { env, log, store } = this.#deps;
    const { signal } = this.#leaving;
    this.#manager?.retire();
    log.info('the job has ended; this JobManager stays to show how');
    let seen = -1;
    for (;;) {
      if (signal.aborted) return 'told';
      try {
        const end = await endOfLog(store, env, Math.max(seen, 0));
        const changed = end !== seen;
        seen = end;
        if (changed && (await this.#standing()).kind !== 'ended') return 'superseded';
      } catch (error) {
        log.warn({ error: messageOf(error) }, 'the checkpoint store does not answer');
      }
      await sleep(env, LOOK_AGAIN_MS, signal).catch(() => undefined);
    }
  }

  /** Ends the job, after a final checkpoint. A standby only ends itself. */
  stopJob(): void {
    if (this.#left !== null) return;
    this.#left = 'job';
    this.#leaving.abort(new Error('this JobManager is stopped'));
    if (!this.#over) void this.#manager?.stop({ finalCheckpoint: true }).catch(() => undefined);
  }

  /** Leaves the leadership to another one; tasks and job go on. */
  release(): void {
    if (this.#left !== null) return;
    this.#left = 'seat';
    this.#leaving.abort(new Error('this JobManager is released'));
    if (this.#manager !== null && !this.#over) void this.#release(this.#manager);
  }

  async close(): Promise<void> {
    this.#election?.close();
    await this.#rest?.close();
    await this.#manager?.close();
    await this.#door?.close();
  }

  async #open(): Promise<void> {
    const { env, log, plan, store, keys, advertiseHost } = this.#deps;
    const { rpc, rest } = plan;
    this.#door = await FrontDoor.open({
      env,
      log,
      keys,
      host: rpc.bindAddress,
      port: rpc.port,
      leader: () => this.#election?.leader?.rpc ?? null,
      endedEpoch: () => this.#ended?.view().leaderEpoch ?? null,
    });
    this.#rest = await startRest({
      env,
      port: rest.port,
      bindAddress: rest.bindAddress,
      jobManager: () => this.#manager ?? this.#ended,
      leader: () => {
        if (this.#manager !== null) return this.#address.rest;
        return this.#ended === null ? (this.#election?.leader?.rest ?? null) : null;
      },
      tokens: this.#deps.restTokens,
      ...(this.#deps.ownLog !== undefined && { ownLog: this.#deps.ownLog }),
    });
    const at = (bound: string, port: number) =>
      `${advertiseHost ?? (isWildcard(bound) ? hostname() : bound)}:${port}`;
    this.#address.rpc = at(rpc.bindAddress, this.#door.port);
    this.#address.rest = `http://${at(rest.bindAddress, this.#rest.port)}`;
    const address = this.#address;
    const election = { env, log, plan: plan.leaderElection, address };
    const { leases } = this.#deps;
    if (leases !== null) {
      const standing = () => this.#standing();
      this.#election = new LeaseElection({ ...election, leases, standing });
    } else if (plan.jobManagers > 1) {
      this.#election = new StoreElection({ ...election, store });
    }
  }

  async #standing(): Promise<Standing> {
    const { env, store, run } = this.#deps;
    // No run means that none has ended: then nothing is read that the claim does not read anyway.
    return run === null ? { kind: 'free', leaderEpoch: 0 } : standingOf(store, env, run);
  }

  async #showEnd(ended: EndedRun): Promise<SeatEnd> {
    // Held, if the run ended between the look at the log and the claim.
    await this.#election?.release(null);
    this.#ended = await endedJob(this.#deps, ended);
    return ended.record.outcome;
  }

  /** Another one leads, or the job or this run has ended or been succeeded meanwhile. */
  #maySeeAgain(error: unknown): boolean {
    if (!(error instanceof TriggerJobError)) return false;
    return ['RUN_ENDED', 'RUN_SUPERSEDED', 'CLAIM_LOST'].includes(error.code);
  }

  /** null: told to leave. */
  async #turn(standing: Standing): Promise<Turn | 'again' | null> {
    const { signal } = this.#leaving;
    if (signal.aborted) return null;
    const election = this.#election;
    // An election by Lease knows of runs itself, and whom to send others to meanwhile.
    if (standing.kind === 'superseded' && this.#deps.leases === null) {
      this.#deps.log.info({ run: standing.run }, 'a later run has begun');
      await sleep(this.#deps.env, LOOK_AGAIN_MS, signal).catch(() => undefined);
      return 'again';
    }
    if (election === null) return { kind: 'claim', after: -1, followed: false };
    this.#deps.log.info('this JobManager stands by');
    try {
      return await election.turn(signal);
    } catch (error) {
      if (signal.aborted) return null;
      throw error;
    }
  }

  #claim({ after, followed }: Turn & { kind: 'claim' }): Claim {
    const election = this.#election;
    return {
      after: election === null ? null : after,
      followed,
      onLeading: async (leaderEpoch, confirm) => {
        await election?.lead(leaderEpoch, confirm, (error) => this.#deps.onFatal(error));
      },
      listen: (options) => this.#door!.listen(options),
    };
  }

  async #lead(manager: JobManager): Promise<SeatEnd> {
    // What was asked for while it started.
    if (this.#left === 'job') void manager.stop({ finalCheckpoint: true }).catch(() => undefined);
    if (this.#left === 'seat') void this.#release(manager);
    const ended = manager.done.catch((error: unknown) => {
      this.#deps.onFatal(error);
      throw error;
    });
    const end = await Promise.race([ended, this.#released.promise]);
    if (end.kind === 'released' || end.kind === 'left') return end;
    this.#over = true;
    await this.#tellEnd(manager, end);
    if (end.kind !== 'failed') await this.#rest?.answersRead();
    return end;
  }

  async #release(manager: JobManager): Promise<void> {
    await manager.handOver();
    await this.#election?.release(null);
    this.#released.resolve({ kind: 'released' });
  }

  /** So that nobody leads on, or waits for tasks, where there is no job any more. */
  async #tellEnd(manager: JobManager, end: JobOutcome): Promise<void> {
    const { store, log } = this.#deps;
    if (this.#election !== null) return this.#election.release(end);
    const { leaderEpoch } = manager.view();
    await writeEnd(store, { ...this.#address, leaderEpoch, counter: 0 }, end).catch(
      (error: unknown) => log.warn({ error: messageOf(error) }, 'the end of the job is not stored'),
    );
  }
}

function isWildcard(address: string): boolean {
  return address === '0.0.0.0' || address === '::';
}
