import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { summarize } from '../jobmanager/checkpoint-history.ts';
import { realEnv } from '../runtime/env.ts';
import { AsyncOperations } from './async-operations.ts';
import { startRest } from './rest-server.ts';
import { RestTokens } from './rest-tokens.ts';
import { matchRoute } from './router.ts';
import { serveJob } from './test-rest.ts';

/** What these tests read, of whatever answer: the assertions say which of it must be there. */
interface Answer {
  'slots-total': number;
  'slots-available': number;
  'jobs-running': number;
  features: { 'web-submit': boolean };
  jobs: { jid: string; tasks: { running: number }; 'end-time': number }[];
  vertices: { name: string; parallelism: number; status: string }[];
  timestamps: { RUNNING: number; FAILED: number };
  'status-counts': { RUNNING: number };
  taskmanagers: { id: string; slotsNumber: number; freeSlots: number }[];
  'request-id': string;
  status?: { id: string };
  operation: Operation;
  counts: { completed: number };
  latest: { completed: { id: number; status: string } };
  history: object[];
  summary: { state_size: { max: number } };
  tasks: object;
  mode: string;
  errors: string[];
  exceptionHistory: { entries: { exceptionName: string }[] };
  state: string;
  matched: number;
  lag: number | null;
  inputEnded: boolean;
  restoredCheckpoint: object | null;
  lastCheckpoint: { stateBytes: number };
  filter: object;
  subtasks: { matched: number }[];
}

interface Operation {
  checkpointId: number;
  location: string;
  'failure-cause': { 'stack-trace': string };
}

const serve = (t: TestContext) => serveJob<Answer>(t);

async function completed(get: (path: string) => Promise<Answer>, path: string): Promise<Operation> {
  for (let i = 0; i < 400; i += 1) {
    const answer = await get(path);
    if (answer.status?.id === 'COMPLETED') return answer.operation;
    await delay(5);
  }
  return assert.fail(`${path} never completed`);
}

test("the job in Flink's shapes, also below /v1", async (t) => {
  const { manager, get } = await serve(t);
  const { jobId } = manager;
  assert.match(jobId, /^[0-9a-f]{32}$/);
  const overview = await get('/v1/overview');
  assert.equal(overview['slots-total'], 2);
  assert.equal(overview['slots-available'], 0);
  assert.equal(overview['jobs-running'], 1);
  assert.equal((await get('/config')).features['web-submit'], false);
  assert.deepEqual(await get('/jobs'), { jobs: [{ id: jobId, status: 'RUNNING' }] });
  const [listed] = (await get('/jobs/overview')).jobs;
  assert.equal(listed?.jid, jobId);
  assert.equal(listed?.tasks.running, 8);
  assert.equal(listed?.['end-time'], -1);
  const job = await get(`/jobs/${jobId}`);
  assert.deepEqual(
    job.vertices.map((vertex) => [vertex.name, vertex.parallelism, vertex.status]),
    ['Source', 'UserStateManager', 'EventFilter', 'ActionExecutor'].map((n) => [n, 2, 'RUNNING']),
  );
  assert.ok(job.timestamps.RUNNING > 0);
  assert.equal(job.timestamps.FAILED, 0);
  assert.equal(job['status-counts'].RUNNING, 4);
  assert.deepEqual(await get(`/jobs/${jobId}/status`), { status: 'RUNNING' });
  const [member] = (await get('/taskmanagers')).taskmanagers;
  assert.deepEqual([member?.id, member?.slotsNumber, member?.freeSlots], ['tm-1', 2, 0]);
});

test('checkpoints: trigger by id, history, details, config', async (t) => {
  const { manager, get, post } = await serve(t);
  const base = `/jobs/${manager.jobId}/checkpoints`;
  const started = await post(base, { triggerId: 'abc' });
  assert.deepEqual(started, { status: 202, body: { 'request-id': 'abc' } });
  const { checkpointId } = await completed(get, `${base}/abc`);
  assert.deepEqual((await post(base, { triggerId: 'abc' })).body, { 'request-id': 'abc' });
  assert.equal((await completed(get, `${base}/abc`)).checkpointId, checkpointId);
  const { counts, latest, history, summary } = await get(base);
  assert.equal(counts.completed, 1, 'the same trigger id starts nothing new');
  assert.equal(latest.completed.id, checkpointId);
  assert.equal(latest.completed.status, 'COMPLETED');
  assert.equal(history.length, 1);
  assert.equal(summary.state_size.max, 2000);
  const details = await get(`${base}/details/${checkpointId}`);
  assert.equal(Object.keys(details.tasks).length, 4);
  assert.equal((await get(`${base}/config`)).mode, 'exactly_once');
});

test('savepoints, stop, exceptions, errors', async (t) => {
  const { manager, tm, rest, get, post, call } = await serve(t);
  const base = `/jobs/${manager.jobId}`;
  const unknown = await call('/jobs/00000000000000000000000000000000/checkpoints');
  assert.equal(unknown.status, 404);
  assert.match(unknown.body.errors[0] ?? '', /not found/);
  assert.equal((await call('/nothing')).status, 404);
  assert.equal((await call(`${base}/savepoints/none`)).status, 404);
  assert.equal((await post('/overview')).status, 405);
  assert.equal((await call(`${base}/stop`, { method: 'POST', body: '{' })).status, 400);
  assert.equal((await post(`${base}/savepoints`, { 'target-directory': 5 })).status, 400);
  assert.equal((await post(`${base}/savepoints`, { 'cancel-job': 'yes' })).status, 400);
  tm.onTrigger = 'decline';
  const failing = await post(`${base}/savepoints`);
  const failed = await completed(get, `${base}/savepoints/${failing.body['request-id']}`);
  assert.match(failed['failure-cause']['stack-trace'], /DECLINED.*told to/);
  tm.onTrigger = 'ack';
  const good = await post(`${base}/savepoints`, { 'target-directory': 'memory://mine' });
  const { location } = await completed(get, `${base}/savepoints/${good.body['request-id']}`);
  assert.match(location, /^memory:\/\/mine\/savepoint-/);
  tm.fail(0, 'BROKEN');
  for (let i = 0; i < 400 && manager.view().attempt < 2; i += 1) await delay(5);
  const { exceptionHistory } = await get(`${base}/exceptions`);
  assert.equal(exceptionHistory.entries[0]?.exceptionName, 'BROKEN');
  for (let i = 0; i < 400 && manager.view().status !== 'RUNNING'; i += 1) await delay(5);
  const stop = await post(`${base}/stop`, { targetDirectory: 'memory://last', drain: false });
  assert.equal(stop.status, 202);
  assert.deepEqual(await manager.done, { kind: 'finished' });
  // The job is over, its JobManager waits until the location is known.
  let read = false;
  const reading = rest.answersRead().then(() => {
    read = true;
  });
  await delay(50);
  assert.equal(read, false);
  const last = await completed(get, `${base}/savepoints/${stop.body['request-id']}`);
  assert.match(last.location, /^memory:\/\/last\/savepoint-/);
  await reading;
  assert.equal((await post(`${base}/savepoints`)).status, 409);
  assert.equal((await call(`${base}?mode=cancel`, { method: 'PATCH' })).status, 409);
});

test('cancel with a savepoint; its disposal, once or twice, and of nothing else', async (t) => {
  const { manager, cluster, get, post } = await serve(t);
  const base = `/jobs/${manager.jobId}`;
  const request = { 'cancel-job': true, 'target-directory': 'memory://mine', triggerId: 'bye' };
  assert.deepEqual((await post(`${base}/savepoints`, request)).body, { 'request-id': 'bye' });
  const { location } = await completed(get, `${base}/savepoints/bye`);
  assert.deepEqual(await manager.done, { kind: 'canceled' });
  assert.equal((await post(`${base}/savepoints`, request)).status, 202, 'the same one, again');
  assert.equal((await post('/savepoint-disposal')).status, 400);
  for (const triggerId of ['once', 'twice']) {
    await post('/savepoint-disposal', { 'savepoint-path': location, triggerId });
    assert.deepEqual(await completed(get, `/savepoint-disposal/${triggerId}`), {});
    assert.equal(cluster.savepoints.get(location)?.objects.size, 0);
  }
  cluster.savepoints.set('memory://job', cluster.store);
  await post('/savepoint-disposal', { 'savepoint-path': 'memory://job', triggerId: 'job' });
  const refused = await completed(get, '/savepoint-disposal/job');
  assert.match(refused['failure-cause']['stack-trace'], /is no savepoint/);
});

test('the disposal of all that a job has stored: of a job of the operator alone', async (t) => {
  const { manager, get, post } = await serve(t);
  const base = `/jobs/${manager.jobId}`;
  assert.equal((await post('/jobs/another/disposal')).status, 404);
  assert.equal((await post(`${base}/disposal`, { triggerId: 'all' })).status, 202);
  const refused = await completed(get, `${base}/disposal/all`);
  assert.match(refused['failure-cause']['stack-trace'], /only the operator's jobs/);
  manager.dispose = () => Promise.resolve({ deleted: 3, savepoints: 1, left: ['x is damaged'] });
  await post(`${base}/disposal`, { triggerId: 'again' });
  const done = { deleted: 3, savepoints: 1, left: ['x is damaged'] };
  assert.deepEqual(await completed(get, `${base}/disposal/again`), done);
});

test('PATCH mode=cancel ends the job without a final checkpoint', async (t) => {
  const { manager, call } = await serve(t);
  const answer = await call(`/jobs/${manager.jobId}?mode=cancel`, { method: 'PATCH' });
  assert.equal(answer.status, 202);
  assert.deepEqual(await manager.done, { kind: 'canceled' });
  assert.equal(manager.view().checkpoints.counts.total, 0);
});

test('the status line and the metrics', async (t) => {
  const { manager, tm, rest, get } = await serve(t);
  tm.heartbeat({
    subtask: 0,
    attempt: 1,
    matched: 3,
    busyMs: 2000,
    pendingRecords: 9,
    openSplits: 1,
    extra: { x: 4 },
  });
  while (manager.view().counters.matched !== 3) await delay(2);
  // A part of the lag is no lag, and one subtask at its end is not the end of the input.
  const early = await get('/api/v1/details');
  assert.deepEqual([early.lag, early.inputEnded], [null, false]);
  tm.heartbeat({ subtask: 1, attempt: 1, openSplits: 0 });
  while (manager.view().subtasks.length < 2) await delay(2);
  await manager.checkpoint();
  const status = await get('/api/v1/details');
  assert.equal(status.state, 'RUNNING');
  assert.equal(status.matched, 3);
  assert.deepEqual([status.lag, status.inputEnded], [9, false]);
  assert.equal(status.restoredCheckpoint, null);
  assert.equal(status.lastCheckpoint.stateBytes, 2000);
  assert.deepEqual(status.filter, {
    version: 'v1',
    wanted: 'v1',
    refused: null,
    refusedVersion: null,
  });
  assert.equal(status.subtasks[0]?.matched, 3);
  const text = await (await fetch(`http://127.0.0.1:${rest.port}/metrics`)).text();
  assert.match(text, /# TYPE triggerjob_matched_total counter/);
  assert.match(text, /triggerjob_matched_total\{[^}]*\} 3\n/);
  assert.match(text, /triggerjob_busy_seconds_total\{[^}]*\} 2\n/);
  assert.match(text, /triggerjob_extra\{name="x"[^}]*\} 4\n/);
});

test('a port that is taken is told by the name of its setting', async (t) => {
  const { rest, options } = await serve(t);
  await assert.rejects(startRest({ ...options, port: rest.port }), {
    code: 'REST_LISTEN',
    message: /rest\.port/,
  });
});

/** A standby beside a leader; `leader.at`: whom the standby takes for it. */
async function standbyOf(t: TestContext) {
  const served = await serve(t);
  const leader = { at: null as string | null };
  const standby = await startRest({
    ...served.options,
    port: 0,
    jobManager: () => null,
    leader: () => leader.at,
  });
  t.after(() => standby.close());
  const own = `http://127.0.0.1:${served.rest.port}`;
  return { ...served, leader, own, url: `http://127.0.0.1:${standby.port}` };
}

test('a standby asks the leader for everybody, with method, body and status', async (t) => {
  const { own, leader, url, manager } = await standbyOf(t);
  const ready = async (at: string) => (await fetch(`${at}/readyz`)).status;
  assert.deepEqual([await ready(url), await ready(own)], [503, 200]);
  const unknown = await fetch(`${url}/overview`);
  assert.equal(unknown.status, 503);
  assert.match(((await unknown.json()) as Answer).errors[0] ?? '', /standby; nobody leads/);
  leader.at = own;
  assert.equal(await ready(url), 200);
  const answer = await fetch(`${url}/overview?x=1`, { redirect: 'manual' });
  assert.equal(answer.status, 200);
  assert.equal(((await answer.json()) as Answer)['jobs-running'], 1);
  const post = { method: 'POST', body: '{"triggerId":"through-the-standby"}' };
  const asked = await fetch(`${url}/jobs/${manager.jobId}/checkpoints`, post);
  assert.deepEqual(
    [asked.status, await asked.json()],
    [202, { 'request-id': 'through-the-standby' }],
  );
  assert.equal((await fetch(`${url}/jobs/none`)).status, 404);
  assert.match(await (await fetch(`${url}/metrics`)).text(), /^triggerjob_jobmanager_leading 0$/m);
  const role = async (at: string) => (await fetch(`${at}/api/v1/leader`)).json();
  assert.deepEqual(await role(url), { role: 'standby', leader: own, leaderEpoch: null });
  assert.deepEqual(await role(own), { role: 'leader', leader: null, leaderEpoch: 1 });
  for (const at of [own, url]) assert.equal((await fetch(`${at}/healthz`)).status, 200);
});

test('a leader that is gone, or that is no leader, is a 503 and no endless round', async (t) => {
  const { leader, url } = await standbyOf(t);
  leader.at = 'http://127.0.0.1:1';
  const gone = await fetch(`${url}/overview`);
  assert.equal(gone.status, 503);
  assert.match(
    ((await gone.json()) as Answer).errors[0] ?? '',
    /127\.0\.0\.1:1 leads and does not/,
  );
  leader.at = url;
  const round = await fetch(`${url}/overview`);
  assert.equal(round.status, 503);
  assert.match(((await round.json()) as Answer).errors[0] ?? '', /nobody leads now/);
});

test('with tokens only who bears one may change something, also through a standby', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'tokens-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'rest-token');
  const [first, second] = ['a'.repeat(32), 'b'.repeat(32)];
  writeFileSync(file, `${first}\n`);
  const { options, manager } = await serve(t);
  let now = 0;
  const faults: string[] = [];
  const env = { ...realEnv, monotonic: () => now };
  const tokens = new RestTokens(file, env, (fault) => faults.push(fault));
  const guarded = await startRest({ ...options, port: 0, tokens });
  const leader = () => `http://127.0.0.1:${guarded.port}`;
  const standby = await startRest({ ...options, port: 0, jobManager: () => null, leader, tokens });
  t.after(() => Promise.all([guarded.close(), standby.close()]));
  for (const { port } of [guarded, standby]) {
    const url = `http://127.0.0.1:${port}/jobs/${manager.jobId}`;
    const change = async (token: string | null, path = '/checkpoints', method = 'POST') => {
      const headers = token === null ? {} : { authorization: `Bearer ${token}` };
      const answer = await fetch(`${url}${path}`, { method, headers, body: '{}' });
      return [answer.status, (await answer.json()) as Answer] as const;
    };
    assert.equal((await fetch(url)).status, 200, 'reading is open');
    for (const token of [null, '', 'wrong', `${first}x`, second]) {
      const [status, body] = await change(token);
      assert.equal(status, 401);
      assert.match(body.errors[0] ?? '', /token/);
    }
    assert.equal((await change('x', '', 'PATCH'))[0], 401);
    assert.equal((await change('x', '/resource-requirements', 'PUT'))[0], 401);
    assert.equal((await change('x', '', 'DELETE'))[0], 401);
    assert.equal((await change(first))[0], 202);
  }
  const passes = async (token: string) => {
    now += 1_001;
    return tokens.admits(`Bearer ${token}`);
  };
  writeFileSync(file, `${first}\n${second}\n`);
  assert.deepEqual([await passes(first), await passes(second)], [true, true]);
  writeFileSync(file, `${second}\n`);
  assert.deepEqual([await passes(first), await passes(second)], [false, true]);
  writeFileSync(file, '');
  assert.deepEqual([await passes(first), await passes(second)], [false, true], 'the last that was');
  assert.match(faults.join(), /is empty/);
  const refused = (text: string, message: RegExp) => {
    writeFileSync(file, text);
    assert.throws(() => new RestTokens(file, env, () => undefined), {
      code: 'REST_TOKEN_FILE',
      message,
    });
  };
  refused('short\n', /less than 16/);
  refused(`${first}\n`.repeat(5), /5 tokens/);
});

test('a body above the limit is refused, also through a standby', async (t) => {
  const { own, leader, url, manager } = await standbyOf(t);
  leader.at = own;
  const body = JSON.stringify({ 'target-directory': 'x'.repeat(70_000) });
  for (const at of [own, url]) {
    const answer = await fetch(`${at}/jobs/${manager.jobId}/savepoints`, { method: 'POST', body });
    assert.equal(answer.status, 413);
  }
});

test("the operator's one answer", async (t) => {
  const { manager, get, post, tm } = await serve(t);
  tm.onTrigger = 'decline';
  await assert.rejects(manager.checkpoint());
  const before = (await get('/api/v1/status')) as unknown as Record<string, unknown>;
  assert.equal(before['failedCheckpoints'], 1);
  assert.equal(before['lastCheckpoint'], null);
  tm.onTrigger = 'ack';
  const id = await manager.checkpoint();
  const base = `/jobs/${manager.jobId}`;
  await post(`${base}/savepoints`, { triggerId: 'mine' });
  const { location } = await completed(get, `${base}/savepoints/mine`);
  const status = (await get('/api/v1/status')) as unknown as Record<string, unknown>;
  const { lastCheckpoint, lastSavepoint, since, now, specDigest, ...rest } = status;
  const last = lastCheckpoint as Record<string, unknown>;
  assert.ok((last['id'] as number) > id, 'of the savepoint');
  assert.match(String(last['location']), /^memory:\/\/.*manifests\//);
  assert.equal((lastSavepoint as Record<string, unknown>)['location'], location);
  assert.ok(Number(since) > 0 && Number(now) >= Number(since));
  assert.match(String(specDigest), /^[0-9a-f]{64}$/);
  assert.deepEqual(rest, {
    jobId: manager.jobId,
    run: null,
    state: 'RUNNING',
    leader: { epoch: 1, address: null },
    parallelism: 2,
    desiredParallelism: 2,
    taskManagers: { registered: 1, slotsTotal: 2, slotsFree: 0 },
    numRestarts: 0,
    failedCheckpoints: 0,
    stopSavepoint: null,
    scriptVersion: { running: 'v1', wanted: 'v1', refused: null },
    lag: null,
    error: null,
    exceptions: null,
  });
});

test('routes: parameters, methods, unknown paths', () => {
  const handler = () => ({ status: 200, body: {} });
  const routes = [{ method: 'GET', path: '/jobs/:jobid', handler }] as const;
  const found = matchRoute(routes, 'GET', '/v1/jobs/7');
  assert.deepEqual(found.kind === 'found' && found.params, { jobid: '7' });
  assert.equal(matchRoute(routes, 'POST', '/jobs/7').kind, 'wrong-method');
  assert.equal(matchRoute(routes, 'GET', '/jobs').kind, 'unknown');
});

test('operations are bounded and keep what is under way', async () => {
  const operations = new AsyncOperations(realEnv);
  for (let i = 0; i < 1_000; i += 1) {
    operations.start(`t${i}`, () => (i === 5 ? Promise.resolve({}) : new Promise(() => undefined)));
  }
  await delay(0);
  operations.start('next', () => new Promise(() => undefined));
  assert.equal(operations.result('t5'), undefined);
  assert.equal(operations.result('t0'), null);
  assert.throws(() => operations.start('over', () => Promise.resolve({})), {
    code: 'TOO_MANY_OPERATIONS',
  });
});

test('summary ranks', () => {
  const summary = summarize([4, 1, 3, 2]);
  assert.deepEqual([summary.min, summary.p50, summary.p99, summary.max], [1, 2, 4, 4]);
  assert.equal(summarize([]).p50, 0);
});

test("Flink's resource requirements: one parallelism for all vertices", async (t) => {
  const { manager, rest, get, call } = await serve(t);
  const path = `/jobs/${manager.jobId}/resource-requirements`;
  const requirements = await get(path);
  const ids = Object.keys(requirements);
  assert.equal(ids.length, 4);
  const all = (parallelism: unknown) => Object.fromEntries(ids.map((id) => [id, { parallelism }]));
  assert.deepEqual(requirements, all({ lowerBound: 1, upperBound: 2 }));
  const put = (body: object) => call(path, { method: 'PUT', body: JSON.stringify(body) });
  const red: [body: object, message: RegExp][] = [
    [{}, /upperBound is missing; all vertices must be named/],
    [{ ...all({ upperBound: 1 }), abc: {} }, /abc is no vertex/],
    [{ ...all({ upperBound: 1 }), [ids[3]!]: { parallelism: 2 } }, /upperBound is missing/],
    [{ ...all({ upperBound: 1 }), [ids[3]!]: { parallelism: { upperBound: 2 } } }, /1, 1, 1, 2/],
    [all({ lowerBound: 2, upperBound: 2 }), /lowerBound must be 1/],
    [all({ upperBound: '1' }), /upperBound is missing/],
    [
      all({ lowerBound: 1, upperBound: 9 }),
      /parallelism 9 is not possible: .*maxParallelism \(8\)/,
    ],
  ];
  for (const [body, message] of red) {
    const { status, body: answer } = await put(body);
    assert.equal(status, 400);
    assert.match(answer.errors[0] ?? '', message);
  }
  assert.deepEqual(await put(all({ lowerBound: 1, upperBound: 1 })), { status: 200, body: {} });
  assert.deepEqual(await get(path), all({ lowerBound: 1, upperBound: 1 }));
  while (manager.view().scaling.rescales === 0 || manager.view().status !== 'RUNNING')
    await delay(2);
  const [vertex] = (await get(`/jobs/${manager.jobId}`)).vertices;
  assert.equal(vertex?.parallelism, 1);
  const metrics = await (await fetch(`http://127.0.0.1:${rest.port}/metrics`)).text();
  assert.match(metrics, /^triggerjob_parallelism\{[^}]*\} 1$/m);
  assert.match(metrics, /^triggerjob_parallelism_wanted\{[^}]*\} 1$/m);
  assert.match(metrics, /^triggerjob_rescales_total\{[^}]*\} 1$/m);
});
