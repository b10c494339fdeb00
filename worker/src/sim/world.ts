/**
 * A whole cluster in one process: the real JobManager shell and real SlotTasks, on a model source,
 * model services and a store that fails, under virtual time. One seed is one run:
 *
 *   faults and crashes until FAULTS_END_MS -> heal -> drain -> the checks of run-checks.ts
 */
import type { StoredObjects } from '../checkpoint/memory-store.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { Receipt } from '../rehearsal/honest-repeats.ts';
import { Hits, Seeded } from '../rehearsal/seeded.ts';
import type { SimProcess, SimThread } from '../rehearsal/sim-process.ts';
import { EPOCH_MS, VirtualTime } from '../rehearsal/virtual-time.ts';
import { Acts } from './acts.ts';
import { Cluster } from './cluster.ts';
import { Faults } from './faults.ts';
import { LeaderChecks } from './leader-checks.ts';
import { ModelLog, makeSplits } from './model-log.ts';
import type { Outside, Service } from './model-services.ts';
import { deploymentOf, mutated, type RunOptions } from './mutants.ts';
import { Network } from './network.ts';
import { PeerSilence } from './peer-silence.ts';
import { ReplayWatch } from './replay-watch.ts';
import { RunChecks } from './run-checks.ts';
import { FAULTS_END_MS, type Scenario, scenarioOf } from './scenario.ts';
import { isWhole } from './sim-job-manager.ts';
import { SimShuffle } from './sim-shuffle.ts';
import type { SlotWorld } from './sim-slot.ts';
import { SimStore } from './sim-store.ts';
import { leaderGaveUp } from './stored-job.ts';

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
  readonly #network = new Network(this.time);
  readonly #shuffle: SimShuffle;
  readonly #leaders: LeaderChecks;
  readonly #replays: ReplayWatch;
  readonly #cluster: Cluster;
  readonly #acts: Acts;
  #healed = false;

  constructor(scenario: Scenario, options: RunOptions) {
    const { time } = this;
    const hit = (what: string) => this.hit(what);
    this.#scenario = scenario;
    this.#options = options;
    this.rng = new Seeded(scenario.seed * 31 + 7);
    this.#faults = new Faults(scenario.crashPoints);
    const mutant = options.mutant ?? null;
    this.#shuffle = new SimShuffle({ time, network: this.#network, hit, mutant });
    this.#replays = new ReplayWatch({ hit, replaced: () => this.checks.replaced() });
    const splits = makeSplits(scenario, new Seeded(scenario.seed * 17 + 3));
    this.#log = new ModelLog(
      splits,
      () => time.nowMs,
      () => this.isDown('source'),
    );
    this.checks = new RunChecks({
      scenario,
      splits,
      objects: this.#objects,
      time,
      hit,
      ledgers: options.ledgers ?? true,
      wasEnded: (attempt, subtask) => this.#shuffle.wasEnded(attempt, subtask),
    });
    this.#leaders = new LeaderChecks({
      hit,
      fail: (fault) => time.fail(fault),
      now: () => time.nowMs,
      leaseMs: scenario.plan.leaderElection.leaseMs,
      objects: this.#objects,
      elected: scenario.jobManagers > 1,
      taskManagers: () => [...this.#cluster.taskManagers.values()],
      wasCut: (name, sinceMs) => this.#network.wasCut(name, sinceMs),
      adopted: () => this.checks.adopted(),
      gaveUp: () => leaderGaveUp(this.#objects),
    });
    this.#cluster = this.#openCluster();
    this.#acts = this.#openActs();
  }

  get webhookMayFail(): boolean {
    return this.#scenario.webhookMayFail && !this.#healed;
  }

  get profileMayFail(): boolean {
    return this.#scenario.profileMayFail;
  }

  async run(): Promise<void> {
    this.#cluster.start();
    for (const { atMs, action } of this.#scenario.actions) {
      this.time.after(atMs, () => {
        if (!this.#cluster.ended) this.#acts.do(action);
      });
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
    const whole = await this.time.run(() => isWhole(this.#cluster.jobManagers), WHOLE_LIMIT_MS);
    this.time.throwFailure();
    if (!whole) throw new Error(`not at the wanted parallelism ${WHOLE_LIMIT_MS} ms later`);
    this.checks.final();
  }

  end(): void {
    this.#cluster.end();
  }

  isDown(service: Service, subtask?: number): boolean {
    return this.#faults.isDown(service, this.time.nowMs, subtask);
  }

  hit(what: string): void {
    this.hits.add(what);
    this.#trace(what);
  }

  point(process: SimProcess, name: string): void {
    if (!process.alive || this.#cluster.ended) return;
    this.hits.add(`at ${process.role}: ${name}`);
    if (name === 'after replace leader') this.#leaders.signed(process);
    this.#trace(`${process.name}: ${name}`);
    if (!this.#faults.dies(process, name)) return;
    this.hit(`crash of ${process.role}: ${name}`);
    this.#cluster.crash(process, false);
  }

  arrived(receipt: Receipt): void {
    this.#trace(`${receipt.to} got ${receipt.partition}/${receipt.offset} of ${receipt.userId}`);
    this.checks.arrived(receipt);
  }

  #openCluster(): Cluster {
    return new Cluster({
      scenario: this.#scenario,
      time: this.time,
      rng: this.rng,
      network: this.#network,
      log: this.#log,
      checks: this.checks,
      leaders: this.#leaders,
      replays: this.#replays,
      mutant: this.#options.mutant ?? null,
      slotWorld: this.#slotWorld(),
      openStore: (thread, objects, url) => this.#openStore(thread, objects, url),
      objects: this.#objects,
      hit: (what) => this.hit(what),
      trace: (what) => this.#trace(what),
    });
  }

  #openActs(): Acts {
    const { time, rng, checks } = this;
    const hit = (what: string) => this.hit(what);
    const { heartbeatTimeoutMs } = this.#scenario.plan;
    const between = { time, rng, network: this.#network, hit };
    const shuffle = this.#shuffle;
    return new Acts({
      ...between,
      cluster: this.#cluster,
      faults: this.#faults,
      silence: new PeerSilence({ ...between, shuffle, timeoutMs: heartbeatTimeoutMs }),
      checks,
      heartbeatTimeoutMs,
      mutant: this.#options.mutant ?? null,
    });
  }

  #slotWorld(): SlotWorld {
    const mutant = this.#options.mutant ?? null;
    const mutation = { mutant, objects: this.#objects, published: this.checks.published };
    return {
      outside: this,
      log: this.#log,
      shuffle: this.#shuffle,
      openStore: (thread) => this.#openStore(thread, this.#objects),
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

  #openStore(thread: SimThread, objects: StoredObjects, url?: string): ObjectStore {
    const isOwn = objects === this.#objects;
    return new SimStore({
      thread,
      network: this.#network,
      outside: this,
      objects,
      faults: () => (this.#healed ? NO_FAULTS : this.#scenario.storeFaults),
      lagMs: this.#scenario.storeLagMs,
      created: (name) => {
        if (!isOwn) return;
        this.checks.created(name);
        this.#leaders.created(thread.process, name);
      },
      ...(url !== undefined && { url }),
    });
  }

  #trace(what: string): void {
    this.#options.trace?.(`${(this.time.nowMs - EPOCH_MS).toFixed(1)} ${what}`);
  }
}
