/**
 * `npm run bench -- stages`: what each stage of an event's way costs, each alone and with the
 * product's own code, in one table and less than a minute: a regression names its stage.
 *
 *   --users N      of the slot (25,000: one of four that have setting a's)
 *   --chunks N     of 30,000 events each, which come again and again (6)
 *   --seconds N    of CPU per stage, after its warm-up (1.5)
 *
 * Most are each event's. A user that is dirty at a checkpoint is encoded, packed and written once,
 * whatever its events; a body is built for what fires.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type DataFrame, FrameCursor } from '../worker/src/exchange/frame.ts';
import { compileFilter } from '../worker/src/filter/compile.ts';
import { KeyRouter } from '../worker/src/source/key-router.ts';
import { fieldSetOf } from '../worker/src/state/profile-fields.ts';
import type { AppendedEvent, UserState } from '../worker/src/state/user-state.ts';
import { BodyPool } from '../worker/src/taskmanager/body-pool.ts';
import { enrichedBody } from '../worker/src/taskmanager/enriched-body.ts';
import { UserScope } from '../worker/src/taskmanager/filter-scopes.ts';
import { setHeapFlags } from '../worker/src/taskmanager/heap-flags.ts';
import { decodeUserEvent } from '../worker/src/taskmanager/user-event.ts';
import {
  appendRecords,
  CHUNK_RECORDS,
  countRecords,
  KEY_GROUPS,
  makeChunks,
  makeSenders,
  routeRecords,
  slicesOf,
} from './fetched-chunks.ts';
import { markdownTable } from './markdown.ts';
import { positiveNumber, wholeNumber } from './options.ts';
import { printStep } from './report.ts';
import { slotPlan } from './slot-plan.ts';
import { StageCosts, type StageRow, stagesTable } from './stage-costs.ts';
import { quiet, StageUsers, seal } from './stage-users.ts';

const { values } = parseArgs({
  options: {
    users: { type: 'string', default: '25000' },
    chunks: { type: 'string', default: '6' },
    seconds: { type: 'string', default: '1.5' },
  },
});
const USERS = wholeNumber('--users', values.users);
const SECONDS = positiveNumber('--seconds', values.seconds);
const CHUNKS = wholeNumber('--chunks', values.chunks);
const TOTAL = CHUNKS * CHUNK_RECORDS;
const KEY = 'user_id';
/** As a slot settles: each micro-batch. */
const BATCH = 1_000;
/** Of all events, between two checkpoints: some 14 of each user, as in setting a. */
const PASSES = 2;
/** Of what fires: a round of all of it once is too short to be measured. */
const BODY_PASSES = 5;

interface JudgedEvent extends AppendedEvent {
  userId: string;
}

const plan = slotPlan('1Gi', '4Gi');
const folder = mkdtempSync(join(tmpdir(), 'triggerjob-stages-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const chunks = makeChunks(USERS, { skip: USERS, count: CHUNKS });
const rows: StageRow[] = [];

async function stage(
  name: string,
  run: () => number,
  prepare?: () => void,
  { per = 'event', items = TOTAL, perEvent = 1 } = {},
): Promise<void> {
  const costs = new StageCosts(name, per);
  await costs.repeat(SECONDS, items, run, prepare);
  rows.push({ costs, perEvent });
}

/** From the fetched bytes to frames; all events go to one channel. */
async function sourceStages(): Promise<DataFrame[]> {
  const slices = [...slicesOf(chunks)].map(({ records }) => records);
  const router = new KeyRouter(KEY, KEY_GROUPS);
  await stage('fetch decoding', () => countRecords(chunks));
  await stage('key scan and routing', () => routeRecords(router, slices));
  const fill = (keep: DataFrame[] | null) => {
    const sender = makeSenders(keep)[0]!;
    const appended = appendRecords(sender, slices);
    sender.flush();
    return appended;
  };
  await stage('frame building', () => fill(null));
  const frames: DataFrame[] = [];
  fill(frames);
  return frames;
}

function decoded(frames: readonly DataFrame[], keep: JudgedEvent[] | null): number {
  let events = 0;
  for (const frame of frames) {
    const cursor = new FrameCursor(frame);
    while (cursor.next()) {
      const { bytes: source, view, start, end, time, timestamp } = cursor;
      const event = decodeUserEvent(source, start, end, KEY, plan.source.maxRecordBytes);
      if ('poison' in event) throw new Error(event.poison);
      events++;
      keep?.push({ ...event, source, view, start, end, time, timestamp });
    }
  }
  return events;
}

/** Those of the state task whose users do not change by them. */
async function readingStages(users: StageUsers, frames: readonly DataFrame[]): Promise<void> {
  const { manager } = users;
  await stage('frame reading, JSON decode', () => decoded(frames, null));
  let events: JudgedEvent[] = [];
  const lookUp = () => {
    let found = 0;
    for (const { userId } of events) if (manager.cached(userId) !== undefined) found++;
    return found;
  };
  // Texts of their own each time, as an event's is: a text that was looked up knows its hash.
  await stage('user lookup', lookUp, () => {
    events = [];
    decoded(frames, events);
  });
  const states = events.map(({ userId }) => manager.cached(userId)!);
  const filter = compileFilter(plan.filter);
  const scope = new UserScope(manager.stored);
  scope.fields = fieldSetOf(filter.userFields!);
  const fires = (i: number) => {
    scope.event = events[i]!.parsed;
    scope.state = states[i]!;
    return filter.evaluate(scope).match;
  };
  const matched = [...events.keys()].filter(fires);
  const judge = () => {
    let fired = 0;
    for (let i = 0; i < events.length; i++) if (fires(i)) fired++;
    if (fired !== matched.length) throw new Error(`${fired} fire, ${matched.length} before`);
    return events.length;
  };
  await stage('filter', judge);
  await bodyStage(
    users,
    matched.map((i) => [states[i]!, events[i]!]),
  );
}

async function bodyStage(
  { manager }: StageUsers,
  matches: readonly [UserState, JudgedEvent][],
): Promise<void> {
  const pool = new BodyPool();
  const take = (bytes: number) => pool.take(bytes);
  const build = () => {
    let built = 0;
    for (let pass = 0; pass < BODY_PASSES; pass++) {
      for (const [user, event] of matches) {
        const body = enrichedBody(user, event, manager.stored, take);
        if (body.at(-1) === END_OF_BODY) built++;
        pool.give(body);
      }
    }
    return built;
  };
  const items = matches.length * BODY_PASSES;
  const perEvent = matches.length / TOTAL;
  await stage('body building', build, undefined, { per: 'match', items, perEvent });
}

const END_OF_BODY = '}'.charCodeAt(0);

/** Whole intervals: events, then what a checkpoint takes of their users; then RocksDB alone. */
async function writingStages(users: StageUsers, frames: readonly DataFrame[]): Promise<void> {
  const { manager, rocksDb } = users;
  const append = new StageCosts('append to history', 'event');
  const encode = new StageCosts('encode dirty rows, add to delta', 'dirty user');
  const pack = new StageCosts('pack and seal a delta run', 'dirty user');
  const events: JudgedEvent[] = [];
  decoded(frames, events);
  const states = events.map(({ userId }) => manager.cached(userId)!);
  let dirty = 0;
  while (![append, encode, pack].every((costs) => costs.isDone(SECONDS))) {
    await append.time(TOTAL * PASSES, () => appendAll(users, states, events));
    dirty = manager.stats.dirty;
    await encode.time(dirty, () => users.freeze());
    const delta = users.closedDelta();
    await pack.time(dirty, async () => Math.min(dirty, await seal(delta)));
  }
  const perEvent = dirty / (TOTAL * PASSES);
  const write = new StageCosts('RocksDB write, its threads included', 'dirty user');
  const writes = users.writesOf(() => {
    appendAll(users, states, events);
    users.freeze();
  });
  await write.repeat(SECONDS, dirty, async () => {
    for (const ops of writes) rocksDb.write(ops);
    await quiet();
    return dirty;
  });
  rows.push({ costs: append, perEvent: 1 });
  for (const costs of [encode, pack, write]) rows.push({ costs, perEvent });
}

function appendAll(
  { manager }: StageUsers,
  states: readonly UserState[],
  events: readonly JudgedEvent[],
): number {
  let appended = 0;
  for (let pass = 0; pass < PASSES; pass++) {
    for (let i = 0; i < events.length; i++) {
      manager.append(states[i]!, events[i]!);
      if (++appended % BATCH === 0) manager.settle();
    }
  }
  return appended;
}

// As a slot's thread has them.
setHeapFlags();
const frames = await sourceStages();
const users = await StageUsers.open(USERS, folder, plan);
printStep(`${TOTAL} events of ${USERS} users, all cached`);
await readingStages(users, frames);
await writingStages(users, frames);
await users.rocksDb.close();
console.log(markdownTable(stagesTable(rows)));
process.exit(0);
