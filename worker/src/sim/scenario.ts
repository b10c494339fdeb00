/** What one seed stands for: the size of the job, what goes wrong when, where processes die. */
import { testPlan } from '../jobmanager/test-cluster.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { Seeded } from '../rehearsal/seeded.ts';
import type { Action, Role } from './actions.ts';
import { disturbances } from './disturbances.ts';
import type { Service } from './model-services.ts';
import type { StoreFaults } from './sim-store.ts';

export interface CrashPoint {
  role: Role;
  point: string;
  /** It dies when it is there for the nth time. */
  nth: number;
}

export interface Scenario {
  seed: number;
  users: number;
  events: number;
  productionMs: number;
  newSplitAtMs: number | null;
  parallelism: number;
  taskManagers: number;
  /** 2: one leads, one stands by. */
  jobManagers: number;
  plan: JobPlan;
  /** What a look at the clock costs. */
  stepMs: number;
  storeLagMs: number;
  storeFaults: StoreFaults;
  webhookMayFail: boolean;
  profileMayFail: boolean;
  frameDelayMs: number;
  actions: { atMs: number; action: Action }[];
  crashPoints: CrashPoint[];
}

/** Everything after it is calm. */
export const FAULTS_END_MS = 24_000;
const PRODUCTION_MS = 22_000;
/** One more than there are splits, so that a source may have none (P20). */
export const MAX_PARALLELISM = 4;

/** Where a TaskManager may die; the names are those the simulation gives at `point`. */
export const TASKMANAGER_POINTS = [
  'told to registered',
  'told to deploy',
  'told to trigger',
  'told to abort',
  'told to notify',
  'told to cancel',
  'told to detach',
  'told to replace',
  'told to replay',
  'before barrier',
  'barrier sent',
  'some barriers came',
  'all barriers came',
  'rows written mid-drain',
  'before running',
  'after running',
  'before detached',
  'after detached',
  'before caught-up',
  'after caught-up',
  'before drained',
  'after drained',
  'before ack',
  'after ack',
  'before decline',
  'after decline',
  'before put delta',
  'after put delta',
  'before put base',
  'after put base',
  'before put volatile',
  'after put volatile',
  'after get delta',
  'after get base',
  'after get volatile',
  'profile answer',
  'webhook request',
  'webhook arrived',
  'webhook said delivered',
  'webhook said failed',
  'dead letter written',
] as const;

export const JOBMANAGER_POINTS = [
  'before create manifest',
  'after create manifest',
  'before create log checkpoint',
  'after create log checkpoint',
  'before create log restore',
  'after create log restore',
  'before create log takeover',
  'after create log takeover',
  'before create log abort',
  'after create log abort',
  'before create log genesis',
  'after create log genesis',
  'before list segment',
  'after get manifest',
  'before delete manifest',
  'before delete delta',
  'after delete delta',
  'before delete base',
  'before delete volatile',
  'after delete volatile',
] as const;

/** Comes a few times in a run at best. */
const RARE =
  /told to (reg|dep|ab|can|det|rep)|running|detached|caught|decline|get|log [art]|delete|failed/;
/** Once in a run if at all, so the first time must do, and it must be tried more often. */
const RAREST = /base|genesis|said failed|dead letter|told to (det|rep)|detached|caught/;

export function scenarioOf(seed: number): Scenario {
  const rng = new Seeded(seed);
  const newSplitAtMs = rng.chance(0.2) ? rng.between(5_000, 15_000) : null;
  const scenario = {
    seed,
    users: rng.between(9, 18),
    events: rng.between(120, 260),
    productionMs: PRODUCTION_MS,
    newSplitAtMs,
    parallelism: rng.between(2, MAX_PARALLELISM),
    plan: planOf(rng),
    stepMs: rng.pick([0.01, 0.2, 0.9]),
    storeLagMs: rng.chance(0.7) ? 59_000 : 0,
    storeFaults: rng.chance(0.6)
      ? { slow: 0.05, throws: rng.next() * 0.03, lostReply: rng.next() * 0.03 }
      : { slow: 0.02, throws: 0, lostReply: 0 },
    webhookMayFail: rng.chance(0.5),
    profileMayFail: rng.chance(0.3),
    frameDelayMs: rng.pick([2, 10, 60]),
    actions: actionsOf(rng),
    crashPoints: [...crashPointsOf(rng), rarestOf(seed), ...ofBases(seed)],
  };
  // Drawn last, so that a seed's other faults are what they were. Two leaders without a Lease could
  // hold one TaskManager each for ever, and neither would have slots enough.
  const twins = scenario.actions.some(({ action }) => action.do === 'twin');
  const isOfBases = scenario.crashPoints.at(-1)?.point === 'after get base';
  if (isOfBases) {
    // Bases come after many checkpoints of one attempt, which few runs have; a leader's death alone
    // restores nothing any more.
    const action: Action = { do: 'crash', role: 'taskmanager', silent: false };
    scenario.actions = [{ atMs: FAULTS_END_MS - 2_000, action }];
    scenario.crashPoints = scenario.crashPoints.slice(-1);
    scenario.plan.checkpointing.intervalMs = 300;
  }
  const several = rng.chance(0.7) && !twins;
  const taskManagers = several ? rng.between(2, 3) : 1;
  scenario.plan.selectiveReplay = several && rng.chance(0.75);
  addScaling(scenario, rng);
  const jobManagers = rng.chance(0.6) && !twins ? 2 : 1;
  const leaders = jobManagers === 1 ? [] : changesOfLeader(rng);
  const more = isOfBases ? [] : disturbances(rng, FAULTS_END_MS, taskManagers);
  const actions = [...scenario.actions, ...leaders, ...more].sort((a, b) => a.atMs - b.atMs);
  return { ...scenario, actions, taskManagers, jobManagers };
}

function changesOfLeader(rng: Seeded): Scenario['actions'] {
  const all: Scenario['actions'] = [];
  for (let count = rng.between(1, 3); count > 0; count--) {
    const action = rng.pick<Action>([
      { do: 'crash', role: 'jobmanager', silent: rng.chance(0.3) },
      { do: 'freeze', role: 'jobmanager', ms: rng.between(200, 6_000) },
      { do: 'release' },
    ]);
    all.push({ atMs: rng.between(1_500, FAULTS_END_MS - 7_000), action });
  }
  return all;
}

/** Where a wish is stored (JobControl.rescale). */
export const RESCALE_POINTS = ['before create log rescale', 'after create log rescale'] as const;

function addScaling(scenario: Omit<Scenario, 'taskManagers' | 'jobManagers'>, rng: Seeded): void {
  const { plan, actions, crashPoints } = scenario;
  plan.scaling.resourceWaitMs = rng.between(1_000, 3_000);
  plan.scaling.stabilizationMs = rng.between(0, 400);
  plan.scaling.minIntervalMs = rng.pick([0, 2_500]);
  if (rng.chance(0.5)) {
    const ms = plan.scaling.resourceWaitMs + rng.between(500, 5_000);
    const action: Action = { do: 'stay away', ms, silent: rng.chance(0.2) };
    actions.push({ atMs: rng.between(500, FAULTS_END_MS / 2), action });
  }
  if (rng.chance(0.4)) {
    for (let count = rng.between(1, 3); count > 0; count--) {
      const action: Action = { do: 'ask', parallelism: rng.between(1, MAX_PARALLELISM) };
      actions.push({ atMs: rng.between(500, FAULTS_END_MS - 1500), action });
    }
    const point = rng.pick(RESCALE_POINTS);
    if (rng.chance(0.5)) crashPoints.push({ role: 'jobmanager', point, nth: rng.between(1, 2) });
  }
  actions.sort((a, b) => a.atMs - b.atMs);
}

function planOf(rng: Seeded): JobPlan {
  const plan = testPlan({
    intervalMs: rng.pick([rng.between(300, 700), rng.between(700, 1500)]),
    timeoutMs: rng.between(1500, 6000),
    minPauseMs: rng.pick([0, 0, 200]),
    tolerableFailures: rng.pick([2, 5, 100]),
    retained: rng.between(1, 3),
  });
  plan.parallelism = MAX_PARALLELISM;
  plan.slotsPerTaskManager = MAX_PARALLELISM;
  const kilobytes = (from: number, to: number) => rng.between(from, to) * 1024;
  plan.memory.slotCacheBytes = rng.pick([kilobytes(1, 4), kilobytes(8, 64)]);
  plan.memory.slotOutboxBytes = rng.pick([kilobytes(3, 8), kilobytes(32, 64)]);
  plan.bufferBytes = rng.pick([300, 800, 2048]);
  plan.memory.networkBytes = plan.bufferBytes * MAX_PARALLELISM ** 2 * rng.between(2, 5);
  plan.bufferTimeoutMs = rng.pick([5, 40]);
  plan.heartbeatTimeoutMs = 3000;
  plan.leaderElection = { leaseMs: 2000, renewDeadlineMs: 1400, retryMs: 400, graceMs: 9000 };
  plan.restartStrategy = { type: 'fixed-delay', attempts: 100_000, delayMs: rng.between(1, 500) };
  plan.state.ttlMs = rng.pick([4_000, 9_000, 600_000]);
  plan.state.ttlGraceMs = 1_500;
  plan.state.allowedSkewMs = 1_000;
  plan.state.historyMaxEvents = rng.between(5, 24);
  if (plan.source.kind === 'kafka') plan.source.discoveryIntervalMs = 900;
  return plan;
}

function actionsOf(rng: Seeded): Scenario['actions'] {
  const actions: Scenario['actions'] = [];
  const add = (action: Action) => {
    actions.push({ atMs: rng.between(500, FAULTS_END_MS - 1500), action });
  };
  for (let count = rng.between(0, 3); count > 0; count--) {
    const role = rng.chance(0.7) ? 'taskmanager' : 'jobmanager';
    add({ do: 'crash', role, silent: rng.chance(0.2) });
  }
  for (let count = rng.between(0, 4); count > 0; count--) {
    const service = rng.pick<Service>(['api', 'webhook', 'deadLetter', 'backend']);
    const ms = rng.between(200, 7000);
    const one = (service === 'backend' || service === 'webhook') && rng.chance(0.5);
    add({ do: 'outage', service, ms, ...(one && { subtask: rng.between(0, 3) }) });
  }
  if (rng.chance(0.35)) {
    // Over early: the log asks again after as long as it has tried in vain, and I10 is measured.
    const ms = rng.between(200, 6000);
    const atMs = rng.between(500, FAULTS_END_MS - 2 * ms - 1500);
    actions.push({ atMs, action: { do: 'outage', service: 'store', ms } });
  }
  if (rng.chance(0.3)) add({ do: 'outage', service: 'source', ms: rng.between(100, 8000) });
  if (rng.chance(0.4)) {
    for (let count = rng.between(1, 3); count > 0; count--) {
      add({
        do: 'rescale',
        parallelism: rng.between(1, MAX_PARALLELISM),
        graceful: rng.chance(0.6),
      });
    }
  }
  if (rng.chance(0.3)) add({ do: 'script', version: rng.pick(['v2', 'v3']) });
  if (rng.chance(0.3)) add({ do: 'checkpoint' });
  if (rng.chance(0.15)) add({ do: 'twin' });
  return actions.sort((a, b) => a.atMs - b.atMs);
}

function crashPointsOf(rng: Seeded): CrashPoint[] {
  return Array.from({ length: rng.between(1, 4) }, () => {
    const role = rng.chance(0.6) ? 'taskmanager' : 'jobmanager';
    const points: readonly string[] =
      role === 'taskmanager' ? TASKMANAGER_POINTS : JOBMANAGER_POINTS;
    const point = rng.pick(rng.chance(0.2) ? points.filter((one) => RAREST.test(one)) : points);
    if (RAREST.test(point)) return { role, point, nth: 1 };
    return { role, point, nth: rng.between(1, RARE.test(point) ? 3 : 25) };
  });
}

/** One run in eighty deletes a base at all: by turns alone, 500 seeds missed a crash there. */
function ofBases(seed: number): CrashPoint[] {
  return seed % 6 === 0 ? [{ role: 'jobmanager', point: 'before delete base', nth: 1 }] : [];
}

/** Each of the rarest points in turn, one a seed: left to chance alone, a run of 500 missed one. */
function rarestOf(seed: number): CrashPoint {
  const all: CrashPoint[] = [
    ...TASKMANAGER_POINTS.map((point) => ({ role: 'taskmanager', point, nth: 1 }) as const),
    ...JOBMANAGER_POINTS.map((point) => ({ role: 'jobmanager', point, nth: 1 }) as const),
  ];
  const rarest = all.filter(({ point }) => RAREST.test(point));
  return rarest[seed % rarest.length]!;
}
