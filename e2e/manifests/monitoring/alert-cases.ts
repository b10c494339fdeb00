/** For each alert a history under which it fires, and one under which it must not. */

/** Samples a minute apart, in promtool's notation, by series: `1x20` = 21 times 1, `0+5x20`. */
type Series = Readonly<Record<string, string>>;

export interface AlertCase {
  /** When it is looked at. */
  at: string;
  fires: Series;
  quiet: Series;
  /** Beside those of the job. */
  labels?: Readonly<Record<string, string>>;
  /** Of the operator or the cluster: without labels of a job. */
  ofJob?: false;
}

const JOB = 'namespace="shop",job_name="clicks",job_id="0"';
const of = (name: string, more = ''): string =>
  `triggerjob_${name}{${JOB}${more === '' ? '' : `,${more}`}}`;
const TM = 'tm_id="tm-1"';

/** One gauge decides. */
const gauge = (name: string, fires: string, quiet: string, more = ''): AlertCase => ({
  at: '30m',
  fires: { [of(name, more)]: fires },
  quiet: { [of(name, more)]: quiet },
});

const active = { [of('jobs_active')]: '1x60' };
const withActive = (one: AlertCase): AlertCase => ({
  ...one,
  fires: { ...one.fires, ...active },
  quiet: { ...one.quiet, ...active },
});

const attempts = (good: string, bad: string): Series => ({
  [of('webhook_attempts_total', 'result="2xx"')]: good,
  [of('webhook_attempts_total', 'result="5xx"')]: bad,
});

const disk = (free: string): Series => ({
  [of('taskmanager_disk_free_bytes', TM)]: free,
  [of('taskmanager_disk_bytes', TM)]: '1000x600',
});

const skew = (hot: string): Series => ({
  [of('lag_records')]: '20000x60',
  [of('subtask_records_total', 'subtask="0"')]: hot,
  [of('subtask_records_total', 'subtask="1"')]: '0+10x60',
  [of('subtask_records_total', 'subtask="2"')]: '0+10x60',
});

const latency = (fast: string, slow: string): Series => ({
  [of('end_to_end_latency_seconds_bucket', 'le="1"')]: fast,
  [of('end_to_end_latency_seconds_bucket', 'le="300"')]: slow,
  [of('end_to_end_latency_seconds_bucket', 'le="+Inf"')]: slow,
});

const checkpoints = (seconds: string): Series => ({
  [of('checkpoint_last_duration_seconds')]: seconds,
  [of('checkpoint_interval_seconds')]: '60x60',
});

const leading = (pod: string): string =>
  `triggerjob_jobmanager_leading{namespace="shop",pod="${pod}"}`;

const OF_JOB: Readonly<Record<string, AlertCase>> = {
  TriggerJobFailed: gauge('failed', '1x60', '0x60'),
  TriggerJobNotRunning: withActive(gauge('running', '0x60', '1x60')),
  // Of a job that has ended, whoever leads shows how.
  TriggerJobNoLeader: {
    at: '30m',
    fires: { [leading('clicks-jobmanager-0')]: '0x60', [leading('views-jobmanager-0')]: '1x60' },
    quiet: { [leading('clicks-jobmanager-0')]: '0x60', [leading('clicks-jobmanager-1')]: '1x60' },
  },
  // A restart a day is none.
  TriggerJobRestarting: gauge('restarts_total', '0x22 1 2 3 4 5 6 7 8 9', '0x22 1x20'),
  TriggerJobTaskManagersMissing: {
    at: '30m',
    fires: { [of('task_managers')]: '3x60', [of('task_managers_wanted')]: '4x60', ...active },
    quiet: { [of('task_managers')]: '4x60', [of('task_managers_wanted')]: '4x60', ...active },
  },
  TriggerJobLedgerImbalance: gauge('ledger_imbalance', '-1x60', '0x60'),
  TriggerJobLagGrowing: {
    at: '50m',
    fires: { [of('lag_records')]: '0+600x60', [of('records_processed_total')]: '0+60x60' },
    // As large and shrinking.
    quiet: { [of('lag_records')]: '60000-600x60', [of('records_processed_total')]: '0+60x60' },
  },
  TriggerJobNoProgress: {
    at: '30m',
    fires: {
      [of('lag_records')]: '5x60',
      [of('records_processed_total')]: '7x60',
      [of('running')]: '1x60',
    },
    // Nothing comes in: nothing to process.
    quiet: {
      [of('lag_records')]: '0x60',
      [of('records_processed_total')]: '7x60',
      [of('running')]: '1x60',
    },
  },
  TriggerJobBackpressured: {
    at: '40m',
    fires: {
      [of('busy_seconds_total')]: '0+10x60',
      [of('backpressured_seconds_total')]: '0+40x60',
      [of('idle_seconds_total')]: '0+10x60',
    },
    quiet: {
      [of('busy_seconds_total')]: '0+40x60',
      [of('backpressured_seconds_total')]: '0+10x60',
      [of('idle_seconds_total')]: '0+10x60',
    },
  },
  TriggerJobSkewHigh: { at: '55m', fires: skew('0+100x60'), quiet: skew('0+12x60') },
  TriggerJobLatencyHigh: {
    at: '40m',
    fires: latency('0+90x60', '0+100x60'),
    quiet: latency('0+100x60', '0+100x60'),
  },
  TriggerJobNoCheckpoint: {
    at: '30m',
    fires: {
      [of('checkpoint_last_timestamp_seconds')]: '600x60',
      [of('started_timestamp_seconds')]: '500x60',
      [of('checkpoint_interval_seconds')]: '60x60',
      ...active,
    },
    // Begun a minute ago from a checkpoint of long ago.
    quiet: {
      [of('checkpoint_last_timestamp_seconds')]: '600x60',
      [of('started_timestamp_seconds')]: '1740x60',
      [of('checkpoint_interval_seconds')]: '60x60',
      ...active,
    },
  },
  TriggerJobCheckpointsFailing: gauge('checkpoints_failed_in_a_row', '2x60', '1x60'),
  TriggerJobCheckpointSlow: { at: '30m', fires: checkpoints('31x60'), quiet: checkpoints('5x60') },
  TriggerJobSavepointFailed: gauge('savepoints_failed_total', '0x20 1x60', '1x60'),
  TriggerJobWebhookErrors: {
    at: '30m',
    fires: attempts('0+90x60', '0+10x60'),
    quiet: attempts('0+99x60', '0+1x60'),
  },
  TriggerJobWebhookDown: {
    at: '30m',
    fires: attempts('50x60', '0+10x60'),
    // Nothing to deliver is no outage.
    quiet: attempts('50x60', '7x60'),
  },
  TriggerJobDeadLetters: gauge('dead_letters_total', '0x20 1x60', '1x60', 'reason="poison"'),
  TriggerJobProfileApiErrors: {
    at: '30m',
    fires: {
      [of('profile_errors_total')]: '0+1x60',
      [of('profile_requests_total')]: '0+30x60',
    },
    quiet: {
      [of('profile_errors_total')]: '1x60',
      [of('profile_requests_total')]: '0+30x60',
    },
  },
  TriggerJobProfileApiDown: gauge('profile_breaker_open', '1x60', '0x60'),
  TriggerJobDiskFull: {
    at: '30m',
    fires: disk('100x60'),
    quiet: disk('200x60'),
    labels: { tm_id: 'tm-1' },
  },
  TriggerJobStateGrowing: {
    at: '450m',
    fires: disk('500-1x450'),
    quiet: disk('400x450'),
    labels: { tm_id: 'tm-1', job_id: '0' },
  },
  TriggerJobMemoryNearLimit: {
    at: '30m',
    fires: {
      [of('taskmanager_resident_memory_bytes', TM)]: '96x60',
      [of('taskmanager_memory_limit_bytes', TM)]: '100x60',
    },
    quiet: {
      [of('taskmanager_resident_memory_bytes', TM)]: '80x60',
      [of('taskmanager_memory_limit_bytes', TM)]: '100x60',
    },
    labels: { tm_id: 'tm-1' },
  },
  TriggerJobEventLoopLag: {
    ...gauge('subtask_event_loop_lag_p99_seconds', '0.3x60', '0.1x60', `subtask="0",${TM}`),
    labels: { tm_id: 'tm-1' },
  },
  TriggerJobRocksDBStalled: {
    at: '30m',
    fires: {
      [of('rocksdb_write_stopped')]: '1x60',
      [of('rocksdb_background_errors')]: '0x60',
    },
    quiet: {
      [of('rocksdb_write_stopped')]: '0x60',
      [of('rocksdb_background_errors')]: '0x60',
    },
  },
  TriggerJobQueueFull: {
    ...gauge('bound_fill_ratio', '0.99x60', '0.5x60', 'name="outbox_bytes"'),
    labels: { name: 'outbox_bytes' },
  },
  TriggerJobFilterErrors: {
    at: '30m',
    fires: {
      [of('filter_errors_total')]: '0+2x60',
      [of('records_processed_total')]: '0+100x60',
    },
    quiet: {
      [of('filter_errors_total')]: '2x60',
      [of('records_processed_total')]: '0+100x60',
    },
  },
  TriggerJobFilterRefused: gauge('filter_refused', '1x60', '0x60'),
  TriggerJobNoDeliveries: {
    at: '500m',
    fires: {
      [of('delivered_total')]: '0+10x380 3800x200',
      [of('records_processed_total')]: '0+100x600',
    },
    // Fewer events, fewer deliveries.
    quiet: {
      [of('delivered_total')]: '0+10x380 3800x200',
      [of('records_processed_total')]: '0+100x380 38000x200',
    },
  },
};

const reconciles = (failed: string): Series => ({
  'controller_runtime_reconcile_errors_total{controller="triggerjob"}': failed,
  'controller_runtime_reconcile_total{controller="triggerjob",result="success"}': '0+100x60',
});

/** A pod of the operator under a name that somebody gave it. */
const operator = (pod: string, leads: string): Series => ({
  [`leader_election_master_status{name="mine",pod="${pod}"}`]: leads,
  [`controller_runtime_max_concurrent_reconciles{controller="triggerjob",pod="${pod}"}`]: '10x60',
});

const OF_OPERATOR: Readonly<Record<string, AlertCase>> = {
  TriggerJobOperatorDown: {
    at: '30m',
    fires: { up: '1x60' },
    quiet: { 'controller_runtime_max_concurrent_reconciles{controller="triggerjob"}': '10x60' },
    labels: { controller: 'triggerjob' },
  },
  TriggerJobOperatorNoLeader: {
    at: '30m',
    // Another controller leads.
    fires: { ...operator('a', '0x60'), 'leader_election_master_status{pod="other"}': '1x60' },
    quiet: { ...operator('a', '0x60'), ...operator('b', '1x60') },
  },
  TriggerJobOperatorJobsDown: {
    at: '30m',
    fires: { 'triggerjob_operator_jobs{state="Restarting"}': '1x60' },
    quiet: {
      'triggerjob_operator_jobs{state="Restarting"}': '0x22 1x5 0x60',
      'triggerjob_operator_jobs{state="Running"}': '9x60',
    },
    labels: { state: 'Restarting' },
  },
  TriggerJobOperatorReconcileErrors: {
    at: '40m',
    fires: reconciles('0+20x60'),
    quiet: reconciles('0+5x60'),
  },
  TriggerJobOperatorWatchStale: {
    at: '30m',
    fires: { 'triggerjob_operator_watch_staleness_seconds{kind="Pod"}': '200x60' },
    quiet: { 'triggerjob_operator_watch_staleness_seconds{kind="Pod"}': '75x60' },
    labels: { kind: 'Pod' },
  },
  TriggerJobOperatorQueueLong: {
    at: '30m',
    fires: { 'workqueue_depth{name="triggerjob"}': '51x60' },
    quiet: {
      'workqueue_depth{name="triggerjob"}': '5x60',
      'workqueue_longest_running_processor_seconds{name="triggerjob"}': '30x60',
    },
  },
  TriggerJobOperatorApiErrors: {
    at: '40m',
    fires: {
      'rest_client_requests_total{code="500"}': '0+10x60',
      'rest_client_requests_total{code="200"}': '0+90x60',
    },
    quiet: {
      'rest_client_requests_total{code="404"}': '0+10x60',
      'rest_client_requests_total{code="200"}': '0+90x60',
    },
  },
};

const withoutJob = (one: AlertCase): AlertCase => ({ ...one, ofJob: false });

/** By the alert's name. */
export const ALERT_CASES: Readonly<Record<string, AlertCase>> = {
  ...OF_JOB,
  ...Object.fromEntries(
    Object.entries(OF_OPERATOR).map(([name, one]) => [name, withoutJob(one)] as const),
  ),
};
