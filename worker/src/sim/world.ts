/**
 * A whole cluster in one process: the real JobManager shell and real SlotTasks, on a model source,
 * model services and a store that fails, under virtual time. One seed is one run:
 *
 *   faults and crashes until FAULTS_END_MS -> heal -> drain -> the checks of run-checks.ts
 */
import { pino } from 'pino';
import { MemoryStore, type StoredObjects } from '../checkpoint/memory-store.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { type JobManager, startJobManager } from '../jobmanager/jobmanager.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { TaskManagerConnection } from '../rpc/server.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { SCRIPT_TEXTS } from './fold.ts';
import { ModelLog, makeSplits } from './model-log.ts';
import type { Outside, Receipt, Service } from './model-services.ts';
import { deploymentOf, type Mutant, mutated } from './mutants.ts';
import { asConnection, type LinkEnd, link } from './rpc-link.ts';
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
import { SimShuffle } from './sim-shuffle.ts';
import type { SlotWorld } from './sim-slot.ts';
import { SimStore } from './sim-store.ts';
import { SimTaskManager } from './sim-task-manager.ts';
import { EPOCH_MS, SimProcess, VirtualTime } from './virtual-time.ts';

/** After healing, everything must be read, delivered and in a checkpoint by then. */
const DRAIN_LIMIT_MS = 120_000;
/** What a broken store or source makes a process end with. Anything else is a bug. */
const FROM_OUTSIDE = /503 slow down|connection refused|connection reset|broker does not answer/;
/** Waits for slots, minimum interval and a checkpoint, with room to spare. */
const WHOLE_LIMIT_MS = 30_000;
const NO_FAULTS = { slow: 0, throws: 0, lostReply: 0 };

export interface RunOptions {
  mutant?: Mutant;
  /** false: ledgers and counts are not looked at, only their effects. */
  ledgers?: boolean;
  trace?: (line: string) => void;
}

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
  readonly #down = new Map<Service, { untilMs: number; only?: number | undefined }>();
  readonly #crashes: { role: string; point: string; nth: number }[];
  readonly #links = new Map<SimProcess, LinkEnd<never, never>[]>();
  #replacing = false;
  #healed = false;
  #ended = false;
  #twins = false;
  #script = 'v1';
  #parallelism: number;
  #processes = 0;
  #jobManager: { process: SimProcess; manager: JobManager | null } | null = null;
  #accept: ((connection: TaskManagerConnection) => void) | null = null;
  readonly #taskManagers = new Map<SimProcess, SimTaskManager>();
  readonly #shuffle = new SimShuffle();

  constructor(scenario: Scenario, options: RunOptions) {
    this.#scenario = scenario;
    this.#options = options;
    this.rng = new Seeded(scenario.seed * 31 + 7);
    this.#parallelism = scenario.parallelism;
    this.#crashes = scenario.crashPoints.map((point) => ({ ...point }));
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
  }

  get webhookMayFail(): boolean {
    return this.#scenario.webhookMayFail && !this.#healed;
  }

  get profileMayFail(): boolean {
    return this.#scenario.profileMayFail;
  }

  async run(): Promise<void> {
    this.#startJobManager();
    for (let i = 0; i < this.#scenario.taskManagers; i++) this.#startTaskManager();
    for (const { atMs, action } of this.#scenario.actions) {
      this.time.after(atMs, () => this.#act(action));
    }
    const healAt = EPOCH_MS + FAULTS_END_MS;
    this.time.after(FAULTS_END_MS, () => {});
    await this.time.run(() => this.time.nowMs >= healAt, FAULTS_END_MS * 2);
    this.#healed = true;
    this.#down.clear();
    this.#crashes.length = 0;
    this.#trace('healed');
    this.checks.healed();
    const drained = await this.time.run(() => this.checks.drained(), DRAIN_LIMIT_MS);
    await this.checks.finished();
    this.time.throwFailure();
    if (!drained) throw new Error(`I10: not drained ${DRAIN_LIMIT_MS} ms after healing`);
    // All slots are back for good, so all subtasks must be.
    const whole = await this.time.run(() => this.#whole(), WHOLE_LIMIT_MS);
    this.time.throwFailure();
    if (!whole) throw new Error(`not at the wanted parallelism ${WHOLE_LIMIT_MS} ms later`);
    this.checks.final();
  }

  end(): void {
    this.#ended = true;
    this.#jobManager?.process.kill();
    for (const process of this.#taskManagers.keys()) process.kill();
  }

  isDown(service: Service, subtask?: number): boolean {
    const { untilMs, only } = this.#down.get(service) ?? { untilMs: 0 };
    return this.time.nowMs < untilMs && (only === undefined || only === subtask);
  }

  hit(what: string): void {
    this.hits.add(what);
    this.#trace(what);
  }

  point(process: SimProcess, name: string): void {
    if (!process.alive || this.#ended) return;
    this.hits.add(`at ${process.role}: ${name}`);
    this.#trace(`${process.name}: ${name}`);
    const hit = this.#crashes.find((crash) => crash.role === process.role && crash.point === name);
    if (hit === undefined || --hit.nth > 0) return;
    this.#crashes.splice(this.#crashes.indexOf(hit), 1);
    this.hit(`crash of ${process.role}: ${name}`);
    this.#crash(process, false);
  }

  arrived(receipt: Receipt): void {
    this.#trace(`${receipt.to} got ${receipt.partition}/${receipt.offset} of ${receipt.userId}`);
    this.checks.arrived(receipt);
  }

  #whole(): boolean {
    const view = this.#jobManager?.manager?.view();
    return view?.status === 'RUNNING' && view.parallelism === view.scaling.wanted;
  }

  #act(action: Action): void {
    if (this.#ended) return;
    this.hit(describe(action));
    const manager = this.#jobManager?.manager ?? null;
    switch (action.do) {
      case 'crash': {
        const taskManagers = [...this.#taskManagers.keys()];
        const process =
          action.role === 'jobmanager' ? this.#jobManager?.process : this.rng.pick(taskManagers);
        if (process !== undefined) this.#crash(process, action.silent);
        return;
      }
      case 'outage':
        this.#down.set(action.service, {
          untilMs: this.time.nowMs + action.ms,
          only: action.subtask,
        });
        return;
      case 'script':
        this.#script = action.version;
        this.checks.scripts.add(action.version);
        manager?.changeScript(this.#scriptVersion());
        return;
      case 'twin':
        this.#twins = true;
        this.#startJobManager();
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
        } else if (this.#jobManager !== null) this.#crash(this.#jobManager.process, false);
    }
  }

  #crash(process: SimProcess, silent: boolean, awayMs?: number): void {
    if (!process.alive) return;
    if (this.#replacing && process === this.#jobManager?.process) {
      this.hit('replay: given up, leader change');
    }
    process.kill();
    for (const end of this.#links.get(process) ?? []) end.died(silent);
    this.#links.delete(process);
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
      else if (process === this.#jobManager?.process) this.#startJobManager();
    });
  }

  #spawn(role: SimProcess['role']): SimProcess {
    const name = `${role === 'jobmanager' ? 'jm' : 'tm'}-${++this.#processes}`;
    return new SimProcess(name, role, this.time, this.rng, this.#scenario.stepMs);
  }

  #startJobManager(): void {
    const process = this.#spawn('jobmanager');
    const running = { process, manager: null as JobManager | null };
    this.#jobManager = running;
    this.#accept = null;
    const ended = (why: string, error: unknown) => {
      if (!process.alive) return;
      this.#trace(`${process.name} ended: ${why} ${error === null ? '' : messageOf(error)}`);
      this.hit(`jobmanager ended: ${why}`);
      const succeeded = process !== this.#jobManager?.process;
      if (succeeded) this.hit('jobmanager ended: another one leads');
      else if (error !== null) this.#judge(error);
      this.#crash(process, false);
    };
    startJobManager({
      plan: this.#plan(),
      watchFiles: [],
      loadScript: () => Promise.resolve(null),
      script: this.#scriptVersion(),
      env: process.env,
      log: pino({ level: 'info' }, { write: (line) => this.#logged(process, line) }),
      store: this.#openStore(process),
      openStore: (url) => Promise.resolve(new MemoryStore(process.env, new Map(), url)),
      openEnumerator: () => this.#log.enumerator(),
      writer: process.name,
      listen: ({ onConnection }) => {
        if (this.#jobManager === running) this.#accept = onConnection;
        return Promise.resolve({ port: 1, close: () => Promise.resolve() });
      },
    })
      .then((manager) => {
        running.manager = manager;
        const { wanted } = manager.view().scaling;
        if (wanted !== this.#parallelism) this.hit('rescale asked of the JobManager before');
        return manager.done.then(
          (outcome) =>
            ended(outcome.kind, outcome.kind === 'failed' ? new Error(outcome.message) : null),
          (error: unknown) => ended('could not go on', error),
        );
      })
      .catch((error: unknown) => ended('did not start', error));
  }

  /** What the JobManager says of replacements: which branch was taken. */
  #logged(process: SimProcess, line: string): void {
    const said = /"msg":"((?:lost tasks|replacement given up)[^"]*)"/.exec(line)?.[1];
    if (said === undefined || process !== this.#jobManager?.process || this.#ended) return;
    this.#replacing = said.endsWith(' are being replaced');
    this.hit(`replay: ${said.replace(/waited for.*/, 'the limit')}`);
    if (said === 'lost tasks replaced') this.checks.replaced();
  }

  /** A fault of the outside ends a process and nothing else; the rest are bugs. */
  #judge(error: unknown): void {
    const code = error instanceof TriggerJobError ? error.code : '';
    // The older of two may be the slower one, and take over last.
    if (code === 'LEADERSHIP_LOST' && this.#twins) return;
    if (code === 'LOG_UNAVAILABLE' || FROM_OUTSIDE.test(messageOf(error))) return;
    this.time.fail(
      new Error(`a process ended with ${code}: ${messageOf(error)}`, { cause: error }),
    );
  }

  #startTaskManager(): void {
    if (this.#ended) return;
    const jobManager = this.#jobManager?.process;
    if (this.#accept === null || jobManager?.alive !== true) {
      this.time.after(this.rng.between(20, 200), () => this.#startTaskManager());
      return;
    }
    const process = this.#spawn('taskmanager');
    const { server, client } = link(jobManager, process, this.rng);
    this.#links.set(jobManager, [...(this.#links.get(jobManager) ?? []), server as never]);
    this.#links.set(process, [client as never]);
    const taskManager = new SimTaskManager(process, client, this.#slotWorld(), {
      deployed: (name, command) => {
        const { wanted } = this.#jobManager?.manager?.view().scaling ?? { wanted: 0 };
        if (command.ranges.length < wanted) this.hit('deployed: degraded parallelism');
        this.checks.deployed(name, command);
      },
      slotFailed: (code, error) => {
        this.hit(`slot failed: ${code}`);
        this.#judge(new TriggerJobError(code, error));
      },
      ended: () => this.#crash(process, false),
    });
    this.#taskManagers.set(process, taskManager);
    this.#accept(asConnection(server));
    taskManager.run(Math.ceil(MAX_PARALLELISM / this.#scenario.taskManagers));
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
        if (report.type === 'decline' && this.#replacing) this.hit('replay: loss during alignment');
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
      created: (name) => this.checks.created(name),
    });
  }

  #plan(): JobPlan {
    return { ...structuredClone(this.#scenario.plan), parallelism: this.#parallelism };
  }

  #scriptVersion(): ScriptVersion {
    const version = this.#script;
    return { version, text: SCRIPT_TEXTS[version]!, language: 'aviator' };
  }

  #trace(what: string): void {
    this.#options.trace?.(`${(this.time.nowMs - EPOCH_MS).toFixed(1)} ${what}`);
  }
}
