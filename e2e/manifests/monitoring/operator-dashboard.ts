/** The operator: does it lead, does it get its work done, does the API server answer. */
import { type Dashboard, query, stat, timeseries } from './panel.ts';

const CONTROLLER = '{controller="triggerjob"}';
const QUEUE = '{name="triggerjob"}';
const WINDOW = '[$__rate_interval]';

/** Whatever the Lease is named: of the pods that are this operator. */
export const LEADERS =
  'sum(leader_election_master_status and on (namespace, pod, instance) ' +
  `controller_runtime_max_concurrent_reconciles${CONTROLLER})`;

const p99 = (name: string, selector: string): string =>
  `histogram_quantile(0.99, sum by (le) (rate(${name}_bucket${selector}${WINDOW})))`;

export const OPERATOR_DASHBOARD: Dashboard = {
  uid: 'triggerjob-operator',
  title: 'TriggerJob / Operator',
  description: "The operator, by controller-runtime's names.",
  variables: [],
  annotations: [],
  rows: [
    {
      title: 'Is it well?',
      panels: [
        stat('Leaders', 'short', LEADERS),
        stat(
          'Reconciles under way',
          'short',
          `sum(controller_runtime_active_workers${CONTROLLER})`,
        ),
        stat('Jobs', 'short', 'max(triggerjob_operator_cached_objects{kind="TriggerJob"})'),
        stat('Queue', 'short', `sum(workqueue_depth${QUEUE})`),
        stat('Oldest watch', 's', 'max(triggerjob_operator_watch_staleness_seconds)'),
        stat('Longest reconcile', 's', `max(workqueue_longest_running_processor_seconds${QUEUE})`),
      ],
    },
    {
      title: 'Reconciles',
      panels: [
        timeseries('Reconciles', 'ops', [
          query(
            `sum by (result) (rate(controller_runtime_reconcile_total${CONTROLLER}${WINDOW}))`,
            '{{result}}',
          ),
        ]),
        timeseries('Time of a reconcile', 's', [
          query(p99('controller_runtime_reconcile_time_seconds', CONTROLLER), 'p99'),
        ]),
        timeseries('Wait in the queue', 's', [
          query(p99('workqueue_queue_duration_seconds', QUEUE), 'p99'),
        ]),
        timeseries('Queue', 'short', [
          query(`sum(workqueue_depth${QUEUE})`, 'waiting'),
          query(`sum(rate(workqueue_adds_total${QUEUE}${WINDOW}))`, 'added per second'),
          query(`sum(rate(workqueue_retries_total${QUEUE}${WINDOW}))`, 'retries per second'),
        ]),
        timeseries('Errors', 'ops', [
          query(
            `sum(rate(controller_runtime_reconcile_errors_total${CONTROLLER}${WINDOW}))`,
            'reconciles',
          ),
          query(`sum(rate(reflector_failures_total${WINDOW}))`, 'lists and watches'),
        ]),
        timeseries('Events not written', 'ops', [
          query(
            `sum by (reason) (rate(triggerjob_operator_events_dropped_total${WINDOW}))`,
            '{{reason}}',
          ),
        ]),
      ],
    },
    {
      title: 'API server',
      panels: [
        timeseries('Requests', 'ops', [
          query(`sum by (code) (rate(rest_client_requests_total${WINDOW}))`, '{{code}}'),
        ]),
        timeseries('Time of a request', 's', [
          query(
            `histogram_quantile(0.99, sum by (verb, le) ` +
              `(rate(rest_client_request_duration_seconds_bucket${WINDOW})))`,
            '{{verb}} p99',
          ),
        ]),
        timeseries('Watches', 's', [
          query('max by (kind) (triggerjob_operator_watch_staleness_seconds)', '{{kind}}'),
        ]),
        timeseries('Cached objects', 'short', [
          query('max by (kind) (triggerjob_operator_cached_objects)', '{{kind}}'),
        ]),
        timeseries('Jobs by state', 'short', [
          query('max by (state) (triggerjob_operator_jobs)', '{{state}}'),
        ]),
        timeseries('Lists', 'ops', [
          query(`sum by (kind) (rate(reflector_lists_total${WINDOW}))`, '{{kind}}'),
        ]),
        timeseries('Process', 'bytes', [
          query(
            'max by (pod) (process_resident_memory_bytes and on (instance) ' +
              'controller_runtime_max_concurrent_reconciles)',
            '{{pod}}',
          ),
        ]),
      ],
    },
  ],
};
