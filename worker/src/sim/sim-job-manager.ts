/**
 * One JobManager process of the simulation: what seat.ts does with ports, done with links. The
 * election, the takeover and the job are the real ones.
 */
import { pino } from 'pino';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { turnAway } from '../jobmanager/front-door.ts';
import type { JobOutcome } from '../jobmanager/job-lifecycle.ts';
import type { JobManager } from '../jobmanager/job-view.ts';
import { startJobManager } from '../jobmanager/jobmanager.ts';
import { StoreElection, writeEnd } from '../jobmanager/store-election.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { SimProcess } from '../rehearsal/sim-process.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { TaskManagerConnection } from '../rpc/server.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { ModelLog } from './model-log.ts';

export interface SimJobManagerDeps {
  process: SimProcess;
  /** What TaskManagers know it by. */
  address: string;
  plan: JobPlan;
  script: ScriptVersion;
  store: ObjectStore;
  /** Of a savepoint. */
  openStore(url: string): ObjectStore;
  log: ModelLog;
  /** Each line of its log. */
  said(line: { msg: string; kind?: string; reason?: string }): void;
  /** Epoch to claim after, whatever the election says: a defect on purpose. */
  claims(after: number): number | null;
}

export class SimJobManager {
  readonly process: SimProcess;
  readonly #deps: SimJobManagerDeps;
  readonly #election: StoreElection | null;
  readonly #lost = Promise.withResolvers<never>();
  #accept: ((connection: TaskManagerConnection) => void) | null = null;
  manager: JobManager | null = null;
  /** Called when it leads. */
  led: (scaling: { wanted: number }) => void = () => undefined;

  constructor(deps: SimJobManagerDeps) {
    this.process = deps.process;
    this.#deps = deps;
    const { process, plan, store, address: rpc } = deps;
    const log = pino({ level: 'silent' });
    const address = { rpc, rest: `http://${rpc}` };
    this.#election =
      plan.jobManagers === 1
        ? null
        : new StoreElection({ env: process.env, log, store, plan: plan.leaderElection, address });
    this.#lost.promise.catch(() => undefined);
  }

  accept(connection: TaskManagerConnection): void {
    const { env } = this.process;
    if (this.#accept !== null) this.#accept(connection);
    else turnAway({ env, leader: () => this.#election?.leader?.rpc ?? null }, connection);
  }

  /** Resolves with the end of the job; rejects when this leader can't go on, or never led. */
  async run(): Promise<JobOutcome> {
    for (;;) {
      const turn = await this.#election?.turn(new AbortController().signal);
      if (turn?.kind === 'ended') return turn.end;
      try {
        this.manager = await this.#start(turn?.after ?? null);
      } catch (error) {
        if (error instanceof TriggerJobError && error.code === 'CLAIM_LOST') continue;
        throw error;
      }
      this.led(this.manager.view().scaling);
      const outcome = await Promise.race([this.manager.done, this.#lost.promise]);
      await this.#tellEnd(this.manager, outcome);
      return outcome;
    }
  }

  /** Leaves in order; the process ends then. */
  async release(): Promise<void> {
    await this.manager?.handOver();
    await this.#election?.release(null);
  }

  #start(after: number | null): Promise<JobManager> {
    const { process, plan, script, store, openStore, log, said, claims } = this.#deps;
    const write = (line: string) => said(JSON.parse(line) as { msg: string });
    return startJobManager({
      plan,
      watchFiles: [],
      loadScript: () => Promise.resolve(null),
      script,
      env: process.env,
      log: pino({ level: 'info' }, { write }),
      store,
      openStore: (url) => Promise.resolve(openStore(url)),
      openEnumerator: () => log.enumerator(),
      writer: process.name,
      after: after === null ? null : claims(after),
      onLeading: async (leaderEpoch, confirm) => {
        await this.#election?.lead(leaderEpoch, confirm, this.#lost.reject);
      },
      listen: ({ onConnection }) => {
        this.#accept = onConnection;
        return Promise.resolve({ port: 1, close: () => Promise.resolve() });
      },
    });
  }

  async #tellEnd(manager: JobManager, end: JobOutcome): Promise<void> {
    if (this.#election !== null) return this.#election.release(end);
    const { address: rpc, store } = this.#deps;
    const { leaderEpoch } = manager.view();
    const sign = { rpc, rest: '', leaderEpoch, counter: 0 };
    await writeEnd(store, sign, end).catch(() => undefined);
  }
}

/** The newest of those that lead; null: nobody does. */
export function leaderOf(all: ReadonlyMap<string, SimJobManager>): SimJobManager | null {
  const leading = [...all.values()].filter(
    ({ process, manager }) => process.alive && manager !== null,
  );
  const epoch = (one: SimJobManager) => one.manager?.view().leaderEpoch ?? 0;
  return leading.toSorted((a, b) => epoch(b) - epoch(a))[0] ?? null;
}

/** All runs, at the parallelism that is wanted. */
export function isWhole(all: ReadonlyMap<string, SimJobManager>): boolean {
  const view = leaderOf(all)?.manager?.view();
  return view?.status === 'RUNNING' && view.parallelism === view.scaling.wanted;
}
