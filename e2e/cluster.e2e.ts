/**
 * The promise: a job over several TaskManagers, the keyBy exchange between them over TCP, is as
 * exact as over one. Random ones are killed; one is frozen until the others have given it up and
 * gone on without it, and then woken: it must find itself refused and end. The same checker as of
 * one process judges, and must go red with barrier alignment off.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Killer, type KillPlan } from './exactly-once/killer.ts';
import { printRun, violationLines } from './exactly-once/report.ts';
import { type CheckedRun, runChecked, type Stage } from './exactly-once/run.ts';
import { attemptIn } from './exactly-once/status.ts';
import { DATA_RULES, judge } from './exactly-once/verdict.ts';
import { type KafkaBroker, startKafka } from './testbed/kafka.ts';

const SEED = Number(process.env['TRIGGERJOB_CHECK_SEED'] ?? 20_261_125);
const TASK_MANAGERS = 3;
/** Of 6 slots: without any one TaskManager the job waits, so every attempt spans three. */
const SUBTASKS = 5;
const RUN_MS = 60_000;
const ZOMBIE_RUN_MS = 16_000;
const MUTANT_RUN_MS = 15_000;
const HEARTBEAT_TIMEOUT_MS = 4_000;
const FREEZE_MS = 10_000;
/** The last kills need something left to read. */
const KILLING_SHARE = 0.9;

const job: NonNullable<CheckedRun['job']> = () => ({
  checkpointInterval: '1s',
  taskManager: { memory: { slotCache: '25Ki' } },
  heartbeat: { timeout: `${HEARTBEAT_TIMEOUT_MS}ms` },
});

function killing(plan: Omit<KillPlan, 'seed'>): CheckedRun['nemesis'] {
  const durationMs = plan.durationMs * KILLING_SHARE;
  return async ({ pipeline, kills }) =>
    await new Killer(pipeline, { ...plan, durationMs, seed: SEED }, kills).run();
}

interface ShuffleFigures {
  links: number;
  bytesSent: number;
  framesSent: number;
}

function shuffleFigures({ pipeline }: Stage): ShuffleFigures[] {
  const all = (pipeline.raw['taskManagers'] ?? []) as { shuffle: ShuffleFigures | null }[];
  return all.flatMap(({ shuffle }) => shuffle ?? []);
}

describe('several TaskManagers', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('state is the fold, nothing is lost, whichever of three is killed', async () => {
    const kill = killing({ randomKills: 8, phases: [], durationMs: RUN_MS });
    let shuffled: ShuffleFigures[] = [];
    const result = await runChecked(broker, {
      name: 'cluster',
      seed: SEED,
      users: 150,
      eventsPerUser: 280,
      durationMs: RUN_MS,
      taskManagers: TASK_MANAGERS,
      parallelism: SUBTASKS,
      need: { kills: 6, phases: [] },
      nemesis: async (stage) => {
        await kill(stage);
        // One that was killed just before reports itself before it is connected again.
        const connected = () => {
          shuffled = shuffleFigures(stage);
          return shuffled.length === 3 && shuffled.every(({ links }) => links === 2);
        };
        await stage.pipeline.until(connected, 10_000, 'connections of each with each');
      },
      job,
    });
    const verdict = judge(result.history);
    printRun(result, verdict);
    console.log(`between TaskManagers, last attempt: ${JSON.stringify(shuffled)}`);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.notEqual(result.history.meta.dump, null);
    assert.ok(shuffled.some(({ bytesSent }) => bytesSent > 0));
  });

  it('a TaskManager that wakes up beside its successor is refused and ends', async () => {
    const result = await runChecked(broker, {
      name: 'cluster-zombie',
      seed: SEED + 1,
      users: 80,
      eventsPerUser: 120,
      durationMs: ZOMBIE_RUN_MS,
      taskManagers: TASK_MANAGERS,
      // The two others have slots for all: the job goes on without the frozen one.
      parallelism: 4,
      need: { kills: 0, freezes: 1, phases: [] },
      nemesis: killing({ randomKills: 0, phases: [], freezeMs: FREEZE_MS, durationMs: 6_000 }),
      job,
    });
    const verdict = judge(result.history);
    printRun(result, verdict);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    const [freeze] = result.history.kills;
    const beside = result.history.samples.filter(
      (one) =>
        one.state === 'RUNNING' &&
        (attemptIn(one) ?? 0) > freeze!.attempt &&
        one.at < freeze!.resumedAt!,
    );
    assert.ok(beside.length > 0, 'the job did not go on before the frozen one was woken');
  });

  it('goes red with alignment-off', async () => {
    const result = await runChecked(broker, {
      name: 'cluster-alignment-off',
      seed: SEED + 2,
      users: 100,
      eventsPerUser: 120,
      durationMs: MUTANT_RUN_MS,
      taskManagers: TASK_MANAGERS,
      parallelism: SUBTASKS,
      need: { kills: 1, phases: [] },
      nemesis: killing({ randomKills: 2, phases: [], durationMs: MUTANT_RUN_MS }),
      job,
      env: { TRIGGERJOB_TEST_MUTANT: 'alignment-off' },
    });
    const verdict = judge(result.history);
    printRun(result, verdict);
    assert.notEqual(result.history.meta.dump, null, 'the run broke down: nothing to judge');
    const red = verdict.violations.filter((one) => DATA_RULES.has(one.rule));
    assert.ok(red.length > 0, 'the checker is blind to alignment-off');
  });
});
