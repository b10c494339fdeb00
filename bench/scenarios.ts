/** One function per figure: prepares its run, measures, returns what to print. */
import { Bed } from './bed.ts';
import type { ActionName, JobSettings } from './job-file.ts';
import { measureWindow, untilFilled, untilWarm, type WindowFigures } from './measured-window.ts';
import { peakRssBytes } from './process-figures.ts';
import { ProfileMarks } from './profile-marks.ts';
import { type Figure, printStep } from './report.ts';

const MEBIBYTE = 1024 ** 2;
const PROCESS_BYTES = 4_096 * MEBIBYTE;
/** A live user takes 7 to 9 KB of the budget: all of 100,000, where the default holds 95 %. */
const WARM_CACHE = { oneSlot: '1Gi', fourSlots: '256Mi' };
/** For about a tenth of them. */
const COLD_SLOT_CACHE = '20Mi';
const INCREMENTAL_ROUNDS = 60;
const INCREMENTAL_SHARE = 0.01;

export interface ScenarioOptions {
  users: number;
  /** Events in Kafka before the job starts; null: as many as the scenario needs. */
  events: number | null;
  /** Of the measured window; null: the scenario's own. */
  seconds: number | null;
  action: ActionName;
  /** Where CPU profiles of the slot threads go. */
  profileFolder: string | undefined;
}

export type Scenario = (options: ScenarioOptions) => Promise<Figure[]>;

interface RunShape {
  slots: number;
  checkpointInterval: string;
  slotCache: string;
  seconds: number;
  /** Most that the machine could process in warm-up and window. */
  events: number;
}

const oneSlot: RunShape = {
  slots: 1,
  checkpointInterval: '60s',
  slotCache: WARM_CACHE.oneSlot,
  seconds: 60,
  events: 12_000_000,
};

const fourSlots: RunShape = { ...oneSlot, slots: 4, slotCache: WARM_CACHE.fourSlots };
const coldCache: RunShape = { ...fourSlots, slotCache: COLD_SLOT_CACHE, events: 7_000_000 };
const pause: RunShape = {
  ...fourSlots,
  checkpointInterval: '5s',
  seconds: 105,
  events: 16_000_000,
};

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'one-slot': async (options) => {
    const window = await run(oneSlot, options);
    const perCpuSecond = window.events / window.cpuSeconds;
    const unit = 'events/CPU-s';
    const goal = { atLeast: 100_000 };
    return [{ name: 'one slot', value: perCpuSecond, unit, goal }, ...commonFigures(window)];
  },
  'four-slots': async (options) => throughput('four slots', fourSlots, 100_000, options),
  'cold-cache': async (options) => throughput('cold cache', coldCache, 40_000, options),
  pause: async (options) => {
    const window = await run(pause, options);
    return [...pauseFigures(window), ...commonFigures(window)];
  },
  incremental,
  memory: async (options) => {
    const figures: Figure[] = [];
    for (const [name, shape] of Object.entries({ oneSlot, fourSlots, coldCache, pause })) {
      printStep(`run ${name}`);
      const window = await run(shape, options);
      figures.push({ ...rssFigure(window.peakRssBytes), name: `peak RSS, ${name}` });
    }
    return figures;
  },
};

async function run(shape: RunShape, options: ScenarioOptions): Promise<WindowFigures> {
  const { users, action, profileFolder } = options;
  const { slots, checkpointInterval, slotCache } = shape;
  const bed = await Bed.open(users);
  try {
    const settings: JobSettings = { slots, checkpointInterval, slotCache, action, profileFolder };
    await fillState(bed, settings, users);
    await loadEvents(bed, options.events ?? shape.events);
    const job = await bed.startJob(settings);
    await untilWarm(job, users);
    const profile = profileFolder === undefined ? null : new ProfileMarks(profileFolder);
    profile?.start();
    const seconds = options.seconds ?? shape.seconds;
    const window = await measureWindow({ job, brokerPid: bed.brokerPid, seconds });
    await profile?.stop();
    if (window.short) printStep('the events ended before the window did: take more --events');
    return window;
  } finally {
    await bed.close();
  }
}

/**
 * Every user's state is made by a first start, which ends with a checkpoint. The measured start
 * goes on from it: so all of its events can be in Kafka before, and its pauses are its own.
 */
async function fillState(bed: Bed, settings: JobSettings, users: number): Promise<void> {
  await bed.loader.load(users);
  const startedAt = Date.now();
  const first = { ...settings, checkpointInterval: '24h', profileFolder: undefined };
  const job = await bed.startJob(first);
  await untilFilled(job, users);
  const seconds = (Date.now() - startedAt) / 1_000;
  printStep(`${users} users in state after ${seconds.toFixed(1)} s, each fetched once`);
  // Before the stop, which gives its own checkpoint a minute only.
  const { checkpointed_size: bytes, end_to_end_duration: ms } = await job.checkpoint();
  printStep(`their checkpoint: ${bytes} bytes in ${ms} ms`);
  await job.stop();
}

async function loadEvents(bed: Bed, events: number): Promise<void> {
  const startedAt = Date.now();
  await bed.loader.load(events);
  const seconds = (Date.now() - startedAt) / 1_000;
  printStep(`${events} events in Kafka, at ${Math.round(events / seconds)} per second`);
}

async function throughput(
  name: string,
  shape: RunShape,
  atLeast: number,
  options: ScenarioOptions,
): Promise<Figure[]> {
  const window = await run(shape, options);
  const perSecond = window.events / window.seconds;
  return [
    { name, value: perSecond, unit: 'events/s', goal: { atLeast } },
    { name: 'per CPU-second', value: window.events / window.cpuSeconds, unit: 'events/CPU-s' },
    ...commonFigures(window),
  ];
}

function commonFigures(window: WindowFigures): Figure[] {
  const { seconds, events, cpuSeconds, threadSeconds, brokerCpuSeconds } = window;
  const ours = cpuSeconds + brokerCpuSeconds;
  return [
    { name: 'window', value: seconds, unit: 's' },
    { name: 'events in it', value: events, unit: '' },
    { name: 'checkpoints in it', value: window.checkpoints, unit: '' },
    { name: 'throughput', value: events / seconds, unit: 'events/s' },
    { name: 'matched', value: (100 * window.matched) / events, unit: '%' },
    { name: 'CPU of the TaskManager', value: cpuSeconds / seconds, unit: 'cores' },
    ...threadSeconds.map((thread, slot) => {
      return { name: `  thread of slot ${slot}`, value: thread / seconds, unit: 'cores' };
    }),
    { name: 'CPU of the broker', value: brokerCpuSeconds / seconds, unit: 'cores' },
    { name: 'CPU of all else', value: (window.machineBusy - ours) / seconds, unit: 'cores' },
    { name: 'users in the cache', value: (100 * window.usersCached) / window.users, unit: '%' },
    { name: 'lookups it answered', value: 100 * window.hitShare, unit: '%' },
    rssFigure(window.peakRssBytes),
  ];
}

function rssFigure(bytes: number): Figure {
  const goal = { atMost: PROCESS_BYTES / MEBIBYTE };
  return { name: 'peak RSS of the TaskManager', value: bytes / MEBIBYTE, unit: 'MiB', goal };
}

/** Of all pauses since the measured start, warm-up included: the worst of the slots' figures. */
function pauseFigures({ last }: WindowFigures): Figure[] {
  const worst = (of: (subtask: (typeof last.subtasks)[number]) => number) =>
    Math.max(...last.subtasks.map(of));
  const p99 = worst(({ pauseP99Ms }) => pauseP99Ms);
  return [
    { name: 'pause p99, worst slot', value: p99, unit: 'ms', goal: { atMost: 10 } },
    { name: 'pause max', value: worst(({ pauseMaxMs }) => pauseMaxMs), unit: 'ms' },
    { name: 'pauses of a slot', value: worst(({ pauseCount }) => pauseCount), unit: '' },
  ];
}

async function incremental(options: ScenarioOptions): Promise<Figure[]> {
  const { users, action } = options;
  const bed = await Bed.open(users);
  try {
    await bed.loader.load(users);
    const job = await bed.startJob({ slots: 4, checkpointInterval: '24h', action });
    await untilFilled(job, users);
    const full = await job.checkpoint();
    printStep(`first checkpoint: ${full.checkpointed_size} bytes, all of the state`);
    const touched = Math.round(users * INCREMENTAL_SHARE);
    const shares: number[] = [];
    for (let round = 0; round < INCREMENTAL_ROUNDS; round++) {
      await bed.loader.touch(round, touched);
      const goal = users + touched * (round + 1);
      await job.until(({ processed }) => processed >= goal, 60_000, `${goal} are processed`);
      const { checkpointed_size: written, state_size: state } = await job.checkpoint();
      shares.push((100 * written) / state);
    }
    const sorted = [...shares].sort((a, b) => a - b);
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    const { taskManagers } = await job.status();
    const goal = { atMost: 5 };
    const unit = '% of state';
    return [
      {
        name: 'written after touching 1 %, median',
        value: sorted[sorted.length >> 1]!,
        unit,
        goal,
      },
      { name: 'mean, new bases included', value: mean, unit, goal },
      { name: 'largest', value: sorted.at(-1)!, unit },
      { name: 'checkpoints', value: shares.length, unit: '' },
      { name: 'users touched each time', value: touched, unit: '' },
      rssFigure(peakRssBytes(taskManagers[0]!.pid)),
    ];
  } finally {
    await bed.close();
  }
}
