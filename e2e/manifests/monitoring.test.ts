/**
 * Dashboards and alerts ask for nothing that is not there: each metric and label against what a
 * running job and an operator say. And the stored files are what is generated.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { Metrics } from '../../operator/src/metrics.ts';
import { metricsOfARunningJob } from '../../worker/src/cli/test-running-job.ts';
import { ALERTS, DASHBOARDS, monitoringFiles } from './monitoring/files.ts';
import { groupLabelsOf, madeLabelsOf, metricsOf, scraped } from './monitoring/promql.ts';

const ROOT = join(import.meta.dirname, '../..');
/** What Prometheus itself gives a target. */
const TARGET_LABELS = ['namespace', 'pod', 'instance', 'job'];

/** An operator that has done a little of everything. */
function operatorMetrics(): Promise<string> {
  const metrics = new Metrics(1, 'triggerjob-operator');
  const { queue, reflector, request } = metrics;
  queue.added();
  queue.retried();
  queue.taken(1);
  queue.finished('error', 1);
  reflector.listed('Pod');
  reflector.watchStarted('Pod');
  reflector.watchFailed('Pod', 'gone');
  request.request({ method: 'GET', code: '200', host: 'api', seconds: 1 });
  metrics.eventDropped('full');
  metrics.show({
    queue: () => ({ depth: 1, active: 1, sumSeconds: 1, longestSeconds: 1 }),
    leading: () => true,
    states: () => ['Running', 'Suspended', 'Running'],
    caches: () => [{ kind: 'TriggerJob', objects: 1, stalenessSeconds: 1 }],
  });
  return metrics.text().then(({ text }) => text);
}

const expressions = (): [where: string, expr: string][] => [
  ...ALERTS.map(({ name, expr }): [string, string] => [name, expr]),
  ...Object.entries(DASHBOARDS).flatMap(([name, { rows, annotations, variables }]) => [
    ...rows.flatMap(({ panels }) =>
      panels.flatMap(({ title, queries }) =>
        queries.map(({ expr }): [string, string] => [`${name}: ${title}`, expr]),
      ),
    ),
    ...annotations.map((one): [string, string] => [`${name}: ${one.name}`, one.expr]),
    ...variables.map((one): [string, string] => [
      `${name}: $${one.name}`,
      /^label_values\((.*), \w+\)$/.exec(one.query)?.[1] ?? one.query,
    ]),
  ]),
];

/** What an expression asks for and does not get. */
function faultsOf(expr: string, known: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const asked = metricsOf(expr);
  const there = new Set([...TARGET_LABELS, ...madeLabelsOf(expr)]);
  const faults = asked.flatMap(({ metric, labels }) => {
    const own = known.get(metric);
    if (own === undefined) return [`${metric} is no metric`];
    for (const label of own) there.add(label);
    const strange = labels.filter((label) => !own.has(label) && !TARGET_LABELS.includes(label));
    return strange.map((label) => `${metric} has no label ${label}`);
  });
  const groups = groupLabelsOf(expr).filter((label) => !there.has(label));
  return [...faults, ...groups.map((label) => `nothing has a label ${label}`)];
}

describe('dashboards and alerts', () => {
  let known: Map<string, Set<string>>;

  before(async () => {
    const ends: (() => unknown)[] = [];
    const job = await metricsOfARunningJob({ after: (end) => ends.push(end) });
    for (const end of ends) await end();
    known = scraped(`${job}\n${await operatorMetrics()}`);
  });

  it('name only metrics and labels that there are', () => {
    const all = expressions();
    assert.ok(all.length > 100);
    const faults = all.flatMap(([where, expr]) =>
      faultsOf(expr, known).map((fault) => `${where}: ${fault}`),
    );
    assert.deepEqual(faults, []);
  });

  it('would be found out if they did not', () => {
    const some = 'sum by (subtasks) (rate(triggerjob_matched_totals{job_nam="a"}[5m])) > 1';
    assert.deepEqual(faultsOf(some, known), [
      'triggerjob_matched_totals is no metric',
      'nothing has a label subtasks',
    ]);
    const label = 'triggerjob_state{stat="RUNNING"} and on (job_id) up offset 1m';
    assert.deepEqual(faultsOf(label, known), [
      'triggerjob_state has no label stat',
      'up is no metric',
    ]);
  });

  it('of Flink find names and labels, too', () => {
    const task = '{job_id="0", job_name="a", tm_id="b", task_name="Source", subtask_index="0"}';
    for (const expr of [
      'flink_jobmanager_numRegisteredTaskManagers + flink_jobmanager_taskSlotsAvailable',
      'flink_jobmanager_job_numRestarts{job_id="0", job_name="a"} or flink_jobmanager_job_uptime',
      'flink_jobmanager_job_lastCheckpointDuration / flink_jobmanager_job_lastCheckpointSize',
      'flink_taskmanager_Status_JVM_Memory_Heap_Used{tm_id="b", host="c"}',
      `flink_taskmanager_job_task_busyTimeMsPerSecond${task}`,
      `flink_taskmanager_job_task_operator_numRecordsIn${task}`,
    ]) {
      assert.deepEqual(faultsOf(expr, known), []);
    }
  });

  it('are stored as they are generated', () => {
    for (const [path, text] of monitoringFiles()) {
      assert.ok(readFileSync(join(ROOT, path), 'utf8') === text, `${path}: npm run manifests`);
    }
  });

  it('have a runbook each, at the place that they link to', () => {
    const runbooks = readFileSync(join(ROOT, 'config/prometheus/runbooks.md'), 'utf8');
    for (const { name } of ALERTS) assert.match(runbooks, new RegExp(`^## ${name}$`, 'm'));
  });
});
