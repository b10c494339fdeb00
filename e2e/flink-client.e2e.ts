/**
 * Flink's own Java client against a local run: it lists the job, reads its details, takes a
 * checkpoint and a savepoint, disposes of it, stops the job with another; and every answer that a
 * Flink client can ask for is read into Flink's own classes. Also whether flink-shapes.json, which
 * the tests of REST check by, is what that release says of itself.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Command, freePort, restOf, statusUntil } from './testbed/command.ts';
import { installJars } from './testbed/maven.ts';

const run = promisify(execFile);

const FLINK_VERSION = '1.20.1';
/** Compiles where there is a JRE alone. */
const COMPILER_VERSION = '3.33.0';
const SOURCES = fileURLToPath(new URL('./flink-client/', import.meta.url));
const SHAPES = new URL('../worker/src/rest/flink-shapes.json', import.meta.url);
const OUTPUT_BYTES = 4 * 1024 * 1024;

interface Said {
  listed: [name: string, status: string];
  status: string;
  vertices: string[];
  slots: number;
  accumulators: number;
  checkpoint: number;
  savepoint: string;
  stopped: string;
  /** Why a savepoint failed. */
  refused: string;
  read: number;
  unread: string[];
}

let folder: string;
let classPath: string;
let runtime: string;
const started: Command[] = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'triggerjob-flink-client-'));
  const jars = await installJars(`flink-client/${FLINK_VERSION}`, [
    ['org.apache.flink', 'flink-clients', FLINK_VERSION],
    ['org.eclipse.jdt', 'ecj', COMPILER_VERSION],
  ]);
  runtime = join(jars, `flink-runtime-${FLINK_VERSION}.jar`);
  const classes = join(folder, 'classes');
  await mkdir(classes);
  const compiler = ['-jar', join(jars, `ecj-${COMPILER_VERSION}.jar`), '-11', '-nowarn'];
  const files = ['Shapes.java', 'FlinkClient.java'].map((name) => join(SOURCES, name));
  classPath = `${classes}:${join(jars, '*')}`;
  const flinks = (await run('sh', ['-c', `echo ${join(jars, '*.jar')}`])).stdout.trim();
  const path = flinks.split(' ').join(':');
  await run('java', [...compiler, '-classpath', path, '-d', classes, ...files]);
});
after(async () => {
  for (const { child } of started) if (child.exitCode === null) child.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

async function java(...args: string[]): Promise<unknown> {
  const options = { maxBuffer: OUTPUT_BYTES };
  const { stdout } = await run('java', ['-cp', classPath, ...args], options);
  return JSON.parse(stdout);
}

test('what the tests of REST check by is what Flink says of itself', async () => {
  const { endpoints, schemas } = JSON.parse(await readFile(SHAPES, 'utf8'));
  assert.deepEqual({ endpoints, schemas }, await java('Shapes', runtime));
});

test("Flink's client lists, reads, takes savepoints and stops the job", async (t) => {
  const file = join(folder, 'job.yaml');
  const job = {
    apiVersion: 'triggerjob.io/v1alpha1',
    kind: 'TriggerJob',
    metadata: { name: 'flinks' },
    spec: {
      parallelism: 2,
      maxParallelism: 16,
      source: { datagen: { eventsPerSecond: 200, users: 50 } },
      filter: { script: 'true' },
      action: { debug: {} },
      checkpointing: { interval: '5s', minPause: '0s' },
    },
  };
  await writeFile(file, JSON.stringify(job));
  const port = String(await freePort());
  const place = ['--state-dir', join(folder, 'state'), '--rest-port', port];
  const command = new Command(['run', file, ...place]);
  started.push(command);
  const rest = await restOf(command);
  await statusUntil(rest, 'events', ({ state, processed }) => state === 'RUNNING' && processed > 0);
  const savepoints = `file://${join(folder, 'savepoints')}`;
  const said = (await java('FlinkClient', '127.0.0.1', port, savepoints, runtime)) as Said;
  t.diagnostic(`${said.read} kinds of answers were read`);
  assert.deepEqual(said.unread, []);
  assert.ok(said.read >= 40, `${said.read} kinds of answers`);
  assert.deepEqual([said.listed, said.status], [['flinks', 'RUNNING'], 'RUNNING']);
  const names = ['Source', 'UserStateManager', 'EventFilter', 'ActionExecutor'];
  assert.deepEqual(
    said.vertices,
    names.map((name) => `${name} 2`),
  );
  assert.deepEqual([said.slots, said.accumulators], [2, 0]);
  assert.ok(said.checkpoint > 0);
  assert.match(said.savepoint, /^file:.*savepoint-/);
  assert.match(said.refused, /nothing:\/\/there/);
  assert.match(said.stopped, /^file:.*savepoint-/);
  assert.equal(await command.exit(), 0, command.output);
});
