/**
 * The processes of a run: who leads and who stands by, which TaskManagers there are, what they are
 * given, how they die and come back.
 */
import type { StoredObjects } from '../checkpoint/memory-store.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Seeded } from '../rehearsal/seeded.ts';
import { SimProcess, type SimThread } from '../rehearsal/sim-process.ts';
import type { VirtualTime } from '../rehearsal/virtual-time.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { LeaderConnection } from '../taskmanager/leader-link.ts';
import { SCRIPT_TEXTS } from './fold.ts';
import type { LeaderChecks } from './leader-checks.ts';
import type { ModelLog } from './model-log.ts';
import type { Mutant } from './mutants.ts';
import type { Network } from './network.ts';
import { judgeEnd } from './process-ends.ts';
import type { ReplayWatch } from './replay-watch.ts';
import { Links } from './rpc-link.ts';
import type { RunChecks } from './run-checks.ts';
import { MAX_PARALLELISM, type Scenario } from './scenario.ts';
import { leaderOf, SimJobManager } from './sim-job-manager.ts';
import type { SlotWorld } from './sim-slot.ts';
import { SimTaskManager } from './sim-task-manager.ts';

export interface ClusterDeps {
  scenario: Scenario;
  time: VirtualTime;
  rng: Seeded;
  network: Network;
  log: ModelLog;
  checks: RunChecks;
  leaders: LeaderChecks;
  replays: ReplayWatch;
  mutant: Mutant | null;
  slotWorld: SlotWorld;
  openStore(thread: SimThread, objects: StoredObjects, url?: string): ObjectStore;
  objects: StoredObjects;
  hit(what: string): void;
  trace(what: string): void;
}

export class Cluster {
  /** By address; a twin takes its predecessor's place. */
  readonly jobManagers = new Map<string, SimJobManager>();
  readonly taskManagers = new Map<SimProcess, SimTaskManager>();
  readonly #deps: ClusterDeps;
  readonly #links: Links;
  readonly #addresses: readonly string[];
  /** Savepoints, by location. */
  readonly #stores = new Map<string, StoredObjects>();
  #ended = false;
  #twins = false;
  #script = 'v1';
  #parallelism: number;
  #processes = 0;

  constructor(deps: ClusterDeps) {
    this.#deps = deps;
    const { scenario, time, rng, network, hit } = deps;
    this.#links = new Links({ time, rng, network, hit });
    this.#parallelism = scenario.parallelism;
    this.#addresses = ['jm-a', 'jm-b'].slice(0, scenario.jobManagers);
  }

  get ended(): boolean {
    return this.#ended;
  }

  start(): void {
    for (const address of this.#addresses) this.#startJobManager(address);
    for (let i = 0; i < this.#deps.scenario.taskManagers; i++) this.#startTaskManager();
  }

  end(): void {
    this.#ended = true;
    for (const { process } of this.jobManagers.values()) process.kill();
    for (const process of this.taskManagers.keys()) process.kill();
  }

  /** The newest of those that lead. */
  leader(): SimJobManager | null {
    return leaderOf(this.jobManagers);
  }

  /** What lies there; nothing if nobody has opened it. */
  storeAt(url: string): StoredObjects {
    const known = this.#stores.get(url) ?? new Map();
    this.#stores.set(url, known);
    return known;
  }

  changeScript(version: string): void {
    this.#script = version;
    this.leader()?.manager?.changeScript(this.#scriptVersion());
  }

  startTwin(): void {
    this.#twins = true;
    this.#startJobManager(this.#addresses[0]!);
  }

  /** Another parallelism in the plan of all JobManagers that start from now on. */
  redeploy(parallelism: number, graceful: boolean): void {
    this.#parallelism = parallelism;
    const manager = this.leader()?.manager ?? null;
    if (graceful && manager !== null) {
      manager.stop({ finalCheckpoint: true }).catch(() => undefined);
    } else for (const { process } of [...this.jobManagers.values()]) this.crash(process, false);
  }

  /** false: nobody leads. */
  release(): boolean {
    const leader = this.leader();
    if (leader === null) return false;
    const { leaders, hit } = this.#deps;
    leaders.released(leader.process);
    void leader.release().then(() => {
      if (!leader.process.alive) return;
      hit('leader: released');
      this.crash(leader.process, false);
    });
    return true;
  }

  /** It is started again after a while, or after `awayMs`. */
  crash(process: SimProcess, silent: boolean, awayMs?: number): void {
    if (!process.alive) return;
    const { scenario, time, rng, replays } = this.#deps;
    replays.ended(process);
    process.kill();
    this.#links.died(process, silent);
    this.taskManagers.delete(process);
    const { heartbeatTimeoutMs } = scenario.plan;
    for (const peer of this.taskManagers.values()) {
      const delayMs = silent ? heartbeatTimeoutMs : rng.between(0, 8);
      time.after(delayMs, () => peer.process.awake(() => peer.peerLost(process.name, silent)));
    }
    time.after(awayMs ?? rng.between(50, 900), () => this.#restart(process));
  }

  #restart(process: SimProcess): void {
    if (this.#ended) return;
    if (process.role === 'taskmanager') this.#startTaskManager();
    for (const [address, one] of this.jobManagers) {
      if (one.process === process) this.#startJobManager(address);
    }
  }

  #spawn(role: SimProcess['role']): SimProcess {
    const { time, rng, scenario } = this.#deps;
    const name = `${role === 'jobmanager' ? 'jm' : 'tm'}-${++this.#processes}`;
    return new SimProcess(name, role, time, rng, scenario.stepMs);
  }

  #startJobManager(address: string): void {
    const { log, mutant, leaders, replays, hit, openStore, objects } = this.#deps;
    const process = this.#spawn('jobmanager');
    const jobManager = new SimJobManager({
      process,
      address,
      plan: this.#plan(),
      script: this.#scriptVersion(),
      store: openStore(process.main, objects),
      openStore: (url) => openStore(process.main, this.storeAt(url), url),
      log,
      said: (line) => {
        if (this.#ended) return;
        leaders.said(process, line);
        replays.said(process, line);
      },
      claims: (after) => (mutant === 'claims-over-a-fresh-takeover' ? null : after),
    });
    this.jobManagers.set(address, jobManager);
    jobManager.led = ({ wanted }) => {
      if (wanted !== this.#parallelism) hit('rescale asked of the JobManager before');
    };
    jobManager.run().then(
      (outcome) => {
        const fault = outcome.kind === 'failed' ? new Error(outcome.message) : null;
        this.#jobManagerEnded(address, process, outcome.kind, fault);
      },
      (error: unknown) => {
        const why = jobManager.manager === null ? 'did not start' : 'could not go on';
        this.#jobManagerEnded(address, process, why, error);
      },
    );
  }

  #jobManagerEnded(address: string, process: SimProcess, why: string, error: unknown): void {
    if (!process.alive) return;
    const { hit, trace } = this.#deps;
    trace(`${process.name} ended: ${why} ${error === null ? '' : messageOf(error)}`);
    hit(`jobmanager ended: ${why}`);
    const succeeded = process !== this.jobManagers.get(address)?.process;
    if (succeeded) hit('jobmanager ended: another one leads');
    else if (error !== null) this.#judge(error);
    this.crash(process, false);
  }

  #judge(error: unknown): void {
    const { scenario, time, hit } = this.#deps;
    const verdict = judgeEnd(error, this.#twins || scenario.jobManagers > 1);
    if (verdict instanceof Error) time.fail(verdict);
    else if (verdict !== null) hit(verdict);
  }

  #startTaskManager(): void {
    if (this.#ended) return;
    const { scenario, slotWorld, checks, network, hit } = this.#deps;
    const process = this.#spawn('taskmanager');
    const taskManager = new SimTaskManager(process, this.#addresses, slotWorld, {
      deployed: (name, command) => {
        const { wanted } = this.leader()?.manager?.view().scaling ?? { wanted: 0 };
        if (command.ranges.length < wanted) hit('deployed: degraded parallelism');
        hit(`deployed: to ${command.members.length} of ${scenario.taskManagers} taskmanagers`);
        // A clock that is wrong when a task begins is wrong for all it can know (P36).
        process.settle();
        checks.deployed(name, command, process.stoodStill || network.wasCut(name, 0));
      },
      slotFailed: (code, error, attempt) => {
        hit(`slot failed: ${code}`);
        if (code === 'SEGMENT_MISSING' && checks.isOver(attempt)) return;
        this.#judge(new TriggerJobError(code, error));
      },
      ended: () => this.crash(process, false),
      connect: (address) => this.#connect(address, process),
    });
    this.taskManagers.set(process, taskManager);
    taskManager.run(Math.ceil(MAX_PARALLELISM / scenario.taskManagers));
  }

  async #connect(address: string, process: SimProcess): Promise<LeaderConnection> {
    const jobManager = this.jobManagers.get(address);
    const taskManager = this.taskManagers.get(process);
    if (taskManager !== undefined && jobManager?.process.frozen !== true) {
      taskManager.soughtAt = this.#deps.time.nowMs;
    }
    if (jobManager?.process.alive !== true) throw new Error('connection refused');
    const { server, client } = await this.#links.open(jobManager.process, process);
    jobManager.process.awake(() => jobManager.accept(server));
    return client;
  }

  #plan(): JobPlan {
    const { plan, jobManagers } = this.#deps.scenario;
    return { ...structuredClone(plan), parallelism: this.#parallelism, jobManagers };
  }

  #scriptVersion(): ScriptVersion {
    const version = this.#script;
    return { version, text: SCRIPT_TEXTS[version]!, language: 'aviator' };
  }
}
