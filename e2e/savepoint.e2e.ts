/**
 * A savepoint's life, from outside, with real processes and a real S3: a local run -> savepoint ->
 * a job in S3 with another parallelism -> stop with a savepoint -> verify -> a byte is flipped ->
 * verify names the object, a run refuses it -> it is disposed of. The webhook's receiver must have
 * met each event of each run once; after a drained stop no delivery comes twice.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { Command, freePort, json, restOf, statusUntil } from './testbed/command.ts';
import { type S3Server, startS3 } from './testbed/s3.ts';

const USERS = 100;
const SPLITS = 2;
const EVENTS_PER_SPLIT = 20_000;
const EVENTS = SPLITS * EVENTS_PER_SPLIT;
/** Forty seconds for what happens meanwhile, or nothing to wait for. */
const SLOWLY = 1_000;
const AT_ONCE = 40_000;

let s3: S3Server;
let folder: string;
let bucket: string;
let receiver: Server;
let hook: string;
/** By delivery id: how often it came. */
const deliveries = new Map<string, number>();
const started: Command[] = [];

before(async () => {
  s3 = await startS3();
  folder = await mkdtemp(join(tmpdir(), 'triggerjob-savepoint-e2e-'));
  bucket = `s3://${s3.bucket}`;
  receiver = createServer((request, response) => {
    request.resume().once('end', () => {
      const id = String(request.headers['webhook-id']);
      deliveries.set(id, (deliveries.get(id) ?? 0) + 1);
      response.writeHead(200).end();
    });
  }).listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  const address = receiver.address();
  assert.ok(typeof address === 'object' && address !== null);
  hook = `http://127.0.0.1:${address.port}/hook`;
});
after(async () => {
  for (const { child } of started) if (child.exitCode === null) child.kill('SIGKILL');
  receiver?.close();
  receiver?.closeAllConnections();
  await s3?.stop();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

async function jobFile(
  name: string,
  eventsPerSecond: number,
  spec: Record<string, unknown>,
): Promise<string> {
  const { endpoint, accessKeyFile, secretKeyFile } = s3;
  const path = join(folder, `${name}.yaml`);
  const source = { users: USERS, splits: SPLITS, limit: EVENTS_PER_SPLIT };
  const job = {
    apiVersion: 'triggerjob.io/v1alpha1',
    kind: 'TriggerJob',
    metadata: { name },
    spec: {
      source: { datagen: { ...source, eventsPerSecond } },
      state: { ttl: '1h' },
      filter: { script: 'true' },
      action: { webhook: { url: hook, allowPrivateAddresses: true } },
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

/** A command that reads the store alone. */
async function offline(...args: string[]): Promise<{ code: number; output: string }> {
  const command = new Command([...args, '--s3-endpoint', s3.endpoint], {
    AWS_ACCESS_KEY_ID: s3.accessKey,
    AWS_SECRET_ACCESS_KEY: s3.secretKey,
  });
  const code = await command.exit();
  return { code, output: command.output };
}

async function triggered(verb: string, rest: string, ...args: string[]): Promise<string> {
  const command = new Command(['savepoint', verb, '--rest', rest, ...args]);
  assert.equal(await command.exit(), 0, command.output);
  return /(?:s3|file):\S+/.exec(command.output)?.[0] ?? '';
}

async function dump(...where: string[]): Promise<string[]> {
  const out = join(folder, 'dump.ndjson');
  const { code, output } = await offline('state', 'dump', ...where, '--out', out);
  assert.equal(code, 0, output);
  return (await readFile(out, 'utf8')).trim().split('\n');
}

const inS3 = (job: string) => ['--store', `${bucket}/checkpoints/`, '--job', `default/${job}`];

interface Inspected {
  checkpointId: number;
  users: number;
  parallelism: number;
  outbox: number;
  parked: number;
  keyGroups: { first: number; last: number }[];
  splits: { id: string; offset: number }[];
}

async function inspect(location: string): Promise<Inspected> {
  const { code, output } = await offline('savepoint', 'inspect', location, '--json');
  assert.equal(code, 0, output);
  return JSON.parse(output) as Inspected;
}

const offsetsOf = ({ splits }: Inspected) => splits.reduce((sum, { offset }) => sum + offset, 0);

const made = { local: '', stopped: '' };
let atStop: string[] = [];

test('local: stop with a drained savepoint ends the job, and nothing is behind it', async () => {
  const file = await jobFile('local', SLOWLY, { parallelism: 1, maxParallelism: 32 });
  const { command, rest } = await start(file, 'local');
  await statusUntil(rest, 'events', ({ processed }) => processed > 500);
  const directory = join(folder, 'savepoints');
  made.local = await triggered('stop', rest, '--drain', '--directory', directory);
  await command.until(/the job has finished/);
  assert.equal(await command.exit(), 0, command.output);
  const facts = await inspect(made.local);
  const read = offsetsOf(facts);
  assert.ok(read > 500 && read < EVENTS, `${read} of ${EVENTS} events`);
  assert.deepEqual([facts.parked, facts.outbox, facts.parallelism], [0, 0, 1]);
  assert.equal(deliveries.size, read, 'what was read is delivered, and nothing else');
  assert.ok([...deliveries.values()].every((times) => times === 1));
  assert.deepEqual(
    facts.keyGroups.map(({ first, last }) => [first, last]),
    [[0, 31]],
  );
  const listed = await offline('savepoint', 'list', directory);
  assert.match(listed.output, new RegExp(`complete .* default/local +${made.local}`));
  atStop = await dump('--state-dir', join(folder, 'local'));
  assert.equal(countOf(atStop), read);
});

test('in S3 with parallelism 2 it goes on, and outlives the savepoint it began with', async () => {
  const file = await jobFile('remote', SLOWLY, { parallelism: 2, maxParallelism: 32 });
  const store = ['--store', `${bucket}/checkpoints/`, '--from-savepoint', made.local];
  const { command, rest } = await start(file, 'remote', ...store);
  await statusUntil(rest, 'a checkpoint', ({ lastCheckpoint }) => lastCheckpoint !== null);
  const imported = ['--checkpoint', String((await inspect(made.local)).checkpointId)];
  assert.deepEqual(await dump(...inS3('remote'), ...imported), atStop);
  const disposed = await offline('savepoint', 'dispose', made.local);
  assert.equal(disposed.code, 0, disposed.output);
  assert.deepEqual(await readdir(join(folder, 'savepoints')), []);
  const { taskManagers } = await json<{ taskManagers: { pid: number }[] }>(
    `${rest}/api/v1/details`,
  );
  const before = await statusUntil(
    rest,
    'a checkpoint',
    (status) => status.lastCheckpoint !== null,
  );
  process.kill(taskManagers[0]!.pid, 'SIGKILL');
  await statusUntil(
    rest,
    'the resume',
    ({ state, restoredCheckpoint }) =>
      state === 'RUNNING' && (restoredCheckpoint?.id ?? 0) >= before.lastCheckpoint!.id,
  );
  // Beyond what the killed process had delivered, so that each id is of what was read since.
  const known = deliveries.size;
  await statusUntil(rest, 'new events', () => deliveries.size > known + 1_000);
  made.stopped = await triggered('stop', rest, '--drain');
  assert.match(made.stopped, new RegExp(`^${bucket}/checkpoints/_savepoints/savepoint-`));
  assert.equal(await command.exit(), 0, command.output);
  const facts = await inspect(made.stopped);
  assert.deepEqual([facts.parked, facts.outbox, facts.parallelism], [0, 0, 2]);
  assert.equal(deliveries.size, offsetsOf(facts), 'each event once, by id');
  atStop = await dump(...inS3('remote'));
  assert.equal(countOf(atStop), offsetsOf(facts));
  const verified = await offline('checkpoints', 'verify', `${bucket}/checkpoints/`);
  assert.equal(verified.code, 0, verified.output);
});

test('verify reads every byte; a flipped one is named, refused and disposed of', async () => {
  const whole = await offline('savepoint', 'verify', made.stopped);
  assert.equal(whole.code, 0, whole.output);
  const restored = await jobFile('restored', AT_ONCE, { parallelism: 3, maxParallelism: 32 });
  const args = ['--store', `${bucket}/other/`, '--from-savepoint', made.stopped];
  const again = await start(restored, 'restored', ...args);
  await again.command.until(/the input has ended/);
  assert.equal(await again.command.exit(), 0, again.command.output);
  assert.equal(deliveries.size, EVENTS, 'every event has come');
  const other = ['--store', `${bucket}/other/`, '--job', 'default/restored'];
  assert.equal(countOf(await dump(...other)), EVENTS);

  const victim = await flipByte(made.stopped);
  const damaged = await offline('savepoint', 'verify', made.stopped);
  assert.equal(damaged.code, 1, damaged.output);
  assert.match(damaged.output, new RegExp(`damaged ${victim}: .*sha256`));
  const refused = new Command([
    ...['run', restored, '--state-dir', join(folder, 'refused'), '--store', `${bucket}/refused/`],
    ...['--rest-port', String(await freePort()), '--from-savepoint', made.stopped],
  ]);
  started.push(refused);
  assert.equal(await refused.exit(), 1, refused.output);
  assert.match(refused.output, new RegExp(`${victim}.*damaged|damaged.*${victim}`));
  for (const words of [/disposed of s3:\S+: \d+ objects/, /nothing is in s3:/]) {
    const { code, output } = await offline('savepoint', 'dispose', made.stopped);
    assert.equal(code, 0, output);
    assert.match(output, words);
  }
  const gone = await offline('savepoint', 'verify', made.stopped);
  assert.match(gone.output, /holds no complete savepoint/);
  assert.equal(gone.code, 1);
  const job = await offline('savepoint', 'dispose', `${bucket}/checkpoints/default/remote`);
  assert.match(job.output, /is no savepoint.*nothing was deleted/);
  assert.equal(job.code, 1);
});

function countOf(users: readonly string[]): number {
  return users.reduce((sum, line) => {
    const { visit } = JSON.parse(line) as { visit: { event_count: number } };
    return sum + visit.event_count;
  }, 0);
}

/** Of the largest object of the savepoint, in its middle; the object's name in the savepoint. */
async function flipByte(location: string): Promise<string> {
  const credentials = { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey };
  const { endpoint } = s3;
  const client = new S3Client({ endpoint, region: 'us-east-1', credentials, forcePathStyle: true });
  const Bucket = s3.bucket;
  const Prefix = `${location.slice(`${bucket}/`.length)}/objects/`;
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket, Prefix }));
  const [largest] = Contents.toSorted((a, b) => (b.Size ?? 0) - (a.Size ?? 0));
  const Key = largest?.Key ?? assert.fail(`no object in ${location}`);
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key }));
  const content = await Body!.transformToByteArray();
  const middle = Math.floor(content.length / 2);
  content[middle] = content[middle]! ^ 1;
  await client.send(new PutObjectCommand({ Bucket, Key, Body: content }));
  client.destroy();
  return Key.slice(Key.indexOf('objects/'));
}
