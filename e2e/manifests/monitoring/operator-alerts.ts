/** Alerts of the operator. While it is away all jobs run on, and nobody heals or upgrades them. */
import { type Alert, LATE } from './alert.ts';
import { LEADERS } from './operator-dashboard.ts';

const JOBS_RUN_ON = 'None: jobs run on without the operator.';
const OF = '{controller="triggerjob"}';

export const OPERATOR_ALERTS: readonly Alert[] = [
  {
    name: 'TriggerJobOperatorDown',
    severity: 'critical',
    for: '5m',
    expr: `absent(controller_runtime_max_concurrent_reconciles${OF})`,
    summary: 'The operator of TriggerJobs is gone',
    description: 'No pod of it is scraped.',
    meaning: 'Changes of TriggerJobs have no effect, lost pods of failed nodes are not replaced.',
    data: JOBS_RUN_ON,
    steps: ['`kubectl -n triggerjob-system get pods`; read the log of the last one.'],
  },
  {
    name: 'TriggerJobOperatorNoLeader',
    severity: 'critical',
    for: '2m',
    expr: `${LEADERS} == 0`,
    summary: 'No operator leads',
    description: 'Pods run, and none holds the Lease.',
    meaning: 'The Lease can not be written, or a dead holder is not timed out.',
    data: JOBS_RUN_ON,
    steps: ['`kubectl -n triggerjob-system get lease`; the rights of the ServiceAccount.'],
  },
  {
    name: 'TriggerJobOperatorJobsDown',
    severity: 'critical',
    for: '10m',
    expr: 'max by (state) (triggerjob_operator_jobs{state=~"Restarting|Failed"}) > 0',
    summary: '{{ $value }} TriggerJobs are {{ $labels.state }}',
    description: 'So the operator finds them, also where no JobManager is left that could tell.',
    meaning: 'Restarting: no JobManager answers, or the job does not get to run. Failed: for good.',
    data: LATE,
    steps: [
      '`kubectl get tj -A` shows which; `kubectl triggerjob why NAME` tells why.',
      'See TriggerJobFailed, TriggerJobNoLeader and TriggerJobNotRunning.',
    ],
  },
  {
    name: 'TriggerJobOperatorReconcileErrors',
    severity: 'warning',
    for: '15m',
    expr:
      `sum(rate(controller_runtime_reconcile_errors_total${OF}[10m])) / ` +
      `sum(rate(controller_runtime_reconcile_total${OF}[10m])) > 0.1`,
    summary: '{{ $value | humanizePercentage }} of the reconciles fail',
    description: 'They are tried again, less and less often.',
    meaning: 'The API server refuses what the operator applies: rights, quota, a webhook.',
    data: JOBS_RUN_ON,
    steps: ['The log names object and answer; Events of the TriggerJob say the same.'],
  },
  {
    name: 'TriggerJobOperatorWatchStale',
    severity: 'warning',
    for: '5m',
    expr: 'max by (kind) (triggerjob_operator_watch_staleness_seconds) > 180',
    summary: 'The operator has heard nothing of {{ $labels.kind }} for {{ $value }} s',
    description: 'A watch says something every 75 s, even when nothing changes.',
    meaning: 'It acts on what it knew then.',
    data: JOBS_RUN_ON,
    steps: ['Network to the API server; delete the pod of the operator: another one leads.'],
  },
  {
    name: 'TriggerJobOperatorQueueLong',
    severity: 'warning',
    for: '15m',
    expr:
      'max(workqueue_depth{name="triggerjob"}) > 50 or ' +
      'max(workqueue_longest_running_processor_seconds{name="triggerjob"}) > 600',
    summary: 'The operator is behind with its work',
    description: 'Many jobs wait, or one reconcile takes more than ten minutes.',
    meaning: 'Changes take effect late.',
    data: JOBS_RUN_ON,
    steps: ['Raise `concurrency` of the chart; see the slow requests in its log.'],
  },
  {
    name: 'TriggerJobOperatorApiErrors',
    severity: 'warning',
    for: '15m',
    expr:
      'sum(rate(rest_client_requests_total{code=~"5..|<error>"}[5m])) / ' +
      'sum(rate(rest_client_requests_total[5m])) > 0.05',
    summary: '{{ $value | humanizePercentage }} of the requests to the API server fail',
    description: 'Server errors and broken connections.',
    meaning: 'The API server is overloaded or away.',
    data: JOBS_RUN_ON,
    steps: ['Look at the control plane; the operator goes on by itself.'],
  },
];
