/**
 * One run in which each post's latency is taken: the topic's first events fill the state, then the
 * stream comes evenly, checkpoints on, into a webhook's receiver of its own process.
 *
 * From the broker's append to the receiver's 204. The topic has LogAppendTime: the broker stamps a
 * batch when it appends it, and the post bears that as `ce-time`. The producer's CreateTime would
 * count the producer's own wait for the broker, too, which is not the engine's; the send's answer
 * would come after the engine may have had the record. Broker, engine and receiver share one clock.
 * It is cut to whole milliseconds: what is printed is up to 1 ms too much, never too little.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { EngineRun } from './engine.ts';
import { lookUntil, reach, untilRight } from './engine-waits.ts';
import { FiredLog } from './fired-log.ts';
import type { LatencyWindow, Post } from './latency-figures.ts';
import { PacedStream } from './paced-stream.ts';
import { dropTopic, type LoadedTopic, loadTopic, type Place } from './place.ts';
import { cpuSeconds, machineBusySeconds } from './process-figures.ts';
import type { Span } from './rate-bins.ts';
import type { Setting } from './settings.ts';
import { FIRED_FOLDER, triggerjobEngine } from './triggerjob-engine.ts';

const APPEND_TIME = { 'message.timestamp.type': 'LogAppendTime' };
/** Kafka's producer gathers as long before it sends (`linger.ms` of 4.x). */
const TICK_MS = 5;
/**
 * After the first checkpoint of the stream, until what came of the fill is over: compactions, bases
 * of all users, code that is compiled while it runs. Meanwhile an event takes a third more CPU.
 */
const SETTLE_MS = 30_000;

export interface LatencyOptions {
  setting: Setting;
  eventsPerSecond: number;
  seconds: number;
  checkpointIntervalMs: number;
}

/** Throws if the results are wrong. */
export async function measureLatency(
  place: Place,
  options: LatencyOptions,
): Promise<LatencyWindow> {
  const { setting, checkpointIntervalMs } = options;
  const { broker, service } = place;
  const { bootstrap } = broker;
  const folder = mkdtempSync(join(place.folder, 'run-'));
  const topic = await loadTopic(place, setting, 0, APPEND_TIME);
  const launch = { setting, bootstrap, topic: topic.name, service, folder, checkpointIntervalMs };
  const run = await triggerjobEngine.start(launch);
  try {
    const others = [broker.pid!, service.pid, process.pid];
    return await measure(run, topic, { ...options, folder, others });
  } finally {
    await run.end();
    await dropTopic(place, topic);
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Measuring extends LatencyOptions {
  folder: string;
  others: readonly number[];
}

async function measure(
  run: EngineRun,
  { loader }: LoadedTopic,
  { setting, eventsPerSecond, seconds, folder, others }: Measuring,
): Promise<LatencyWindow> {
  await reach(run, setting.users);
  const since = Date.now();
  // As the setting draws its users, in place of the stream's own way of taking them in turn.
  const drawn = { write: (_: number, __: number, ___: number, due: number) => loader.load(due) };
  const pace = { eventsPerSecond, intervalMs: 1_000, touched: setting.users, tickMs: TICK_MS };
  const stream = new PacedStream(drawn, pace);
  try {
    await lookUntil('a checkpoint of the stream', async () => {
      const all = await run.checkpoints();
      return all.find(({ triggeredAt }) => triggeredAt > since) ?? null;
    });
    await wait(SETTLE_MS);
    const first = await reach(run, 0);
    const used = sumOfCpu(others);
    const [from, written, busy] = [Date.now(), stream.written, machineBusySeconds()];
    await wait(seconds * 1_000);
    const [to, events] = [Date.now(), stream.written - written];
    const busySeconds = machineBusySeconds() - busy;
    const benchSeconds = sumOfCpu(others) - used;
    const last = await reach(run, 0);
    await stream.stop();
    const wrong = await untilRight(run, loader);
    if (wrong !== null) throw new Error(wrong);
    const posts = postsIn(folder, { from, to });
    const ours = last.cpuSeconds - first.cpuSeconds;
    const checkpoints = await run.checkpoints();
    const window = { from, to };
    return { posts, window, events, checkpoints, cpuSeconds: ours, benchSeconds, busySeconds };
  } finally {
    await stream.stop();
  }
}

function sumOfCpu(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
}

/** By their append: by their answer, those that are very late would be left out. */
function postsIn(folder: string, { from, to }: Span): Post[] {
  const posts: Post[] = [];
  new FiredLog(join(folder, FIRED_FOLDER)).read(({ at, timestamp, id }) => {
    if (timestamp < from || timestamp >= to) return;
    posts.push({ appendedAt: timestamp, answeredAt: at, eventId: id });
  });
  return posts;
}
