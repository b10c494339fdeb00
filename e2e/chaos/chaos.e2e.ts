/**
 * The promise: a job of two JobManagers and three TaskManagers, its checkpoints in S3, is exact
 * through everything that can happen to its machines. `npm test` has a short storm,
 * `npm run e2e:chaos` the whole one: 60 kills, 20 freezes of each kind; the variable
 * TRIGGERJOB_CHAOS_FAILOVER=region lets only lost tasks be replaced.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { printRun, quantile, violationLines } from '../exactly-once/report.ts';
import { runChecked } from '../exactly-once/run.ts';
import { judge } from '../exactly-once/verdict.ts';
import { type KafkaBroker, startKafka } from '../testbed/kafka.ts';
import { type S3Server, startS3 } from '../testbed/s3.ts';
import { type StepFigures, type StepName, Storm, type StormPlan } from './storm.ts';

const SEED = Number(process.env['TRIGGERJOB_CHECK_SEED'] ?? 20_261_125);
const WHOLE = process.env['TRIGGERJOB_CHAOS'] === 'whole';
const FAILOVER = process.env['TRIGGERJOB_CHAOS_FAILOVER'] ?? 'full';
const HEARTBEAT_TIMEOUT_MS = 4_000;
const LEASE_MS = 3_000;
/** plan/build.ts: how long tasks go on without a leader. */
const GRACE_MS = 2 * LEASE_MS + HEARTBEAT_TIMEOUT_MS;
const RECOVERY_GOAL_MS = 5_000;
const TAKEOVER_GOAL_MS = LEASE_MS + 2_000;
const WOKEN_GOAL_MS = 5_000;

const SHORT: Partial<Record<StepName, number>> = {
  'kill a TaskManager': 7,
  'kill the leader': 3,
  'kill the leader and a TaskManager': 1,
  'freeze a TaskManager': 2,
  'freeze the leader': 2,
  'store away': 1,
  'broker restarted': 1,
  rescale: 2,
};

const ALL: Partial<Record<StepName, number>> = {
  'kill a TaskManager': 36,
  'kill the leader': 16,
  'kill the leader and a TaskManager': 4,
  'freeze a TaskManager': 20,
  'freeze the leader': 20,
  'store away': 1,
  'broker restarted': 3,
  rescale: 6,
};

const RUN = WHOLE
  ? { steps: ALL, storeAwayMs: 120_000, durationMs: 1_500_000, eventsPerUser: 1_500 }
  : { steps: SHORT, storeAwayMs: 30_000, durationMs: 230_000, eventsPerUser: 400 };

const PLAN: StormPlan = {
  seed: SEED,
  ...RUN,
  heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS,
  leaseMs: LEASE_MS,
  parallelism: [4, 3],
};

function print(what: string, values: readonly number[], goalMs: number): void {
  const [p50, p95, most] = [0.5, 0.95, 1].map((share) => quantile(values, share));
  const verdict = p95! <= goalMs ? 'reached' : 'missed';
  console.log(
    `${what}: ${values.length} times, p50 ${p50} ms, p95 ${p95} ms, max ${most} ms; ` +
      `goal p95 ${goalMs} ms: ${verdict}`,
  );
}

function printFigures(figures: readonly StepFigures[]): void {
  const times = (name: StepName) =>
    figures.filter((one) => one.name === name).map(({ doneMs }) => doneMs);
  print(
    'works again after the SIGKILL of a TaskManager',
    times('kill a TaskManager'),
    RECOVERY_GOAL_MS,
  );
  print('works again after the SIGKILL of the leader', times('kill the leader'), TAKEOVER_GOAL_MS);
  const woken = figures.flatMap(({ wokenMs }) => wokenMs ?? []);
  print('zombies refused, ended after SIGCONT', woken, WOKEN_GOAL_MS);
  const more = figures.reduce((sum, { unexplained }) => sum + unexplained, 0);
  console.log(
    `attempts that no step explains: ${more}; goal 0: ${more === 0 ? 'reached' : 'missed'}`,
  );
}

describe('chaos', () => {
  let broker: KafkaBroker;
  let s3: S3Server;
  before(async () => {
    [broker, s3] = await Promise.all([startKafka(), startS3()]);
  });
  after(async () => {
    await broker?.stop();
    await s3?.stop();
  });

  it('state is the fold and nothing is lost, whatever happens to whom', async () => {
    let figures: readonly StepFigures[] = [];
    const directory = `s3://${s3.bucket}/chaos/`;
    const { endpoint, accessKeyFile, secretKeyFile } = s3;
    const result = await runChecked(broker, {
      name: 'chaos',
      seed: SEED,
      users: 150,
      eventsPerUser: RUN.eventsPerUser,
      durationMs: RUN.durationMs,
      taskManagers: 3,
      jobManagers: 2,
      parallelism: PLAN.parallelism[0],
      need: null,
      nemesis: async (stage) => {
        const storm = new Storm(stage, PLAN, { broker, s3 });
        figures = storm.figures;
        await storm.run();
      },
      store: { url: directory, directory: `${s3.directory}/chaos` },
      job: () => ({
        checkpointInterval: '1s',
        taskManager: { memory: { slotCache: '25Ki' } },
        heartbeat: { timeout: `${HEARTBEAT_TIMEOUT_MS}ms` },
        // On a busy machine 5 s pass while an answer waits to be read, and it is sent again.
        webhook: { timeout: '20s' },
        restartStrategy: { failover: FAILOVER },
        scaling: { minInterval: '0s', stabilization: '500ms' },
        jobManager: {
          leaderElection: { lease: `${LEASE_MS}ms`, renewDeadline: '2s', retryPeriod: '300ms' },
        },
        checkpointing: { directory, s3: { endpoint, accessKeyFile, secretKeyFile } },
      }),
    });
    const verdict = judge(result.history);
    printRun(result, verdict);
    printFigures(figures);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.notEqual(result.history.meta.dump, null);
    const wanted = Object.values(RUN.steps).reduce((sum, count) => sum + count, 0);
    assert.equal(figures.length, wanted, 'not every step was taken');
    // A leader adopts no tasks of several attempts. On a starved machine the next one can come
    // when they have ended: that is no fault of theirs.
    if (FAILOVER === 'region') return;
    const restarted = figures.filter(
      ({ name, sameAttempt, ledMs }) =>
        /^\w+ the leader$/.test(name) && !sameAttempt && (ledMs ?? 0) < GRACE_MS / 2,
    );
    assert.deepEqual(restarted, [], 'a change of the leader restarted the tasks');
  });
});
