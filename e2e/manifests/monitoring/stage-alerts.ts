/** Alerts of what a job speaks with, of its machines, and of its script. */
import {
  type Alert,
  grown,
  LATE,
  max,
  NAME,
  OF_TASK_MANAGER,
  processed,
  rate,
  sum,
} from './alert.ts';

const attempts = (results: string): string =>
  sum(`rate(triggerjob_webhook_attempts_total${results}[5m])`);

const NEIGHBOURS: readonly Alert[] = [
  {
    name: 'TriggerJobWebhookErrors',
    severity: 'warning',
    for: '10m',
    expr: `${attempts('{result!="2xx"}')} / ${attempts('')} > 0.05`,
    summary: `The webhook of ${NAME} fails {{ $value | humanizePercentage }} of its attempts`,
    description: 'By class on the dashboard: 4xx is for good, all else is tried again.',
    meaning: 'The endpoint refuses, times out or is overloaded.',
    data: 'Late until spec.action.webhook.deadline, then in the dead letter.',
    steps: [
      'Class 4xx: what does the endpoint say? The dead letter holds its answer.',
      'Timeouts: scale the endpoint, or lower spec.action.webhook.maxInFlight.',
    ],
  },
  {
    name: 'TriggerJobWebhookDown',
    severity: 'critical',
    for: '5m',
    expr: `${attempts('{result="2xx"}')} == 0 and ${attempts('')} > 0`,
    summary: `No delivery of ${NAME} reaches the webhook`,
    description: 'Attempts are made, and none was answered with 2xx for five minutes.',
    meaning: 'The endpoint is down, moved, or does not accept our signature.',
    data: 'Late until spec.action.webhook.deadline (default 10m), then in the dead letter.',
    steps: [
      'Ask the endpoint by hand from within the cluster.',
      'An outage of hours: `kubectl triggerjob suspend NAME` keeps events in Kafka instead.',
    ],
  },
  {
    name: 'TriggerJobDeadLetters',
    severity: 'warning',
    for: '0m',
    expr: `${grown('triggerjob_dead_letters_total', '15m')} > 0`,
    summary: `{{ $value | humanize }} events of ${NAME} went to the dead letter`,
    description: 'Within 15 minutes; by reason on the dashboard.',
    meaning: 'Records that can not be read, or deliveries that failed for good.',
    data: 'Not lost: each is in the dead letter with its error and its raw bytes.',
    steps: ['Read the dead letter; mend the cause; send what is in it again.'],
  },
  {
    name: 'TriggerJobProfileApiErrors',
    severity: 'warning',
    for: '10m',
    expr:
      `3 * ${rate('triggerjob_profile_errors_total', '5m')} / ` +
      `${rate('triggerjob_profile_requests_total', '5m')} > 0.05`,
    summary: `The Profile API fails {{ $value | humanizePercentage }} of the time for ${NAME}`,
    description: 'A user is asked for by three requests at once, and fails as a whole.',
    meaning: 'New users wait; users in state are not affected.',
    data: 'By onError: retry = late, deadLetter = in the dead letter, empty = judged without.',
    steps: ['See the errors in the log of a TaskManager, then mend or scale the API.'],
  },
  {
    name: 'TriggerJobProfileApiDown',
    severity: 'critical',
    for: '5m',
    expr: `${max('triggerjob_profile_breaker_open')} > 0`,
    summary: `The Profile API is down for ${NAME}`,
    description: '{{ $value | humanize }} slots ask it with single probes only.',
    meaning: 'Events of users that are not in state are parked; the others go on.',
    data: 'Late, until parked events fill their room; then the job stops reading.',
    steps: ['Mend the API. The breaker closes by itself at the first answer.'],
  },
];

const MACHINES: readonly Alert[] = [
  {
    name: 'TriggerJobDiskFull',
    severity: 'critical',
    for: '5m',
    expr:
      `min ${OF_TASK_MANAGER} (triggerjob_taskmanager_disk_free_bytes / ` +
      'triggerjob_taskmanager_disk_bytes) < 0.15',
    summary: `TaskManager {{ $labels.tm_id }} of ${NAME} has little disk left`,
    description: '{{ $value | humanizePercentage }} free where its state lies.',
    meaning: 'RocksDB stops when it can not write, and the job restarts.',
    data: LATE,
    steps: [
      'Enlarge spec.taskManager.localState.size, or add TaskManagers.',
      'Old state: is spec.state.ttl what it should be?',
    ],
  },
  {
    name: 'TriggerJobStateGrowing',
    severity: 'warning',
    for: '1h',
    expr:
      'predict_linear(triggerjob_taskmanager_disk_free_bytes[6h], 86400) < 0 and ' +
      'triggerjob_taskmanager_disk_free_bytes / triggerjob_taskmanager_disk_bytes < 0.5',
    summary: `The disk of {{ $labels.tm_id }} of ${NAME} is full within a day`,
    description: 'By the trend of six hours.',
    meaning: 'State grows: more users, larger users, or a longer TTL.',
    data: 'Nothing yet.',
    steps: ['As of TriggerJobDiskFull. The sizes of users are on the dashboard.'],
  },
  {
    name: 'TriggerJobMemoryNearLimit',
    severity: 'warning',
    for: '10m',
    expr:
      `max ${OF_TASK_MANAGER} (triggerjob_taskmanager_resident_memory_bytes / ` +
      'triggerjob_taskmanager_memory_limit_bytes) > 0.95',
    summary: `TaskManager {{ $labels.tm_id }} of ${NAME} is near its memory limit`,
    description: '{{ $value | humanizePercentage }} of it is resident.',
    meaning: 'The kernel kills it at the limit; its tasks are then replaced.',
    data: LATE,
    steps: ['Raise spec.taskManager.resources.limits.memory, or lower slotCache.'],
  },
  {
    name: 'TriggerJobEventLoopLag',
    severity: 'warning',
    for: '10m',
    expr:
      `max ${OF_TASK_MANAGER} (triggerjob_subtask_event_loop_lag_p99_seconds or ` +
      `triggerjob_taskmanager_event_loop_lag_p99_seconds) > 0.2`,
    summary: `Threads of {{ $labels.tm_id }} of ${NAME} are {{ $value | humanizeDuration }} late`,
    description: 'p99 of the event loop, of a slot or of the main thread.',
    meaning: 'No CPU for it (throttled, shared), or one very large user.',
    data: LATE,
    steps: ['CPU throttled: raise the limit or leave it out. Large users: see the dashboard.'],
  },
  {
    name: 'TriggerJobRocksDBStalled',
    severity: 'warning',
    for: '5m',
    expr: `${max('triggerjob_rocksdb_write_stopped + triggerjob_rocksdb_background_errors')} > 0`,
    summary: `RocksDB of ${NAME} takes no writes`,
    description: 'Compactions are behind, or the disk reports errors.',
    meaning: 'The job stops reading until the disk has caught up.',
    data: LATE,
    steps: ['A faster disk, or more TaskManagers. Errors: replace the node and its volume.'],
  },
  {
    name: 'TriggerJobQueueFull',
    severity: 'warning',
    for: '15m',
    expr:
      'max by (namespace, job_name, name) (triggerjob_bound_fill_ratio{name=~' +
      '"parked_bytes|outbox_bytes|outbox_deliveries|owed_bytes|delta_bytes|rpc_queued_bytes"}) ' +
      '> 0.95',
    summary: `{{ $labels.name }} of ${NAME} is full`,
    description: 'What each place is: "Limits" in ARCHITECTURE.md.',
    meaning: 'The job reads no more than leaves that place.',
    data: LATE,
    steps: [
      'parked: the Profile API. outbox: the webhook. owed, delta: the checkpoint store.',
      'GET /api/v1/jobs/:jobid/diagnosis names the knob.',
    ],
  },
];

const SCRIPT: readonly Alert[] = [
  {
    name: 'TriggerJobFilterErrors',
    severity: 'warning',
    for: '10m',
    expr: `${rate('triggerjob_filter_errors_total', '5m')} / ` + `${processed('5m')} > 0.01`,
    summary: `The script of ${NAME} fails for {{ $value | humanizePercentage }} of the events`,
    description: 'Each counts as no match.',
    meaning: 'A field has another type than the script expects, or the step budget is too small.',
    data: 'Matches may be missed: these events are not judged again.',
    steps: ['Try an event: `triggerjob explain`. Mend the script: it is taken without a restart.'],
  },
  {
    name: 'TriggerJobFilterRefused',
    severity: 'warning',
    for: '5m',
    expr: `${max('triggerjob_filter_refused')} == 1`,
    summary: `A new script of ${NAME} is refused`,
    description: 'The job goes on with the one before.',
    meaning: 'It does not compile.',
    data: 'Nothing, but the change is not in effect.',
    steps: ['`kubectl describe tj NAME` names line and column; mend the ConfigMap.'],
  },
  {
    name: 'TriggerJobNoDeliveries',
    severity: 'warning',
    for: '30m',
    expr:
      `${rate('triggerjob_delivered_total', '1h')} < ` +
      `0.1 * ${rate('triggerjob_delivered_total', '7d')} and ` +
      `${processed('1h')} > 0.5 * ${processed('7d')}`,
    summary: `${NAME} delivers far less than usual`,
    description: 'Less than a tenth of the last week, while events come as usual.',
    meaning: 'A script, a profile or the producers have changed: the job itself is well.',
    data: 'Perhaps matches are missed: compare with what changed.',
    steps: [
      'What changed? `triggerjob_info` on the dashboard shows the script version.',
      'Explain an event that should match: `triggerjob explain`.',
    ],
  },
];

export const STAGE_ALERTS: readonly Alert[] = [...NEIGHBOURS, ...MACHINES, ...SCRIPT];
