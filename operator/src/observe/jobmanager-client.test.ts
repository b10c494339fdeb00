/** The client against a server that answers as a JobManager does, and as none should. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, beforeEach, describe, it } from 'node:test';
import { realEnv } from '../env.ts';
import { JobManagerClient } from './jobmanager-client.ts';

const JOB = { namespace: 'triggers', name: 'user-events', uid: 'u1' };

interface Answer {
  status?: number;
  body?: object;
  location?: string;
}

interface Seen {
  method: string;
  path: string;
  token: string;
  body: unknown;
}

const STATUS = {
  run: 3,
  state: 'RUNNING',
  since: 1_000,
  parallelism: 4,
  desiredParallelism: 8,
  taskManagers: { registered: 1, slotsTotal: 4, slotsFree: 0 },
  numRestarts: 2,
  lastCheckpoint: { id: 9, completedAt: 2_000, durationMs: 5, bytes: 7, location: 's3://c/9' },
  failedCheckpoints: 1,
  lastSavepoint: { location: 's3://sp/1', bytes: 70 },
  scriptVersion: { running: 'v1', wanted: 'v2', refused: { version: 'v2', error: 'line 1' } },
  lag: 12,
  error: null,
};

describe('the client of a JobManager', () => {
  let server: Server;
  let base = '';
  let answer: (seen: Seen) => Answer | null = () => ({ body: {} });
  const seen: Seen[] = [];

  before(async () => {
    server = createServer((request, response) => {
      void read(request).then((body) => {
        const { method = '', url: path = '', headers } = request;
        const one = { method, path, token: headers.authorization ?? '', body };
        seen.push(one);
        const said = path === '/jobs' ? { body: { jobs: [{ id: 'j1' }] } } : answer(one);
        if (said === null) return;
        response.writeHead(said.status ?? 200, said.location ? { location: said.location } : {});
        response.end(JSON.stringify(said.body ?? {}));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  beforeEach(() => {
    seen.length = 0;
  });

  const client = (timeoutMs = 5_000) =>
    new JobManagerClient({
      env: realEnv,
      baseUrl: () => base,
      tokens: () => ['new', 'old'],
      timeoutMs,
    });

  it('reads what it says of the job', async () => {
    answer = () => ({ body: STATUS });
    const status = await client().status(JOB);
    assert.equal(status.run, 3);
    assert.deepEqual(status.refusedScript, { version: 'v2', error: 'line 1' });
    assert.equal(status.scriptVersion, 'v1');
    assert.deepEqual(status.lastSavepoint, STATUS.lastSavepoint);
    assert.deepEqual(status.lastCheckpoint, STATUS.lastCheckpoint);
    assert.equal(seen[0]?.token, '');
  });

  it('takes an answer without a run for none: no state is made up', async () => {
    answer = () => ({ body: { state: 'RUNNING' } });
    await assert.rejects(client().status(JOB), { code: 'JOBMANAGER_UNREACHABLE' });
  });

  it('triggers by an id, with the token that the pod knows', async () => {
    answer = ({ token }) => ({ status: token === 'Bearer old' ? 202 : 401 });
    await client().trigger(JOB, 'stop', 'stop-1');
    const posts = seen.filter(({ method }) => method === 'POST');
    assert.deepEqual(
      posts.map(({ path, token, body }) => [path, token, body]),
      [
        ['/jobs/j1/stop', 'Bearer new', { triggerId: 'stop-1' }],
        ['/jobs/j1/stop', 'Bearer old', { triggerId: 'stop-1' }],
      ],
    );
  });

  it('tells refusals from silence', async () => {
    answer = () => ({ status: 409, body: { errors: ['it is FINISHED'] } });
    const refused = client().trigger(JOB, 'savepoint', 'x');
    await assert.rejects(refused, { code: 'JOBMANAGER_REFUSED', message: /it is FINISHED/ });
    answer = () => ({ status: 503 });
    await assert.rejects(client().status(JOB), { code: 'JOBMANAGER_UNREACHABLE' });
    answer = () => null;
    await assert.rejects(client(50).status(JOB), { code: 'JOBMANAGER_UNREACHABLE' });
  });

  it('reads how a trigger goes', async () => {
    const cases: [Answer, unknown][] = [
      [{ status: 404 }, null],
      [{ body: { status: { id: 'IN_PROGRESS' } } }, { phase: 'InProgress' }],
      [
        { body: { status: { id: 'COMPLETED' }, operation: { location: 's3://sp/2' } } },
        { phase: 'Completed', location: 's3://sp/2', bytes: null },
      ],
      [
        {
          body: {
            status: { id: 'COMPLETED' },
            operation: { 'failure-cause': { 'stack-trace': 'timeout' } },
          },
        },
        { phase: 'Failed', error: 'timeout' },
      ],
    ];
    for (const [said, expected] of cases) {
      answer = () => said;
      assert.deepEqual(await client().progress(JOB, 'savepoint', 't/1'), expected);
    }
    assert.equal(seen.at(-1)?.path, '/jobs/j1/savepoints/t%2F1');
  });

  it('follows a standby to its leader once, with the token', async () => {
    answer = ({ path }) =>
      path.startsWith('/jobs/') ? { status: 307, location: `${base}/leader` } : { status: 202 };
    await client().trigger(JOB, 'checkpoint', 'c');
    assert.deepEqual([seen.at(-1)?.path, seen.at(-1)?.token], ['/leader', 'Bearer new']);
    answer = () => ({ status: 307, location: `${base}/again` });
    await assert.rejects(client().trigger(JOB, 'checkpoint', 'c'));
  });

  it('asks every vertex for the same parallelism', async () => {
    answer = ({ method }) => ({ body: method === 'GET' ? { a: {}, b: {} } : {} });
    await client().rescale(JOB, 6);
    const bounds = { parallelism: { lowerBound: 1, upperBound: 6 } };
    assert.deepEqual(seen.at(-1)?.body, { a: bounds, b: bounds });
  });
});

async function read(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
  return parts.length === 0 ? null : JSON.parse(Buffer.concat(parts).toString());
}
