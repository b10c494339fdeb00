/**
 * The promise: the parallelism of a running job changes without loss. It is asked for by the
 * command line, 2 -> 4 -> 3 TaskManagers; and it follows the slots by itself: a TaskManager that is
 * killed and stays away costs its slots, not the job, and when another one starts, they are used
 * again. The same checker as of the other runs judges state, order, repeats and deliveries.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ExtraTaskManager } from './exactly-once/extra-task-manager.ts';
import type { Kill } from './exactly-once/history.ts';
import { printRun, violationLines } from './exactly-once/report.ts';
import { runChecked, type Stage } from './exactly-once/run.ts';
import { judge } from './exactly-once/verdict.ts';
import { json, run } from './testbed/command.ts';
import { type KafkaBroker, startKafka } from './testbed/kafka.ts';

const SEED = Number(process.env['TRIGGERJOB_CHECK_SEED'] ?? 20_261_125);
const RUN_MS = 60_000;
const SLOTS = 2;
const RESOURCE_WAIT_MS = 3_000;
const STEP_LIMIT_MS = 60_000;
const PAUSE_GOAL_MS = 2_000;
/** Detection, cancel, restore and start, beside the wait for a replacement. */
const DEGRADED_GOAL_MS = RESOURCE_WAIT_MS + 3_000;

/** One change of the parallelism: what brings it about, and the attempt it ended, for the judge. */
interface Step {
  name: string;
  to: number;
  reason: Kill['reason'];
  pid?: number;
  act(): Promise<unknown>;
}

interface StepFigures {
  name: string;
  restarts: number;
  /** From the moment of the act to all tasks running again. */
  doneMs: number;
  /** What the job's own clock says: RESTARTING to RUNNING. */
  pauseMs: number;
}

const restOf = ({ pipeline }: Stage) => pipeline.rest;

async function pauseOf(stage: Stage): Promise<number> {
  const rest = restOf(stage);
  const { jobs } = await json<{ jobs: { id: string }[] }>(`${rest}/jobs`);
  const url = `${rest}/jobs/${jobs[0]?.id}`;
  const { timestamps } = await json<{ timestamps: Record<string, number> }>(url);
  return (timestamps['RUNNING'] ?? 0) - (timestamps['RESTARTING'] ?? 0);
}

async function take(stage: Stage, step: Step): Promise<StepFigures> {
  const { pipeline, kills } = stage;
  const attempt = Math.max(0, ...(pipeline.last?.subtasks ?? []).map((one) => one.attempt));
  const { pid = 0, reason } = step;
  const facts = { pid, attempt, reason, lateMs: null, endedAt: null, resumedAt: null };
  const kill: Kill = { at: Date.now(), ...facts, restored: null };
  kills.push(kill);
  await step.act();
  const back = await pipeline.until(
    ({ state, subtasks }) =>
      state === 'RUNNING' &&
      pipeline.raw['parallelism'] === step.to &&
      subtasks.length === step.to &&
      subtasks.every((one) => one.attempt > attempt),
    STEP_LIMIT_MS,
    `${step.name}: ${step.to} subtasks to run`,
  );
  kill.restored = back.restored;
  const pauseMs = await pauseOf(stage);
  return { name: step.name, restarts: back.restarts, doneMs: back.at - kill.at, pauseMs };
}

/** The command line, as a user would. */
async function ask(stage: Stage, parallelism: number): Promise<void> {
  const args = ['rescale', '--parallelism', String(parallelism), '--rest', restOf(stage)];
  const { code, output } = await run(...args);
  assert.equal(code, 0, output);
  assert.match(output, new RegExp(`asked for ${parallelism} subtasks`));
}

async function steps(stage: Stage, extra: ExtraTaskManager[]): Promise<StepFigures[]> {
  const { pipeline } = stage;
  const start = async (name: string) => {
    const made = await ExtraTaskManager.start(pipeline, name, SLOTS);
    extra.push(made);
    return made;
  };
  const figures: StepFigures[] = [];
  const next = async (step: Step) => {
    figures.push(await take(stage, step));
    await pipeline.until(({ lag }) => lag < 500, STEP_LIMIT_MS, 'the backlog to be read');
  };
  const third = await start('extra-3');
  const fourth = await start('extra-4');
  const name = (text: string) => `TaskManagers ${text}`;
  const asked = { reason: 'rescale' } as const;
  await next({ name: name('2 -> 4'), to: 8, ...asked, act: () => ask(stage, 8) });
  await next({ name: name('4 -> 3, asked'), to: 6, ...asked, act: () => ask(stage, 6) });
  const lost = { reason: 'random' } as const;
  // The three that are left have slots for all.
  const leaves = { name: name('4 -> 3, it leaves'), to: 6, pid: fourth.pid };
  await next({ ...leaves, ...lost, act: () => fourth.kill() });
  const away = { name: name('3 -> 2, no replacement'), to: 4, pid: third.pid };
  await next({ ...away, ...lost, act: () => third.kill() });
  const back = { name: name('2 -> 3, by itself'), to: 6, ...asked };
  await next({ ...back, act: () => start('extra-5') });
  return figures;
}

describe('rescale', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('2 -> 4 -> 3 TaskManagers, and fewer while one stays away: nothing is lost', async () => {
    const extra: ExtraTaskManager[] = [];
    let figures: StepFigures[] = [];
    let raw: Record<string, unknown> = {};
    const result = await runChecked(broker, {
      name: 'rescale',
      seed: SEED + 7,
      users: 100,
      eventsPerUser: 200,
      durationMs: RUN_MS,
      taskManagers: 2,
      parallelism: 4,
      need: null,
      nemesis: async (stage) => {
        figures = await steps(stage, extra);
        raw = stage.pipeline.raw;
      },
      job: () => ({
        checkpointInterval: '1s',
        taskManager: { memory: { slotCache: '25Ki' } },
        heartbeat: { timeout: '4s' },
        // On a busy machine 5 s pass while an answer waits to be read, and it is sent again.
        webhook: { timeout: '20s' },
        scaling: {
          resourceWait: `${RESOURCE_WAIT_MS}ms`,
          stabilization: '500ms',
          minInterval: '0s',
        },
      }),
    }).finally(() => Promise.all(extra.map((one) => one.kill())));
    const verdict = judge(result.history);
    printRun(result, verdict);
    print(figures);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.notEqual(result.history.meta.dump, null);
    // Two were killed; a rescale is no restart.
    assert.deepEqual(
      figures.map(({ restarts }) => restarts),
      [0, 0, 1, 2, 2],
    );
    assert.deepEqual([raw['rescales'], raw['wantedParallelism']], [3, 6]);
  });
});

function print(figures: readonly StepFigures[]): void {
  for (const { name, doneMs, pauseMs } of figures) {
    const away = name.includes('no replacement');
    const [value, goal] = away ? [doneMs, DEGRADED_GOAL_MS] : [pauseMs, PAUSE_GOAL_MS];
    const what = away ? 'degraded after' : 'pause';
    const verdict = value <= goal ? 'reached' : 'missed';
    console.log(`${name}: ${what} ${value} ms, goal ${goal} ms: ${verdict}; in all ${doneMs} ms`);
  }
}
