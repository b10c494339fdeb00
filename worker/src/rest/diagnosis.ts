/**
 * Why is it slow? One sentence that names the bottleneck, and the knob to turn. Rules in order, the
 * first that applies speaks: what stops everything before what slows it, and of a chain of waiting
 * stages the last, for the others wait for it. Pure.
 */
import type { Sample } from '../jobmanager/job-series.ts';
import type { JobView } from '../jobmanager/job-view.ts';
import { boundsOf, type Fill } from './bounds-of.ts';

export interface Diagnosis {
  healthy: boolean;
  sentence: string;
  /** What to do; '' when there is nothing. */
  knob: string;
  bottleneck:
    | 'source'
    | 'state'
    | 'profile-api'
    | 'filter'
    | 'action'
    | 'checkpoint'
    | 'kafka'
    | null;
  evidence: string[];
}

interface Facts {
  view: JobView;
  /** Of the last minute. */
  recent: Recent;
  fill(name: string): Fill;
  extra(name: string): number;
}

type Recent = {
  [Name in keyof Omit<Sample, 'at' | 'restarts'>]: number | null;
};

type Finding = Omit<Diagnosis, 'healthy' | 'evidence'>;

const FAILING = 0.1;
const FULL = 0.9;
const BUSY = 0.8;
const COLD = 0.8;
/** Times its fair part of the work. */
const HOT = 1.6;
/** Less than that many seconds of work is no lag. */
const LAG_SECONDS = 10;
const FEW_RECORDS = 1_000;
const EMPTY: Fill = { value: 0, limit: 0, ratio: 0 };

export function diagnose(view: JobView): Diagnosis {
  const bounds = boundsOf(view, {});
  const facts: Facts = {
    view,
    recent: meanOf(view.series.last(1)),
    fill: (name) => bounds.get(name) ?? EMPTY,
    extra: (name) => view.subtasks.reduce((sum, { extra }) => sum + (extra[name] ?? 0), 0),
  };
  const evidence = evidenceOf(facts);
  for (const rule of RULES) {
    const found = rule(facts);
    if (found !== null) return { healthy: false, ...found, evidence };
  }
  const rate = Math.round(facts.recent.eventsPerSecond ?? view.eventsPerSecond);
  const sentence = view.terminal
    ? `The job has ended: ${view.status}.`
    : `Nothing holds the job up: it keeps pace with its source at ${text(rate)} events/s.`;
  return { healthy: true, sentence, knob: '', bottleneck: null, evidence };
}

const RULES: readonly ((facts: Facts) => Finding | null)[] = [
  notRunning,
  webhookFails,
  profileApiFails,
  checkpointsFail,
  outboxFull,
  profileApiFull,
  storeSlow,
  backendStalls,
  checkpointsSlow,
  behind,
];

function notRunning({ view }: Facts): Finding | null {
  if (view.status === 'RUNNING') return null;
  const [newest] = view.exceptions.entries;
  const cause = newest === undefined ? '' : ` The last cause: ${newest.message}`;
  if (view.status === 'FAILED') {
    const knob = 'Mend the cause and start the job again: it goes on from its last checkpoint.';
    return { sentence: `The job has failed.${cause}`, knob, bottleneck: null };
  }
  if (view.terminal) return null;
  const slots = view.taskManagers.reduce((sum, one) => sum + one.slots, 0);
  if (slots < view.scaling.wanted) {
    const { status, scaling } = view;
    const sentence = `The job is ${status}: ${slots} of ${scaling.wanted} slots are there.`;
    return {
      sentence,
      knob: 'Raise spec.taskManager.replicas, or see why pods do not start.',
      bottleneck: null,
    };
  }
  const seconds = Math.round((view.now - view.enteredAt(view.status)) / 1000);
  const sentence = `The job is ${view.status} for ${seconds} s.${cause}`;
  return {
    sentence,
    knob: 'See its exceptions; it goes on by itself unless they repeat.',
    bottleneck: null,
  };
}

function webhookFails({ view, recent }: Facts): Finding | null {
  const failed = recent.webhookErrorRatio ?? 0;
  if (failed < FAILING) return null;
  const waiting = text(view.gauges.outbox);
  return {
    sentence: `The webhook fails ${percent(failed)} of its attempts; ${waiting} deliveries wait.`,
    knob: 'Mend spec.action.webhook.url; they are tried again until spec.action.webhook.deadline.',
    bottleneck: 'action',
  };
}

function profileApiFails({ view, recent, extra }: Facts): Finding | null {
  const failed = recent.profileErrorRatio ?? 0;
  const open = extra('profile_breakerOpen') > 0;
  if (failed < FAILING && !open) return null;
  const how = open ? 'is down' : `fails ${percent(failed)} of its requests`;
  return {
    sentence: `The Profile API ${how}; ${text(view.gauges.parked)} events of new users wait.`,
    knob: 'Mend spec.state.profileApi.url; meanwhile spec.state.profileApi.onError applies.',
    bottleneck: 'profile-api',
  };
}

function checkpointsFail({ view }: Facts): Finding | null {
  const { failedInARow, latestFailed } = view.checkpoints;
  if (failedInARow === 0) return null;
  const cause = latestFailed?.failure ?? 'unknown';
  const which = failedInARow === 1 ? 'The last checkpoint' : `The last ${failedInARow} checkpoints`;
  return {
    sentence: `${which} failed: ${cause}.`,
    knob: 'See the cause; if it is the time, raise spec.checkpointing.timeout.',
    bottleneck: 'checkpoint',
  };
}

function outboxFull({ view, recent, fill }: Facts): Finding | null {
  const ratio = Math.max(fill('outbox_bytes').ratio, fill('outbox_deliveries').ratio);
  if (ratio < FULL) return null;
  const p99 = recent.webhookP99Seconds;
  const slow = p99 === null ? '' : ` at a p99 of ${seconds(p99)}`;
  return {
    sentence: `The action is too slow${slow}: ${text(view.gauges.outbox)} deliveries wait.`,
    knob: 'Raise spec.action.webhook.maxInFlight if the endpoint can take more, else scale it.',
    bottleneck: 'action',
  };
}

function profileApiFull({ view, recent, fill }: Facts): Finding | null {
  const crowded = fill('profile_users_in_flight').ratio >= FULL;
  const queued = view.gauges.parked > fill('profile_users_in_flight').limit;
  if (fill('parked_bytes').ratio < FULL && !(crowded && queued)) return null;
  const p99 = recent.profileP99Seconds;
  const slow = p99 === null ? '' : `, p99 ${seconds(p99)}`;
  return {
    sentence: `The Profile API is too slow${slow}: ${text(view.gauges.parked)} events wait for it.`,
    knob: 'Raise spec.state.profileApi.maxConcurrent if the API can take more, else scale it.',
    bottleneck: 'profile-api',
  };
}

function storeSlow({ fill }: Facts): Finding | null {
  const ratio = Math.max(fill('owed_bytes').ratio, fill('delta_bytes').ratio);
  if (ratio < FULL) return null;
  return {
    sentence: 'Processing waits for uploads: the checkpoint store is too slow for the changes.',
    knob: 'More bandwidth to spec.checkpointing.directory, or more spec.taskManager.replicas.',
    bottleneck: 'checkpoint',
  };
}

function backendStalls({ extra }: Facts): Finding | null {
  if (extra('rocksdb_write_stopped') === 0 && extra('rocksdb_delayed_write_rate') === 0)
    return null;
  return {
    sentence: 'RocksDB holds up writes: its compactions are behind.',
    knob: 'A faster disk by spec.taskManager.localState, or more spec.taskManager.replicas.',
    bottleneck: 'state',
  };
}

function checkpointsSlow({ view, recent }: Facts): Finding | null {
  const { intervalMs } = view.plan.checkpointing;
  const took = recent.checkpointSeconds ?? 0;
  if (took * 1000 < intervalMs / 2) return null;
  const interval = seconds(intervalMs / 1000);
  return {
    sentence: `A checkpoint takes ${seconds(took)} of the ${interval} between two.`,
    knob: 'Raise spec.checkpointing.interval, or see which phase takes the time.',
    bottleneck: 'checkpoint',
  };
}

function behind(facts: Facts): Finding | null {
  const { view, recent } = facts;
  const lag = recent.lagRecords ?? 0;
  const rate = recent.eventsPerSecond ?? 0;
  if (lag < FEW_RECORDS || lag < rate * LAG_SECONDS) return null;
  const late = `${text(lag)} records are still to read`;
  const busy = recent.busyRatio ?? 0;
  const hottest = hottestOf(view);
  if (hottest !== null) {
    const { subtask, share } = hottest;
    return {
      sentence: `Of ${view.parallelism} subtasks ${subtask} does ${percent(share)}; ${late}.`,
      knob: 'See the hot keys: a user is one subtask, whatever spec.parallelism is.',
      bottleneck: 'filter',
    };
  }
  if (busy >= BUSY) return workBound(facts, late);
  if ((recent.backPressuredRatio ?? 0) >= BUSY / 2) {
    return {
      sentence: `The sources wait for the tasks after them; ${late}.`,
      knob: 'Raise spec.parallelism and spec.taskManager.replicas.',
      bottleneck: 'filter',
    };
  }
  if (view.splits.total < view.parallelism) {
    return {
      sentence: `${view.splits.total} partitions feed ${view.parallelism} subtasks; ${late}.`,
      knob: 'Give the topic more partitions: a partition is read by one subtask.',
      bottleneck: 'source',
    };
  }
  return {
    sentence: `The tasks wait for Kafka, idle ${percent(1 - busy)} of the time; ${late}.`,
    knob: 'See the brokers and the network; more partitions are read at once.',
    bottleneck: 'kafka',
  };
}

function workBound({ recent }: Facts, late: string): Finding {
  const hits = recent.cacheHitRatio ?? 1;
  if (hits < COLD) {
    return {
      sentence: `The tasks read ${percent(1 - hits)} of their users from disk; ${late}.`,
      knob: 'Raise spec.taskManager.memory.slotCache or spec.taskManager.replicas.',
      bottleneck: 'state',
    };
  }
  const busy = percent(recent.busyRatio ?? 0);
  return {
    sentence: `The tasks are busy ${busy} of the time, with filter and state; ${late}.`,
    knob: 'Raise spec.parallelism and spec.taskManager.replicas, or make the script cheaper.',
    bottleneck: 'filter',
  };
}

/** A subtask that processes far more than its part now: since when each one counts, differs. */
function hottestOf(view: JobView): { subtask: number; share: number } | null {
  const { subtasks, parallelism } = view;
  if (parallelism < 2 || subtasks.length < parallelism) return null;
  let all = 0;
  let hottest = { subtask: 0, rate: 0 };
  for (const { subtask } of subtasks) {
    const rate = view.ratesOf(subtask)?.recordsProcessed;
    if (rate === undefined) return null;
    all += rate;
    if (rate > hottest.rate) hottest = { subtask, rate };
  }
  const share = all > 0 ? hottest.rate / all : 0;
  return share * parallelism >= HOT ? { subtask: hottest.subtask, share } : null;
}

function evidenceOf({ view, recent, fill }: Facts): string[] {
  const told = (name: string, value: number | null, as: (value: number) => string) =>
    value === null ? [] : [`${name} ${as(value)}`];
  const full = ['outbox_bytes', 'parked_bytes', 'channel_buffers', 'owed_bytes', 'delta_bytes'];
  return [
    ...told('events/s', recent.eventsPerSecond, text),
    ...told('records to read', view.lag, text),
    ...told('busy', recent.busyRatio, percent),
    ...told('backpressured', recent.backPressuredRatio, percent),
    ...told('cache hits', recent.cacheHitRatio, percent),
    ...told('end-to-end p99', recent.latencyP99Seconds, seconds),
    ...told('webhook p99', recent.webhookP99Seconds, seconds),
    ...told('webhook faults', recent.webhookErrorRatio, percent),
    ...told('Profile API p99', recent.profileP99Seconds, seconds),
    ...told('Profile API faults', recent.profileErrorRatio, percent),
    ...told('last checkpoint', recent.checkpointSeconds, seconds),
    ...full.map((name) => `${name} ${percent(fill(name).ratio)} full`),
  ];
}

function meanOf(samples: readonly Sample[]): Recent {
  const mean = (name: keyof Sample): number | null => {
    const known = samples.flatMap((sample) => sample[name] ?? []);
    return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
  };
  const newest = (name: keyof Sample) => samples.at(-1)?.[name] ?? null;
  return {
    eventsPerSecond: mean('eventsPerSecond'),
    matchedPerSecond: mean('matchedPerSecond'),
    deliveredPerSecond: mean('deliveredPerSecond'),
    lagRecords: newest('lagRecords'),
    latencyP50Seconds: mean('latencyP50Seconds'),
    latencyP99Seconds: mean('latencyP99Seconds'),
    busyRatio: mean('busyRatio'),
    backPressuredRatio: mean('backPressuredRatio'),
    checkpointSeconds: newest('checkpointSeconds'),
    stateBytes: newest('stateBytes'),
    cacheHitRatio: mean('cacheHitRatio'),
    rssBytes: newest('rssBytes'),
    webhookP99Seconds: mean('webhookP99Seconds'),
    webhookErrorRatio: mean('webhookErrorRatio'),
    profileP99Seconds: mean('profileP99Seconds'),
    profileErrorRatio: mean('profileErrorRatio'),
  };
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function seconds(value: number): string {
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
}

function text(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
