/**
 * What README promises about the first five minutes, from outside: the demo's first webhook, REST
 * in Flink's shape, a savepoint, Ctrl-C with a final checkpoint, the resume, a state dump, and a
 * savepoint restored into another directory with another parallelism. Durations are printed with
 * their goal.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Command, freePort, json, restOf, run, statusUntil } from './testbed/command.ts';

const SAMPLE = fileURLToPath(new URL('../config/samples/demo.yaml', import.meta.url));
const FIRST_WEBHOOK_GOAL_S = 10;

const folder = await mkdtemp(join(tmpdir(), 'triggerjob-demo-'));
const started: Command[] = [];
after(async () => {
  for (const { child } of started) if (child.exitCode === null) child.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

function start(...args: string[]): Command {
  const command = new Command(args);
  started.push(command);
  return command;
}

let savepoint = '';

test('the demo delivers, answers as Flink does, stops with a checkpoint and resumes', async (t) => {
  const stateDir = join(folder, 'demo');
  const demo = start('demo', '--state-dir', stateDir);
  const seconds = Number((await demo.until(/first webhook delivered after ([\d.]+) s/))[1]);
  const verdict = seconds <= FIRST_WEBHOOK_GOAL_S ? 'reached' : 'missed';
  t.diagnostic(`first webhook after ${seconds} s (goal ${FIRST_WEBHOOK_GOAL_S} s: ${verdict})`);
  const rest = await restOf(demo);
  await flinkShapes(rest);
  await looksInside(rest);
  await statusUntil(rest, 'a checkpoint', (status) => status.lastCheckpoint !== null);
  const taken = await run('savepoint', 'create', '--rest', rest);
  assert.equal(taken.code, 0, taken.output);
  savepoint = /file:\S+/.exec(taken.output)![0];
  demo.interrupt();
  const final = Number((await demo.until(/final checkpoint (\d+) /))[1]);
  assert.equal(await demo.exit(), 0);
  assert.match(demo.output, /webhooks: 0 repeated, 0 invalid/);

  const dump = join(folder, 'dump.ndjson');
  const dumped = await run('state', 'dump', '--state-dir', stateDir, '--out', dump);
  assert.equal(dumped.code, 0, dumped.output);
  const users = (await readFile(dump, 'utf8')).trim().split('\n');
  assert.equal(users.length, 1000);

  const again = start('demo', '--state-dir', stateDir);
  await again.until(new RegExp(`resumed from checkpoint ${final} `));
  const restAgain = await restOf(again);
  const status = await statusUntil(restAgain, 'new events', ({ processed }) => processed > 1000);
  assert.equal(status.users, 1000, 'users of the checkpoint are known, none is fetched anew');
  assert.equal(status.ledgerImbalance, 0);
  again.interrupt();
  assert.equal(await again.exit(), 0);
});

async function flinkShapes(rest: string): Promise<void> {
  const overview = await json<Record<string, unknown>>(`${rest}/overview`);
  assert.equal(overview['slots-total'], 4);
  const { jobs } = await json<{ jobs: { jid: string; state: string }[] }>(`${rest}/jobs/overview`);
  assert.equal(jobs.length, 1);
  const { jid } = jobs[0]!;
  assert.match(jid, /^[0-9a-f]{32}$/);
  const job = await json<{ jid: string; vertices: { name: string }[] }>(`${rest}/jobs/${jid}`);
  const names = job.vertices.map(({ name }) => name);
  assert.deepEqual(names, ['Source', 'UserStateManager', 'EventFilter', 'ActionExecutor']);
  const checkpoints = await json<Record<string, unknown>>(`${rest}/jobs/${jid}/checkpoints`);
  assert.deepEqual(Object.keys(checkpoints).slice(0, 3), ['counts', 'summary', 'latest']);
}

interface HotKeys {
  events: number;
  keys: { userId: string; subtask: number; events: number; stateBytes: number }[];
}

interface User {
  subtask: number;
  keyGroup: number;
  lastAccess: number;
  expiresAt: number;
  user: { country: string };
  history: Record<string, unknown>[];
  decisions: { verdict: string; scriptVersion: string }[];
}

/** A user, why the filter decides so, hot keys, the ledger and a tap, of the running job. */
async function looksInside(rest: string): Promise<void> {
  await statusUntil(rest, 'every user in state', ({ users }) => users === 1000);
  const { jobs } = await json<{ jobs: { id: string }[] }>(`${rest}/jobs`);
  const base = `${rest}/api/v1/jobs/${jobs[0]!.id}`;
  const { keys, events } = await json<HotKeys>(`${base}/hot-keys?by=events&top=5`);
  assert.ok(events > 0 && keys.length === 5, JSON.stringify(keys));
  const { userId, subtask, stateBytes } = keys[0]!;
  assert.ok(stateBytes > 0);
  const user = await json<User>(`${base}/users/${userId}`);
  assert.equal(user.subtask, subtask);
  assert.ok(user.expiresAt > user.lastAccess && user.history.length > 0, JSON.stringify(user));
  assert.ok(user.decisions.length > 0);
  const event = { ...user.history.at(-1), triggerable: true };
  const asked = { method: 'POST', body: JSON.stringify({ userId, event }) };
  const answer = await fetch(`${base}/explain`, asked);
  const why = (await answer.json()) as { verdict: string; deciding: { text: string } };
  assert.equal(why.verdict, user.user.country === 'US' ? 'match' : 'no-match');
  assert.match(why.deciding.text, /user\.country == "US"/);
  assert.equal((await fetch(`${base}/users/nobody`)).status, 404);
  const ledger = await json<{ balanced: boolean; now: object | null }>(`${base}/ledger`);
  assert.ok(ledger.balanced && ledger.now !== null, JSON.stringify(ledger));
  const tap = await fetch(`${base}/tap?stage=fired&limit=2`);
  const stream = await tap.text();
  assert.equal(stream.match(/^event: record\ndata: \{.*"stage":"fired"/gm)?.length, 2, stream);
  assert.match(stream, /event: end\ndata: \{"reason":"limit"\}/);
}

test('the commands that look into a job work on the demo', async () => {
  const stateDir = join(folder, 'looked-at');
  const demo = start('demo', '--state-dir', stateDir, '--task-managers', '2');
  const rest = await restOf(demo);
  await statusUntil(
    rest,
    'events',
    ({ state, processed }) => state === 'RUNNING' && processed > 100,
  );
  const asked = async <T>(...args: string[]): Promise<T> => {
    const { code, output } = await run(...args, '--rest', rest, '-o', 'json');
    assert.equal(code, 0, output);
    return JSON.parse(output.slice(output.indexOf('{'))) as T;
  };
  const top = await asked<{ state: string; rows: unknown[]; total: { eventsPerSecond: number } }>(
    'top',
  );
  assert.deepEqual([top.state, top.rows.length], ['RUNNING', 2]);
  assert.ok(top.total.eventsPerSecond > 0);
  const { keys } = await asked<HotKeys>('users', 'hot', '--limit', '1');
  const { userId } = keys[0]!;
  const user = await asked<User & { userId: string }>('state', 'get', '--user', userId);
  assert.equal(user.userId, userId);
  const tapped = await asked<{ userId: string; stage: string }>(
    ...['tap', '--user', userId, '--limit', '1'],
  );
  assert.deepEqual([tapped.userId, tapped.stage], [userId, 'keyed']);
  const event = JSON.stringify({ ...user.history.at(-1), triggerable: true });
  const why = await asked<{ verdict: string }>('eval', '--user', userId, '--event', event);
  assert.equal(why.verdict, user.user.country === 'US' ? 'match' : 'no-match');
  const { location } = await asked<{ location: string }>('savepoint', 'trigger');
  const offline = await run('state', 'get', '--user', userId, '--from', location);
  assert.equal(offline.code, 0, offline.output);
  assert.ok(offline.output.includes(`"country":"${user.user.country}"`), offline.output);
  demo.interrupt();
  assert.equal(await demo.exit(), 0);
});

test('a savepoint restores in another directory with another parallelism', async () => {
  const file = join(folder, 'rescaled.yaml');
  const sample = await readFile(SAMPLE, 'utf8');
  const rescaled = sample
    .replace('parallelism: 4', `parallelism: 3\n  restore: { savepoint: "${savepoint}" }`)
    .replace(/action:[\s\S]*?checkpointing:/, 'action: { debug: {} }\n  checkpointing:')
    .replace(/profileApi:\n\s+url: \S+/, 'profileApi: { url: "http://127.0.0.1:9", timeout: 1s }');
  await writeFile(file, rescaled);
  const port = String(await freePort());
  const job = start('run', file, '--state-dir', join(folder, 'rescaled'), '--rest-port', port);
  const rest = await restOf(job);
  const status = await statusUntil(rest, 'events', ({ processed }) => processed > 2000);
  // The Profile API is a closed port: every user must have come with the savepoint.
  assert.equal(status.users, 1000);
  assert.equal(status.ledgerImbalance, 0);
  await statusUntil(rest, 'a checkpoint', ({ lastCheckpoint }) => lastCheckpoint !== null);
  job.interrupt();
  await job.until(/final checkpoint \d+ /);
  assert.equal(await job.exit(), 0);
});

interface ManifestFacts {
  checkpointId: number;
  kind: string;
  subtasks: { deltas: { object: { name: string } | null }[] }[];
}

async function newestManifest(store: string): Promise<ManifestFacts> {
  const names = await readdir(join(store, 'manifests'));
  const found = await Promise.all(
    names.map(async (name) => {
      const text = await readFile(join(store, 'manifests', name), 'utf8');
      return JSON.parse(text) as ManifestFacts;
    }),
  );
  return found.sort((a, b) => b.checkpointId - a.checkpointId)[0]!;
}

test('a damaged checkpoint is passed over for the one before, and the job says so', async () => {
  const file = join(folder, 'damaged.yaml');
  const sample = await readFile(SAMPLE, 'utf8');
  const debug = sample
    .replace(/action:[\s\S]*?checkpointing:/, 'action: { debug: {} }\n  checkpointing:')
    .replace(/profileApi:\n\s+url: \S+/, '')
    .replace('interval: 10s', 'interval: 4s');
  await writeFile(file, debug);
  const stateDir = join(folder, 'damaged');
  const port = String(await freePort());
  const job = start('run', file, '--state-dir', stateDir, '--rest-port', port);
  const rest = await restOf(job);
  const store = join(stateDir, 'checkpoints', 'default', 'demo');
  await statusUntil(rest, 'three checkpoints', (status) => (status.lastCheckpoint?.id ?? 0) >= 5);
  const newest = await newestManifest(store);
  for (const { deltas } of newest.subtasks) {
    const { object } = deltas.findLast((delta) => delta.object !== null)!;
    const path = join(store, object!.name);
    const bytes = await readFile(path);
    bytes[Math.floor(bytes.length / 2)]! ^= 1;
    await writeFile(path, bytes);
  }
  const [taskManager] = (await json<{ taskManagers: { pid: number }[] }>(`${rest}/api/v1/details`))
    .taskManagers;
  process.kill(taskManager!.pid, 'SIGKILL');
  const after = await statusUntil(
    rest,
    'the fall-back',
    ({ state, restoredCheckpoint }) => state === 'RUNNING' && restoredCheckpoint !== null,
  );
  assert.ok(after.restoredCheckpoint!.id < newest.checkpointId, JSON.stringify(after));
  const log = await readFile(join(stateDir, 'logs', 'jobmanager.log'), 'utf8');
  assert.match(log, new RegExp(`checkpoint ${newest.checkpointId} is damaged`));
  job.interrupt();
  await job.until(/final checkpoint \d+ /);
  assert.equal(await job.exit(), 0);
});

test('validate names every fault with line and column', async () => {
  const file = join(folder, 'broken.yaml');
  const sample = await readFile(SAMPLE, 'utf8');
  await writeFile(file, sample.replace('ttl: 10m', 'ttl: soon').replace('&& user', 'and user'));
  const { code, output } = await run('validate', file);
  assert.equal(code, 1);
  assert.match(output, /broken\.yaml:\d+:\d+: .*spec\.state\.ttl/);
  assert.match(output, /\^/, 'the script fault has a caret');
  const good = await run('validate', SAMPLE);
  assert.equal(good.code, 0, good.output);
});

test('a file is read to its end: matches on the terminal, a final checkpoint, exit 0', async () => {
  const events = join(folder, 'events.ndjson');
  const lines = Array.from({ length: 50 }, (_, n) => {
    return JSON.stringify({ user_id: `u${n % 7}`, n, triggerable: n % 5 === 0 });
  });
  await writeFile(events, `${lines.join('\n')}\nno json\n`);
  const job = join(folder, 'file-job.yaml');
  await writeFile(
    job,
    JSON.stringify({
      apiVersion: 'triggerjob.io/v1alpha1',
      kind: 'TriggerJob',
      metadata: { name: 'file-job' },
      spec: {
        parallelism: 2,
        source: { file: { paths: [events] } },
        filter: { script: 'event.triggerable && visit.event_count != nil' },
        action: { debug: {} },
      },
    }),
  );
  const args = ['run', job, '--state-dir', join(folder, 'file-state')];
  const first = await run(...args, '--rest-port', String(await freePort()));
  assert.equal(first.code, 0, first.output);
  assert.match(first.output, /DEBUG EVENT .*"n":10,/);
  const summary = /the input has ended: 51 events, 8 matched, 8 delivered, 1 to the dead letter/;
  assert.match(first.output, summary);
  assert.match(first.output, /final checkpoint \d+ .* taken/);
  const second = await run(...args, '--rest-port', String(await freePort()));
  assert.equal(second.code, 0, second.output);
  assert.match(second.output, /resumed from checkpoint/);
  assert.doesNotMatch(second.output, /DEBUG EVENT/, 'nothing is read a second time');
});
