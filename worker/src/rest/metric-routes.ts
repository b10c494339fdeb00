/** Flink's metric queries, for each scope: job, vertex, subtask, TaskManager, JobManager. */
import type { JobView } from '../jobmanager/job-view.ts';
import type { JsonObject } from '../runtime/json.ts';
import { type FlinkMetric, type FlinkScope, flinkMetrics } from './flink-metrics.ts';
import { vertexOf } from './flink-vertices.ts';
import { aggregatedMetrics, listed, type MetricValue, metricList, withIds } from './metric-ids.ts';
import type { ProcessMeter } from './process-meter.ts';
import { RestError } from './rest-error.ts';
import type { RouteRequest } from './router.ts';
import { taskManagerOf } from './task-manager-json.ts';

type Answers = Readonly<Record<string, (view: JobView, request: RouteRequest) => JsonObject[]>>;

const VERTEX = '/jobs/:jobid/vertices/:vertexid';

/** By path; `meter`: of the process that answers. */
export function metricAnswers(meter: ProcessMeter): Answers {
  const of = (view: JobView, ...scopes: FlinkScope[]): FlinkMetric[] =>
    flinkMetrics(view, meter.read()).filter(({ scope }) => scopes.includes(scope));
  const ofVertex = (view: JobView, { params }: RouteRequest): FlinkMetric[] => {
    const { id } = vertexOf(params);
    return of(view, 'task', 'operator').filter(({ labels }) => labels['task_id'] === id);
  };
  const single = (metrics: FlinkMetric[], { query }: RouteRequest): JsonObject[] =>
    metricList(withIds(metrics), query);
  return {
    '/jobmanager/metrics': (view, request) => single(of(view, 'jobmanager'), request),
    '/jobs/metrics': (view, { query }) => {
      const asked = listed(query, 'jobs') ?? [view.jobId];
      const metrics = asked.includes(view.jobId) ? of(view, 'job') : [];
      return aggregatedMetrics(withIds(metrics), query);
    },
    '/jobs/:jobid/metrics': (view, request) => single(of(view, 'job'), request),
    [`${VERTEX}/metrics`]: (view, request) => {
      const values = ofVertex(view, request).flatMap((metric): MetricValue[] =>
        withIds([metric], `${metric.labels['subtask_index']}.`),
      );
      return metricList(values, request.query);
    },
    // No coordinator of an operator runs in the JobManager: nothing to tell, as of Flink's.
    [`${VERTEX}/jm-operator-metrics`]: (_, { params }) => {
      vertexOf(params);
      return [];
    },
    [`${VERTEX}/subtasks/metrics`]: (view, request) => {
      const wanted = subtasksOf(listed(request.query, 'subtasks'));
      const metrics = ofVertex(view, request).filter(
        ({ labels }) => wanted === null || wanted.has(Number(labels['subtask_index'])),
      );
      return aggregatedMetrics(withIds(metrics), request.query);
    },
    [`${VERTEX}/subtasks/:subtaskindex/metrics`]: (view, request) => {
      const index = request.params['subtaskindex'] ?? '';
      const metrics = ofVertex(view, request);
      return single(
        metrics.filter(({ labels }) => labels['subtask_index'] === index),
        request,
      );
    },
    '/taskmanagers/metrics': (view, { query }) => {
      const asked = listed(query, 'taskmanagers');
      const metrics = of(view, 'taskmanager').filter(
        ({ labels }) => asked === null || asked.includes(labels['tm_id'] ?? ''),
      );
      return aggregatedMetrics(withIds(metrics), query);
    },
    '/taskmanagers/:taskmanagerid/metrics': (view, request) => {
      const { id } = taskManagerOf(view, request.params);
      const metrics = of(view, 'taskmanager').filter(({ labels }) => labels['tm_id'] === id);
      return single(metrics, request);
    },
  };
}

/** Flink's ranges: 0,2-4. null = all. */
function subtasksOf(ranges: readonly string[] | null): Set<number> | null {
  if (ranges === null) return null;
  const all = new Set<number>();
  for (const range of ranges) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(range);
    if (match === null) throw new RestError(400, `subtasks=${range}: expected 0,2 or 1-3`);
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    for (let subtask = first; subtask <= last; subtask += 1) all.add(subtask);
  }
  return all;
}
