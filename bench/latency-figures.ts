/** From the moments of posts to what is printed of their latency. Pure. */
import type { Checkpoint } from './engine.ts';
import { quantile } from './quantile.ts';
import type { Span } from './rate-bins.ts';
import type { Figure } from './report.ts';

/** One event that the webhook got; both moments in ms since the epoch. */
export interface Post {
  appendedAt: number;
  answeredAt: number;
  eventId: number;
}

const P99_GOAL_MS = 50;
const HEAVY_GOAL = 2;
/** Fewer have no p99. */
const LEAST_POSTS = 100;

function latencies(posts: readonly Post[]): number[] {
  return posts.map(({ appendedAt, answeredAt }) => answeredAt - appendedAt);
}

/** NaN of fewer posts than a hundred. */
export function p99(posts: readonly Post[]): number {
  return posts.length < LEAST_POSTS ? Number.NaN : quantile(latencies(posts), 0.99);
}

/** Those that were on their way while a checkpoint was, and those that were not. */
export function byCheckpoint(
  posts: readonly Post[],
  checkpoints: readonly Checkpoint[],
): { during: Post[]; calm: Post[] } {
  const isDuring = ({ appendedAt, answeredAt }: Post) =>
    checkpoints.some(({ triggeredAt, durationMs }) => {
      return appendedAt < triggeredAt + durationMs && answeredAt > triggeredAt;
    });
  return {
    during: posts.filter(isDuring),
    calm: posts.filter((post) => !isDuring(post)),
  };
}

function ms(name: string, value: number): Figure {
  return { name, value, unit: 'ms' };
}

export interface LatencyWindow {
  /** Of the events that were appended in the window. */
  posts: readonly Post[];
  window: Span;
  /** That the stream had in the window. */
  events: number;
  checkpoints: readonly Checkpoint[];
  /** User + system of JobManager and TaskManager. */
  cpuSeconds: number;
  /** Of broker, receiver and the process that makes the stream. */
  benchSeconds: number;
  /** Of the machine, everything. */
  busySeconds: number;
}

/** `wanted`: events per second that the stream was to have. */
export function latencyFigures(measured: LatencyWindow, wanted: number): Figure[] {
  const { posts, window, events, checkpoints } = measured;
  const { cpuSeconds, benchSeconds, busySeconds } = measured;
  const allElse = busySeconds - cpuSeconds - benchSeconds;
  const seconds = (window.to - window.from) / 1_000;
  const all = latencies(posts);
  const { during, calm } = byCheckpoint(posts, checkpoints);
  const within = checkpoints.filter(({ triggeredAt: from, durationMs }) => {
    return from < window.to && from + durationMs > window.from;
  });
  return [
    { ...ms('latency p99', p99(posts)), goal: { atMost: P99_GOAL_MS } },
    ms('latency p50', quantile(all, 0.5)),
    ms('latency p95', quantile(all, 0.95)),
    ms('latency max', quantile(all, 1)),
    ms('p99 while a checkpoint was under way', p99(during)),
    ms('p99 while none was', p99(calm)),
    { name: 'posts', value: posts.length, unit: '' },
    { name: '  of them while a checkpoint was under way', value: during.length, unit: '' },
    { name: 'checkpoints', value: within.length, unit: '' },
    { name: 'window', value: seconds, unit: 's' },
    { name: 'events', value: events / seconds, unit: 'events/s' },
    { name: '  wanted', value: wanted, unit: 'events/s' },
    { name: 'CPU of JobManager and TaskManager', value: cpuSeconds / seconds, unit: 'cores' },
    { name: 'CPU of broker, stream, receiver', value: benchSeconds / seconds, unit: 'cores' },
    { name: 'CPU of all else', value: allElse / seconds, unit: 'cores' },
  ];
}

export interface HeavyRun {
  posts: readonly Post[];
  isHeavy: (eventId: number) => boolean;
}

/** What heavy users cost the others: medians over the rounds of each kind. */
export function heavyFigures(without: readonly HeavyRun[], among: readonly HeavyRun[]): Figure[] {
  const others = ({ posts, isHeavy }: HeavyRun) => posts.filter(({ eventId }) => !isHeavy(eventId));
  const heavy = among.flatMap(({ posts, isHeavy }) =>
    posts.filter(({ eventId }) => isHeavy(eventId)),
  );
  const [alone, beside] = [without, among].map((runs) =>
    quantile(
      runs.map((run) => p99(others(run))),
      0.5,
    ),
  ) as [number, number];
  const [before, after] = [without, among].map((runs) => runs.flatMap(others)) as [Post[], Post[]];
  const ratio = {
    name: "others' p99 with 16 MB users / without",
    value: beside / alone,
    unit: 'x',
  };
  return [
    { ...ratio, goal: { atMost: HEAVY_GOAL } },
    ms('p99 of the others, without 16 MB users', alone),
    ms('p99 of the others, among 16 MB users', beside),
    ms('max, without', quantile(latencies(before), 1)),
    ms('max, among', quantile(latencies(after), 1)),
    { name: 'posts of the others, without', value: before.length, unit: '' },
    { name: 'posts of the others, among', value: after.length, unit: '' },
    { name: 'posts of 16 MB users', value: heavy.length, unit: '' },
    ms('  their median latency', quantile(latencies(heavy), 0.5)),
  ];
}
