/**
 * What a job in the lab meets outside of it: Kafka, S3, the Profile API, the webhook's receiver;
 * with the producer and the outside checker (exactly-once/). Runs as a process of its own in the
 * lab's network, on the node's address, and is led over stdin and stdout: one JSON object a line,
 * each command answered by one line.
 *
 *   node lab-services.ts HOST
 *   {"do":"start", ...Shape}  -> {"bootstrap", "s3", "profileUrl", "webhookUrl"}
 *   {"do":"produce"}          -> {} at once; events flow until the schedule is over, or
 *   {"do":"stop"}             -> {} when the last one is acknowledged
 *   {"do":"progress"}         -> Progress
 *   {"do":"drain"}            -> {} when all events are in a checkpoint
 *   {"do":"judge"}            -> Judgement, when all events are in a checkpoint, or with what
 * failed
 *   {"do":"end"}              -> {} and the process ends
 */
import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { CheckpointWatch } from '../exactly-once/checkpoint-watch.ts';
import { schedule } from '../exactly-once/event-model.ts';
import type { Matcher } from '../exactly-once/fold.ts';
import {
  type Acked,
  type CheckpointFact,
  type History,
  type Kill,
  saveHistory,
} from '../exactly-once/history.ts';
import { dumpState } from '../exactly-once/pipeline.ts';
import { PacedProducer } from '../exactly-once/producer.ts';
import { ProfileServer, profileModel } from '../exactly-once/profile-model.ts';
import { Receiver } from '../exactly-once/receiver.ts';
import { violationLines } from '../exactly-once/report.ts';
import { judge } from '../exactly-once/verdict.ts';
import { type KafkaBroker, startKafka } from '../testbed/kafka.ts';
import { type S3Server, startS3 } from '../testbed/s3.ts';

/** Scripts of the job under test, and what they mean; written by hand, not by the product. */
const MATCHERS = {
  'event.triggerable && user.country == "US"': (event, user) =>
    event['triggerable'] === true && (user as { country?: unknown })['country'] === 'US',
  'event.triggerable': (event) => event['triggerable'] === true,
} satisfies Record<string, Matcher>;

export type Script = keyof typeof MATCHERS;

export interface Shape {
  /** The job's first script, and the ones it was changed to. */
  scripts: Script[];
  seed: number;
  topic: string;
  users: number;
  eventsPerUser: number;
  durationMs: number;
  arrivalShare?: number;
}

export interface Addresses {
  bootstrap: string;
  s3: { endpoint: string; accessKey: string; secretKey: string };
  profileUrl: string;
  webhookUrl: string;
}

export interface Progress {
  acked: number;
  receipts: number;
  checkpoints: number;
  /** Users of whom an event was acknowledged. */
  users: number;
  /** Events that waited for the Profile API at the newest checkpoint; null = there is none. */
  parked: number | null;
}

export interface Judgement {
  events: number;
  matching: number;
  receipts: number;
  checkpoints: number;
  repeats: Record<string, number>;
  violations: string[];
  /** What kept the run from being judged whole. */
  trouble: string[];
  file: string;
}

const BUCKETS: [string, ...string[]] = ['flink-checkpoints', 'flink-savepoints'];
const PARTITIONS = 4;
const HISTORY_LIMIT = 100;
const ERROR_SHARE = 0.02;
const DRAIN_LIMIT_MS = 120_000;

interface Services {
  shape: Shape;
  folder: string;
  broker: KafkaBroker;
  s3: S3Server;
  profiles: ProfileServer;
  receiver: Receiver;
  producer: PacedProducer;
  watch: CheckpointWatch;
  producing: Promise<void>;
  readonly enough: AbortController;
}

async function start(host: string, shape: Shape): Promise<Services> {
  const folder = join(tmpdir(), `triggerjob-lab-services-${process.pid}`);
  await mkdir(folder, { recursive: true });
  const [broker, s3] = await Promise.all([startKafka({ host }), startS3(host, BUCKETS)]);
  await broker.createTopic(shape.topic, PARTITIONS);
  const { seed } = shape;
  const profiles = new ProfileServer(profileModel(seed), seed, ERROR_SHARE, host);
  const receiver = new Receiver(seed + 1, ERROR_SHARE, host);
  await Promise.all([profiles.up(), receiver.up()]);
  const producer = new PacedProducer(broker.bootstrap, shape.topic);
  await producer.connect();
  const watch = new CheckpointWatch(s3.directory);
  watch.start();
  const parts = { shape, folder, broker, s3, profiles, receiver, producer, watch };
  return { ...parts, producing: Promise.resolve(), enough: new AbortController() };
}

function produce(services: Services): void {
  const { shape, producer, enough } = services;
  const due = schedule({ ...shape, partitions: PARTITIONS });
  services.producing = producer.run(shape.seed, due, enough.signal);
  services.producing.catch(() => undefined);
}

function progressOf({ producer, receiver, watch }: Services): Progress {
  const newest = watch.checkpoints.at(-1);
  return {
    acked: producer.acked.length,
    receipts: receiver.receipts.length,
    checkpoints: watch.checkpoints.length,
    users: new Set(producer.acked.map(({ user }) => user)).size,
    parked: newest?.ledgers.reduce((sum, ledger) => sum + ledger.parked, 0) ?? null,
  };
}

/** Each attempt but the first began with a restore; when the one before it ended, not who ended. */
function endsOf(watch: CheckpointWatch): Kill[] {
  return watch.restores.map(({ at, checkpointId }, index) => ({
    at,
    pid: 0,
    attempt: index,
    reason: 'rescale',
    endedAt: at,
    resumedAt: null,
    lateMs: null,
    restored: checkpointId,
  }));
}

/** A script is in force from the positions of the checkpoint at whose barrier it took over. */
function matchersOf(shape: Shape, checkpoints: readonly CheckpointFact[]) {
  const withTasks = checkpoints.filter((one) => one.ledgers.length > 0);
  const switches = withTasks.filter((one, index) => {
    const before = withTasks[index - 1];
    return before !== undefined && before.scriptVersion !== one.scriptVersion;
  });
  if (switches.length !== shape.scripts.length - 1) {
    throw new Error(
      `${switches.length} changes of the script, ${shape.scripts.length - 1} expected`,
    );
  }
  return (event: Acked): Matcher => {
    const since = (one: CheckpointFact) => one.positions[String(event.partition)] ?? 0;
    const passed = switches.filter((one) => event.offset >= since(one)).length;
    return MATCHERS[shape.scripts[passed]!];
  };
}

async function judgeAll(services: Services): Promise<Judgement> {
  const { shape, folder, s3, profiles, receiver, producer, watch } = services;
  const trouble: string[] = [];
  const note = (error: unknown) => trouble.push(String(error));
  await services.producing.catch(note);
  await watch.untilDrained(producer.acked.length, DRAIN_LIMIT_MS).catch(note);
  await watch.stop().catch(note);
  const dump = await dumpState(s3.directory, join(folder, 'fresh')).catch((error) => {
    note(error);
    return null;
  });
  for (const name of watch.missed) note(`manifest ${name} was gone before it was read`);
  for (const body of receiver.strange) note(`not an enriched event: ${body}`);
  const { topic: name, seed } = shape;
  const history: History = {
    meta: {
      name,
      seed,
      dump,
      historyLimit: HISTORY_LIMIT,
      // Counted by samples of a launcher, which there is none of here.
      slots: 0,
      taskManagers: 0,
      need: null,
      deadLettered: [],
    },
    acked: producer.acked,
    receipts: receiver.receipts,
    served: profiles.served(),
    checkpoints: watch.checkpoints,
    kills: endsOf(watch),
    samples: [],
  };
  const file = join(tmpdir(), `triggerjob-${name}-history.ndjson.gz`);
  await saveHistory(file, history);
  const { figures, violations } = judge(history, matchersOf(shape, watch.checkpoints));
  const { events, matching, receipts, checkpoints, repeats } = figures;
  const lines = violationLines(violations);
  return { events, matching, receipts, checkpoints, repeats, violations: lines, trouble, file };
}

async function end(services: Services): Promise<void> {
  const { folder, broker, s3, profiles, receiver, producer, watch } = services;
  await watch.stop().catch(() => undefined);
  await Promise.all([producer.close(), profiles.down(), receiver.down()]);
  await Promise.all([broker.stop(), s3.stop()]);
  await rm(folder, { recursive: true, force: true });
}

let services: Services | null = null;

async function obey(host: string, command: { do: string } & Partial<Shape>): Promise<object> {
  if (command.do === 'start') {
    services = await start(host, command as unknown as Shape);
    const { broker, s3, profiles, receiver } = services;
    const { endpoint, accessKey, secretKey } = s3;
    return {
      bootstrap: broker.bootstrap,
      s3: { endpoint, accessKey, secretKey },
      profileUrl: profiles.url,
      webhookUrl: receiver.url,
    } satisfies Addresses;
  }
  if (services === null) throw new Error(`"${command.do}" before "start"`);
  switch (command.do) {
    case 'produce':
      produce(services);
      return {};
    case 'stop':
      services.enough.abort();
      await services.producing;
      return {};
    case 'progress':
      return progressOf(services);
    case 'drain':
      await services.watch.untilDrained(services.producer.acked.length, DRAIN_LIMIT_MS);
      return {};
    case 'judge':
      return await judgeAll(services);
    case 'end':
      await end(services);
      return {};
    default:
      throw new Error(`unknown command "${command.do}"`);
  }
}

async function main(host: string): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    const answer = await obey(host, command).catch((error: unknown) => ({
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    }));
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    if (command.do === 'end') break;
  }
  // Whoever led this is gone: nothing of it may outlive them.
  if (services !== null) await end(services).catch(() => undefined);
  process.exit(0);
}

await main(process.argv[2] ?? '127.0.0.1');
