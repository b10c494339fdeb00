/**
 * `npm run bench -- latency`: from Kafka's append to the webhook's 2xx, at half of the highest rate
 * of setting h, which is found first. latency-run.ts says how the moments are taken.
 *
 *   --users N --events N   of setting h, in the search for its highest rate
 *   --rate N               events per second, in place of half of that
 *   --seconds N            of the measured window (30)
 *   --interval-ms N        of the checkpoints (10000)
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureRun } from './engine-run.ts';
import { latencyFigures } from './latency-figures.ts';
import { measureLatency } from './latency-run.ts';
import { wholeNumber } from './options.ts';
import { dropTopic, loadTopic, type Place, withPlace } from './place.ts';
import { printFigures, printStep } from './report.ts';
import { type Setting, settingOf } from './settings.ts';
import { triggerjobEngine } from './triggerjob-engine.ts';

const SHARE = 0.5;

const { values } = parseArgs({
  options: {
    users: { type: 'string' },
    events: { type: 'string' },
    rate: { type: 'string' },
    seconds: { type: 'string', default: '30' },
    'interval-ms': { type: 'string', default: '10000' },
  },
});

/** All of its events lie in the topic before: the engine takes them as fast as it can. */
async function highestRate(
  place: Place,
  setting: Setting,
  checkpointIntervalMs: number,
): Promise<number> {
  const folder = mkdtempSync(join(place.folder, 'run-'));
  const { service } = place;
  const { bootstrap } = place.broker;
  const topic = await loadTopic(place, setting, setting.events);
  const launch = { setting, bootstrap, topic: topic.name, service, folder, checkpointIntervalMs };
  const { wrong, eventsPerSecond } = await measureRun(triggerjobEngine, launch, topic.loader);
  await dropTopic(place, topic);
  rmSync(folder, { recursive: true, force: true });
  if (wrong !== null) throw new Error(wrong);
  return eventsPerSecond;
}

async function main(): Promise<void> {
  const own = settingOf('h');
  const users = wholeNumber('--users', values.users ?? own.users);
  const events = wholeNumber('--events', values.events ?? own.events);
  const seconds = wholeNumber('--seconds', values.seconds);
  const checkpointIntervalMs = wholeNumber('--interval-ms', values['interval-ms']);
  const given = values.rate === undefined ? null : wholeNumber('--rate', values.rate);
  const setting = { ...own, users, events };
  await withPlace(async (place) => {
    let eventsPerSecond = given;
    if (eventsPerSecond === null) {
      const highest = await highestRate(place, setting, checkpointIntervalMs);
      printStep(`highest rate of h: ${Math.round(highest)} events/s`);
      eventsPerSecond = Math.round(highest * SHARE);
    }
    const options = { setting, eventsPerSecond, seconds, checkpointIntervalMs };
    printFigures(latencyFigures(await measureLatency(place, options), eventsPerSecond));
  });
}

// What was started ends on 'exit', which a signal alone does not cause.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
await main();
process.exit(0);
