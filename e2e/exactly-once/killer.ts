/**
 * Kills the TaskManager with SIGKILL: at seeded random moments, and inside chosen checkpoint
 * phases. Whether a kill counts as evidence is judged afterwards (coverage.ts); the killer only
 * tries again while a phase has no kill that landed in it.
 */
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { PHASE_LATE_LIMIT_MS } from './coverage.ts';
import type { Kill, Phase } from './history.ts';
import { nextPhase } from './phase-tail.ts';
import type { Pipeline } from './pipeline.ts';
import { seededRandom } from './random.ts';
import { totalRead } from './status.ts';

export interface KillPlan {
  seed: number;
  randomKills: number;
  phases: readonly Phase[];
  /** The kills are spread over this time, ms from the start of run(). */
  durationMs: number;
}

const RECOVERY_LIMIT_MS = 60_000;

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
  #order(): (Phase | 'random')[] {
    const { randomKills, phases } = this.#plan;
    const order: (Phase | 'random')[] = Array.from({ length: randomKills }, () => 'random');
    const every = Math.max(1, Math.floor(randomKills / (phases.length + 1)));
    phases.forEach((phase, index) => {
      order.splice((index + 1) * every + index, 0, phase);
    });
    return order;
  }

  async #kill(reason: Phase | 'random'): Promise<Kill> {
    let eventAt: number | null = null;
    if (reason !== 'random') {
      const log = join(this.#pipeline.stateDir, 'logs', 'jobmanager.log');
      const event = await nextPhase(log, reason, AbortSignal.timeout(RECOVERY_LIMIT_MS));
      if (event === null) throw new Error(`no phase event "${reason}" in ${log} for 60 s`);
      eventAt = event.at;
    }
    const { pid = 0, subtasks = [] } = this.#pipeline.last ?? {};
    const attempt = Math.max(0, ...subtasks.map((subtask) => subtask.attempt));
    if (pid <= 1) throw new Error('GET /api/v1/status names no pid of the TaskManager');
    const at = Date.now();
    try {
      process.kill(pid, 'SIGKILL');
    } catch (cause) {
      throw new Error(`the TaskManager ${pid} was gone before it was killed`, { cause });
    }
    const lateMs = eventAt === null ? null : at - eventAt;
    const kill: Kill = { at, pid, reason, lateMs, restored: null };
    this.kills.push(kill);
    const back = await this.#pipeline.until(
      // The attempt too: the status may show the new process beside the last figures of the old
      // one.
      (sample) =>
        sample.pid > 1 &&
        sample.pid !== pid &&
        sample.subtasks.every((subtask) => subtask.attempt > attempt) &&
        totalRead(sample) > 0,
      RECOVERY_LIMIT_MS,
      `records to be read after kill ${this.kills.length} (${reason})`,
    );
    kill.restored = back.restored;
    return kill;
  }
}
