/**
 * A job whose checkpoints are in S3, from outside: it survives the death of its TaskManager, its
 * state can be read from the bucket alone, and savepoints move it from S3 into a directory and from
 * a directory into S3. The source ends, so every run must count each event of each user once.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  Command,
  freePort,
  type JobStatus,
  json,
  restOf,
  run,
  statusUntil,
} from './testbed/command.ts';
import { type S3Server, startS3 } from './testbed/s3.ts';

const USERS = 200;
const SPLITS = 2;
const EVENTS_PER_SPLIT = 4_000;
/** Events per second: ten seconds for what happens meanwhile, or nothing to wait for. */
const SLOWLY = 800;
const AT_ONCE = 20_000;

let s3: S3Server;
let folder: string;
let bucket: string;
const started: Command[] = [];

before(async () => {
  s3 = await startS3();
  folder = await mkdtemp(join(tmpdir(), 'triggerjob-s3-e2e-'));
  bucket = `s3://${s3.bucket}`;
});
after(async () => {
  for (const { child } of started) if (child.exitCode === null) child.kill('SIGKILL');
  await s3?.stop();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** A job file; its checkpoints are in S3 if it is started with --store. */
async function jobFile(
  name: string,
  eventsPerSecond: number,
  spec: Record<string, unknown> = {},
): Promise<string> {
  const { endpoint, accessKeyFile, secretKeyFile } = s3;
  const path = join(folder, `${name}.yaml`);
  const job = {
    apiVersion: 'triggerjob.io/v1alpha1',
    kind: 'TriggerJob',
    metadata: { name },
    spec: {
      parallelism: 2,
      source: {
        datagen: { users: USERS, splits: SPLITS, limit: EVENTS_PER_SPLIT, eventsPerSecond },
      },
      state: { ttl: '1h' },
      filter: { script: 'false' },
      action: { debug: {} },
      checkpointing: {
        interval: '1s',
        directory: `${bucket}/checkpoints/`,
        s3: { endpoint, accessKeyFile, secretKeyFile },
      },
      ...spec,
    },
  };
  await writeFile(path, JSON.stringify(job));
  return path;
}

async function start(file: string, stateDir: string, ...args: string[]) {
  const port = String(await freePort());
  const place = ['--state-dir', join(folder, stateDir), '--rest-port', port];
  const command = new Command(['run', file, ...place, ...args]);
  started.push(command);
  return { command, rest: await restOf(command) };
}

async function savepoint(rest: string, ...args: string[]): Promise<string> {
  const { code, output } = await run('savepoint', 'create', '--rest', rest, ...args);
  assert.equal(code, 0, output);
  return /(?:s3|file):\S+/.exec(output)?.[0] ?? '';
}

/** Runs to the end of the source; the exact number of events in the state of all users. */
async function finish(command: Command, dumpArgs: string[]): Promise<void> {
  await command.until(/the input has ended: \d+ events/);
  await command.until(/final checkpoint \d+ .* taken/);
  assert.equal(await command.exit(), 0, command.output);
  const out = join(folder, 'dump.ndjson');
  const dump = new Command(['state', 'dump', ...dumpArgs, '--out', out], {
    AWS_ACCESS_KEY_ID: s3.accessKey,
    AWS_SECRET_ACCESS_KEY: s3.secretKey,
  });
  assert.equal(await dump.exit(), 0, dump.output);
  const users = (await readFile(out, 'utf8')).trim().split('\n');
  const counts = users.map(
    (line) => (JSON.parse(line) as { visit: { event_count: number } }).visit.event_count,
  );
  assert.ok(counts.length <= USERS && counts.length > USERS / 2, `${counts.length} users`);
  assert.equal(
    counts.reduce((sum, count) => sum + count, 0),
    SPLITS * EVENTS_PER_SPLIT,
  );
}

const fromS3 = (job: string) => [
  ...['--store', `${bucket}/checkpoints/`, '--s3-endpoint', s3.endpoint],
  ...['--job', `default/${job}`],
];

const savepoints = { s3: '', directory: '' };

test('a job in S3 survives SIGKILL; its state is read from the bucket alone', async () => {
  const file = await jobFile('killed', SLOWLY);
  const { command, rest } = await start(file, 'killed', '--store', `${bucket}/checkpoints/`);
  const before = await statusUntil(rest, 'a checkpoint', (status) => hasCheckpoint(status, 3));
  const { taskManagers } = await json<{ taskManagers: { pid: number }[] }>(
    `${rest}/api/v1/details`,
  );
  process.kill(taskManagers[0]!.pid, 'SIGKILL');
  await statusUntil(
    rest,
    'the resume',
    ({ state, restoredCheckpoint }) =>
      state === 'RUNNING' && (restoredCheckpoint?.id ?? 0) >= before.lastCheckpoint!.id,
  );
  savepoints.s3 = await savepoint(rest);
  assert.match(savepoints.s3, new RegExp(`^${bucket}/checkpoints/_savepoints/savepoint-`));
  const elsewhere = await savepoint(rest, '--directory', join(folder, 'elsewhere'));
  assert.match(elsewhere, /^file:/);
  assert.ok(
    (await statusUntil(rest, 'a status', () => true)).processed < SPLITS * EVENTS_PER_SPLIT,
  );
  await finish(command, fromS3('killed'));
  const here = await readdir(join(folder, 'killed', 'checkpoints'), { recursive: true });
  assert.deepEqual(here, [], 'nothing of it is in the state directory');
  assert.doesNotMatch(await everyFile('killed'), new RegExp(s3.secretKey));
  savepoints.directory = elsewhere;
});

test('its savepoint in S3 starts a job whose checkpoints are in a directory', async () => {
  const file = await jobFile('to-directory', AT_ONCE, { restore: { savepoint: savepoints.s3 } });
  const { command } = await start(file, 'to-directory');
  assert.match(
    command.output,
    /not in s3:\S+ as the file says: a local run does that with --store/,
  );
  await finish(command, ['--state-dir', join(folder, 'to-directory')]);
});

test('its savepoint in a directory starts a job in S3; it outlives an outage of S3', async () => {
  const file = await jobFile('to-s3', SLOWLY, { restore: { savepoint: savepoints.directory } });
  const { command, rest } = await start(file, 'to-s3', '--store', `${bucket}/checkpoints/`);
  await statusUntil(rest, 'a checkpoint', ({ lastCheckpoint }) => lastCheckpoint !== null);
  const ports = await readFile(join(folder, 'to-s3', 'jobmanager.json'), 'utf8');
  await s3.down();
  process.kill((JSON.parse(ports) as { pid: number }).pid, 'SIGKILL');
  await command.until(/s3:\S+ can't be used as a store: .*ECONNREFUSED/);
  await s3.up();
  await finish(command, fromS3('to-s3'));
});

function hasCheckpoint({ lastCheckpoint }: JobStatus, id: number): boolean {
  return (lastCheckpoint?.id ?? 0) >= id;
}

/** Logs and plan of a run: places into which a secret could get. */
async function everyFile(stateDir: string): Promise<string> {
  const root = join(folder, stateDir);
  const logs = (await readdir(join(root, 'logs'))).map((name) => join(root, 'logs', name));
  const texts = [join(root, 'plan.json'), ...logs].map((path) => readFile(path, 'utf8'));
  return (await Promise.all(texts)).join('\n');
}
