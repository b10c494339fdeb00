import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import {
  hurriedEnv,
  type Loopback,
  type Seen,
  silentLog,
  startLoopback,
} from '../action/test-loopback.ts';
import type { ProfileApiPlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { openHttpProfileApi, type ProfileApiTuning } from './http-profile-api.ts';
import type { ProfileApi } from './profile-api.ts';

const PLAN: ProfileApiPlan = {
  url: 'http://127.0.0.1:1',
  timeoutMs: 30_000,
  maxConcurrent: 8,
  maxResponseBytes: 1024 * 1024,
  onError: 'retry',
  maxAttempts: 3,
  initialBackoffMs: 100,
  maxBackoffMs: 1_000,
};

function open(
  t: TestContext,
  over: Partial<ProfileApiPlan>,
  tuning: ProfileApiTuning = {},
  env: Env = hurriedEnv(20),
): ProfileApi {
  const api = openHttpProfileApi({ ...PLAN, ...over }, env, silentLog, tuning);
  t.after(() => api.close());
  return api;
}

const GOOD: Record<string, string> = {
  profile: '{ "country" : "US", "n": 1.0 }',
  visit: '{"event_count":12345678901234567890}',
  history: '[ {"a":1.0} ,{"b":"],["} ]',
};
const FOUND = {
  kind: 'found',
  profile: GOOD['profile'],
  visit: GOOD['visit'],
  history: ['{"a":1.0}', '{"b":"],["}'],
};

function partOf(seen: Seen): string {
  return seen.path.slice(seen.path.lastIndexOf('/') + 1);
}

function good(seen: Seen, response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(GOOD[partOf(seen)]);
}

/** Serves each user well, except where `fault` has answered by itself (returned true). */
function startApi(
  t: TestContext,
  fault: (seen: Seen, response: ServerResponse) => boolean = () => false,
): Promise<Loopback> {
  return startLoopback(t, (seen, response) => {
    if (!fault(seen, response)) good(seen, response);
  });
}

test('three parallel requests; every text comes back exactly as it was sent', async (t) => {
  const waiting: (() => void)[] = [];
  const { url, seen } = await startLoopback(t, (entry, response) => {
    // Answers only when all three are here: they are asked in parallel or this hangs.
    waiting.push(() => good(entry, response));
    if (waiting.length === 3) for (const answer of waiting) answer();
  });
  const api = open(t, { url: `${url}/v1` });
  assert.deepEqual(await api.fetch('a/b ü?#'), FOUND);
  assert.deepEqual(seen.map(({ method, path }) => `${method} ${path}`).sort(), [
    'GET /v1/users/a%2Fb%20%C3%BC%3F%23/history',
    'GET /v1/users/a%2Fb%20%C3%BC%3F%23/profile',
    'GET /v1/users/a%2Fb%20%C3%BC%3F%23/visit',
  ]);
});

test('a body of many chunks is one answer', async (t) => {
  const text = `{"pad":"${'é'.repeat(100_000)}"}`;
  const { url } = await startApi(t, (entry, response) => {
    if (partOf(entry) !== 'profile') return false;
    const bytes = Buffer.from(text);
    response.writeHead(200);
    // Odd, so that characters are cut in two.
    for (let at = 0; at < bytes.length; at += 4_321) response.write(bytes.subarray(at, at + 4_321));
    response.end();
    return true;
  });
  assert.deepEqual(await open(t, { url }).fetch('u1'), { ...FOUND, profile: text });
});

test('odd user ids stay one segment of the path', async (t) => {
  const { url, seen } = await startApi(t);
  const api = open(t, { url });
  for (const id of ['.', '..', '\ud800', '...']) assert.equal((await api.fetch(id)).kind, 'found');
  const users = new Set(seen.map(({ path }) => path.split('/')[2]));
  assert.deepEqual([...users], ['%2E', '%2E%2E', '%EF%BF%BD', '...']);
});

test('404 is an answer, part by part', async (t) => {
  const { url, seen } = await startApi(t, (entry, response) => {
    const absent = entry.path.includes('nobody') || partOf(entry) === 'visit';
    if (absent) response.writeHead(404).end('<html>no such user</html>');
    return absent;
  });
  const api = open(t, { url });
  const empty = { kind: 'found', profile: '{}', visit: '{}', history: [] };
  assert.deepEqual(await api.fetch('nobody'), empty);
  assert.deepEqual(await api.fetch('u1'), { ...FOUND, visit: '{}' });
  assert.equal(seen.length, 6);
  assert.equal(api.stats()['absentParts'], 4);
  assert.equal(api.stats()['errors'], 0);
});

test('5xx, a cut connection and a hanging body are tried again', async (t) => {
  let count = 0;
  const { url } = await startApi(t, (entry, response) => {
    if (partOf(entry) !== 'history') return false;
    count += 1;
    if (count === 1) response.writeHead(503).end();
    else if (count === 2) response.destroy();
    else if (count === 3) response.writeHead(200).write('[{"begins":');
    else return false;
    return true;
  });
  const api = open(t, { url, timeoutMs: 4_000 });
  assert.deepEqual(await api.fetch('u1'), FOUND);
  assert.equal(api.stats()['retries'], 3);
  assert.equal(api.stats()['breakerOpened'], 0);
});

test('Retry-After is waited for, up to a limit', async (t) => {
  const waits: number[] = [];
  const hurried = hurriedEnv(4_000);
  const env: Env = {
    ...hurried,
    timer: (delayMs, fn) => {
      waits.push(delayMs);
      return hurried.timer(delayMs, fn);
    },
  };
  const headers = ['7', '86400'];
  const { url } = await startApi(t, (entry, response) => {
    const header = partOf(entry) === 'visit' ? headers.shift() : undefined;
    if (header === undefined) return false;
    response.writeHead(429, { 'retry-after': header }).end();
    return true;
  });
  const api = open(t, { url, timeoutMs: 10_000_000 }, {}, env);
  assert.equal((await api.fetch('u1')).kind, 'found');
  assert.ok(waits.includes(7_000) && waits.includes(300_000), `waited ${waits}`);
});

const BAD_ANSWERS: [part: string, body: string | Buffer, error: RegExp][] = [
  ['profile', '{"broken":', /profile: the answer is not valid JSON/],
  ['profile', '', /not valid JSON/],
  ['profile', '[]', /profile: the answer is not a JSON object/],
  ['visit', 'null', /visit: the answer is not a JSON object/],
  ['visit', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), /not valid UTF-8/],
  ['history', '{}', /history: the answer is not a JSON array of objects/],
  ['history', '[{},1]', /not a JSON array of objects/],
  ['history', '[[]]', /not a JSON array of objects/],
  ['visit', `{"a":${'['.repeat(2_000)}${']'.repeat(2_000)}}`, /nested deeper than 1000/],
];

test("an answer of the wrong kind is that user's error, never the breaker's", async (t) => {
  for (const [part, body, error] of BAD_ANSWERS) {
    const { url } = await startApi(t, (entry, response) => {
      const bad = partOf(entry) === part && entry.path.includes('bad');
      if (bad) response.writeHead(200).end(body);
      return bad;
    });
    const tuning = { breaker: { failuresToOpen: 1 } };
    const api = open(t, { url, onError: 'deadLetter', maxAttempts: 2 }, tuning);
    const answer = await api.fetch('bad');
    assert.equal(answer.kind, 'failed');
    assert.match(answer.kind === 'failed' ? answer.error : '', error);
    assert.deepEqual(await api.fetch('other'), FOUND);
    assert.equal(api.stats()['breakerOpened'], 0);
  }
});

test('redirects and refusals are errors and are not followed', async (t) => {
  const { url, seen } = await startApi(t, (entry, response) => {
    const status = Number(/\/users\/(\d+)\//.exec(entry.path)?.[1]);
    response.writeHead(status, { location: '/users/ok/profile' }).end();
    return true;
  });
  const api = open(t, { url, onError: 'deadLetter', maxAttempts: 1 });
  for (const status of [301, 302, 307, 400, 401, 403]) {
    const answer = await api.fetch(String(status));
    assert.match(answer.kind === 'failed' ? answer.error : '', new RegExp(`HTTP ${status}`));
  }
  assert.equal(
    seen.some(({ path }) => path.includes('/ok/')),
    false,
  );
});

test('a 100 MB answer is cut at the limit and its connection ended', async (t) => {
  for (const declared of [true, false]) {
    let sent = 0;
    let cut = false;
    const { url } = await startApi(t, (entry, response) => {
      if (!entry.path.includes('big/profile')) return false;
      response.writeHead(200, declared ? { 'content-length': 100 * 1024 * 1024 } : {});
      response.on('close', () => {
        cut = true;
      });
      const chunk = Buffer.alloc(64 * 1024, 0x20);
      const more = () => {
        while (sent < 100 * 1024 * 1024 && !response.destroyed) {
          sent += chunk.length;
          if (!response.write(chunk)) return void response.once('drain', more);
        }
        response.end();
      };
      more();
      return true;
    });
    const api = open(t, { url, onError: 'deadLetter', maxAttempts: 1 });
    const answer = await api.fetch('big');
    assert.match(answer.kind === 'failed' ? answer.error : '', /larger than 1048576 bytes/);
    while (!cut) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(sent < 50 * 1024 * 1024, `${sent} bytes were sent`);
    assert.deepEqual(await api.fetch('other'), FOUND);
    assert.equal(api.stats()['breakerOpen'], 0);
  }
});

/** One user of it fills the room of `ROOMY`. */
const LARGE = `{"pad":"${'x'.repeat(200 * 1024)}"}`;
const ROOMY = { maxResponseBytes: 256 * 1024, timeoutMs: 200_000 };

test('large answers are read a few users at a time, and all arrive', async (t) => {
  const { url } = await startApi(t, (entry, response) => {
    if (partOf(entry) === 'history') response.writeHead(200).end(`[${LARGE}]`);
    else response.writeHead(200).end(LARGE);
    return true;
  });
  const api = open(t, { url, ...ROOMY });
  const answers = await Promise.all(Array.from({ length: 12 }, (_, n) => api.fetch(`u${n}`)));
  for (const answer of answers) {
    assert.deepEqual(answer, { kind: 'found', profile: LARGE, visit: LARGE, history: [LARGE] });
  }
  assert.ok(api.stats()['crowded']! > 0, 'they never had to wait for each other');
  assert.equal(api.stats()['breakerOpened'], 0);
  assert.equal(api.stats()['errors'], 0);
});

test('waiting for room costs no attempt, holds up no small answer, opens no breaker', async (t) => {
  const held: (() => void)[] = [];
  const { url } = await startApi(t, (entry, response) => {
    if (entry.path.includes('small')) return false;
    const text = partOf(entry) === 'history' ? `[${LARGE}]` : LARGE;
    // `holder` takes the whole room and finishes only when it is let.
    if (entry.path.includes('holder')) {
      response.writeHead(200).write(text.slice(0, -1));
      held.push(() => response.end(text.slice(-1)));
    } else response.end(text);
    return true;
  });
  const over = { url, ...ROOMY, onError: 'deadLetter' as const, maxAttempts: 1, maxConcurrent: 2 };
  const api = open(t, over, { breaker: { failuresToOpen: 1 } });
  const holder = api.fetch('holder');
  while (held.length < 3) await new Promise((resolve) => setImmediate(resolve));
  // Its first bytes must be here before the others ask.
  await api.fetch('small0');
  const waiters = ['a', 'b', 'c'].map((name) => api.fetch(name));
  while (api.stats()['queued']! < 3) await new Promise((resolve) => setImmediate(resolve));
  for (let n = 1; n < 5; n++) assert.deepEqual(await api.fetch(`small${n}`), FOUND);
  for (const finish of held) finish();
  for (const answer of [await holder, ...(await Promise.all(waiters))]) {
    assert.equal(answer.kind, 'found');
  }
  assert.equal(api.stats()['breakerOpened'], 0);
  assert.equal(api.stats()['errors'], 0);
});

test('a too large answer: the longest backoff at once, and its bytes are paid for', async (t) => {
  const waits: number[] = [];
  const hurried = hurriedEnv(200);
  const env: Env = {
    ...hurried,
    timer: (delayMs, fn) => {
      waits.push(delayMs);
      return hurried.timer(delayMs, fn);
    },
  };
  let broken = true;
  const { url } = await startApi(t, (entry, response) => {
    if (!broken || partOf(entry) !== 'profile') return false;
    // Chunked: how long it gets is not known before.
    for (let n = 0; n < 64; n++) response.write(Buffer.alloc(64 * 1024, 0x20));
    response.end();
    return true;
  });
  const over = { url, timeoutMs: 2_000_000, initialBackoffMs: 1, maxBackoffMs: 40_000 };
  const api = open(t, over, { breaker: { failuresToOpen: 1 } }, env);
  const answer = api.fetch('u1');
  while (api.stats()['retries']! < 2) await new Promise((resolve) => setImmediate(resolve));
  broken = false;
  assert.deepEqual(await answer, FOUND);
  assert.equal(waits.filter((ms) => ms === 30_000).length, 2, `waited ${waits}`);
  // A bit more than the limit of 1 MiB at 32 MiB/s.
  assert.ok(
    waits.some((ms) => ms >= 31.25 && ms < 250),
    `waited ${waits}`,
  );
  assert.equal(api.stats()['breakerOpened'], 0);
});

test('onError empty: an empty user after the last attempt, counted', async (t) => {
  const { url, seen } = await startApi(t, (_seen, response) => {
    response.writeHead(500).end();
    return true;
  });
  const api = open(t, { url, onError: 'empty' });
  const empty = { kind: 'found', profile: '{}', visit: '{}', history: [] };
  assert.deepEqual(await api.fetch('u1'), empty);
  assert.equal(seen.length, 9);
  assert.equal(api.stats()['emptied'], 1);
});

test('users beyond the cap wait in order; one that backs off gives its place away', async (t) => {
  const users = new Set<string>();
  let most = 0;
  const order: string[] = [];
  const { url } = await startLoopback(t, (seen, response) => {
    const user = seen.path.split('/')[2]!;
    if (!users.has(user)) order.push(user);
    users.add(user);
    most = Math.max(most, users.size);
    setImmediate(() => {
      users.delete(user);
      if (user === 'bad') response.writeHead(400, { 'retry-after': '250' }).end();
      else good(seen, response);
    });
  });
  const api = open(t, { url, maxConcurrent: 1, timeoutMs: 200_000 });
  const bad = api.fetch('bad');
  bad.catch(() => {});
  const names = Array.from({ length: 10 }, (_, n) => `u${n}`);
  await Promise.all(names.map((name) => api.fetch(name)));
  assert.deepEqual([...new Set(order)], ['bad', ...names]);
  assert.equal(most, 1);
});

test('a server that is down sees single probes only, and all are served after', async (t) => {
  let down = true;
  let requestsWhileDown = 0;
  const { url } = await startApi(t, (_seen, response) => {
    if (!down) return false;
    requestsWhileDown += 1;
    response.writeHead(503).end();
    return true;
  });
  const tuning = { breaker: { failuresToOpen: 4, openMs: 2_000, maxOpenMs: 2_000 } };
  const api = open(t, { url, maxConcurrent: 4, timeoutMs: 200_000 }, tuning);
  const all = Promise.all(Array.from({ length: 30 }, (_, n) => api.fetch(`u${n}`)));
  while (api.stats()['breakerOpen'] === 0) await new Promise((resolve) => setImmediate(resolve));
  const opened = requestsWhileDown;
  // Three probes (of three requests each) while it is down, then it comes back.
  while (requestsWhileDown < opened + 9) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(opened <= 3 * (4 + 4), `${opened} requests until it opened`);
  down = false;
  const answers = await all;
  assert.ok(answers.every((answer) => answer.kind === 'found'));
  assert.equal(api.stats()['breakerOpened'], 1);
  assert.equal(api.stats()['breakerOpen'], 0);
});

test('close ends requests, waits and the queue; nothing is answered that was not', async (t) => {
  const { url, seen } = await startLoopback(t, () => {});
  const api = open(t, { url, maxConcurrent: 2 });
  const all = Promise.allSettled(Array.from({ length: 6 }, (_, n) => api.fetch(`u${n}`)));
  while (seen.length < 6) await new Promise((resolve) => setImmediate(resolve));
  await api.close();
  for (const result of await all) {
    assert.equal(result.status, 'rejected');
    assert.equal(result.status === 'rejected' && result.reason.code, 'PROFILE_API_CLOSED');
  }
  await assert.rejects(api.fetch('late'), { code: 'PROFILE_API_CLOSED' });
});

test('a URL that can never work is refused by its field', (t) => {
  assert.throws(() => open(t, { url: 'ftp://x' }), /state\.profileApi\.url/);
});
