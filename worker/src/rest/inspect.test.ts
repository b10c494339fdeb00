/** Users, explain, hot keys, ledger, tap over REST; the JobManager's tasks answer by hand. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { keyGroupOf, subtaskOf } from '../exchange/key-groups.ts';
import { FakeTaskManager } from '../jobmanager/fake-task-manager.ts';
import { TestCluster, testPlan, until } from '../jobmanager/test-cluster.ts';
import type { Decision, SlotAnswer, SlotQuery, TappedRecord } from '../rpc/inspection.ts';
import { realEnv } from '../runtime/env.ts';
import { explain } from './explain-request.ts';
import { startRest } from './rest-server.ts';
import { RestTokens } from './rest-tokens.ts';

const TOKEN = '0123456789abcdef';
const GROUPS = 8;
const SCRIPT = {
  version: 'v1',
  text: 'event.n > 5 && count(history) > 1',
  language: 'aviator' as const,
};
const DECISION: Decision = {
  at: 7,
  topic: 'events',
  partition: 1,
  offset: 9,
  verdict: 'match',
  error: null,
  scriptVersion: 'v1',
};

type Body = Record<string, unknown> & { errors?: string[] };

async function serve(t: TestContext, options: { tokens?: boolean } = {}) {
  const cluster = new TestCluster();
  t.after(() => cluster.close());
  const manager = await cluster.start({ plan: testPlan(), script: SCRIPT });
  const tm = await FakeTaskManager.connect(manager.rpcPort, 2);
  t.after(() => tm.close());
  await until('running', () => manager.view().status === 'RUNNING');
  const folder = mkdtempSync(join(tmpdir(), 'triggerjob-inspect-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'tokens');
  writeFileSync(file, TOKEN);
  const tokens = options.tokens ? new RestTokens(file, realEnv, assert.fail) : null;
  const at = { bindAddress: '127.0.0.1', port: 0, env: realEnv, tokens };
  const rest = await startRest({ ...at, jobManager: () => manager, leader: () => null });
  const own = `http://127.0.0.1:${rest.port}`;
  const standby = await startRest({ ...at, jobManager: () => null, leader: () => own });
  t.after(() => Promise.all([rest.close(), standby.close()]));
  const base = `/api/v1/jobs/${manager.jobId}`;
  const call = async (path: string, init?: RequestInit) => {
    const response = await fetch(`${own}${base}/${path}`, init);
    return { status: response.status, body: (await response.json()) as Body };
  };
  const ask = (body: object) => call('explain', { method: 'POST', body: JSON.stringify(body) });
  return { cluster, manager, tm, rest, own, standby, base, call, ask };
}

function userAnswer(subtask: number, change: object = {}): SlotAnswer {
  const found = {
    from: 'disk' as const,
    bytes: 77,
    lastAccess: 1_000,
    sequence: 12,
    profile: '{"country":"US"}',
    visit: `{"event_count":${subtask}}`,
    history: '[{"n":1},{"n":2}]',
    historyShown: 2,
    historyEvents: 2,
    ...change,
  };
  return { kind: 'user', found, parked: 1, outbox: 2, decisions: [DECISION] };
}

test('a user is asked from the task that owns its key group; texts go through', async (t) => {
  const { tm, call } = await serve(t);
  const asked: [SlotQuery, number][] = [];
  tm.answers = (query, subtask) => {
    asked.push([query, subtask]);
    return userAnswer(subtask);
  };
  for (const id of ['ann', 'bob', 'c/d e%']) {
    const { status, body } = await call(`users/${encodeURIComponent(id)}?historyLimit=3`);
    const keyGroup = keyGroupOf(id, GROUPS);
    const subtask = subtaskOf(keyGroup, 2, GROUPS);
    assert.equal(status, 200);
    assert.deepEqual(body, {
      userId: id,
      keyGroup,
      subtask,
      taskManagerId: 'tm-1',
      from: 'disk',
      bytes: 77,
      lastAccess: 1_000,
      expiresAt: 601_000,
      sequence: 12,
      user: { country: 'US' },
      visit: { event_count: subtask },
      history: [{ n: 1 }, { n: 2 }],
      historyEvents: 2,
      parked: 1,
      outbox: 2,
      decisions: [DECISION],
      omitted: [],
    });
    const [query, at] = asked.at(-1)!;
    assert.equal(at, subtask);
    const limits = { historyLimit: 3, maxBytes: 1024 * 1024 };
    assert.deepEqual(query, { kind: 'user', userId: id, keyGroup, ...limits });
  }
  tm.answers = () => ({ kind: 'user', found: null, parked: 3, outbox: 0, decisions: [] });
  const gone = await call('users/ann');
  assert.equal(gone.status, 404);
  assert.match(gone.body.errors?.[0] ?? '', /ann is not in state; 3 of its events wait/);
  assert.equal((await call('users/ann?historyLimit=x')).status, 400);
});

test('a task that moves, restarts or is lost meanwhile: 503, never an answer', async (t) => {
  const { manager, tm, call } = await serve(t);
  const refused = async (asked: Promise<{ status: number; body: Body }>, why: RegExp) => {
    const { status, body } = await asked;
    assert.deepEqual([status, why.test(body.errors?.[0] ?? '')], [503, true], JSON.stringify(body));
  };
  for (const code of ['moved', 'restoring'] as const) {
    tm.answers = () => ({ kind: 'failed', code, error: `it is ${code}` });
    await refused(call('users/ann'), new RegExp(`it is ${code}; ask again`));
  }
  tm.answers = () => ({ kind: 'failed', code: 'failed', error: 'no such row' });
  assert.equal((await call('users/ann')).status, 500);
  // The answer of an attempt that is over counts for nothing, though its TaskManager lives.
  tm.answers = () => null;
  const queries = () => tm.commands.filter((command) => command.type === 'query');
  const before = queries().length;
  const early = call('users/ann');
  await until('it is asked', () => queries().length > before);
  const { attempt, id } = queries().at(-1)!;
  tm.runs = false;
  tm.fail(0, 'BROKEN');
  await until('another attempt', () => tm.commands.filter((c) => c.type === 'deploy').length === 2);
  const answer = userAnswer(0);
  tm.send({ type: 'answer', taskManagerId: tm.id, attempt, id, answer });
  await refused(early, /moved or restarted meanwhile; ask again/);
  await refused(call('users/ann'), /subtask \d is DEPLOYING; ask again/);
  // The TaskManager that was asked is lost.
  const running = await FakeTaskManager.connect(manager.rpcPort, 2, 'tm-2');
  t.after(() => running.close());
  tm.close();
  await until('the second one runs them', () => manager.view().status === 'RUNNING');
  const unanswered = call('users/ann');
  await running.next('query');
  running.close();
  await refused(unanswered, /TaskManager tm-2 was lost meanwhile; ask again/);
  await refused(call('users/ann'), /no task is deployed|is not deployed|is CANCELING/);
});

test('explain: of a live user, of given state, and its refusals', async (t) => {
  const { tm, ask } = await serve(t);
  const asked: SlotQuery[] = [];
  tm.answers = (query, subtask) => {
    asked.push(query);
    return userAnswer(subtask);
  };
  const live = await ask({ userId: 'ann', event: { n: 9 } });
  assert.equal(live.status, 200, JSON.stringify(live.body));
  assert.equal(live.body['verdict'], 'match');
  const given = await ask({ userId: 'ann', event: { n: 9 }, history: [] });
  assert.equal(given.body['verdict'], 'no-match');
  const { text, line, column, value } = given.body['deciding'] as Record<string, unknown>;
  assert.deepEqual([text, line, column, value], ['count(history) > 1', 1, 16, false]);
  const other = { event: { n: 1 }, script: 'user.x == 1 or event.n > 0', language: 'filtrex' };
  assert.equal((await ask(other)).body['verdict'], 'match');
  assert.equal(asked.length, 2, 'what is given needs no task');
  await ask({ userId: 'ann', event: {}, script: 'user.country == "US"' });
  const limits = asked.map((query) => (query.kind === 'user' ? query.historyLimit : -1));
  assert.deepEqual(limits, [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, 0]);

  tm.answers = (_, subtask) => userAnswer(subtask, { historyEvents: 90_000 });
  const cut = await ask({ userId: 'ann', event: { n: 9 } });
  assert.equal(cut.status, 413, 'of a part of the history another verdict could come');
  for (const [body, status] of [
    [{}, 400],
    [{ event: [] }, 400],
    [{ event: {}, userid: 'ann' }, 400],
    [{ event: {}, history: {} }, 400],
    [{ event: {}, language: 'java' }, 400],
    [{ event: {}, script: 'event.n >' }, 400],
    [{ event: { pad: 'x'.repeat(2 << 20) } }, 413],
  ] as const) {
    assert.equal((await ask(body)).status, status, JSON.stringify(body).slice(0, 80));
  }
});

test('explanations at once are few, and each is short of the steps a job may take', async (t) => {
  const { manager } = await serve(t);
  const plan = testPlan();
  plan.filter.stepBudget = 1_000_000;
  const rounds = (count: number) => ({
    event: {},
    script: `let n = 0; for i in range(0, ${count}) { n = n + 1; } return n > 0;`,
  });
  const asked = (body: object) => explain(manager.inspection!, plan, body as Body);
  assert.equal((await asked(rounds(100))).verdict, 'match');
  const long = { status: 413, message: /more than 20000 steps.*triggerjob eval/ };
  await assert.rejects(asked(rounds(30_000)), long);
  await assert.rejects(
    asked({ event: {}, script: `let n = 0; ${'n = 1;'.repeat(10_900)} n > 0` }),
    long,
  );
  const many = await Promise.allSettled(Array.from({ length: 10 }, () => asked(rounds(1))));
  const refused = many.flatMap((one) => (one.status === 'rejected' ? [one.reason.code] : []));
  assert.deepEqual(refused, ['LOOKS_FULL', 'LOOKS_FULL']);
  assert.equal((await asked(rounds(1))).verdict, 'match');
});

test('hot keys of all tasks, one order; the ledger now and of retained checkpoints', async (t) => {
  const { tm, manager, call } = await serve(t);
  tm.answers = (query, subtask) => {
    if (query.kind !== 'hot-keys') return null;
    const key = { errorBound: 1, keyGroup: 0, stateBytes: 10, bytes: null };
    const keys = [
      { ...key, userId: `hot-${subtask}`, events: 30 + subtask },
      { ...key, userId: `warm-${subtask}`, events: 20 - subtask },
    ];
    return { kind: 'hot-keys', since: 5 + subtask, events: 100, bytes: 1_000, keys };
  };
  const { body } = await call('hot-keys?by=events&top=3');
  assert.deepEqual([body['since'], body['events']], [5, 200]);
  const keys = body['keys'] as { userId: string; share: number; subtask: number }[];
  assert.deepEqual(
    keys.map(({ userId, share, subtask }) => [userId, share, subtask]),
    [
      ['hot-1', 0.155, 1],
      ['hot-0', 0.15, 0],
      ['warm-0', 0.1, 0],
    ],
  );
  assert.equal((await call('hot-keys?by=size')).status, 400);

  const untold = await call('ledger');
  assert.deepEqual(untold.body, { balanced: true, now: null, checkpoints: [] });
  tm.inOutbox = 3;
  const ids = [await manager.checkpoint(), await manager.checkpoint(), await manager.checkpoint()];
  const counts = { noMatch: 4, delivered: 3, deadLettered: 1, parked: 1, inOutbox: 1 };
  for (const subtask of [0, 1]) {
    tm.heartbeat({ subtask, attempt: 1, ledger: { ...counts, accepted: 10 + subtask } });
  }
  await until('both told', () => manager.view().subtasks.length === 2);
  const told = (await call('ledger')).body;
  assert.equal(told['balanced'], false);
  const now = { accepted: 21, noMatch: 8, delivered: 6, deadLettered: 2, parked: 2, outbox: 2 };
  assert.deepEqual(told['now'], { ...now, imbalance: 1 });
  const checkpoints = told['checkpoints'] as Record<string, number>[];
  assert.deepEqual(
    checkpoints.map(({ checkpointId, outbox, imbalance }) => [checkpointId, outbox, imbalance]),
    [
      [ids[2], 6, -6],
      [ids[1], 6, -6],
    ],
  );
});

/** Events as they come: name and data. */
async function* eventsOf(response: Response): AsyncGenerator<[string, Body]> {
  let text = '';
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(text.slice(0, end)) ?? [];
      text = text.slice(end + 2);
      if (name !== undefined) yield [name, JSON.parse(data!) as Body];
    }
  }
}

function tapped(offset: number): TappedRecord {
  const rest = {
    at: 1,
    userId: 'ann',
    topic: 't',
    partition: 0,
    subtask: 0,
    event: `{"n":${offset}}`,
  };
  return { ...rest, stage: 'matched', offset, verdict: 'match', reason: null };
}

test('a tap through a standby: records, what was skipped, its limit, and its end', async (t) => {
  const { tm, manager, standby, base } = await serve(t);
  let offset = 0;
  const taps = new Set<string>();
  tm.answers = (query) => {
    if (query.kind === 'untap') taps.delete(query.id);
    if (query.kind === 'untap') return { kind: 'untapped' };
    if (query.kind !== 'tap') return null;
    assert.deepEqual({ ...query.tap, id: '' }, { id: '', stage: 'matched', userId: 'ann' });
    taps.add(query.tap.id);
    return { kind: 'tapped', records: [tapped(offset++)], skipped: offset === 2 ? 40 : 0 };
  };
  const url = `http://127.0.0.1:${standby.port}${base}/tap?stage=matched&user=ann`;
  const seen: [string, unknown][] = [];
  const limited = await fetch(`${url}&limit=3`);
  assert.match(limited.headers.get('content-type') ?? '', /^text\/event-stream/);
  for await (const [name, body] of eventsOf(limited)) {
    seen.push([name, body['offset'] ?? body['count'] ?? body['reason']]);
  }
  assert.deepEqual(seen, [
    ['record', 0],
    ['skipped', 40],
    ['record', 1],
    ['record', 2],
    ['end', 'limit'],
  ]);
  await until('the tasks forget it', () => taps.size === 0);

  const aborting = new AbortController();
  const left = await fetch(url, { signal: aborting.signal });
  for await (const [name] of eventsOf(left)) if (name === 'record') break;
  aborting.abort();
  await until('its client is gone', () => taps.size === 0);

  const open = await Promise.all(Array.from({ length: 8 }, () => fetch(url)));
  const full = await fetch(url);
  assert.equal(full.status, 503);
  await manager.close();
  for (const response of open) {
    let last = '';
    for await (const [name] of eventsOf(response)) last = name;
    assert.equal(last, 'end');
  }
});

test('taps that are asked for at once: one per connection, and none outlives it', async (t) => {
  const { manager, rest, own, base } = await serve(t);
  const taps = () => manager.inspection?.bounds.inspection_taps.value;
  const text = `GET ${base}/tap HTTP/1.1\r\nHost: localhost\r\n\r\n`;
  const client = connect(rest.port, '127.0.0.1');
  t.after(() => client.destroy());
  client.write(text.repeat(20));
  await until('the first is open', () => taps() === 1);
  const statuses = async (count: number) => {
    const answers = await Promise.all(
      Array.from({ length: count }, () => fetch(`${own}${base}/tap`)),
    );
    return answers.map(({ status }) => status).sort();
  };
  // Seven places are left.
  assert.deepEqual(await statuses(9), [200, 200, 200, 200, 200, 200, 200, 503, 503]);
  client.destroy();
  await until('its place is free', () => taps() === 7);
});

test('with tokens whatever shows data of users needs one, through a standby too', async (t) => {
  const { tm, rest, standby, base } = await serve(t, { tokens: true });
  tm.answers = (query, subtask) => (query.kind === 'user' ? userAnswer(subtask) : null);
  const statuses = async (port: number, init: RequestInit) => {
    const ask = async (path: string, method = 'GET') => {
      const body = method === 'POST' ? '{"event":{}}' : null;
      const url = `http://127.0.0.1:${port}${base}/${path}`;
      const response = await fetch(url, { ...init, method, body });
      await response.body?.cancel();
      return response.status;
    };
    const tapping = await ask('tap?stage=keyed');
    return [await ask('users/ann'), tapping, await ask('explain', 'POST'), await ask('ledger')];
  };
  for (const { port } of [rest, standby]) {
    assert.deepEqual(await statuses(port, {}), [401, 401, 401, 200]);
    const authorization = `Bearer ${TOKEN}`;
    assert.deepEqual(await statuses(port, { headers: { authorization } }), [200, 200, 200, 200]);
  }
});
