/** top, tap, users hot and state get against a JobManager that says what the test wants. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import type { JsonObject } from '../runtime/json.ts';
import { runHere } from './run-for-tests.ts';
import { EventParser } from './tap.ts';
import { topLines, topView } from './top-view.ts';

type Answer = (request: IncomingMessage, response: ServerResponse, path: string) => void;

const JOB = 'a'.repeat(32);

async function jobManager(t: TestContext, answer: Answer): Promise<string> {
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    if (path === '/jobs/overview') response.end(JSON.stringify({ jobs: [{ jid: JOB }] }));
    else answer(request, response, path.replace(`/api/v1/jobs/${JOB}`, ''));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function refuse(response: ServerResponse, status: number, reason: string): void {
  response.statusCode = status;
  response.end(JSON.stringify({ errors: [reason] }));
}

describe('triggerjob tap', () => {
  const record = (offset: number) =>
    `event: record\ndata: ${JSON.stringify({
      at: 0,
      stage: 'dropped',
      userId: 'ann',
      topic: 'clicks',
      partition: 1,
      offset,
      subtask: 0,
      event: { n: offset },
      verdict: 'error',
      reason: 'no such field',
    })}\n\n`;

  it('connects again when the stream ends, and asks only for what is left', async (t) => {
    const asked: string[] = [];
    const rest = await jobManager(t, (_, response, path) => {
      asked.push(path);
      response.setHeader('content-type', 'text/event-stream');
      if (asked.length === 1) {
        // Cut in the middle of a line.
        response.write(`: open\n\n${record(1)}${record(2).slice(0, 30)}`);
        setImmediate(() => response.write(record(2).slice(30)));
        setTimeout(() => response.destroy(), 20);
      } else response.end(`event: skipped\ndata: {"count":5}\n\n${record(3)}${record(4)}`);
    });
    const { code, out, err } = await runHere('tap', '--rest', rest, '-n', '3', '-s', 'dropped');
    assert.equal(code, 0);
    const line = (n: number) =>
      `00:00:00.000 dropped error (no such field) ann clicks/1@${n} {"n":${n}}\n`;
    assert.equal(out, line(1) + line(2) + line(3));
    assert.match(err, /connecting again\n\.\.\. 5 records left out\n$/);
    assert.deepEqual(asked, ['/tap?stage=dropped&limit=3', '/tap?stage=dropped&limit=1']);
  });

  it('prints NDJSON, asks for one user, and bears the token', async (t) => {
    t.after(() => delete process.env['TRIGGERJOB_TOKEN']);
    process.env['TRIGGERJOB_TOKEN'] = 'sesame';
    const rest = await jobManager(t, (request, response, path) => {
      assert.equal(path, '/tap?stage=keyed&user=a+b&limit=1');
      assert.equal(request.headers.authorization, 'Bearer sesame');
      response.end(record(7));
    });
    const { out } = await runHere('tap', '--rest', rest, '-u', 'a b', '-n', '1', '-o', 'json');
    assert.equal(JSON.parse(out).offset, 7);
  });

  it('gives up on what asking again does not change', async (t) => {
    const rest = await jobManager(t, (_, response) => refuse(response, 401, 'a token is needed'));
    const refused = await runHere('tap', '--rest', rest);
    assert.equal(refused.code, 1);
    assert.match(refused.err, /401 a token is needed/);
    const away = await runHere('tap', '--rest', 'http://127.0.0.1:1');
    assert.equal(away.code, 1);
    assert.match(away.err, /is the job running, is --rest right\?/);
  });

  it('reads events however the bytes are cut', () => {
    const text = ': c\n\nevent: a\ndata: {"n":\ndata: 1}\n\ndata: {"n":2}\r\n\r\nevent: x\n\n';
    for (const size of [1, 2, 7, 100]) {
      const parser = new EventParser();
      const found: unknown[] = [];
      for (let at = 0; at < text.length; at += size) {
        found.push(...parser.feed(text.slice(at, at + size)));
      }
      assert.deepEqual(found, [
        { event: 'a', data: { n: 1 } },
        { event: '', data: { n: 2 } },
      ]);
    }
  });
});

function subtask(number: number, more: JsonObject): JsonObject {
  const zero = { attempt: 1, recordsProcessed: 0, matched: 0, busyMs: 0, backPressuredMs: 0 };
  const rest = { pendingRecords: 0, users: 10, stateBytes: 1024, parked: 0, outbox: 0 };
  const cache = { cacheHits: 0, cacheMisses: 0, cpuSeconds: 0 };
  return { subtask: number, ...zero, ...rest, ...cache, ...more };
}

function detailsWith(subtasks: JsonObject[], more: JsonObject = {}): JsonObject {
  return {
    state: 'RUNNING',
    parallelism: 2,
    wantedParallelism: 2,
    restarts: 0,
    lag: 7,
    deadLettered: 0,
    lastCheckpoint: { id: 3, at: 1_000, bytes: 2048, durationMs: 40 },
    failure: null,
    taskManagers: [{ id: 'tm', pid: 1, rssBytes: 1024 ** 2, cpuSeconds: 0 }],
    tasks: subtasks.map((one) => ({ subtask: one['subtask'] ?? 0, taskManagerId: 'tm' })),
    subtasks,
    ...more,
  };
}

describe('triggerjob top', () => {
  const before = { at: 0, details: detailsWith([subtask(0, {}), subtask(1, {})]) };
  const now = {
    at: 2_000,
    details: detailsWith([
      subtask(0, { recordsProcessed: 4_000, matched: 20, busyMs: 1_000, cacheHits: 3 }),
      subtask(1, { recordsProcessed: 2_000, busyMs: 500, backPressuredMs: 200, cacheMisses: 1 }),
    ]),
  };

  it('makes rates of two looks, by TaskManager and by subtask', () => {
    const view = topView(before, now, 'taskManager');
    assert.equal(view.rows.length, 1);
    const { eventsPerSecond, matchedPerSecond, busy, backPressured, cacheHits } = view.rows[0]!;
    assert.deepEqual([eventsPerSecond, matchedPerSecond], [3_000, 10]);
    assert.deepEqual([busy, backPressured, cacheHits], [0.375, 0.05, 0.75]);
    const rows = topView(before, now, 'subtask').rows.map((row) => [row.name, row.busy]);
    assert.deepEqual(rows, [
      ['0', 0.5],
      ['1', 0.25],
    ]);
    const lines = topLines(view, 'TASKMANAGER', 9_000);
    assert.match(lines[0]!, /^RUNNING \| 2 subtasks \| 3,000 events\/s \| 10 matched\/s \| lag 7 /);
    assert.equal(lines[1], 'checkpoint 3: 8 s ago, 2.0 KiB, 40 ms');
    assert.match(lines[3]!, /^TASKMANAGER +SUBTASKS +EVENTS\/S /);
    assert.match(lines[4]!, /^tm +2 +3,000 +10 +38% +5% +0 +20 +2\.0 KiB +75% /);
  });

  it('takes no attempt for the one before it, and shows what is missing', () => {
    const restarted = detailsWith([subtask(0, { attempt: 2, recordsProcessed: 9 })], {
      wantedParallelism: 4,
      failure: 'TASKMANAGER_LOST: gone',
    });
    const view = topView(now, { at: 3_000, details: restarted }, 'subtask');
    assert.equal(view.rows[0]!.eventsPerSecond, 0);
    const text = topLines(view, 'SUBTASK', 0).join('\n');
    assert.match(text, /2\/4 subtasks/);
    assert.match(text, /last failure: TASKMANAGER_LOST: gone/);
  });

  it('prints one table as JSON, with diagnosis and hot keys where there are some', async (t) => {
    let looks = 0;
    const hot = { since: 0, events: 10, keys: [{ userId: 'ann', events: 9, share: 0.9 }] };
    const rest = await jobManager(t, (_, response, path) => {
      if (path === '/api/v1/details') {
        const { details } = looks++ === 0 ? before : now;
        response.end(JSON.stringify(details));
      } else if (path.startsWith('/hot-keys')) response.end(JSON.stringify(hot));
      else refuse(response, 404, 'no such path');
    });
    const { code, out } = await runHere('top', '--rest', rest, '--keys', '-o', 'json');
    assert.equal(code, 0);
    const view = JSON.parse(out);
    assert.deepEqual([view.total.subtasks, view.diagnosis, view.hotKeys], [2, null, hot.keys]);
    assert.ok(view.total.eventsPerSecond > 0);
    const table = await runHere('users', 'hot', '--rest', rest);
    assert.match(table.out, /^USER +EVENTS .*\nann +9 +- +- +90\.0% /);
  });
});

describe('triggerjob state get', () => {
  it('shows a user of a running job, and fails for one that is not in state', async (t) => {
    const rest = await jobManager(t, (_, response, path) => {
      if (path.startsWith('/users/a%2Fb?')) {
        response.end(
          JSON.stringify({
            ...{ userId: 'a/b', keyGroup: 5, subtask: 1, taskManagerId: 'tm', from: 'memory' },
            ...{ bytes: 2048, lastAccess: 0, parked: 1, outbox: 2, user: { c: 'US' }, visit: {} },
            history: [{ n: 1 }],
            historyEvents: 30,
            decisions: [
              { at: 0, topic: 't', partition: 0, offset: 9, verdict: 'error', error: 'nil' },
            ],
          }),
        );
      } else refuse(response, 404, 'User x is not in state');
    });
    const { code, out } = await runHere('state', 'get', '--user', 'a/b', '--rest', rest);
    assert.equal(code, 0);
    assert.match(out, /place +key group 5, subtask 1 on tm, 2\.0 KiB in memory\n/);
    assert.match(out, /waiting +1 events for a profile, 2 deliveries\n/);
    assert.match(out, /history +30 events, the newest 1:\n {2}\{"n":1\}\n/);
    assert.match(out, /1970-01-01T00:00:00\.000Z {2}error: nil {2}t\/0@9\n/);
    const absent = await runHere('state', 'get', '--user', 'x', '--rest', rest);
    assert.deepEqual([absent.code, absent.out], [1, '']);
    assert.match(absent.err, /^x is not in the state of the job at /);
  });
});
