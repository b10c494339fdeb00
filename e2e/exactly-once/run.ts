/**
 * One checked run: topic, Profile API, receiver, producer, pipeline, and a nemesis; then drain,
 * stop, dump, and the history of it all. judge() takes it from there.
 */
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KafkaBroker } from '../testbed/kafka.ts';
import { CheckpointWatch } from './checkpoint-watch.ts';
import { schedule } from './event-model.ts';
import { type History, type Kill, saveHistory } from './history.ts';
import { type JobFile, writeJobFile } from './job-file.ts';
import { dumpState, type Launcher, Pipeline } from './pipeline.ts';
import { PacedProducer } from './producer.ts';
import { type ProfileModel, ProfileServer, profileModel } from './profile-model.ts';
import { Receiver } from './receiver.ts';

export interface CheckedRun {
  name: string;
  seed: number;
  users: number;
  eventsPerUser: number;
  durationMs: number;
  arrivalShare?: number;
  /** Processes; 1 unless told. */
  taskManagers?: number;
  /** One leads, the others stand by; 1 unless told. */
  jobManagers?: number;
  /** Subtasks; SLOTS unless told. */
  parallelism?: number;
  /** What happens to the pipeline while the producer runs. */
  nemesis: (stage: Stage) => Promise<void>;
  need: History['meta']['need'];
  /** Deliveries that ended in the dead letter, read after the run; `user/seq`. */
  deadLettered?: (stage: Stage) => Promise<string[]>;
  /** In place of the state directory's own: how the job names it, and where its files are. */
  store?: { url: string; directory: string };
  /** Over the job file's own. */
  job?: (folder: string) => Partial<JobFile>;
  model?: ProfileModel;
  /** Share of requests that both services answer 503, so that retries happen in every run. */
  errorShare?: number;
  env?: Record<string, string>;
  /** Address of this machine that Profile API and receiver listen on; loopback unless told. */
  host?: string;
  /** In place of `triggerjob run`. */
  launcher?: Launcher;
}

/** The processes and servers of a run. */
export interface Stage {
  folder: string;
  jobFile: string;
  pipeline: Pipeline;
  producer: PacedProducer;
  profiles: ProfileServer;
  receiver: Receiver;
  watch: CheckpointWatch;
  /** The nemesis enters here whom it killed. */
  kills: Kill[];
}

export interface RunResult {
  history: History;
  /** For judge.ts. */
  file: string;
  /** What failed on the way to a dump; the history is judged all the same. */
  trouble: string[];
}

const PARTITIONS = 4;
const SLOTS = 4;
const HISTORY_LIMIT = 100;
const DRAIN_LIMIT_MS = 90_000;
const ERROR_SHARE = 0.02;

export async function runChecked(broker: KafkaBroker, run: CheckedRun): Promise<RunResult> {
  const set = await setUp(broker, run);
  const trouble: string[] = [];
  let pipeline: Pipeline | null = null;
  let dump: string[] | null = null;
  let deadLettered: string[] = [];
  try {
    const { env, taskManagers = 1, jobManagers = 1, store, launcher } = run;
    const counts = ['--task-managers', taskManagers, '--job-managers', jobManagers].map(String);
    const place = store === undefined ? [] : ['--store', store.url];
    const more = [...counts, ...place];
    pipeline = await Pipeline.start(set.jobFile, set.stateDir, env, more, launcher);
    const stage: Stage = { ...set, pipeline };
    set.watch.start();
    await set.producer.connect();
    await produceUnder(run, stage);
    await finish(stage, trouble);
    dump = await dumpState(set.checkpoints, join(set.folder, 'fresh'));
    deadLettered = (await run.deadLettered?.(stage)) ?? [];
  } catch (error) {
    trouble.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    await pipeline?.kill();
    await set.watch.stop().catch((error) => trouble.push(`checkpoint watch: ${error}`));
    await Promise.all([set.profiles.down(), set.receiver.down(), set.producer.close()]);
  }
  for (const name of set.watch.missed) trouble.push(`manifest ${name} was gone before it was read`);
  for (const body of set.receiver.strange) trouble.push(`not an enriched event: ${body}`);
  for (const kill of set.kills) {
    kill.endedAt = set.watch.restores.find(({ at }) => at > kill.at)?.at ?? null;
  }
  const { name, seed, need, taskManagers = 1, parallelism: slots = SLOTS } = run;
  const historyLimit = HISTORY_LIMIT;
  const history: History = {
    meta: { name, seed, dump, historyLimit, slots, taskManagers, need, deadLettered },
    acked: set.producer.acked,
    receipts: set.receiver.receipts,
    served: set.profiles.served(),
    checkpoints: set.watch.checkpoints,
    kills: set.kills,
    samples: pipeline?.samples ?? [],
  };
  const file = join(set.folder, 'history.ndjson.gz');
  await saveHistory(file, history);
  return { history, file, trouble };
}

async function setUp(broker: KafkaBroker, run: CheckedRun) {
  const folder = join(tmpdir(), `triggerjob-${run.name}-${process.pid}`);
  const stateDir = join(folder, 'state');
  await mkdir(folder, { recursive: true });
  await broker.createTopic(run.name, PARTITIONS);
  const { host, errorShare = ERROR_SHARE } = run;
  const profiles = new ProfileServer(
    run.model ?? profileModel(run.seed),
    run.seed,
    errorShare,
    host,
  );
  const receiver = new Receiver(run.seed + 1, errorShare, host);
  await Promise.all([profiles.up(), receiver.up()]);
  const producer = new PacedProducer(broker.bootstrap, run.name);
  const checkpoints = run.store?.directory ?? join(stateDir, 'checkpoints');
  const watch = new CheckpointWatch(checkpoints);
  const kills: Kill[] = [];
  const set = { folder, stateDir, checkpoints, profiles, receiver, producer, watch, kills };
  const jobFile = join(folder, 'job.yaml');
  await writeJobFile(jobFile, {
    name: run.name,
    bootstrap: broker.bootstrap,
    topic: run.name,
    profileUrl: profiles.url,
    webhookUrl: receiver.url,
    checkpointInterval: '2s',
    ...(run.parallelism !== undefined && { parallelism: run.parallelism }),
    ...run.job?.(folder),
  });
  return { ...set, jobFile };
}

/** Both at once; if one fails, the other ends, and its failure is thrown. */
async function produceUnder(run: CheckedRun, stage: Stage): Promise<void> {
  const stop = new AbortController();
  const due = schedule({ ...run, partitions: PARTITIONS });
  const producing = stage.producer.run(run.seed, due, stop.signal);
  try {
    await Promise.all([producing, run.nemesis(stage)]);
  } finally {
    stop.abort();
    await producing.catch(() => undefined);
  }
}

/** A run that does not drain is still judged: the missing is then a violation, not a stuck test. */
async function finish(stage: Stage, trouble: string[]): Promise<void> {
  const note = (error: unknown) => trouble.push(String(error));
  await stage.watch.untilDrained(stage.producer.acked.length, DRAIN_LIMIT_MS).catch(note);
  await stage.pipeline.stop().catch(note);
}
