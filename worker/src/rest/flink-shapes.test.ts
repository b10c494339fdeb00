/**
 * Every answer against what Flink 1.20 says of its own: method, path, status, and each field that
 * its clients read, by name and type (flink-shapes.json). The job is a real JobManager's.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Compile } from 'typebox/schema';
import { until } from '../jobmanager/test-cluster.ts';
import { VERTEX_IDS } from './flink-vertices.ts';
import { serializedThrowable } from './serialized-throwable.ts';
import { serveJob } from './test-rest.ts';

type Served = Awaited<ReturnType<typeof serveJob<unknown>>>;

interface Operation {
  status: { id: string };
  operation: Record<string, unknown>;
}

interface Shape {
  status?: number;
  schema?: object;
}

const { endpoints, schemas } = JSON.parse(
  readFileSync(new URL('./flink-shapes.json', import.meta.url), 'utf8'),
) as { endpoints: Record<string, Shape>; schemas: Record<string, object> };

/** What of `body` is not as Flink has it at `endpoint`; [] = nothing. */
function faultsOf(endpoint: string, body: unknown): string[] {
  const shape = endpoints[endpoint];
  if (shape?.schema === undefined) return [`${endpoint} has no schema`];
  const validator = Compile({ components: { schemas }, ...shape.schema });
  const [, errors] = validator.Errors(body);
  return errors.map(({ instancePath, message }) => `${endpoint}${instancePath}: ${message}`);
}

/** Answered by bodies of their own tests, or no JSON. */
const ELSEWHERE = /:triggerid|:filename|yarn-cancel|\/log$|\/stdout$|^(PATCH|POST|PUT) /;

test('each answer has the status and the fields of Flink', async (t) => {
  const { manager, tm, call } = await serveJob<unknown>(t);
  const checkpoint = await manager.checkpoint();
  tm.onTrigger = 'decline';
  await assert.rejects(manager.checkpoint());
  tm.onTrigger = 'ack';
  await manager.savepoint();
  for (const subtask of [0, 1]) tm.heartbeat({ subtask, attempt: 1, busyMs: 5 });
  await until('both heartbeats', () => manager.view().subtasks.length === 2);
  tm.heartbeat({ subtask: 0, attempt: 1, busyMs: 15, backPressuredMs: 2 });
  await until('a rate', () => manager.view().ratesOf(0) !== null);
  const values: Readonly<Record<string, string>> = {
    ':jobid': manager.jobId,
    ':vertexid': VERTEX_IDS[1] ?? '',
    ':checkpointid': String(checkpoint),
    ':subtaskindex': '1',
    ':attempt': '1',
    ':taskmanagerid': 'tm-1',
  };
  const asked = Object.keys(endpoints).filter((endpoint) => !ELSEWHERE.test(endpoint));
  assert.ok(asked.length > 40, `${asked.length} paths`);
  const faults: string[] = [];
  for (const endpoint of asked) {
    const path = endpoint.slice('GET '.length);
    const at = path.replaceAll(/:\w+/g, (name) => values[name] ?? assert.fail(name));
    const { status, body } = await call(`/v1${at}`);
    if (status !== endpoints[endpoint]?.status) faults.push(`${endpoint}: status ${status}`);
    faults.push(...faultsOf(endpoint, body));
    for (const name of [':jobid', ':vertexid', ':checkpointid', ':subtaskindex', ':attempt']) {
      if (!path.includes(name)) continue;
      const unknown = path.replaceAll(/:\w+/g, (one) => (one === name ? '77' : values[one]!));
      const answer = await call(unknown);
      // A subtask that is not there has no metric, as in Flink.
      if (path.endsWith('/:subtaskindex/metrics') && name === ':subtaskindex') continue;
      const { errors } = answer.body as { errors?: unknown };
      if (answer.status !== 404) faults.push(`${unknown}: status ${answer.status}`);
      else if (!Array.isArray(errors)) faults.push(`${unknown}: no errors`);
    }
  }
  assert.deepEqual(faults, []);
});

/** The status of a POST and what its trigger id is answered with once it is done. */
async function triggered(
  { call }: Served,
  path: string,
  body: object = {},
  { method = 'POST', at = path } = {},
) {
  const asked = await call(path, { method, body: JSON.stringify(body) });
  const { 'request-id': id } = asked.body as { 'request-id': string };
  for (let look = 0; look < 400; look += 1) {
    const answer = (await call(`${at.split('?')[0]}/${id}`)).body as Operation;
    if (answer.status.id !== 'COMPLETED') await delay(5);
    else return { ...asked, operation: answer.operation };
  }
  return assert.fail(`${path} never completed`);
}

test('operations: the status, a trigger id, and what it is answered with', async (t) => {
  const served = await serveJob<unknown>(t);
  const { manager, tm, call } = served;
  const job = `/v1/jobs/${manager.jobId}`;
  const isShaped = (endpoint: string, { status, body }: { status: number; body: unknown }) => {
    assert.equal(status, endpoints[endpoint]?.status, endpoint);
    assert.deepEqual(faultsOf(endpoint, body), []);
  };
  const checkpoint = await triggered(served, `${job}/checkpoints`);
  isShaped('POST /jobs/:jobid/checkpoints', checkpoint);
  assert.equal(typeof checkpoint.operation['checkpointId'], 'number');
  const savepoint = await triggered(served, `${job}/savepoints`);
  isShaped('POST /jobs/:jobid/savepoints', savepoint);
  const path = { 'savepoint-path': savepoint.operation['location'] };
  const disposal = await triggered(served, '/savepoint-disposal', path);
  isShaped('POST /savepoint-disposal', disposal);
  assert.deepEqual(disposal.operation, {});
  tm.onTrigger = 'decline';
  const failed = await triggered(served, `${job}/savepoints`);
  const { 'failure-cause': cause } = failed.operation as { 'failure-cause': object };
  assert.deepEqual(Object.keys(cause).sort(), ['class', 'serialized-throwable', 'stack-trace']);
  tm.onTrigger = 'ack';
  const rescale = { method: 'PATCH', at: `${job}/rescaling` };
  const rescaled = await triggered(served, `${job}/rescaling?parallelism=1`, {}, rescale);
  assert.deepEqual([rescaled.status, rescaled.operation], [202, {}]);
  const impossible = await triggered(served, `${job}/rescaling?parallelism=99`, {}, rescale);
  assert.ok('failure-cause' in impossible.operation);
  assert.equal((await call(`${job}/rescaling?parallelism=x`, { method: 'PATCH' })).status, 400);
  assert.equal((await call(`${job}/rescaling/none`)).status, 404);
  assert.equal((await call(`/v1/jobs/none/yarn-cancel`)).status, 404);
  assert.equal((await call(`${job}/yarn-cancel`)).status, 202);
  assert.deepEqual(await manager.done, { kind: 'canceled' });
  assert.equal((await call(`${job}/yarn-cancel`)).status, 409);
  const { body } = await call(`${job}/execution-result`);
  const { 'job-execution-result': result } = body as { 'job-execution-result': object };
  assert.deepEqual(Object.entries(result)[1], ['application-status', 'CANCELED']);
  const asked = Object.keys(endpoints).filter((endpoint) => !ELSEWHERE.test(endpoint));
  for (const endpoint of asked.filter((one) => !/:(checkpoint|subtask|taskm)/.test(one))) {
    const path = endpoint.slice('GET '.length).replace(':vertexid', VERTEX_IDS[0] ?? '');
    isShaped(endpoint, await call(path.replace(':jobid', manager.jobId)));
  }
});

test('a job without a TaskManager, and one that has failed before', async (t) => {
  const { manager, tm, call } = await serveJob<unknown>(t);
  const job = `/jobs/${manager.jobId}`;
  tm.fail(1, 'BROKEN');
  await until('the next attempt', () => manager.view().attempt === 2);
  const shaped = async (endpoint: string, query = '') => {
    const path = endpoint.replace('GET ', '').replace(':jobid', manager.jobId);
    const answer = await call(path.replace(':vertexid', VERTEX_IDS[2] ?? '') + query);
    assert.deepEqual([answer.status, faultsOf(endpoint, answer.body)], [200, []]);
    return answer.body as { exceptionHistory: { entries: object[]; truncated: boolean } };
  };
  const exceptions = async (query: string) => {
    const { exceptionHistory } = await shaped('GET /jobs/:jobid/exceptions', query);
    return [exceptionHistory.entries.length, exceptionHistory.truncated];
  };
  assert.deepEqual(await exceptions(''), [1, false]);
  assert.deepEqual(await exceptions('?maxExceptions=0'), [0, true]);
  assert.deepEqual(await exceptions('?failureLabelFilter=attempt:1'), [1, false]);
  assert.deepEqual(await exceptions('?failureLabelFilter=attempt:7'), [0, false]);
  for (const query of ['?maxExceptions=-1', '?failureLabelFilter=x']) {
    assert.equal((await call(`${job}/exceptions${query}`)).status, 400);
  }
  tm.close();
  await until('no task', () => manager.view().tasks.length === 0);
  const ofJob = /^GET .*:(jobid|vertexid)(\/[a-z]+)?$/;
  const asked = Object.keys(endpoints).filter((one) => ofJob.test(one) && !/:check/.test(one));
  for (const endpoint of asked.filter((one) => !ELSEWHERE.test(one))) await shaped(endpoint);
});

test('why an operation failed, as the Java object that a Flink client reads', () => {
  const failure = `DECLINED: told to, ${'über'.repeat(9_000)}`;
  const answer = serializedThrowable(failure);
  assert.equal(answer['stack-trace'], failure);
  const stream = Buffer.from(String(answer['serialized-throwable']), 'base64');
  assert.equal(stream.readUInt32BE(0), 0xaced0005, 'a Java stream');
  const at = stream.indexOf('DECLINED');
  assert.equal(stream.readUInt16BE(at - 2), 16 * 1024, 'a text is cut at its limit');
  assert.match(stream.toString('latin1', at, at + 30), /^DECLINED: told to, \?ber\?ber/);
  assert.doesNotMatch(stream.toString('latin1'), /@[A-Z]+@/, 'no mark of the template is left');
});

test('an enum of a request that Flink does not know is a 400', async (t) => {
  const { manager, call } = await serveJob<{ errors: string[] }>(t);
  const job = `/jobs/${manager.jobId}`;
  const red: [path: string, method: string, body?: object][] = [
    [`${job}/savepoints`, 'POST', { formatType: 'BEST' }],
    [`${job}/stop`, 'POST', { formatType: 'native' }],
    [`${job}/checkpoints`, 'POST', { checkpointType: 'SOME' }],
    [`${job}?mode=stop`, 'PATCH'],
    [`${job}/vertices/${VERTEX_IDS[0]}/flamegraph?type=HOT`, 'GET'],
  ];
  for (const [path, method, body] of red) {
    const { status, body: answer } = await call(path, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    assert.equal(status, 400, path);
    assert.match(answer.errors[0] ?? '', /unknown; use/);
  }
  const body = JSON.stringify({ checkpointType: 'FULL' });
  assert.equal((await call(`${job}/checkpoints`, { method: 'POST', body })).status, 202);
  assert.equal((await call(`${job}?mode=CANCEL`, { method: 'PATCH' })).status, 202);
});

test('a wrong answer is seen as wrong', () => {
  const status = (value: unknown) => faultsOf('GET /jobs/:jobid/status', { status: value });
  assert.deepEqual(status('RUNNING'), []);
  assert.match(status('RUNNIG').join(), /\/status: must be equal to one of/);
  assert.match(faultsOf('GET /jobs/:jobid/status', {}).join(), /required/);
  const overview = { jobs: [{ id: 'x', status: 'RUNNING' }] };
  assert.match(faultsOf('GET /jobs', overview).join(), /\/jobs\/0\/id/);
});
