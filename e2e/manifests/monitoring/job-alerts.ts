/** Alerts of whether a job runs, keeps up and keeps its checkpoints. */
import { ACTIVE, type Alert, grown, LATE, max, NAME, processed, rate, sum } from './alert.ts';

/** The metric of a process has no labels; the pod of a JobManager is named after its job. */
const WITH_JOB_NAME =
  'label_replace(triggerjob_jobmanager_leading, ' +
  '"job_name", "$1", "pod", "(.+)-jobmanager-[0-9]+")';

/** Of both the later: after a resume the last checkpoint is old. The label keeps them apart. */
const LAST_CHECKPOINT =
  'triggerjob_checkpoint_last_timestamp_seconds or ' +
  'label_replace(triggerjob_started_timestamp_seconds, "of", "start", "", "")';

const RUNNING: readonly Alert[] = [
  {
    name: 'TriggerJobFailed',
    severity: 'critical',
    for: '0m',
    expr: `${max('triggerjob_failed')} == 1`,
    summary: `${NAME} has failed for good`,
    description: 'Its restart strategy has given up, or the fault can not heal by itself.',
    meaning: 'Nothing is processed until somebody starts the job again.',
    data: `${LATE} Mind the retention of the topic.`,
    steps: [
      'Read the cause: `kubectl describe tj NAME`, or Exceptions in the UI.',
      'Mend it, then `kubectl triggerjob suspend NAME` and `resume`: it goes on from its state.',
    ],
  },
  {
    name: 'TriggerJobNotRunning',
    severity: 'critical',
    for: '5m',
    expr: `${max('triggerjob_running')} == 0 and ${ACTIVE}`,
    summary: `${NAME} is not running`,
    description: 'It waits for slots, restores its state, or restarts again and again.',
    meaning: 'For five minutes no event was processed, though the job has not ended.',
    data: LATE,
    steps: [
      'Ask why: `kubectl triggerjob why NAME`, or GET /api/v1/jobs/:jobid/diagnosis.',
      'Slots missing: see TriggerJobTaskManagersMissing. Restarts: see TriggerJobRestarting.',
      'A long restore of a large state is normal: its progress is on the Job page.',
    ],
  },
  {
    name: 'TriggerJobNoLeader',
    severity: 'critical',
    for: '5m',
    expr: `${max(WITH_JOB_NAME)} == 0`,
    summary: `${NAME} has no leading JobManager`,
    description: 'Its JobManagers are up, and none of them leads. Nothing else tells of the job.',
    meaning: 'The Lease can not be written, or whoever leads does not get through its start.',
    data: LATE,
    steps: [
      '`kubectl get lease NAME-leader`: who holds it, and is that pod there?',
      'The log of the JobManagers: the API server, the checkpoint store, the network policy.',
    ],
  },
  {
    name: 'TriggerJobRestarting',
    severity: 'critical',
    for: '0m',
    expr: `${grown('triggerjob_restarts_total', '10m')} >= 3`,
    summary: `${NAME} restarts again and again`,
    description: '{{ $value | humanize }} restarts within ten minutes.',
    meaning: 'Each restart begins at the last checkpoint; the same fault comes back.',
    data: `${LATE} Deliveries may be repeated with the same webhook-id.`,
    steps: [
      'Read the exceptions: the first cause is what counts.',
      'What changed? A new image or spec: apply the one before.',
      'Killed for memory (exit 137): raise spec.taskManager.resources.',
    ],
  },
  {
    name: 'TriggerJobTaskManagersMissing',
    severity: 'warning',
    for: '5m',
    expr:
      `${max('triggerjob_task_managers')} < ${max('triggerjob_task_managers_wanted')}` +
      ` and ${ACTIVE}`,
    summary: `${NAME} has fewer TaskManagers than it needs`,
    description: '{{ $value | humanize }} are registered.',
    meaning: 'The job waits for slots, or runs with a lower parallelism than wanted.',
    data: LATE,
    steps: [
      '`kubectl get pods`: Pending means no room or no volume, CrashLoopBackOff has a log.',
      'Registered pods that do not show: see the log of the leading JobManager.',
    ],
  },
  {
    name: 'TriggerJobLedgerImbalance',
    severity: 'critical',
    for: '5m',
    expr: `${max('abs(triggerjob_ledger_imbalance)')} > 0`,
    summary: `${NAME} has lost count of {{ $value | humanize }} events`,
    description: 'Accepted is not the sum of no match, delivered, dead-lettered, parked, outbox.',
    meaning: 'A bug: an event is in no place or in two (I9).',
    data: 'Perhaps lost or doubled. Keep the checkpoints and the topic.',
    steps: [
      'Take a savepoint and keep it: `triggerjob savepoint trigger`.',
      'Report it with the ledger: `GET /api/v1/jobs/:jobid/ledger`.',
    ],
  },
];

const LAGGING: readonly Alert[] = [
  {
    name: 'TriggerJobLagGrowing',
    severity: 'warning',
    for: '15m',
    expr:
      `${sum('deriv(triggerjob_lag_records[10m])')} > 0 and ` +
      `${sum('triggerjob_lag_records')} / ${processed('10m')} > 180`,
    summary: `${NAME} falls behind`,
    description: 'More than three minutes of work wait in the topic, and it grows.',
    meaning: 'The job takes less than comes in.',
    data: `${LATE} Mind the retention of the topic.`,
    steps: [
      'Ask why: GET /api/v1/jobs/:jobid/diagnosis names the bottleneck and the knob.',
      'Work: `kubectl scale tj/NAME --replicas=N`. Skew: see TriggerJobSkewHigh.',
    ],
  },
  {
    name: 'TriggerJobNoProgress',
    severity: 'critical',
    for: '5m',
    expr:
      `${sum('triggerjob_lag_records')} > 0 and ` +
      `${processed('5m')} == 0 and ${max('triggerjob_running')} == 1`,
    summary: `${NAME} runs and processes nothing`,
    description: 'Records wait in the topic, and none was processed for five minutes.',
    meaning: 'Something holds the whole job: brokers, a full outbox, a stalled disk.',
    data: LATE,
    steps: [
      'Ask why: GET /api/v1/jobs/:jobid/diagnosis; TriggerJobQueueFull names the place.',
      'Kafka: authentication, the leaders of the partitions, the network policy.',
    ],
  },
  {
    name: 'TriggerJobBackpressured',
    severity: 'warning',
    for: '15m',
    expr:
      `${rate('triggerjob_backpressured_seconds_total', '5m')} / ` +
      `(${rate('triggerjob_busy_seconds_total', '5m')} + ` +
      `${rate('triggerjob_backpressured_seconds_total', '5m')} + ` +
      `${rate('triggerjob_idle_seconds_total', '5m')}) > 0.5`,
    summary: `${NAME} waits for its later stages`,
    description: 'The tasks spend {{ $value | humanizePercentage }} of their time waiting.',
    meaning: 'What they send is not taken: a slow subtask, webhook or Profile API.',
    data: LATE,
    steps: ['Ask why: GET /api/v1/jobs/:jobid/diagnosis. Look for the subtask that is busy.'],
  },
  {
    name: 'TriggerJobSkewHigh',
    severity: 'warning',
    for: '30m',
    expr:
      `${max('rate(triggerjob_subtask_records_total[10m])')} / ` +
      'avg by (namespace, job_name) (rate(triggerjob_subtask_records_total[10m])) > 2 and ' +
      `${sum('triggerjob_lag_records')} > 10000`,
    summary: `${NAME} has a subtask with {{ $value | humanize }} times its part of the work`,
    description: 'One subtask limits the job while others are idle.',
    meaning: 'A user with very many events, or many hot users in one key group.',
    data: LATE,
    steps: [
      'Find the users: `GET /api/v1/jobs/:jobid/hot-keys`.',
      'More subtasks do not split one user: drop or aggregate its events before the topic.',
    ],
  },
  {
    name: 'TriggerJobLatencyHigh',
    severity: 'warning',
    for: '15m',
    expr:
      'histogram_quantile(0.99, sum by (namespace, job_name, le) ' +
      '(rate(triggerjob_end_to_end_latency_seconds_bucket[5m]))) > 60',
    summary: `${NAME} delivers late: p99 {{ $value | humanizeDuration }}`,
    description: 'From the append to the topic to the delivery.',
    meaning: 'Lag, a slow Profile API, or deliveries that are tried again.',
    data: 'Nothing is lost, it is late.',
    steps: ['Lag high: see TriggerJobLagGrowing. Otherwise compare webhook and Profile API p99.'],
  },
];

const CHECKPOINTS: readonly Alert[] = [
  {
    name: 'TriggerJobNoCheckpoint',
    severity: 'critical',
    for: '1m',
    expr:
      `time() - ${max(LAST_CHECKPOINT)} > ` +
      `3 * ${max('triggerjob_checkpoint_interval_seconds')} + 60 and ${ACTIVE}`,
    summary: `${NAME} has no checkpoint for {{ $value | humanizeDuration }}`,
    description: 'That is more than three intervals.',
    meaning: 'A restart would begin that far back, and read everything since again.',
    data: 'Nothing is lost while the topic keeps these records; a restart repeats deliveries.',
    steps: [
      'Read the cause of the last failure on the Checkpoints page.',
      'The store: reachable, credentials, space. Time: raise spec.checkpointing.timeout.',
    ],
  },
  {
    name: 'TriggerJobCheckpointsFailing',
    severity: 'warning',
    for: '0m',
    expr: `${max('triggerjob_checkpoints_failed_in_a_row')} >= 2`,
    summary: `{{ $value | humanize }} checkpoints of ${NAME} failed in a row`,
    description: 'The job is restarted when more than tolerableFailures fail.',
    meaning: 'The store refuses, or a checkpoint takes longer than its timeout.',
    data: 'Nothing is lost.',
    steps: ['As of TriggerJobNoCheckpoint.'],
  },
  {
    name: 'TriggerJobCheckpointSlow',
    severity: 'warning',
    for: '10m',
    expr:
      `${max('triggerjob_checkpoint_last_duration_seconds')} > ` +
      `0.5 * ${max('triggerjob_checkpoint_interval_seconds')}`,
    summary: `Checkpoints of ${NAME} take {{ $value | humanizeDuration }}`,
    description: 'More than half of the interval.',
    meaning: 'Soon one will not be done when the next is due.',
    data: 'Nothing is lost.',
    steps: [
      'See the phases: alignment long = backpressure; async long = the store is slow.',
      'Raise spec.checkpointing.interval, or add TaskManagers.',
    ],
  },
  {
    name: 'TriggerJobSavepointFailed',
    severity: 'warning',
    for: '0m',
    expr: `${grown('triggerjob_savepoints_failed_total', '15m')} > 0`,
    summary: `A savepoint of ${NAME} failed`,
    description: 'It was asked for by somebody, or by savepoints.periodic.',
    meaning: 'There is no newer savepoint than before; checkpoints are not affected.',
    data: 'Nothing is lost.',
    steps: ['Read the cause in `status.savepoint`; check the directory; trigger it again.'],
  },
];

export const JOB_ALERTS: readonly Alert[] = [...RUNNING, ...LAGGING, ...CHECKPOINTS];
