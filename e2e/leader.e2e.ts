/**
 * The promise: the death of the leading JobManager is no event for the job. The tasks go on, a
 * standby takes over and adopts them: no record is read a second time, no restart is counted. So
 * it is when the leader is killed, when it leaves in order, and when it is frozen past its lease;
 * woken then, it finds itself succeeded and ends. The checker of one process judges the whole run.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { type Leader, leaderOf, settled, until } from './exactly-once/leaders.ts';
import { printRun, violationLines } from './exactly-once/report.ts';
import { runChecked, type Stage } from './exactly-once/run.ts';
import { attemptIn } from './exactly-once/status.ts';
import { DATA_RULES, judge } from './exactly-once/verdict.ts';
import { isAlive } from './testbed/end-process.ts';
import { type KafkaBroker, startKafka } from './testbed/kafka.ts';

const SEED = Number(process.env['TRIGGERJOB_CHECK_SEED'] ?? 20_261_125);
const RUN_MS = 45_000;
const LEASE_MS = 3_000;
const TAKEOVER_GOAL_MS = LEASE_MS + 2_000;
const RELEASE_GOAL_MS = 1_000;
const WOKEN_GOAL_MS = 5_000;
const PAUSE_GOAL_MS = 100;
/** Between two changes: the last one's restarted process stands by again, checkpoints are taken. */
const CALM_MS = 4_000;

interface Change {
  what: string;
  takeoverMs: number;
  goalMs: number;
  /** Longest time without a delivery in the change and its second before, and usually. */
  pauseMs: number;
  usualMs: number;
}

/** Longest time between two requests that came in [from, to]. */
function longestPause({ receiver }: Stage, from: number, to: number): number {
  const times = receiver.receipts.map(({ at }) => at).filter((at) => at >= from && at <= to);
  return Math.max(0, ...times.slice(1).map((at, i) => at - times[i]!));
}

async function change(
  stage: Stage,
  what: string,
  goalMs: number,
  begin: (leader: Leader) => void,
): Promise<{ change: Change; before: Leader }> {
  const before = await settled(stage);
  await wait(CALM_MS);
  const at = Date.now();
  const usualMs = longestPause(stage, at - 2_000, at);
  begin(before);
  const next = await until(`a leader after ${what}`, async () => {
    const leader = await leaderOf(stage);
    return leader !== null && leader.epoch > before.epoch ? leader : null;
  });
  const takeoverMs = Date.now() - at;
  assert.notEqual(next.pid, before.pid);
  await wait(500);
  const pauseMs = longestPause(stage, at - 100, Date.now());
  return { change: { what, takeoverMs, goalMs, pauseMs, usualMs }, before };
}

function print(name: string, ms: number, goalMs: number): void {
  console.log(`${name}: ${ms} ms, goal ${goalMs} ms, ${ms <= goalMs ? 'reached' : 'missed'}`);
}

/** Kills, releases and freezes the leader in turn; what each of them cost. */
async function changes(stage: Stage): Promise<{ all: Change[]; wokenMs: number }> {
  const killed = await change(stage, 'SIGKILL', TAKEOVER_GOAL_MS, ({ pid }) =>
    process.kill(pid, 'SIGKILL'),
  );
  const released = await change(stage, 'a release', RELEASE_GOAL_MS, ({ pid }) =>
    process.kill(pid, 'SIGTERM'),
  );
  const frozen = await change(stage, 'SIGSTOP', TAKEOVER_GOAL_MS, ({ pid }) =>
    process.kill(pid, 'SIGSTOP'),
  );
  await wait(LEASE_MS);
  const wokenAt = Date.now();
  process.kill(frozen.before.pid, 'SIGCONT');
  await until('the end of the woken leader', async () =>
    isAlive(frozen.before.pid) ? null : true,
  );
  const wokenMs = Date.now() - wokenAt;
  await settled(stage);
  return { all: [killed.change, released.change, frozen.change], wokenMs };
}

describe('leader change', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('tasks go on, nothing is read twice, however the leader goes', async () => {
    let figures: Awaited<ReturnType<typeof changes>> | null = null;
    const result = await runChecked(broker, {
      name: 'leader',
      seed: SEED,
      users: 150,
      eventsPerUser: 280,
      durationMs: RUN_MS,
      taskManagers: 2,
      jobManagers: 2,
      parallelism: 4,
      errorShare: 0,
      need: { kills: 0, phases: [] },
      nemesis: async (stage) => {
        figures = await changes(stage);
      },
      job: () => ({
        checkpointInterval: '1s',
        heartbeat: { timeout: '4s' },
        jobManager: {
          leaderElection: { lease: `${LEASE_MS}ms`, renewDeadline: '2s', retryPeriod: '300ms' },
        },
      }),
    });
    const { history, trouble } = result;
    const verdict = judge(history);
    printRun(result, verdict);
    assert.deepEqual(trouble, []);
    const { all, wokenMs } = figures ?? { all: [], wokenMs: 0 };
    for (const { what, takeoverMs, goalMs, pauseMs, usualMs } of all) {
      print(`new leader in charge after ${what}`, takeoverMs, goalMs);
      print(`pause of deliveries around it (usually ${usualMs} ms)`, pauseMs, PAUSE_GOAL_MS);
    }
    print('the woken leader ended after', wokenMs, WOKEN_GOAL_MS);
    assert.equal(all.length, 3);
    const data = verdict.violations.filter(({ rule }) => DATA_RULES.has(rule));
    assert.deepEqual(violationLines(data), []);
    assert.notEqual(history.meta.dump, null);
    // Not even one record was read again, by whatever task.
    const attempts = new Set(history.samples.map(attemptIn).filter((one) => one !== null));
    assert.deepEqual([...attempts], [1]);
    assert.deepEqual([...new Set(history.samples.map(({ restarts }) => restarts))], [0]);
    const { replay, overlap } = verdict.figures.repeats;
    assert.deepEqual({ replay, overlap }, { replay: 0, overlap: 0 });
    assert.equal(verdict.figures.repeats['in-flight'], 0);
  });
});
