/**
 * The ways in which the network between the machines of a job breaks, one after the other: who is
 * cut from whom, for how long, and what must follow of it. After each the network heals and the job
 * must be whole again. Each attempt that ended on the way is entered as a kill, with the addresses
 * that nobody could tell so.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { Sample } from '../exactly-once/history.ts';
import { ask, until } from '../exactly-once/leaders.ts';
import { seededRandom } from '../exactly-once/random.ts';
import type { Stage } from '../exactly-once/run.ts';
import { attemptIn, isWorking, totalRead } from '../exactly-once/status.ts';
import { type Cut, type Network, OUTSIDE } from '../testbed/network.ts';
import { REST_PORT } from './net-launcher.ts';

/** `moment`: shorter than the heartbeat timeout, the tasks must go on. */
export type Outage =
  | 'a TaskManager, for a moment'
  | 'a TaskManager, from everyone'
  | 'a TaskManager, from the JobManagers'
  | 'the leader, for a moment'
  | 'the leader, from the TaskManagers'
  | 'what the leader says to the TaskManagers'
  | 'what the TaskManagers say to the leader'
  | 'one TaskManager and another'
  | 'what a TaskManager says to another'
  | 'the leader, from the store';

export interface OutagePlan {
  seed: number;
  outages: readonly Outage[];
  /** In order, or drawn from the seed. */
  shuffled: boolean;
  jobManagers: readonly string[];
  taskManagers: readonly string[];
  subtasks: number;
  storePort: number;
  /** The job's own, ms. */
  heartbeatTimeoutMs: number;
  graceMs: number;
}

export interface OutageFigures {
  name: Outage;
  /** From the cut, and from the heal, to all tasks' working again; the latter may be below 0. */
  workingMs: number;
  healedToWorkingMs: number;
  /** From the heal to every TaskManager's being registered. */
  wholeMs: number;
  /** From the cut from the store to a successor's being in charge; null: no such cut. */
  ledMs: number | null;
  /** Last delivery of a TaskManager that was cut from the leader alone, after the cut. */
  zombieMs: number | null;
  attempts: number;
}

/** Ten times what a step takes. */
const STEP_LIMIT_MS = 120_000;
const MOMENT_MS = 1_000;
/** Between two outages: a checkpoint or two. */
const CALM_MS = 1_500;
/** What follows of a moment shows within this. */
const AFTERMATH_MS = 3_000;
/** The watch of the log looks five times a second. */
const WATCH_MS = 600;

interface Breakage {
  cuts: Cut[];
  ms: number;
  /** Addresses that can't be told that their attempt is over. */
  deaf: string[];
  /** One that keeps its webhook and its broker. */
  zombie: string | null;
  kept: boolean;
}

const bothWays = (some: readonly string[], others: readonly string[]): Cut[] => [
  { from: some, to: others },
  { from: others, to: some },
];

export class Outages {
  readonly #stage: Stage;
  readonly #plan: OutagePlan;
  readonly #network: Network;
  readonly #random: () => number;
  readonly figures: OutageFigures[] = [];

  constructor(stage: Stage, plan: OutagePlan, network: Network) {
    this.#stage = stage;
    this.#plan = plan;
    this.#network = network;
    this.#random = seededRandom(plan.seed);
  }

  async run(): Promise<void> {
    const { outages, shuffled } = this.#plan;
    const order = shuffled
      ? outages
          .map((name) => ({ name, at: this.#random() }))
          .sort((a, b) => a.at - b.at)
          .map(({ name }) => name)
      : outages;
    for (const name of order) {
      await wait(CALM_MS);
      await this.#step(name);
    }
  }

  async #step(name: Outage): Promise<void> {
    const leader = await this.#settled();
    const before = await this.#sample((one) => this.#isWhole(one), `${name}: a job that is whole`);
    const attempt = attemptIn(before)!;
    const breakage = this.#breakage(name, leader.name);
    const cutAt = Date.now();
    await this.#network.cut(breakage.cuts);
    const working = this.#worksAgain(name, breakage.kept, attempt);
    working.catch(() => undefined);
    await wait(breakage.ms);
    // Who is cut from the store is succeeded, however long that takes.
    const unstored = name === 'the leader, from the store';
    if (unstored) await this.#succeeded(leader.epoch);
    const ledMs = unstored ? Date.now() - cutAt : null;
    await this.#network.heal();
    const healedAt = Date.now();
    const back = await working;
    const whole = await this.#sample((one) => this.#isWhole(one), `${name}: all to be back`);
    await this.#settled();
    if (breakage.kept) await wait(AFTERMATH_MS);
    await wait(WATCH_MS);
    const last = await this.#sample((one) => this.#isWhole(one), `${name}: all to stay`);
    const attempts = await this.#enter(cutAt, breakage, whole.at);
    if (breakage.kept && attempts > 0) throw new Error(`${name}: the tasks were started again`);
    if (breakage.kept && totalRead(last) < totalRead(before)) {
      throw new Error(`${name}: reads from the start again`);
    }
    const figures: OutageFigures = {
      name,
      workingMs: back.at - cutAt,
      healedToWorkingMs: back.at - healedAt,
      wholeMs: whole.at - healedAt,
      ledMs,
      zombieMs: this.#zombieMs(breakage, cutAt, whole.at),
      attempts,
    };
    this.figures.push(figures);
    console.log(`  cut: ${name}, ${healedAt - cutAt} ms: ${described(figures)}`);
  }

  #breakage(name: Outage, leader: string): Breakage {
    const { jobManagers, taskManagers, heartbeatTimeoutMs, graceMs, storePort } = this.#plan;
    const [victim, other] = this.#victims();
    const longMs = heartbeatTimeoutMs * 1.5;
    const everyone = [OUTSIDE, ...jobManagers, ...taskManagers];
    const all = taskManagers.map((one) => this.#network.addressOf(one));
    const own = [this.#network.addressOf(victim)];
    const none = { deaf: [], zombie: null, kept: false };
    const but = (one: string) => everyone.filter((name) => name !== one);
    switch (name) {
      case 'a TaskManager, for a moment':
        return { ...none, cuts: bothWays([victim], but(victim)), ms: MOMENT_MS, kept: true };
      case 'a TaskManager, from everyone':
        return { ...none, cuts: bothWays([victim], but(victim)), ms: longMs, deaf: own };
      case 'a TaskManager, from the JobManagers': {
        const cuts = bothWays([victim], jobManagers);
        return { ...none, cuts, ms: graceMs + 2_000, deaf: own, zombie: victim };
      }
      case 'the leader, for a moment': {
        const cuts = bothWays([leader], but(leader));
        return { ...none, cuts, ms: MOMENT_MS, kept: true };
      }
      case 'the leader, from the TaskManagers':
        return { ...none, cuts: bothWays([leader], taskManagers), ms: longMs, deaf: all };
      case 'what the leader says to the TaskManagers':
        return { ...none, cuts: [{ from: [leader], to: taskManagers }], ms: longMs, deaf: all };
      case 'what the TaskManagers say to the leader':
        return { ...none, cuts: [{ from: taskManagers, to: [leader] }], ms: longMs, deaf: all };
      case 'one TaskManager and another':
        return { ...none, cuts: bothWays([victim], [other]), ms: longMs };
      case 'what a TaskManager says to another':
        return { ...none, cuts: [{ from: [victim], to: [other] }], ms: longMs };
      case 'the leader, from the store': {
        const cuts = [{ from: [leader], to: [OUTSIDE], port: storePort }];
        return { ...none, cuts, ms: 0, kept: true };
      }
    }
  }

  /** Two different ones that have work. */
  #victims(): [string, string] {
    const { tasks = [] } = this.#stage.pipeline.raw as { tasks?: { taskManagerId: string }[] };
    const working = [...new Set(tasks.map(({ taskManagerId }) => taskManagerId))].sort();
    const at = Math.floor(this.#random() * working.length);
    const [victim, other] = [working[at], working[(at + 1) % working.length]];
    if (victim === undefined || other === undefined || victim === other) {
      throw new Error(`the tasks are not on two TaskManagers: ${working.join()}`);
    }
    return [victim, other];
  }

  /** While the cut lasts, or after it. */
  async #worksAgain(name: Outage, kept: boolean, attempt: number): Promise<Sample> {
    return await this.#sample(
      (one) =>
        isWorking(one, this.#stage.producer.done) &&
        one.subtasks.length === this.#plan.subtasks &&
        (kept || attemptIn(one)! > attempt),
      `${name}: ${this.#plan.subtasks} subtasks to work`,
    );
  }

  #isWhole(one: Sample): boolean {
    const { taskManagers, subtasks } = this.#plan;
    return (
      isWorking(one, this.#stage.producer.done) &&
      one.subtasks.length === subtasks &&
      one.taskManagers.length === taskManagers.length
    );
  }

  /** Enters what ended since `since`, attempt by attempt, as the job's log has it. */
  async #enter(since: number, { deaf }: Breakage, wholeAt: number): Promise<number> {
    const { watch, kills } = this.#stage;
    const restores = watch.restores.filter(({ at }) => at > since);
    for (const [index, { checkpointId, attempt }] of restores.entries()) {
      // Of the leader's TaskManagers all hear of the new attempt, of those cut alone none has one.
      const deployedAt = deaf.length === 1 ? wholeAt : await this.#deployedAt(attempt);
      kills.push({
        at: index === 0 ? since : restores[index - 1]!.at,
        pid: 0,
        attempt: attempt - 1,
        reason: 'partition',
        endedAt: null,
        resumedAt: null,
        lateMs: null,
        restored: checkpointId,
        ...(deaf.length > 0 && { cut: { addresses: deaf, until: deployedAt } }),
      });
    }
    return restores.length;
  }

  /** When the leader sent that attempt to the TaskManagers, as its log says. */
  async #deployedAt(attempt: number): Promise<number> {
    for (const name of this.#plan.jobManagers) {
      const log = await readFile(
        join(this.#stage.pipeline.stateDir, 'logs', `${name}.log`),
        'utf8',
      );
      for (const line of log.split('\n').filter((one) => one.includes('"deploying"'))) {
        const entry = JSON.parse(line) as { attempt: number; time: number };
        if (entry.attempt === attempt) return entry.time;
      }
    }
    throw new Error(`no JobManager's log says when attempt ${attempt} was deployed`);
  }

  #zombieMs({ zombie }: Breakage, cutAt: number, wholeAt: number): number | null {
    if (zombie === null) return null;
    const from = this.#network.addressOf(zombie);
    const own = this.#stage.receiver.receipts.filter((one) => one.from === from);
    const last = own.findLast(({ at }) => at > cutAt && at <= wholeAt);
    return last === undefined ? null : last.at - cutAt;
  }

  /** One leads, the others stand by. */
  async #settled(): Promise<{ name: string; epoch: number }> {
    return await until('a leader and a standby', async () => {
      const { jobManagers } = this.#plan;
      const roles = await Promise.all(jobManagers.map((one) => ask(this.#rest(one), LEADER)));
      const names = roles.map((role) => role?.['role']);
      if (names.toSorted().join() !== 'leader,standby') return null;
      const index = names.indexOf('leader');
      return { name: jobManagers[index]!, epoch: Number(roles[index]!['leaderEpoch']) };
    });
  }

  async #succeeded(epoch: number): Promise<void> {
    await until('a successor of the leader', async () => {
      const asked = this.#plan.jobManagers.map((one) => ask(this.#rest(one), LEADER));
      const roles = await Promise.all(asked);
      return roles.some(
        (role) => role?.['role'] === 'leader' && Number(role['leaderEpoch']) > epoch,
      )
        ? true
        : null;
    });
  }

  #rest(name: string): string {
    return `http://${this.#network.addressOf(name)}:${REST_PORT}`;
  }

  #sample(condition: (one: Sample) => boolean, what: string): Promise<Sample> {
    return this.#stage.pipeline.until(condition, STEP_LIMIT_MS, what);
  }
}

const LEADER = '/api/v1/leader';

function described(figures: OutageFigures): string {
  const { workingMs, healedToWorkingMs, wholeMs, ledMs, zombieMs, attempts } = figures;
  const tasks =
    attempts === 0
      ? 'tasks went on'
      : `all tasks work ${workingMs} ms after it, ${healedToWorkingMs} ms after the heal` +
        `${attempts > 1 ? `, in the ${attempts}. attempt` : ''}`;
  const led = ledMs === null ? '' : `, a successor leads after ${ledMs} ms`;
  const zombie = zombieMs === null ? '' : `, its last delivery ${zombieMs} ms after the cut`;
  return `${tasks}; whole ${wholeMs} ms after the heal${led}${zombie}`;
}
