/**
 * Flink's metrics under the names and with the labels of its Prometheus reporter, so that its
 * dashboards open unchanged. As of it they are all gauges, and text has no place here.
 */
import type { JobView } from '../jobmanager/job-view.ts';
import { type FlinkScope, flinkMetrics } from './flink-metrics.ts';
import type { ProcessFigures } from './process-meter.ts';
import type { PrometheusText } from './prometheus-text.ts';

const PREFIXES: Readonly<Record<FlinkScope, string>> = {
  jobmanager: 'flink_jobmanager_',
  job: 'flink_jobmanager_job_',
  taskmanager: 'flink_taskmanager_',
  task: 'flink_taskmanager_job_task_',
  operator: 'flink_taskmanager_job_task_operator_',
};

export function addFlinkMetrics(view: JobView, process: ProcessFigures, out: PrometheusText): void {
  for (const { scope, name, labels, value } of flinkMetrics(view, process)) {
    if (typeof value === 'string') continue;
    const alias = PREFIXES[scope] + name.replaceAll(/[^a-zA-Z0-9:_]/g, '_');
    out.bare(alias, `Flink's ${name} (scope: ${scope})`, value, labels);
  }
}
