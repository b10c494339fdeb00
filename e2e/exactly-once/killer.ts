/**
 * Kills a TaskManager with SIGKILL, of several that have work a random one: at seeded random
 * moments, and inside chosen checkpoint phases. Or freezes it for so long that the others give it
 * up, and sees that it ends by itself once it is woken. Whether a kill counts as evidence is judged
 * afterwards (coverage.ts); the killer only tries again while no kill has landed in a phase.
 */
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { isAlive } from '../testbed/end-process.ts';
import { PHASE_LATE_LIMIT_MS } from './coverage.ts';
import type { Kill, Phase, Sample } from './history.ts';
import { nextPhase } from './phase-tail.ts';
import type { Pipeline } from './pipeline.ts';
import { seededRandom } from './random.ts';
import { attemptIn, totalRead } from './status.ts';

export interface KillPlan {
  seed: number;
  randomKills: number;
  phases: readonly Phase[];
  /** In place of a kill in the middle of the run: this long, ms. Beyond the heartbeat timeout. */
  freezeMs?: number;
  /** The kills are spread over this time, ms from the start of run(). */
  durationMs: number;
}

const RECOVERY_LIMIT_MS = 60_000;
/** A woken TaskManager that was given up must be gone by then. */
const ZOMBIE_LIMIT_MS = 10_000;

type Reason = Exclude<Kill['reason'], 'rescale' | 'partition'>;

export class Killer {
  readonly #pipeline: Pipeline;
  readonly #plan: KillPlan;
  readonly #random: () => number;
  readonly kills: Kill[];

  /** Each kill is appended to `kills`. */
  constructor(pipeline: Pipeline, plan: KillPlan, kills: Kill[]) {
    this.kills = kills;
    this.#pipeline = pipeline;
    this.#plan = plan;
    this.#random = seededRandom(plan.seed);
  }

  /** Carries out the plan; resolves when the pipeline reads again after the last kill. */
  async run(): Promise<void> {
    const todo = this.#order();
    const endAt = Date.now() + this.#plan.durationMs;
    for (let reason = todo.shift(); reason !== undefined; reason = todo.shift()) {
      const share = Math.max(0, endAt - Date.now()) / (todo.length + 1);
      await wait(share * (0.25 + 0.75 * this.#random()));
      const kill = await this.#kill(reason);
      if (kill.lateMs !== null && kill.lateMs > PHASE_LATE_LIMIT_MS) todo.push(reason);
      if (Date.now() > endAt + RECOVERY_LIMIT_MS) return;
    }
  }

  /** Random kills with the phases spread between them. */
  #order(): Reason[] {
    const { randomKills, phases, freezeMs } = this.#plan;
    const order: Reason[] = Array.from({ length: randomKills }, () => 'random');
    const every = Math.max(1, Math.floor(randomKills / (phases.length + 1)));
    phases.forEach((phase, index) => {
      order.splice((index + 1) * every + index, 0, phase);
    });
    if (freezeMs !== undefined) order.splice(Math.ceil(order.length / 2), 0, 'freeze');
    return order;
  }

  async #kill(reason: Reason): Promise<Kill> {
    let eventAt: number | null = null;
    if (reason !== 'random' && reason !== 'freeze') {
      const log = join(this.#pipeline.stateDir, 'logs', 'jobmanager.log');
      const event = await nextPhase(log, reason, AbortSignal.timeout(RECOVERY_LIMIT_MS));
      if (event === null) throw new Error(`no phase event "${reason}" in ${log} for 60 s`);
      eventAt = event.at;
    }
    const pid = this.#victim();
    const attempt = Math.max(0, ...(this.#pipeline.last?.subtasks ?? []).map((one) => one.attempt));
    const at = Date.now();
    try {
      process.kill(pid, reason === 'freeze' ? 'SIGSTOP' : 'SIGKILL');
    } catch (cause) {
      throw new Error(`the TaskManager ${pid} was gone before it was killed`, { cause });
    }
    const lateMs = eventAt === null ? null : at - eventAt;
    const facts = { at, pid, attempt, reason, lateMs };
    const kill: Kill = { ...facts, restored: null, endedAt: null, resumedAt: null };
    this.kills.push(kill);
    if (reason === 'freeze') await this.#wake(kill);
    const back = await this.#pipeline.until(
      (sample) => isBack(sample, kill),
      RECOVERY_LIMIT_MS,
      `records to be read after kill ${this.kills.length} (${reason})`,
    );
    kill.restored = back.restored;
    return kill;
  }

  /** Of those that have work: the death of an idle one is no event. */
  #victim(): number {
    const working = (this.#pipeline.last?.taskManagers ?? []).filter(({ tasks }) => tasks > 0);
    // The draw of a run with one TaskManager stays what it was.
    const index = working.length > 1 ? Math.floor(this.#random() * working.length) : 0;
    const pid = working[index]?.pid ?? 0;
    if (pid <= 1) throw new Error('GET /api/v1/details names no pid of a TaskManager that works');
    return pid;
  }

  /** SIGCONT after its time; resolves when the process has ended by itself. */
  async #wake(kill: Kill): Promise<void> {
    await wait(this.#plan.freezeMs);
    kill.resumedAt = Date.now();
    process.kill(kill.pid, 'SIGCONT');
    while (isAlive(kill.pid)) {
      if (Date.now() > kill.resumedAt + ZOMBIE_LIMIT_MS) {
        throw new Error(`TaskManager ${kill.pid} lives ${ZOMBIE_LIMIT_MS} ms after it was woken`);
      }
      await wait(5);
    }
    console.log(`the frozen TaskManager ended ${Date.now() - kill.resumedAt} ms after SIGCONT`);
  }
}

/** Without the killed process, and by the attempts too: figures of the old one may still show. */
function isBack(sample: Sample, { pid, attempt }: Kill): boolean {
  return (
    sample.taskManagers.length > 0 &&
    sample.taskManagers.every((one) => one.pid > 1 && one.pid !== pid) &&
    (attemptIn(sample) ?? 0) > attempt &&
    totalRead(sample) > 0
  );
}
