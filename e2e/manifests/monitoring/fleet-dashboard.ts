/** All jobs: which of them needs somebody. */
import { type Dashboard, query, stat, timeseries } from './panel.ts';

const OF = 'namespace=~"$namespace"';
const BY = 'by (namespace, job_name)';
const of = (name: string): string => `triggerjob_${name}{${OF}}`;
const rate = (name: string): string => `sum ${BY} (rate(${of(name)}[$__rate_interval]))`;
const LEGEND = '{{namespace}}/{{job_name}}';

export const FLEET_DASHBOARD: Dashboard = {
  uid: 'triggerjob-fleet',
  title: 'TriggerJob / Fleet',
  description: 'All TriggerJobs that this Prometheus scrapes.',
  variables: [
    {
      name: 'namespace',
      label: 'Namespace',
      query: 'label_values(triggerjob_running, namespace)',
      many: true,
    },
  ],
  annotations: [],
  rows: [
    {
      title: 'Jobs',
      panels: [
        stat('Active jobs', 'short', `sum(max ${BY} (${of('jobs_active')}))`),
        stat('Running', 'short', `sum(max ${BY} (${of('running')}))`),
        stat('Failed', 'short', `sum(max ${BY} (${of('failed')}))`),
        stat('TaskManagers', 'short', `sum(max ${BY} (${of('task_managers')}))`),
        stat('Events', 'ops', `sum(${rate('records_processed_total')})`),
        stat('Deliveries', 'ops', `sum(${rate('delivered_total')})`),
        {
          title: 'All jobs',
          kind: 'table',
          unit: 'short',
          width: 24,
          queries: [
            query(`max by (namespace, job_name, state) (${of('state')})`),
            query(rate('records_processed_total')),
            query(`sum ${BY} (${of('lag_records')})`),
            query(`max ${BY} (${of('restarts_total')})`),
            query(`time() - max ${BY} (${of('checkpoint_last_timestamp_seconds')})`),
            query(`sum ${BY} (${of('state_bytes')})`),
          ],
        },
      ],
    },
    {
      title: 'Compared',
      panels: [
        timeseries('Events', 'ops', [query(rate('records_processed_total'), LEGEND)]),
        timeseries('Lag', 'short', [query(`sum ${BY} (${of('lag_records')})`, LEGEND)]),
        timeseries('End-to-end latency p99', 's', [
          query(
            'histogram_quantile(0.99, sum by (namespace, job_name, le) ' +
              `(rate(${of('end_to_end_latency_seconds_bucket')}[$__rate_interval])))`,
            LEGEND,
          ),
        ]),
        timeseries('State', 'bytes', [query(`sum ${BY} (${of('state_bytes')})`, LEGEND)]),
        timeseries('Checkpoint duration', 's', [
          query(`max ${BY} (${of('checkpoint_last_duration_seconds')})`, LEGEND),
        ]),
        timeseries('Dead letters', 'ops', [query(rate('dead_letters_total'), LEGEND)]),
        timeseries('CPU of TaskManagers', 'short', [
          query(rate('taskmanager_cpu_seconds_total'), LEGEND),
        ]),
        timeseries('Memory of TaskManagers', 'bytes', [
          query(`sum ${BY} (${of('taskmanager_resident_memory_bytes')})`, LEGEND),
        ]),
        timeseries('Restarts', 'short', [
          query(`sum ${BY} (increase(${of('restarts_total')}[1h]))`, LEGEND),
        ]),
      ],
    },
  ],
};
