/**
 * What one run of the chaos suite does to a job, one thing after the other in an order drawn from
 * the seed: TaskManagers and leaders killed or frozen, both at once, the store and the broker away,
 * the parallelism changed. Each step waits until the job works again; what ended an attempt of the
 * tasks is entered as a kill, so that the judge knows which attempt sent what.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { Kill, Sample } from '../exactly-once/history.ts';
import { type Leader, leaderOf, settled, until } from '../exactly-once/leaders.ts';
import { seededRandom } from '../exactly-once/random.ts';
import type { Stage } from '../exactly-once/run.ts';
import { attemptIn, isWorking } from '../exactly-once/status.ts';
import { run } from '../testbed/command.ts';
import { isAlive } from '../testbed/end-process.ts';
import type { KafkaBroker } from '../testbed/kafka.ts';
import type { S3Server } from '../testbed/s3.ts';

export type StepName =
  | 'kill a TaskManager'
  | 'kill the leader'
  | 'kill the leader and a TaskManager'
  | 'freeze a TaskManager'
  | 'freeze the leader'
  | 'store away'
  | 'broker restarted'
  | 'rescale';

export interface StormPlan {
  seed: number;
  steps: Partial<Record<StepName, number>>;
  /** The job's own, ms: a frozen process sleeps for longer than these. */
  heartbeatTimeoutMs: number;
  leaseMs: number;
  storeAwayMs: number;
  /** Parallelism that it starts with, and another. */
  parallelism: readonly [number, number];
}

export interface StepFigures {
  name: StepName;
  /** From the act to the job's working again. */
  doneMs: number;
  /** Of a leader: from the act to another one's being in charge. */
  ledMs: number | null;
  /** Of a frozen process: from SIGCONT to its end. */
  wokenMs: number | null;
  /** The tasks of before went on. */
  sameAttempt: boolean;
  /** Attempts that began beside what the step explains: on a starved machine leases run out. */
  unexplained: number;
}

/** Ten times what a step takes. */
const STEP_LIMIT_MS = 120_000;
/** The watch of the job's log looks five times a second. */
const WATCH_MS = 600;
/** Between two steps, at most: a checkpoint or two. */
const CALM_MS = 3_000;

export class Storm {
  readonly #stage: Stage;
  readonly #plan: StormPlan;
  readonly #around: { broker: KafkaBroker; s3: S3Server };
  readonly #random: () => number;
  #wanted: number;
  /** Records of the log that are entered as kills. */
  #entered = 0;
  readonly figures: StepFigures[] = [];

  constructor(stage: Stage, plan: StormPlan, around: { broker: KafkaBroker; s3: S3Server }) {
    this.#stage = stage;
    this.#plan = plan;
    this.#around = around;
    this.#random = seededRandom(plan.seed);
    this.#wanted = plan.parallelism[0];
  }

  async run(): Promise<void> {
    for (const name of this.#order()) {
      await wait(CALM_MS * this.#random());
      await this.#step(name);
    }
  }

  #order(): StepName[] {
    const all = Object.entries(this.#plan.steps).flatMap(([name, count]) =>
      Array.from({ length: count }, () => name as StepName),
    );
    for (let i = all.length - 1; i > 0; i--) {
      const j = Math.floor(this.#random() * (i + 1));
      [all[i], all[j]] = [all[j]!, all[i]!];
    }
    return all;
  }

  async #step(name: StepName): Promise<void> {
    const leader = await settled(this.#stage);
    const before = await this.#sample((one) => this.#works(one), `${name}: a job that works`);
    await wait(WATCH_MS);
    const between = this.#enter(null);
    const attempt = attemptIn(before)!;
    const at = Date.now();
    const kill: Kill = { ...unexplained(at), attempt, reason: 'random' };
    const [wokenMs, ledAt] = await Promise.all([
      this.#act(name, kill, leader),
      /leader/.test(name) ? this.#succeeded(name, leader) : null,
    ]);
    const ledMs = ledAt === null ? null : ledAt - at;
    const done = await this.#worksAgain(name, kill);
    await wait(WATCH_MS);
    const entered = this.#enter(kill);
    const sameAttempt = attemptIn(done) === attempt;
    const more = between + Math.max(0, entered - (sameAttempt ? 0 : 1));
    const figures = { name, doneMs: done.at - at, ledMs, wokenMs, sameAttempt, unexplained: more };
    this.figures.push(figures);
    const woken = wokenMs === null ? '' : `, it ended ${wokenMs} ms after SIGCONT`;
    const tasks = sameAttempt ? 'tasks went on' : `restored checkpoint ${done.restored}`;
    const also = more === 0 ? '' : `, and ${more} attempts began that nothing here explains`;
    console.log(`  ${name}: works again after ${figures.doneMs} ms, ${tasks}${woken}${also}`);
  }

  /** What ended since, as the job's log has it; the first of them by `kill`. Their number. */
  #enter(kill: Kill | null): number {
    const { watch, kills } = this.#stage;
    const restores = watch.restores.slice(this.#entered);
    this.#entered += restores.length;
    for (const [index, { at, attempt, checkpointId }] of restores.entries()) {
      const own = index === 0 && kill !== null && kill.at < at;
      const one = own ? kill : { ...unexplained(at - 1), attempt: attempt - 1 };
      kills.push({ ...one, restored: checkpointId });
    }
    return restores.length;
  }

  #works(one: Sample): boolean {
    return isWorking(one, this.#stage.producer.done);
  }

  /** Does it; for a frozen process, until it has ended. */
  async #act(name: StepName, kill: Kill, leader: Leader): Promise<number | null> {
    const { broker, s3 } = this.#around;
    switch (name) {
      case 'kill a TaskManager':
        kill.pid = this.#victim();
        process.kill(kill.pid, 'SIGKILL');
        return null;
      case 'kill the leader':
        process.kill(leader.pid, 'SIGKILL');
        return null;
      case 'kill the leader and a TaskManager':
        kill.pid = this.#victim();
        process.kill(leader.pid, 'SIGKILL');
        process.kill(kill.pid, 'SIGKILL');
        return null;
      case 'freeze a TaskManager':
        kill.pid = this.#victim();
        kill.reason = 'freeze';
        return await this.#freeze(kill.pid, 2 * this.#plan.heartbeatTimeoutMs, (resumedAt) => {
          kill.resumedAt = resumedAt;
        });
      case 'freeze the leader':
        return await this.#freeze(leader.pid, 2 * this.#plan.leaseMs, () => {});
      case 'store away':
        await s3.down();
        await wait(this.#plan.storeAwayMs);
        await s3.up();
        return null;
      case 'broker restarted':
        await broker.restart();
        return null;
      case 'rescale': {
        const [one, other] = this.#plan.parallelism;
        this.#wanted = this.#wanted === one ? other : one;
        kill.reason = 'rescale';
        const rest = `http://127.0.0.1:${leader.restPort}`;
        const asked = ['rescale', '--parallelism', String(this.#wanted), '--rest', rest];
        const { code, output } = await run(...asked);
        if (code !== 0)
          throw new Error(`triggerjob ${asked.join(' ')} ended with ${code}: ${output}`);
        return null;
      }
    }
  }

  /** Of those that have work. */
  #victim(): number {
    const working = (this.#stage.pipeline.last?.taskManagers ?? []).filter(
      ({ tasks }) => tasks > 0,
    );
    const pid = working[Math.floor(this.#random() * working.length)]?.pid ?? 0;
    if (pid <= 1) throw new Error('the status names no pid of a TaskManager that works');
    return pid;
  }

  async #freeze(pid: number, ms: number, resumed: (at: number) => void): Promise<number> {
    process.kill(pid, 'SIGSTOP');
    await wait(ms);
    const resumedAt = Date.now();
    resumed(resumedAt);
    process.kill(pid, 'SIGCONT');
    await until(`the end of ${pid}, which was frozen`, async () => (isAlive(pid) ? null : true));
    return Date.now() - resumedAt;
  }

  /** When another one leads. */
  async #succeeded(name: StepName, before: Leader): Promise<number> {
    await until(`${name}: another leader`, async () => {
      const leader = await leaderOf(this.#stage);
      return leader !== null && leader.epoch > before.epoch ? leader : null;
    });
    return Date.now();
  }

  async #worksAgain(name: StepName, kill: Kill): Promise<Sample> {
    const restarted = /TaskManager|rescale/.test(name);
    return await this.#sample(
      (one) =>
        this.#works(one) &&
        (!restarted || attemptIn(one)! > kill.attempt) &&
        one.taskManagers.every(({ pid }) => pid > 1 && pid !== kill.pid) &&
        one.subtasks.length === this.#wanted,
      `${name}: ${this.#wanted} subtasks to work again`,
    );
  }

  #sample(condition: (one: Sample) => boolean, what: string): Promise<Sample> {
    return this.#stage.pipeline.until(condition, STEP_LIMIT_MS, what);
  }
}

function unexplained(at: number): Kill {
  const none = { endedAt: null, resumedAt: null, lateMs: null, restored: null };
  return { at, pid: 0, attempt: 0, reason: 'random', ...none };
}
