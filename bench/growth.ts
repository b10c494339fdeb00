/**
 * `npm run bench -- growth`: events per CPU-second of setting a while something grows that an event
 * is not about: first the number of cached users, then the size of a user's history, with a script
 * that does not read it.
 *
 *   --part users,history        one of the two
 *   --users N,N,N               sizes of the first part (1000,10000,100000)
 *   --events N                  of each of its runs (3,000,000: some checkpoints)
 *   --history-users N           of the second part (1,000: 1.3 GB in the largest)
 *   --history-events N          of each of its runs (3,000,000)
 *   --event-bytes N,N,N         of each of a user's 100 past events (130,1300,13000)
 *   --runs N                    rounds of all sizes; medians (1)
 *   --interval-ms N             of the checkpoints (10000)
 *
 * In the second part no event is dropped from a history: the events of the stream would soon have
 * taken the place of the large ones. And nothing fires after each user's first event: the body of a
 * match holds the whole history and has to cost what that is long.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Expected } from './dataset.ts';
import { measureRun } from './engine-run.ts';
import { growthFigures, type Size } from './growth-figures.ts';
import { wholeNumber, wholeNumbers } from './options.ts';
import { dropTopic, loadTopic, type Place, withPlace } from './place.ts';
import { printFigures, printStep } from './report.ts';
import { type Setting, settingOf } from './settings.ts';
import { triggerjobEngine } from './triggerjob-engine.ts';

/** Of the dataset. */
const EVENT_BYTES = 130;
/** The most that a job file may say. */
const KEEP_ALL = 100_000;
/** Looks at the profile for each event, as setting a. */
const FIRST_ONLY = "user.country == 'US' && event.triggerable && event.seq == 0";

const { values } = parseArgs({
  options: {
    part: { type: 'string', default: 'users,history' },
    users: { type: 'string', default: '1000,10000,100000' },
    events: { type: 'string', default: '3000000' },
    'history-users': { type: 'string', default: '1000' },
    'history-events': { type: 'string', default: '3000000' },
    'event-bytes': { type: 'string', default: '130,1300,13000' },
    runs: { type: 'string', default: '1' },
    'interval-ms': { type: 'string', default: '10000' },
  },
});

interface Case {
  name: string;
  setting: Setting;
  /** All that fires has fired with each user's first event. */
  firstOnly: boolean;
}

function usersCases(): Case[] {
  const events = wholeNumber('--events', values.events);
  return wholeNumbers('--users', values.users).map((users) => {
    const name = `${users.toLocaleString('en-US')} users`;
    return { name, setting: { ...settingOf('a'), users, events }, firstOnly: false };
  });
}

function historyCases(): Case[] {
  const users = wholeNumber('--history-users', values['history-users']);
  const events = wholeNumber('--history-events', values['history-events']);
  return wholeNumbers('--event-bytes', values['event-bytes']).map((bytes) => {
    const paddingBytes = Math.max(0, bytes - EVENT_BYTES);
    const setting: Setting = {
      ...settingOf('a'),
      users,
      events,
      script: FIRST_ONLY,
      heavy: { every: 1, paddingBytes, varied: true },
      historyMaxEvents: KEEP_ALL,
    };
    return { name: `100 past events of ${bytes} bytes`, setting, firstOnly: true };
  });
}

async function measure(place: Place, { name, setting, firstOnly }: Case): Promise<number> {
  const { bootstrap } = place.broker;
  const folder = mkdtempSync(join(place.folder, 'run-'));
  const topic = await loadTopic(place, setting, 0);
  const { loader } = topic;
  const { fired, firedSum } = loader.expected;
  await loader.load(setting.events);
  const all = loader.expected;
  const expected: Expected = firstOnly ? { ...all, fired, firedSum } : all;
  const checkpointIntervalMs = wholeNumber('--interval-ms', values['interval-ms']);
  const { service } = place;
  const launch = { setting, bootstrap, topic: topic.name, service, folder, checkpointIntervalMs };
  const written = { expected, write: () => Promise.reject(new Error('all is in the topic')) };
  const figures = await measureRun(triggerjobEngine, launch, written);
  await dropTopic(place, topic);
  rmSync(folder, { recursive: true, force: true });
  const { wrong, eventsPerSecond, eventsPerCpuSecond, checkpoints, rssMebibytes } = figures;
  if (wrong !== null) throw new Error(`${name}: ${wrong}`);
  printStep(
    `${name}: ${Math.round(eventsPerCpuSecond)} events/CPU-s, ${Math.round(eventsPerSecond)} ` +
      `events/s, ${checkpoints} checkpoints, RSS ${Math.round(rssMebibytes)} MiB, results right`,
  );
  return eventsPerCpuSecond;
}

/** In turn, so that the machine's moods meet all sizes. */
async function measureAll(place: Place, cases: readonly Case[]): Promise<Size[]> {
  const sizes = cases.map(({ name }): Size => ({ name, eventsPerCpuSecond: [] }));
  for (let round = 0; round < wholeNumber('--runs', values.runs); round++) {
    for (const [i, one] of cases.entries()) {
      sizes[i]!.eventsPerCpuSecond.push(await measure(place, one));
    }
  }
  return sizes;
}

const PARTS: Readonly<Record<string, () => Case[]>> = { users: usersCases, history: historyCases };

async function main(): Promise<void> {
  const parts = values.part.split(',');
  const unknown = parts.find((part) => PARTS[part] === undefined);
  if (unknown !== undefined) throw new Error(`--part has "${unknown}": write users or history`);
  await withPlace(async (place) => {
    for (const part of parts) {
      // At once: what was measured is not lost with a later part.
      printFigures(growthFigures(part, await measureAll(place, PARTS[part]!())));
    }
  });
}

// What was started ends on 'exit', which a signal alone does not cause.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
await main();
process.exit(0);
