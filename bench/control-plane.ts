/**
 * `npm run bench -- control-plane [--task-managers 50] [--slots 4] [--seconds 30] [--interval 2]
 * [--max-parallelism 4096] [--splits 1000] [--deltas 24] [--profile FILE]`: one real JobManager
 * with a fleet of simulated TaskManagers in a second process. Every message goes over a loopback
 * socket; tasks acknowledge at once, so what is measured is the coordination.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type {
  CheckpointMoments,
  FleetMessage,
  FleetSettings,
  JobMessage,
  JobSettings,
} from './control-plane-messages.ts';
import { cpuSeconds, peakRssBytes } from './process-figures.ts';
import { type Figure, printFigures, printStep } from './report.ts';

const HEARTBEAT_MS = 1_000;
const GOAL_MS = 200;
/** Ten times what it takes to come up. */
const START_LIMIT_MS = 60_000;
const MEBIBYTE = 1024 ** 2;
/** Prometheus and an open UI. */
const SCRAPE_MS = 2_000;

type Acked = FleetMessage & { type: 'acked' };

interface Observed {
  checkpoints: CheckpointMoments[];
  acked: Map<number, Acked>;
}

function start(path: string, settings: object): ChildProcess {
  const child = fork(new URL(path, import.meta.url), [JSON.stringify(settings)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  process.once('exit', () => child.kill('SIGKILL'));
  child.once('exit', (code) => {
    if (code === 0) return;
    console.error(`${path} ended with ${code}`);
    process.exit(1);
  });
  return child;
}

async function answer<Message extends { type: string }, Type extends Message['type']>(
  child: ChildProcess,
  type: Type,
): Promise<Message & { type: Type }> {
  for (;;) {
    const signal = AbortSignal.timeout(START_LIMIT_MS);
    const [message] = (await once(child, 'message', { signal })) as [Message];
    if (message.type === type) return message as Message & { type: Type };
  }
}

async function counts(fleet: ChildProcess): Promise<FleetMessage & { type: 'counts' }> {
  const told = answer<FleetMessage, 'counts'>(fleet, 'counts');
  fleet.send('counts');
  return await told;
}

function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

function checkpointFigures({ checkpoints, acked }: Observed): Figure[] {
  const of = (part: (moments: CheckpointMoments, tasks: Acked) => number): number[] =>
    checkpoints.flatMap((moments) => {
      const tasks = acked.get(moments.checkpointId);
      return tasks === undefined ? [] : [part(moments, tasks)];
    });
  const total = of((m) => m.logged - m.triggered);
  const parts: [string, number[]][] = [
    ['triggers sent', of((m) => m.sent - m.triggered)],
    ['until the last ack is sent', of((m, tasks) => tasks.lastAckAt - m.sent)],
    ['until the last ack is decoded', of((m, tasks) => m.acked - tasks.lastAckAt)],
    ['manifest made, checked, encoded', of((m) => m.encoded - m.acked)],
    ['manifest stored', of((m) => m.stored - m.encoded)],
    ['log record', of((m) => m.logged - m.stored)],
  ];
  const goal = { atMost: GOAL_MS };
  return [
    { name: 'checkpoints', value: checkpoints.length, unit: '' },
    { name: 'trigger to published, p50', value: percentile(total, 0.5), unit: 'ms', goal },
    { name: 'trigger to published, max', value: percentile(total, 1), unit: 'ms', goal },
    ...parts.map(([name, values]) => ({
      name: `  ${name}, p50`,
      value: percentile(values, 0.5),
      unit: 'ms',
    })),
    {
      name: 'manifest',
      value:
        percentile(
          of((m) => m.manifestBytes),
          1,
        ) / MEBIBYTE,
      unit: 'MiB',
    },
  ];
}

async function scrape(restPort: number, signal: AbortSignal): Promise<number[]> {
  const times: number[] = [];
  while (!signal.aborted) {
    const startedAt = performance.now();
    for (const path of ['/metrics', '/api/v1/details']) {
      await (await fetch(`http://127.0.0.1:${restPort}${path}`)).text();
    }
    times.push(performance.now() - startedAt);
    await wait(SCRAPE_MS);
  }
  return times;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      'task-managers': { type: 'string', default: '50' },
      slots: { type: 'string', default: '4' },
      seconds: { type: 'string', default: '30' },
      interval: { type: 'string', default: '2' },
      'max-parallelism': { type: 'string', default: '4096' },
      splits: { type: 'string', default: '1000' },
      deltas: { type: 'string', default: '24' },
      profile: { type: 'string' },
    },
  });
  const folder = mkdtempSync(join(tmpdir(), 'triggerjob-control-plane-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const taskManagers = Number(values['task-managers']);
  const slots = Number(values.slots);
  const seconds = Number(values.seconds);
  const job = start('./control-plane-job.ts', {
    folder,
    parallelism: taskManagers * slots,
    maxParallelism: Number(values['max-parallelism']),
    slots,
    splits: Number(values.splits),
    intervalMs: Number(values.interval) * 1_000,
    profile: values.profile ?? null,
  } satisfies JobSettings);
  const { rpcPort, restPort } = await answer<JobMessage, 'listens'>(job, 'listens');
  const fleet = start('./control-plane-fleet.ts', {
    rpcPort,
    folder,
    taskManagers,
    slots,
    deltas: Number(values.deltas),
    heartbeatMs: HEARTBEAT_MS,
  } satisfies FleetSettings);
  // The first checkpoints fill the chains and warm the code up.
  for (let warm = 0; warm < 3; warm++) await answer<JobMessage, 'checkpoint'>(job, 'checkpoint');
  printStep(`${taskManagers} TaskManagers x ${slots} slots run; measuring ${seconds} s`);
  printFigures(await measured({ job, fleet, restPort, seconds }));
}

async function measured(run: {
  job: ChildProcess;
  fleet: ChildProcess;
  restPort: number;
  seconds: number;
}): Promise<Figure[]> {
  const { job, fleet, restPort, seconds } = run;
  const pid = job.pid!;
  const observed: Observed = { checkpoints: [], acked: new Map() };
  const before = await counts(fleet);
  const cpuBefore = cpuSeconds(pid);
  job.on('message', (message: JobMessage) => {
    if (message.type === 'checkpoint') observed.checkpoints.push(message.moments);
  });
  fleet.on('message', (message: FleetMessage) => {
    if (message.type === 'acked') observed.acked.set(message.checkpointId, message);
  });
  job.send('measure');
  const stop = new AbortController();
  const scrapes = scrape(restPort, stop.signal);
  await wait(seconds * 1_000);
  const cpu = cpuSeconds(pid) - cpuBefore;
  stop.abort();
  const after = await counts(fleet);
  const times = await scrapes;
  const ended = answer<JobMessage, 'end'>(job, 'end');
  const rss = peakRssBytes(pid);
  fleet.removeAllListeners('exit');
  job.removeAllListeners('exit');
  // First, and by itself: it takes the end of its JobManager for a fault.
  fleet.kill('SIGKILL');
  job.send('end');
  const { loopDelayP99Ms, loopDelayMaxMs } = await ended;
  await once(job, 'exit');
  const messages = after.sent - before.sent + after.received - before.received;
  return [
    { name: 'messages', value: messages / seconds, unit: '/s' },
    { name: 'an acknowledgement', value: after.ackBytes / 1024, unit: 'KiB' },
    { name: 'a heartbeat', value: after.heartbeatBytes / 1024, unit: 'KiB' },
    { name: 'CPU of the JobManager', value: (100 * cpu) / seconds, unit: '% of a core' },
    { name: 'peak RSS of the JobManager', value: rss / MEBIBYTE, unit: 'MiB' },
    { name: 'event loop held up, p99', value: loopDelayP99Ms, unit: 'ms' },
    { name: 'event loop held up, max', value: loopDelayMaxMs, unit: 'ms' },
    { name: '/metrics and /api/v1/details, p50', value: percentile(times, 0.5), unit: 'ms' },
    ...checkpointFigures(observed),
  ];
}

await main();
process.exit(0);
