/**
 * `npm run bench -- heavy-latency`: how much users of 16 MB raise the latency of the others. The
 * users of setting e twice, once without its heavy ones and once with them, at a steady rate; each
 * heavy user has the events of any other one, and what fires of them is posted, 16 MB each.
 *
 *   --users N --heavy-every N   each so-many-th user is heavy (10,000 and 1,000: 10 of them)
 *   --rate N                    events per second (2,000)
 *   --seconds N                 of each measured window (30)
 *   --runs N                    rounds of both; medians (1)
 *   --interval-ms N             of the checkpoints (10000)
 */
import { parseArgs } from 'node:util';
import { EventStream } from './dataset.ts';
import { type HeavyRun, heavyFigures, p99 } from './latency-figures.ts';
import { measureLatency } from './latency-run.ts';
import { wholeNumber } from './options.ts';
import { type Place, withPlace } from './place.ts';
import { printFigures, printStep } from './report.ts';
import { type Setting, settingOf } from './settings.ts';

const { values } = parseArgs({
  options: {
    users: { type: 'string' },
    'heavy-every': { type: 'string' },
    rate: { type: 'string', default: '2000' },
    seconds: { type: 'string', default: '30' },
    runs: { type: 'string', default: '1' },
    'interval-ms': { type: 'string', default: '10000' },
  },
});

function settings(): { without: Setting; among: Setting; every: number } {
  const own = settingOf('e');
  const users = wholeNumber('--users', values.users ?? own.users);
  const every = wholeNumber('--heavy-every', values['heavy-every'] ?? own.heavy!.every);
  const without: Setting = { ...own, users, webhook: true, heavy: null };
  return { without, among: { ...without, heavy: { ...own.heavy!, every } }, every };
}

async function measure(place: Place, setting: Setting, every: number): Promise<HeavyRun> {
  const options = {
    setting,
    eventsPerSecond: wholeNumber('--rate', values.rate),
    seconds: wholeNumber('--seconds', values.seconds),
    checkpointIntervalMs: wholeNumber('--interval-ms', values['interval-ms']),
  };
  const { posts } = await measureLatency(place, options);
  const stream = new EventStream(setting.users);
  // Without heavy ones the same users are left out, so that both have the same others.
  const isHeavy = (eventId: number) => stream.userOf(eventId) % every === 0;
  const heavy = posts.filter(({ eventId }) => isHeavy(eventId)).length;
  const kind = setting.heavy === null ? 'without heavy users' : `${heavy} posts of heavy users`;
  printStep(`${kind}: p99 of all ${p99(posts).toFixed(1)} ms`);
  return { posts, isHeavy };
}

async function main(): Promise<void> {
  const { without, among, every } = settings();
  const rounds = wholeNumber('--runs', values.runs);
  const found: { without: HeavyRun[]; among: HeavyRun[] } = { without: [], among: [] };
  await withPlace(async (place) => {
    for (let round = 0; round < rounds; round++) {
      found.without.push(await measure(place, without, every));
      found.among.push(await measure(place, among, every));
    }
  });
  printFigures(heavyFigures(found.without, found.among));
}

// What was started ends on 'exit', which a signal alone does not cause.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
await main();
process.exit(0);
