import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { WebhookPlan } from '../plan/job-plan.ts';
import { type Env, realEnv } from '../runtime/env.ts';
import type { ActionExecutor, Delivery } from './action.ts';
import type { ResolveAll } from './address-guard.ts';
import { openActionExecutor } from './open.ts';
import { hurriedEnv, type Loopback, silentLog, startLoopback } from './test-loopback.ts';
import { openWebhook } from './webhook.ts';

const PLAN: WebhookPlan = {
  kind: 'webhook',
  url: 'http://127.0.0.1:1/',
  timeoutMs: 20_000,
  deadlineMs: 120_000,
  maxInFlight: 4,
  initialBackoffMs: 100,
  maxBackoffMs: 1_000,
  allowPrivateAddresses: true,
  headers: {},
  signingSecret: null,
};

function delivery(n: number, over: Partial<Delivery> = {}): Delivery {
  const at = { topic: 'user events', partition: 3, offset: n, timestamp: 1_700_000_000_123 };
  const body = Buffer.from(`{"event":{"n":${n}}}`);
  return { id: `id-${n}`, userId: `user-${n}`, ...at, body, ...over };
}

function open(
  t: TestContext,
  over: Partial<WebhookPlan>,
  env: Env = hurriedEnv(20),
  resolve?: ResolveAll,
): ActionExecutor {
  const tuning = resolve === undefined ? {} : { resolve };
  const webhook = openWebhook({ ...PLAN, ...over }, env, silentLog, tuning);
  t.after(() => webhook.close());
  return webhook;
}

/** Answers with the next status of the list, and with 200 when it is used up. */
function startStatuses(
  t: TestContext,
  statuses: number[],
  headers: Record<string, string> = {},
): Promise<Loopback> {
  return startLoopback(t, (_seen, response) => {
    const status = statuses.shift();
    response.writeHead(status ?? 200, status === undefined ? {} : headers).end('an answer');
  });
}

test('one event is one POST with its exact body and the CloudEvents attributes', async (t) => {
  const { url, seen } = await startStatuses(t, []);
  const webhook = open(t, { url: `${url}/hook?x=1`, headers: { 'X-Team': 'a' } });
  const outcome = await webhook.deliver(delivery(7, { userId: 'Zoë "5%"\r\nx: y' }));
  assert.deepEqual(outcome, { kind: 'delivered', attempts: 1 });
  assert.equal(seen.length, 1);
  const { method, path, headers, body } = seen[0]!;
  assert.equal(`${method} ${path}`, 'POST /hook?x=1');
  assert.equal(body.toString(), '{"event":{"n":7}}');
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(headers['x-team'], 'a');
  assert.equal(headers['ce-specversion'], '1.0');
  assert.equal(headers['ce-type'], 'io.triggerjob.match');
  assert.equal(headers['ce-id'], 'id-7');
  assert.equal(headers['ce-source'], '/triggerjob/user%2520events/3');
  assert.equal(headers['ce-subject'], 'Zo%C3%AB%20%225%25%22%0D%0Ax:%20y');
  assert.equal(headers['ce-time'], '2023-11-14T22:13:20.123Z');
  assert.equal(headers['webhook-id'], 'id-7');
  assert.equal(headers['webhook-signature'], undefined);
  assert.equal(headers['x'], undefined);
});

test('a record without a time has no ce-time', async (t) => {
  const { url, seen } = await startStatuses(t, []);
  await open(t, { url }).deliver(delivery(1, { timestamp: -1 }));
  assert.equal('ce-time' in seen[0]!.headers, false);
});

function signatures(secrets: string[], id: string, timestamp: string, body: Buffer): string {
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  return secrets
    .map((secret) => Buffer.from(secret.replace('whsec_', ''), 'base64'))
    .map((key) => `v1,${createHmac('sha256', key).update(signed).digest('base64')}`)
    .join(' ');
}

test('signatures verify, follow a rotated file, and survive a broken one', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'signing-'));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, 'secret');
  const one = `whsec_${Buffer.from('first secret of 24 bytes').toString('base64')}`;
  const two = `whsec_${Buffer.from('second secret, 25 bytes..').toString('base64')}`;
  const { url, seen } = await startStatuses(t, []);
  let skewMs = 0;
  const env: Env = { ...realEnv, monotonic: () => realEnv.monotonic() + skewMs };
  const webhook = open(t, { url, signingSecret: { path } }, env);
  const files = [`${one}\n`, `${two} ${one}\n`, 'not a secret', `${two}\n`];
  const expected = [[one], [two, one], [two, one], [two]];
  for (const [n, file] of files.entries()) {
    await writeFile(path, file);
    skewMs += 2_000;
    await webhook.deliver(delivery(n));
    const { headers, body } = seen[n]!;
    const timestamp = String(headers['webhook-timestamp']);
    assert.match(timestamp, /^\d{10}$/);
    const want = signatures(expected[n]!, `id-${n}`, timestamp, body);
    assert.equal(headers['webhook-signature'], want, `file ${n}`);
  }
});

test('nothing is ever sent unsigned: without a readable secret the delivery fails', async (t) => {
  const { url, seen } = await startStatuses(t, []);
  const signingSecret = { path: '/nonexistent/secret' };
  const outcome = await open(t, { url, signingSecret, deadlineMs: 2_000 }).deliver(delivery(1));
  assert.equal(outcome.kind, 'failed');
  assert.match(outcome.kind === 'failed' ? outcome.error : '', /\/nonexistent\/secret/);
  assert.equal(seen.length, 0);
});

test('5xx, 408, 425 and 429 are tried again with the same id and body', async (t) => {
  const statuses = [500, 503, 408, 425, 429, 599];
  const { url, seen } = await startStatuses(t, [...statuses]);
  const webhook = open(t, { url });
  const outcome = await webhook.deliver(delivery(1));
  assert.deepEqual(outcome, { kind: 'delivered', attempts: statuses.length + 1 });
  const distinct = new Set(seen.map(({ headers, body }) => `${headers['webhook-id']} ${body}`));
  assert.equal(distinct.size, 1);
  assert.equal(webhook.stats()['retries'], statuses.length);
  assert.equal(webhook.stats()['failuresInARow'], 0);
});

test('other 4xx and every 3xx are final, and a redirect is not followed', async (t) => {
  for (const status of [301, 302, 303, 307, 308, 304, 400, 401, 403, 404, 410, 413, 422]) {
    const { url, seen } = await startStatuses(t, [status], { location: '/elsewhere' });
    const outcome = await open(t, { url }).deliver(delivery(1));
    assert.equal(outcome.kind, 'failed', `HTTP ${status}`);
    assert.equal(outcome.attempts, 1);
    assert.match(outcome.kind === 'failed' ? outcome.error : '', new RegExp(`HTTP ${status}`));
    assert.equal(seen.length, 1);
  }
});

test('the error of a refusal shows the start of the answer on one line', async (t) => {
  const { url } = await startLoopback(t, (_seen, response) => {
    response.writeHead(422).end(`\u001b[31mno\r\n such ${'x'.repeat(5_000)}`);
  });
  const outcome = await open(t, { url }).deliver(delivery(1));
  const error = outcome.kind === 'failed' ? outcome.error : '';
  assert.match(error, /^HTTP 422: \[31mno such x+$/);
  assert.ok(error.length < 250);
});

function waitsOf(env: Env, waits: number[]): Env {
  return {
    ...env,
    timer: (delayMs, fn) => {
      waits.push(Math.round(delayMs));
      return env.timer(delayMs, fn);
    },
  };
}

test('Retry-After is waited for, as seconds and as a date', async (t) => {
  const waits: number[] = [];
  const env = waitsOf({ ...hurriedEnv(200), now: () => Date.UTC(2030, 0, 1) }, waits);
  const date = 'Tue, 01 Jan 2030 00:00:09 GMT';
  for (const [header, wait] of [
    ['7', 7_000],
    [date, 9_000],
  ] as const) {
    const { url } = await startStatuses(t, [429], { 'retry-after': header });
    waits.length = 0;
    const plan = { url, timeoutMs: 60_000, deadlineMs: 300_000 };
    assert.equal((await open(t, plan, env).deliver(delivery(1))).kind, 'delivered');
    assert.ok(waits.includes(wait), `${header}: waited ${waits}`);
  }
});

test('a Retry-After beyond the deadline leaves one last attempt before it', async (t) => {
  const { url, seen } = await startStatuses(t, [429, 429, 429], { 'retry-after': '86400' });
  const plan = { url, timeoutMs: 10_000, deadlineMs: 40_000 };
  const outcome = await open(t, plan).deliver(delivery(1));
  assert.equal(outcome.kind, 'failed');
  assert.equal(outcome.attempts, 2);
  assert.equal(seen.length, 2);
});

test('a dead endpoint: many attempts, then failure with the last error', async (t) => {
  const { url, server } = await startStatuses(t, []);
  await new Promise((resolve) => server.close(resolve));
  const webhook = open(t, { url, deadlineMs: 10_000 });
  const outcome = await webhook.deliver(delivery(1));
  assert.equal(outcome.kind, 'failed');
  assert.ok(outcome.attempts > 2, `${outcome.attempts} attempts`);
  assert.match(
    outcome.kind === 'failed' ? outcome.error : '',
    /not delivered within 10000 ms; last error: .*ECONNREFUSED/,
  );
});

test('an answer that never begins is cut off by the timeout and tried again', async (t) => {
  let hang = 2;
  const { url, seen } = await startLoopback(t, (_seen, response) => {
    hang -= 1;
    if (hang < 0) response.end('ok');
  });
  const webhook = open(t, { url, timeoutMs: 4_000 });
  assert.deepEqual(await webhook.deliver(delivery(1)), { kind: 'delivered', attempts: 3 });
  assert.equal(seen.length, 3);
  assert.equal(webhook.stats()['timeouts'], 2);
});

test('a hanging body costs the connection, not the verdict', { timeout: 30_000 }, async (t) => {
  let open_ = 0;
  const { url, server } = await startLoopback(t, (_seen, response) => {
    response.writeHead(200).write('begins');
  });
  server.on('connection', (socket) => {
    open_ += 1;
    socket.on('close', () => {
      open_ -= 1;
    });
  });
  // A timeout that never comes in this test: it is not what ends the wait for the body.
  const webhook = open(t, { url, timeoutMs: 10_000_000, deadlineMs: 10_000_000 });
  assert.deepEqual(await webhook.deliver(delivery(1)), { kind: 'delivered', attempts: 1 });
  while (open_ > 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(webhook.stats()['inFlight'], 0);
});

test('an endless body is cut after its first part', async (t) => {
  let flooding: ServerResponse | null = null;
  const { url } = await startLoopback(t, (_seen, response) => {
    flooding = response.writeHead(200);
    flood(response);
  });
  const webhook = open(t, { url }, realEnv);
  assert.equal((await webhook.deliver(delivery(1))).kind, 'delivered');
  const response = flooding as ServerResponse | null;
  while (response?.destroyed === false) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(response?.writableFinished, false);
});

/** Writes up to 100 MB as fast as the reader takes it. */
function flood(response: ServerResponse): void {
  const chunk = Buffer.alloc(64 * 1024, 0x20);
  let left = 1_600;
  const more = () => {
    while (left > 0 && !response.destroyed) {
      left -= 1;
      if (!response.write(chunk)) return void response.once('drain', more);
    }
    response.end();
  };
  more();
}

test('a reused connection that the receiver has closed is a retry, not a failure', async (t) => {
  const sockets = new Set<Socket>();
  let requests = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    let answered = false;
    socket.on('data', () => {
      requests += 1;
      // The keep-alive race: the peer closes while the next request is on its way.
      if (answered) socket.resetAndDestroy();
      else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
      answered = true;
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const webhook = open(t, { url: `http://127.0.0.1:${address.port}/`, maxInFlight: 1 });
  assert.deepEqual(await webhook.deliver(delivery(1)), { kind: 'delivered', attempts: 1 });
  assert.deepEqual(await webhook.deliver(delivery(2)), { kind: 'delivered', attempts: 2 });
  assert.equal(requests, 3);
});

test('at most maxInFlight requests; who waits does not block the others', async (t) => {
  let now = 0;
  let most = 0;
  const { url } = await startLoopback(t, (seen, response) => {
    now += 1;
    most = Math.max(most, now);
    const bad = seen.headers['ce-subject'] === 'user-bad';
    setImmediate(() => {
      now -= 1;
      response.writeHead(bad ? 503 : 200, bad ? { 'retry-after': '1000' } : {}).end();
    });
  });
  const webhook = open(t, { url, maxInFlight: 2, deadlineMs: 1_000_000 });
  assert.equal(webhook.maxInFlight, 2);
  const stuck = [1, 2, 3].map((n) => webhook.deliver(delivery(n, { userId: 'user-bad' })));
  for (const promise of stuck) promise.catch(() => {});
  const good = Array.from({ length: 40 }, (_, n) => webhook.deliver(delivery(100 + n)));
  const outcomes = await Promise.all(good);
  assert.ok(outcomes.every(({ kind }) => kind === 'delivered'));
  assert.ok(most <= 2, `${most} requests at once`);
  assert.equal(webhook.stats()['waiting'], 3);
});

test('close: what is answered counts, all else rejects, connections end', async (t) => {
  const answered = new Set<string>();
  const { url, server } = await startLoopback(t, (seen, response) => {
    const id = String(seen.headers['ce-id']);
    if (Number(id.slice(3)) % 2 === 1) return;
    answered.add(id);
    response.writeHead(id === 'id-4' ? 503 : 200).end();
  });
  const webhook = open(t, { url, maxInFlight: 3 });
  const all = Array.from({ length: 9 }, (_, n) => webhook.deliver(delivery(n)));
  const results = Promise.allSettled(all);
  while (answered.size < 3) await new Promise((resolve) => setImmediate(resolve));
  await webhook.close();
  const delivered: string[] = [];
  for (const [n, result] of (await results).entries()) {
    if (result.status === 'fulfilled') delivered.push(`id-${n}`);
    else assert.equal(result.reason.code, 'ACTION_CLOSED');
  }
  // Nothing is called delivered that the receiver did not answer with success.
  for (const id of delivered) assert.ok(answered.has(id) && id !== 'id-4', id);
  await assert.rejects(webhook.deliver(delivery(99)), { code: 'ACTION_CLOSED' });
  const left = await new Promise((resolve) => {
    const look = () =>
      server.getConnections((_e, n) => (n === 0 ? resolve(n) : setImmediate(look)));
    look();
  });
  assert.equal(left, 0);
});

test('the guard refuses literals at the start, in every spelling', async () => {
  for (const host of ['127.0.0.1', '127.1', '2130706433', '0x7f.1', '[::1]', '[::ffff:10.0.0.1]']) {
    const plan = { ...PLAN, url: `http://${host}/`, allowPrivateAddresses: false };
    await assert.rejects(openActionExecutor(plan, realEnv, silentLog), {
      code: 'ACTION_ADDRESS_REFUSED',
    });
  }
});

test('the guard refuses names by their addresses: final, and nothing is sent', async (t) => {
  const { port, seen } = await startStatuses(t, []);
  const plan = { url: `http://localhost:${port}/`, allowPrivateAddresses: false };
  const byName = open(t, plan);
  const rebound = open(t, { ...plan, url: `http://rebind.test:${port}/` }, hurriedEnv(20), (...a) =>
    a[2](null, [{ address: '127.0.0.1', family: 4 }]),
  );
  for (const webhook of [byName, rebound]) {
    const outcome = await webhook.deliver(delivery(1));
    assert.equal(outcome.kind, 'failed');
    assert.equal(outcome.attempts, 1);
    assert.match(outcome.kind === 'failed' ? outcome.error : '', /allowPrivateAddresses: true/);
    assert.equal(webhook.stats()['refusedAddresses'], 1);
  }
  assert.equal(seen.length, 0);
  assert.equal(
    (await open(t, { ...plan, allowPrivateAddresses: true }).deliver(delivery(2))).kind,
    'delivered',
  );
});

test('headers that HTTP or this file owns are refused by name', async () => {
  const bad = { 'CE-Id': 'x', 'webhook-signature': 'x', Host: 'x', 'a b': 'x', ok: 'a\r\nb: c' };
  for (const [name, value] of Object.entries(bad)) {
    const plan = { ...PLAN, headers: { [name]: value } };
    await assert.rejects(openActionExecutor(plan, realEnv, silentLog), (error: Error) =>
      error.message.includes(`action.webhook.headers: ${name}`),
    );
  }
});
