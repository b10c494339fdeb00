/**
 * The promise: the death of the leading JobManager is no event for the job. The tasks go on, a
 * standby takes over and adopts them: no record is read a second time, no restart is counted. So
 * it is when the leader is killed, when it leaves in order, and when it is frozen past its lease;
 * woken then, it finds itself succeeded and ends. The checker of one process judges the whole run.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { figureLines, violationLines } from './exactly-once/report.ts';
import { runChecked, type Stage } from './exactly-once/run.ts';
import { attemptIn } from './exactly-once/status.ts';
import { DATA_RULES, judge } from './exactly-once/verdict.ts';
import { type KafkaBroker, startKafka } from './testbed/kafka.ts';

const SEED = Number(process.env['TRIGGERJOB_CHECK_SEED'] ?? 20_261_125);
const RUN_MS = 45_000;
const LEASE_MS = 3_000;
const TAKEOVER_GOAL_MS = LEASE_MS + 2_000;
const RELEASE_GOAL_MS = 1_000;
const WOKEN_GOAL_MS = 5_000;
const PAUSE_GOAL_MS = 100;
/** Ten times what is usual. */
const WATCHDOG_MS = 60_000;
/** Between two changes: the last one's restarted process stands by again, checkpoints are taken. */
const CALM_MS = 4_000;

interface Seat {
  file: string;
  pid: number;
  restPort: number;
}

interface Leader extends Seat {
  epoch: number;
}

interface Change {
  what: string;
  takeoverMs: number;
  goalMs: number;
  /** Longest time without a delivery in the change and its second before, and usually. */
  pauseMs: number;
  usualMs: number;
}

async function seats({ pipeline }: Stage): Promise<Seat[]> {
  const files = ['jobmanager.json', 'jobmanager-2.json'].map((one) => join(pipeline.stateDir, one));
  const read = files.map(async (file): Promise<Seat[]> => {
    const text = await readFile(file, 'utf8').catch(() => null);
    return text === null ? [] : [{ ...(JSON.parse(text) as Omit<Seat, 'file'>), file }];
  });
  return (await Promise.all(read)).flat();
}

async function ask(port: number, path: string): Promise<Record<string, unknown> | null> {
  try {
    const url = `http://127.0.0.1:${port}${path}`;
    const response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(500) });
    return response.status === 200 ? ((await response.json()) as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Who leads, and says so itself, with all tasks running. */
async function leaderOf(stage: Stage): Promise<Leader | null> {
  const found = await Promise.all(
    (await seats(stage)).map(async (seat): Promise<Leader[]> => {
      const role = await ask(seat.restPort, '/api/v1/leader');
      if (role?.['role'] !== 'leader') return [];
      const status = await ask(seat.restPort, '/api/v1/status');
      if (status?.['state'] !== 'RUNNING') return [];
      return [{ ...seat, epoch: Number(role['leaderEpoch']) }];
    }),
  );
  return found.flat().toSorted((a, b) => b.epoch - a.epoch)[0] ?? null;
}

async function until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  for (const end = Date.now() + WATCHDOG_MS; Date.now() < end; await wait(10)) {
    const found = await look();
    if (found !== null) return found;
  }
  throw new Error(`waited ${WATCHDOG_MS} ms for ${what}`);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Longest time between two requests that came in [from, to]. */
function longestPause({ receiver }: Stage, from: number, to: number): number {
  const times = receiver.receipts.map(({ at }) => at).filter((at) => at >= from && at <= to);
  return Math.max(0, ...times.slice(1).map((at, i) => at - times[i]!));
}

/** Two JobManagers that both answer, one of which leads. */
async function settled(stage: Stage): Promise<Leader> {
  const leader = await until('a leader and a standby', async () => {
    const roles = await Promise.all(
      (await seats(stage)).map(({ restPort }) => ask(restPort, '/api/v1/leader')),
    );
    const names = roles.map((role) => role?.['role']).toSorted();
    return names.join() === 'leader,standby' ? await leaderOf(stage) : null;
  });
  await wait(CALM_MS);
  return leader;
}

async function change(
  stage: Stage,
  what: string,
  goalMs: number,
  begin: (leader: Leader) => void,
): Promise<{ change: Change; before: Leader }> {
  const before = await settled(stage);
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
    const { history, trouble, file } = result;
    const verdict = judge(history);
    for (const line of figureLines(verdict)) console.log(line);
    for (const line of violationLines(verdict.violations)) console.log(line);
    for (const line of trouble) console.log(`trouble: ${line}`);
    console.log(`judge it again: node e2e/exactly-once/judge.ts ${file}`);
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
