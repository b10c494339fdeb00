/**
 * A whole cluster in one process: the real JobManager shell and real SlotTasks, on a model source,
 * model services and a store that fails, under virtual time. One seed is one run:
 *
 *   faults and crashes until FAULTS_END_MS -> heal -> drain -> the checks of run-checks.ts
 */
import type { StoredObjects } from '../checkpoint/memory-store.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { LeaderConnection } from '../taskmanager/leader-link.ts';
import { Faults } from './faults.ts';
import { SCRIPT_TEXTS } from './fold.ts';
import { LeaderChecks } from './leader-checks.ts';
import { ModelLog, makeSplits } from './model-log.ts';
import type { Outside, Receipt, Service } from './model-services.ts';
import { deploymentOf, mutated, type RunOptions } from './mutants.ts';
import { judgeEnd } from './process-ends.ts';
import { ReplayWatch } from './replay-watch.ts';
import { Links } from './rpc-link.ts';
import { RunChecks } from './run-checks.ts';
import {
  type Action,
  describe,
  FAULTS_END_MS,
  MAX_PARALLELISM,
  type Scenario,
  scenarioOf,
} from './scenario.ts';
import { Hits, Seeded } from './seeded.ts';
import { isWhole, leaderOf, SimJobManager } from './sim-job-manager.ts';
import { SimShuffle } from './sim-shuffle.ts';
import type { SlotWorld } from './sim-slot.ts';
import { SimStore } from './sim-store.ts';
import { SimTaskManager } from './sim-task-manager.ts';
import { EPOCH_MS, SimProcess, VirtualTime } from './virtual-time.ts';

/** After healing, everything must be read, delivered and in a checkpoint by then. */
const DRAIN_LIMIT_MS = 120_000;
/** Waits for slots, minimum interval and a checkpoint, with room to spare. */
const WHOLE_LIMIT_MS = 30_000;
const NO_FAULTS = { slow: 0, throws: 0, lostReply: 0 };

/** Throws what is wrong with the run of `seed`. */
export function runSeed(seed: number, hits: Hits, options: RunOptions = {}): Promise<void> {
  return runScenario(scenarioOf(seed), hits, options);
}

export async function runScenario(
  scenario: Scenario,
  hits: Hits,
  options: RunOptions = {},
): Promise<void> {
  const world = new World(scenario, options);
  try {
    await world.run();
  } finally {
    world.end();
    hits.merge(world.hits);
  }
}

class World implements Outside {
  readonly hits = new Hits();
  readonly rng: Seeded;
  readonly time = new VirtualTime();
  readonly checks: RunChecks;
  readonly #scenario: Scenario;
  readonly #options: RunOptions;
  readonly #objects: StoredObjects = new Map();
  readonly #log: ModelLog;
  readonly #faults: Faults;
  readonly #links = new Links();
  #healed = false;
  #ended = false;
  #twins = false;
  #script = 'v1';
  #parallelism: number;
  #processes = 0;
  /** By address: who leads and who stands by; a twin takes its predecessor's place. */
  readonly #jobManagers = new Map<string, SimJobManager>();
  readonly #leaders: LeaderChecks;
  readonly #replays = new ReplayWatch({
    hit: (what) => this.hit(what),
    replaced: () => this.checks.replaced(),
  });
  readonly #addresses: readonly string[];
  readonly #taskManagers = new Map<SimProcess, SimTaskManager>();
  readonly #shuffle = new SimShuffle();

  constructor(scenario: Scenario, options: RunOptions) {
    this.#scenario = scenario;
    this.#options = options;
    this.rng = new Seeded(scenario.seed * 31 + 7);
    this.#parallelism = scenario.parallelism;
    this.#addresses = ['jm-a', 'jm-b'].slice(0, scenario.jobManagers);
    this.#faults = new Faults(scenario.crashPoints);
    const splits = makeSplits(scenario, new Seeded(scenario.seed * 17 + 3));
    this.#log = new ModelLog(
      splits,
      () => this.time.nowMs,
      () => this.isDown('source'),
    );
    this.checks = new RunChecks({
      scenario,
      splits,
      objects: this.#objects,
      time: this.time,
      hit: (what) => this.hit(what),
      ledgers: options.ledgers ?? true,
      wasEnded: (attempt, subtask) => this.#shuffle.wasEnded(attempt, subtask),
    });
    this.#leaders = new LeaderChecks({
      hit: (what) => this.hit(what),
      fail: (fault) => this.time.fail(fault),
      now: () => this.time.nowMs,
      leaseMs: scenario.plan.leaderElection.leaseMs,
      objects: this.#objects,
      elected: scenario.jobManagers > 1,
      taskManagers: () => [...this.#taskManagers.values()],
      adopted: () => this.checks.adopted(),
    });
  }

  get webhookMayFail(): boolean {
    return this.#scenario.webhookMayFail && !this.#healed;
  }

  get profileMayFail(): boolean {
    return this.#scenario.profileMayFail;
  }

  async run(): Promise<void> {
    for (const address of this.#addresses) this.#startJobManager(address);
    for (let i = 0; i < this.#scenario.taskManagers; i++) this.#startTaskManager();
    for (const { atMs, action } of this.#scenario.actions) {
      this.time.after(atMs, () => this.#act(action));
    }
    const healAt = EPOCH_MS + FAULTS_END_MS;
    this.time.after(FAULTS_END_MS, () => {});
    await this.time.run(() => this.time.nowMs >= healAt, FAULTS_END_MS * 2);
    this.#healed = true;
    this.#faults.heal();
    this.#trace('healed');
    this.checks.healed();
    const drained = await this.time.run(() => this.checks.drained(), DRAIN_LIMIT_MS);
    await this.checks.finished();
    this.time.throwFailure();
    if (!drained) throw new Error(`I10: not drained ${DRAIN_LIMIT_MS} ms after healing`);
    // All slots are back for good, so all subtasks must be.
    const whole = await this.time.run(() => isWhole(this.#jobManagers), WHOLE_LIMIT_MS);
    this.time.throwFailure();
    if (!whole) throw new Error(`not at the wanted parallelism ${WHOLE_LIMIT_MS} ms later`);
    this.checks.final();
  }

  end(): void {
    this.#ended = true;
    for (const { process } of this.#jobManagers.values()) process.kill();
    for (const process of this.#taskManagers.keys()) process.kill();
  }

  isDown(service: Service, subtask?: number): boolean {
    return this.#faults.isDown(service, this.time.nowMs, subtask);
  }

  hit(what: string): void {
    this.hits.add(what);
    this.#trace(what);
  }

  point(process: SimProcess, name: string): void {
    if (!process.alive || this.#ended) return;
    this.hits.add(`at ${process.role}: ${name}`);
    if (name === 'after replace leader') this.#leaders.signed(process);
    this.#trace(`${process.name}: ${name}`);
    if (!this.#faults.dies(process, name)) return;
    this.hit(`crash of ${process.role}: ${name}`);
    this.#crash(process, false);
  }

  arrived(receipt: Receipt): void {
    this.#trace(`${receipt.to} got ${receipt.partition}/${receipt.offset} of ${receipt.userId}`);
    this.checks.arrived(receipt);
  }

  #act(action: Action): void {
    if (this.#ended) return;
    this.hit(describe(action));
    const leader = leaderOf(this.#jobManagers);
    const manager = leader?.manager ?? null;
    switch (action.do) {
      case 'crash': {
        const taskManagers = [...this.#taskManagers.keys()];
        const process =
          action.role === 'jobmanager' ? leader?.process : this.rng.pick(taskManagers);
        if (process !== undefined) this.#crash(process, action.silent);
        return;
      }
      case 'outage':
        this.#faults.outage(action.service, this.time.nowMs + action.ms, action.subtask);
        return;
      case 'script':
        this.#script = action.version;
        this.checks.scripts.add(action.version);
        manager?.changeScript(this.#scriptVersion());
        return;
      case 'twin':
        this.#twins = true;
        this.#startJobManager(this.#addresses[0]!);
        return;
      case 'freeze':
        leader?.process.freeze(this.time.nowMs + action.ms);
        return;
      case 'release':
        if (leader !== null) this.#release(leader);
        return;
      case 'checkpoint':
        manager?.checkpoint().catch(() => undefined);
        return;
      case 'ask':
        manager?.rescale(action.parallelism).then(
          () => this.hit('rescale asked, and stored'),
          () => undefined,
        );
        return;
      case 'stay away': {
        const process = this.rng.pick([...this.#taskManagers.keys()]);
        if (process !== undefined) this.#crash(process, action.silent, action.ms);
        return;
      }
      case 'rescale':
        this.#parallelism = action.parallelism;
        if (action.graceful && manager !== null) {
          manager.stop({ finalCheckpoint: true }).catch(() => undefined);
        } else for (const one of [...this.#jobManagers.values()]) this.#crash(one.process, false);
    }
  }

  #release(leader: SimJobManager): void {
    this.#leaders.released(leader.process);
    void leader.release().then(() => {
      if (!leader.process.alive) return;
      this.hit('leader: released');
      this.#crash(leader.process, false);
    });
  }

  #crash(process: SimProcess, silent: boolean, awayMs?: number): void {
    if (!process.alive) return;
    this.#replays.ended(process);
    process.kill();
    this.#links.died(process, silent);
    this.#taskManagers.delete(process);
    const { heartbeatTimeoutMs } = this.#scenario.plan;
    for (const peer of this.#taskManagers.values()) {
      const delayMs = silent ? heartbeatTimeoutMs : this.rng.between(0, 8);
      this.time.after(delayMs, () => peer.peerLost(process.name, silent));
    }
    this.#restart(process, awayMs ?? this.rng.between(50, 900));
  }

  #restart(process: SimProcess, afterMs: number): void {
    this.time.after(afterMs, () => {
      if (this.#ended) return;
      if (process.role === 'taskmanager') this.#startTaskManager();
      for (const [address, one] of this.#jobManagers) {
        if (one.process === process) this.#startJobManager(address);
      }
    });
  }

  #spawn(role: SimProcess['role']): SimProcess {
    const name = `${role === 'jobmanager' ? 'jm' : 'tm'}-${++this.#processes}`;
    return new SimProcess(name, role, this.time, this.rng, this.#scenario.stepMs);
  }

  #startJobManager(address: string): void {
    const process = this.#spawn('jobmanager');
    const ended = (why: string, error: unknown) => {
      if (!process.alive) return;
      this.#trace(`${process.name} ended: ${why} ${error === null ? '' : messageOf(error)}`);
      this.hit(`jobmanager ended: ${why}`);
      const succeeded = process !== this.#jobManagers.get(address)?.process;
      if (succeeded) this.hit('jobmanager ended: another one leads');
      else if (error !== null) this.#judge(error);
      this.#crash(process, false);
    };
    const mutant = this.#options.mutant ?? null;
    const jobManager = new SimJobManager({
      process,
      address,
      plan: this.#plan(),
      script: this.#scriptVersion(),
      store: this.#openStore(process),
      log: this.#log,
      said: (line) => {
        if (this.#ended) return;
        this.#leaders.said(process, line);
        this.#replays.said(process, line);
      },
      claims: (after) => (mutant === 'claims-over-a-fresh-takeover' ? null : after),
    });
    this.#jobManagers.set(address, jobManager);
    jobManager.led = ({ wanted }) => {
      if (wanted !== this.#parallelism) this.hit('rescale asked of the JobManager before');
    };
    jobManager.run().then(
      (outcome) =>
        ended(outcome.kind, outcome.kind === 'failed' ? new Error(outcome.message) : null),
      (error: unknown) =>
        ended(jobManager.manager === null ? 'did not start' : 'could not go on', error),
    );
  }

  #judge(error: unknown): void {
    const several = this.#twins || this.#scenario.jobManagers > 1;
    const verdict = judgeEnd(error, several);
    if (verdict instanceof Error) this.time.fail(verdict);
    else if (verdict !== null) this.hit(verdict);
  }

  #startTaskManager(): void {
    if (this.#ended) return;
    const process = this.#spawn('taskmanager');
    const taskManager = new SimTaskManager(process, this.#addresses, this.#slotWorld(), {
      deployed: (name, command) => {
        const { wanted } = leaderOf(this.#jobManagers)?.manager?.view().scaling ?? { wanted: 0 };
        if (command.ranges.length < wanted) this.hit('deployed: degraded parallelism');
        this.checks.deployed(name, command);
      },
      slotFailed: (code, error) => {
        this.hit(`slot failed: ${code}`);
        this.#judge(new TriggerJobError(code, error));
      },
      ended: () => this.#crash(process, false),
      connect: (address) => this.#connect(address, process),
    });
    this.#taskManagers.set(process, taskManager);
    taskManager.run(Math.ceil(MAX_PARALLELISM / this.#scenario.taskManagers));
  }

  async #connect(address: string, process: SimProcess): Promise<LeaderConnection> {
    const jobManager = this.#jobManagers.get(address);
    if (jobManager?.process.alive !== true) throw new Error('connection refused');
    const { server, client } = this.#links.open(jobManager.process, process, this.rng);
    jobManager.process.awake(() => jobManager.accept(server));
    return client;
  }

  #slotWorld(): SlotWorld {
    const mutant = this.#options.mutant ?? null;
    const mutation = { mutant, objects: this.#objects, published: this.checks.published };
    return {
      outside: this,
      log: this.#log,
      shuffle: this.#shuffle,
      openStore: (process) => this.#openStore(process),
      frameDelayMs: () => this.rng.between(0, this.#scenario.frameDelayMs),
      told: (report) => {
        if (report.type === 'decline' && this.#replays.replacing)
          this.hit('replay: loss during alignment');
        if (report.type === 'decline') this.hit(`declined: ${report.reason.split(/:| \d/)[0]}`);
        this.checks.told(report);
      },
      mutate: (report) => mutated(report, mutation),
      deployment: (command) => deploymentOf(command, mutation),
      mutant,
    };
  }

  #openStore(process: SimProcess): ObjectStore {
    return new SimStore({
      process,
      outside: this,
      objects: this.#objects,
      faults: () => (this.#healed ? NO_FAULTS : this.#scenario.storeFaults),
      lagMs: this.#scenario.storeLagMs,
      created: (name) => {
        this.checks.created(name);
        this.#leaders.created(process, name);
      },
    });
  }

  #plan(): JobPlan {
    const { plan, jobManagers } = this.#scenario;
    return { ...structuredClone(plan), parallelism: this.#parallelism, jobManagers };
  }

  #scriptVersion(): ScriptVersion {
    const version = this.#script;
    return { version, text: SCRIPT_TEXTS[version]!, language: 'aviator' };
  }

  #trace(what: string): void {
    this.#options.trace?.(`${(this.time.nowMs - EPOCH_MS).toFixed(1)} ${what}`);
  }
}
