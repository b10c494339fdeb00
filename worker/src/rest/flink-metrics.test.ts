/** Flink's metric ids and values, of a job whose figures are known. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { TaskRates } from '../jobmanager/task-rates.ts';
import { until } from '../jobmanager/test-cluster.ts';
import { CpuMeter } from '../runtime/cpu-meter.ts';
import { VERTICES } from './flink-vertices.ts';
import { aggregatedMetrics } from './metric-ids.ts';
import { serveJob } from './test-rest.ts';

interface Metric {
  id: string;
  value?: string;
  min?: number;
  max?: number;
  avg?: number;
  sum?: number;
}

/** Two subtasks that have said who they are; the vertices' paths. */
async function told(t: TestContext) {
  const served = await serveJob<Metric[]>(t);
  const { manager, tm } = served;
  const extra = { channel_buffers: 3, channel_buffers_limit: 12, rocksdb_memtable_bytes: 5 };
  const figures = { attempt: 1, recordsProcessed: 70, bytesRead: 4_000, pendingRecords: 9, extra };
  const lag = { recordsLagMax: 7, emitEventTimeLagMs: 40 };
  tm.heartbeat({ ...figures, ...lag, subtask: 0, recordsRead: 100, matched: 3, delivered: 2 });
  tm.heartbeat({ ...figures, subtask: 1, recordsRead: 40, matched: 0, delivered: 0 });
  await until('both heartbeats', () => manager.view().subtasks.length === 2);
  const job = `/jobs/${manager.jobId}`;
  const [source, state, filter, action] = VERTICES.map(({ id }) => `${job}/vertices/${id}`);
  return { ...served, job, source, state, filter, action };
}

test('ids alone without get, values as text with it, unknown ones left out', async (t) => {
  const { get, job, source, state, action } = await told(t);
  const ids = (await get(`${source}/metrics`)).map(({ id }) => id);
  for (const id of [
    '0.numRecordsOut',
    '1.Source__Kafka_Source.pendingRecords',
    '0.Source__Kafka_Source.currentEmitEventTimeLag',
    '0.Source__Kafka_Source.KafkaSourceReader.KafkaConsumer.records-lag-max',
    '0.Source__Kafka_Source.KafkaSourceReader.KafkaConsumer.records-consumed-total',
  ]) {
    assert.ok(ids.includes(id), id);
  }
  assert.ok((await get(`${source}/metrics`)).every((metric) => metric.value === undefined));
  const values = async (path: string, ...wanted: string[]) =>
    (await get(`${path}?get=${wanted.join(',')}`)).map(({ id, value }) => [id, value]);
  assert.deepEqual(await values(`${source}/metrics`, '0.numRecordsOut', '1.numRecordsIn', 'none'), [
    ['0.numRecordsOut', '100'],
    ['1.numRecordsIn', '40'],
  ]);
  const emitLag = 'Source__Kafka_Source.currentEmitEventTimeLag';
  assert.deepEqual(await values(`${source}/metrics`, `0.${emitLag}`, `1.${emitLag}`), [
    [`0.${emitLag}`, '40'],
  ]);
  assert.deepEqual(await values(`${state}/subtasks/0/metrics`, 'numRecordsIn'), [
    ['numRecordsIn', '70'],
  ]);
  assert.deepEqual(await values(`${action}/subtasks/0/metrics`, 'ActionExecutor.numRecordsOut'), [
    ['ActionExecutor.numRecordsOut', '2'],
  ]);
  assert.deepEqual(
    await values(`${source}/subtasks/1/metrics`, 'Shuffle.Netty.Output.Buffers.outPoolUsage'),
    [['Shuffle.Netty.Output.Buffers.outPoolUsage', '0.25']],
  );
  assert.deepEqual(await values(`${job}/metrics`, 'numRestarts', 'runningState'), [
    ['numRestarts', '0'],
    ['runningState', '1'],
  ]);
  assert.deepEqual(await values('/jobmanager/metrics', 'taskSlotsTotal', 'numRunningJobs'), [
    ['numRunningJobs', '1'],
    ['taskSlotsTotal', '2'],
  ]);
  const [managed] = await values('/taskmanagers/tm-1/metrics', 'Status.Flink.Memory.Managed.Used');
  assert.deepEqual(managed, ['Status.Flink.Memory.Managed.Used', '5']);
  assert.deepEqual(await get(`${source}/jm-operator-metrics`), []);
});

test('aggregates over subtasks, TaskManagers and jobs', async (t) => {
  const { get, call, manager, source } = await told(t);
  const path = `${source}/subtasks/metrics`;
  const id = 'numRecordsOut';
  assert.ok((await get(path)).some((metric) => metric.id === id && metric.sum === undefined));
  assert.deepEqual(await get(`${path}?get=${id}`), [{ id, min: 40, max: 100, avg: 70, sum: 140 }]);
  assert.deepEqual(await get(`${path}?get=${id}&agg=max,SUM`), [{ id, max: 100, sum: 140 }]);
  assert.deepEqual(await get(`${path}?get=${id}&agg=sum&subtasks=1`), [{ id, sum: 40 }]);
  assert.deepEqual(await get(`${path}?get=${id}&agg=sum&subtasks=0-1`), [{ id, sum: 140 }]);
  const slots = 'Status.JVM.Memory.Heap.Used';
  assert.deepEqual(await get(`/taskmanagers/metrics?get=${slots}&agg=min`), [
    { id: slots, min: 1 },
  ]);
  assert.deepEqual(await get(`/taskmanagers/metrics?get=${slots}&taskmanagers=none`), []);
  const all = `/jobs/metrics?get=numRestarts&agg=sum&jobs=`;
  assert.deepEqual(await get(all + manager.jobId), [{ id: 'numRestarts', sum: 0 }]);
  assert.deepEqual(await get(`${all}00000000000000000000000000000000`), []);
  const statusOf = async (asked: string) => (await call(asked)).status;
  assert.equal(await statusOf(`${path}?get=${id}&agg=median`), 400);
  assert.equal(await statusOf(`${path}?subtasks=all`), 400);
  assert.equal(await statusOf('/taskmanagers/none/metrics'), 404);
  assert.equal(await statusOf(`/jobs/${manager.jobId}/vertices/none/metrics`), 404);
  assert.equal(await statusOf('/jobs/none/metrics'), 404);
});

test('text has no aggregate', () => {
  const values = [
    { id: 'path', value: 'a' },
    { id: 'n', value: 2 },
  ];
  const query = new URLSearchParams('get=path,n&agg=avg');
  assert.deepEqual(aggregatedMetrics(values, query), [{ id: 'n', avg: 2 }]);
});

test('rates: over the window, of one attempt, none before the second heartbeat', () => {
  const rates = new TaskRates(['recordsRead', 'busyMs'] as const);
  const at = (now: number, recordsRead: number, attempt = 1) =>
    rates.add({ subtask: 0, attempt }, { recordsRead, busyMs: now / 4 }, now);
  assert.equal(rates.of(0), null);
  at(0, 0);
  assert.equal(rates.of(0), null);
  at(1_000, 500);
  assert.deepEqual(rates.of(0), { recordsRead: 500, busyMs: 250 });
  for (let second = 2; second <= 60; second += 1) at(second * 1_000, 500);
  assert.equal(rates.of(0)?.recordsRead, 0, 'what was before the window is over');
  at(61_000, 0, 2);
  assert.equal(rates.of(0), null);
  at(62_000, 10, 2);
  assert.equal(rates.of(0)?.recordsRead, 10);
  rates.remove(0);
  assert.equal(rates.of(0), null);
});

test('cores that a process keeps busy', () => {
  const meter = new CpuMeter();
  assert.equal(meter.cores, null);
  meter.add(10, 0);
  meter.add(10.5, 1_000);
  assert.equal(meter.cores, 0.5);
  meter.add(12.5, 2_000);
  assert.equal(meter.cores, 2);
});
