/**
 * The promise: when one of three TaskManagers is killed, the tasks of the others run on. Only the
 * lost key groups are restored and read again, and the whole is as exact as a restart of all: the
 * same checker judges. It must go red when survivors take repeats for news.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { keyGroupOf, subtaskOf } from '../worker/src/exchange/key-groups.ts';
import type { History, Kill, Receipt } from './exactly-once/history.ts';
import { Killer } from './exactly-once/killer.ts';
import { figureLines, violationLines } from './exactly-once/report.ts';
import { type CheckedRun, runChecked, type Stage } from './exactly-once/run.ts';
import { DATA_RULES, judge } from './exactly-once/verdict.ts';
import { type KafkaBroker, startKafka } from './testbed/kafka.ts';

const SEED = Number(process.env['TRIGGERJOB_CHECK_SEED'] ?? 20_261_126);
const TASK_MANAGERS = 3;
const SUBTASKS = 5;
const KEY_GROUPS = 128;
const RUN_MS = 60_000;
const MUTANT_RUN_MS = 20_000;
const KILLS = 8;
/** The last kills need something left to read. */
const KILLING_SHARE = 0.9;
const FIRST_EVENT_GOAL_MS = 2_000;
const FIRST_EVENT_LIMIT_MS = 5_000;
const PAUSE_GOAL_MS = 100;
/** After a kill, in which a pause of the others is looked for; as long before it, to compare. */
const WINDOW_MS = 3_000;

interface Placement {
  at: number;
  /** Subtasks by TaskManager process. */
  subtasks: Map<number, number[]>;
}

/** Which process runs which subtask, as the status said last. */
function placementOf({ pipeline }: Stage): Placement {
  const { taskManagers = [], tasks = [] } = pipeline.raw as {
    taskManagers?: { id: string; pid: number }[];
    tasks?: { subtask: number; taskManagerId: string }[];
  };
  const subtasks = new Map<number, number[]>();
  for (const { id, pid } of taskManagers) {
    const own = tasks.filter(({ taskManagerId }) => taskManagerId === id);
    subtasks.set(
      pid,
      own.map(({ subtask }) => subtask),
    );
  }
  return { at: Date.now(), subtasks };
}

interface Watched {
  placements: Placement[];
  replacements: { done: number; givenUp: number };
}

function killing(kills: number, durationMs: number, watched: Watched): CheckedRun['nemesis'] {
  return async (stage) => {
    const over = new AbortController();
    const watching = (async () => {
      while (!over.signal.aborted) {
        watched.placements.push(placementOf(stage));
        await wait(50);
      }
    })();
    const plan = { randomKills: kills, phases: [], durationMs: durationMs * KILLING_SHARE };
    try {
      await new Killer(stage.pipeline, { ...plan, seed: SEED }, stage.kills).run();
    } finally {
      over.abort();
      await watching;
      watched.replacements = stage.pipeline.raw['replacements'] as Watched['replacements'];
    }
  };
}

const job: NonNullable<CheckedRun['job']> = () => ({
  checkpointInterval: '1s',
  taskManager: { memory: { slotCache: '25Ki' } },
  restartStrategy: { failover: 'region' },
});

const subtaskOfUser = (user: string): number =>
  subtaskOf(keyGroupOf(user, KEY_GROUPS), SUBTASKS, KEY_GROUPS);

function lostWith(kill: Kill, { placements }: Watched): ReadonlySet<number> {
  const last = placements.findLast(({ at, subtasks }) => at <= kill.at && subtasks.has(kill.pid));
  return new Set(last?.subtasks.get(kill.pid));
}

/** The longest time without a delivery; `receipts` are in order. */
function longestSilence(receipts: readonly Receipt[], from: number, to: number): number {
  const times = receipts.map(({ at }) => at).filter((at) => at >= from && at <= to);
  let longest = 0;
  for (const [i, at] of times.entries()) if (i > 0) longest = Math.max(longest, at - times[i - 1]!);
  return longest;
}

/** What users of the lost and of the other key groups saw of each kill. */
function printFigures({ kills, receipts }: History, watched: Watched): void {
  const firsts: number[] = [];
  const pauses: number[] = [];
  for (const [index, kill] of kills.entries()) {
    const lost = lostWith(kill, watched);
    const isLost = ({ user }: Receipt) => lost.has(subtaskOfUser(user));
    const first = receipts.find((one) => isLost(one) && one.openedAt > kill.at);
    const others = receipts.filter((one) => !isLost(one));
    const pause = longestSilence(others, kill.at, kill.at + WINDOW_MS);
    const calm = longestSilence(others, kill.at - WINDOW_MS, kill.at);
    const firstMs = (first?.at ?? Number.NaN) - kill.at;
    firsts.push(firstMs);
    pauses.push(pause);
    console.log(
      `  kill ${index + 1}, subtasks ${[...lost]}: first event of a lost key group after ` +
        `${firstMs} ms; the others' longest silence ${pause} ms, ${calm} ms before it`,
    );
  }
  const p95 = firsts.toSorted((a, b) => a - b)[Math.ceil(firsts.length * 0.95) - 1]!;
  const said = (value: number, goal: number) => (value <= goal ? 'reached' : 'missed');
  console.log(
    `first event of a lost key group: p95 ${p95} ms, limit ${FIRST_EVENT_LIMIT_MS} ms ` +
      `${said(p95, FIRST_EVENT_LIMIT_MS)}, goal ${FIRST_EVENT_GOAL_MS} ms ` +
      `${said(p95, FIRST_EVENT_GOAL_MS)}`,
  );
  const pause = Math.max(...pauses);
  console.log(
    `pause of the others' users: max ${pause} ms, goal ${PAUSE_GOAL_MS} ms ` +
      `${said(pause, PAUSE_GOAL_MS)}`,
  );
}

/** A delivery that was done is repeated only by who lost its key group. */
function repeatsOfSurvivors({ kills, receipts }: History, watched: Watched): string[] {
  const done = new Map<string, number>();
  const faults: string[] = [];
  for (const { id, user, seq, status, at, answeredAt } of receipts) {
    const doneAt = done.get(id);
    const explained = kills.some(
      (kill) => kill.at <= at && lostWith(kill, watched).has(subtaskOfUser(user)),
    );
    if (doneAt !== undefined && !explained) {
      faults.push(`${user}/${seq} was done at ${doneAt} and came again at ${at}`);
    }
    if (status !== null && status < 300) done.set(id, answeredAt ?? at);
  }
  return faults;
}

describe('selective replay', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('one of three is killed again and again, the others run on', async () => {
    const watched: Watched = { placements: [], replacements: { done: 0, givenUp: 0 } };
    const result = await runChecked(broker, {
      name: 'selective-replay',
      seed: SEED,
      users: 150,
      eventsPerUser: 280,
      durationMs: RUN_MS,
      taskManagers: TASK_MANAGERS,
      parallelism: SUBTASKS,
      need: { kills: 6, phases: [] },
      nemesis: killing(KILLS, RUN_MS, watched),
      job,
    });
    const { history, trouble, file } = result;
    const verdict = judge(history);
    for (const line of figureLines(verdict)) console.log(line);
    printFigures(history, watched);
    const { done, givenUp } = watched.replacements;
    console.log(`lost tasks replaced alone ${done} times, given up ${givenUp} times`);
    for (const line of violationLines(verdict.violations)) console.log(line);
    console.log(`judge it again: node e2e/exactly-once/judge.ts ${file}`);
    assert.deepEqual(trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.notEqual(history.meta.dump, null);
    assert.equal(done, history.kills.length, 'every loss was one of its own tasks alone');
    assert.deepEqual(repeatsOfSurvivors(history, watched), []);
  });

  it('goes red when survivors take repeats for news', async () => {
    const watched: Watched = { placements: [], replacements: { done: 0, givenUp: 0 } };
    const { history } = await runChecked(broker, {
      name: 'selective-replay-vector-ignored',
      seed: SEED + 1,
      users: 100,
      eventsPerUser: 160,
      durationMs: MUTANT_RUN_MS,
      taskManagers: TASK_MANAGERS,
      parallelism: SUBTASKS,
      need: { kills: 1, phases: [] },
      nemesis: killing(2, MUTANT_RUN_MS, watched),
      job,
      env: { TRIGGERJOB_TEST_MUTANT: 'vector-ignored' },
    });
    const { violations } = judge(history);
    for (const line of violationLines(violations)) console.log(line);
    assert.notEqual(history.meta.dump, null, 'the run broke down: nothing to judge');
    const red = violations.filter((one) => DATA_RULES.has(one.rule));
    assert.ok(red.length > 0, 'the checker is blind to vector-ignored');
  });
});
