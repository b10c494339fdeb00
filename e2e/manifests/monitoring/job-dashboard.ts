/** One job: does it run, does it keep up, what does it wait for, is its state safe. */
import { type Dashboard, type Panel, query, type Row, stat, timeseries } from './panel.ts';

const OF = 'namespace=~"$namespace", job_name=~"$job"';
const WINDOW = '[$__rate_interval]';

/** A metric of the job, with further matchers. */
const of = (name: string, more = ''): string =>
  `triggerjob_${name}{${OF}${more === '' ? '' : `, ${more}`}}`;
const rate = (name: string, more = ''): string => `sum(rate(${of(name, more)}${WINDOW}))`;
const rateBy = (label: string, name: string): string =>
  `sum by (${label}) (rate(${of(name)}${WINDOW}))`;
const quantile = (share: number, name: string): string =>
  `histogram_quantile(${share}, sum by (le) (rate(${of(`${name}_bucket`)}${WINDOW})))`;
const quantiles = (name: string) => [
  query(quantile(0.5, name), 'p50'),
  query(quantile(0.95, name), 'p95'),
  query(quantile(0.99, name), 'p99'),
];
const maxOf = (name: string): string => `max(${of(name)})`;

const SUMMARY: Row = {
  title: 'Is it well?',
  panels: [
    stat('State', 'short', `max by (state) (${of('state')})`, '{{state}}'),
    stat('In this state for', 's', `time() - ${maxOf('state_entered_timestamp_seconds')}`),
    stat('Restarts', 'short', maxOf('restarts_total')),
    stat('Checkpoint age', 's', `time() - ${maxOf('checkpoint_last_timestamp_seconds')}`),
    stat('Lag', 'short', `sum(${of('lag_records')})`),
    stat('Ledger imbalance', 'short', `max(abs(${of('ledger_imbalance')}))`),
  ],
};

const FLOW: Row = {
  title: 'Events',
  panels: [
    timeseries('Events', 'ops', [
      query(rate('records_read_total'), 'read'),
      query(rate('records_processed_total'), 'processed'),
      query(rate('matched_total'), 'matched'),
      query(rate('delivered_total'), 'delivered'),
    ]),
    timeseries('End-to-end latency', 's', quantiles('end_to_end_latency_seconds'), {
      description: 'From the append to the topic to the delivery.',
    }),
    timeseries('Lag', 'short', [
      query(`sum(${of('lag_records')})`, 'records'),
      query(
        `sum(${of('lag_records')}) / (${rate('records_processed_total')} > 0)`,
        'seconds of work',
      ),
    ]),
    timeseries('Time of the tasks', 'percentunit', timeShares(), { stack: true }),
    timeseries('Match rate', 'percentunit', [
      query(`${rate('matched_total')} / (${rate('records_processed_total')} > 0)`, 'matched'),
      query(`${rate('filter_errors_total')} / (${rate('records_processed_total')} > 0)`, 'errors'),
    ]),
    timeseries('Dead letters', 'ops', [
      query(rateBy('reason', 'dead_letters_total'), '{{reason}}'),
    ]),
  ],
};

function timeShares() {
  const parts = ['busy', 'backpressured', 'idle'].map((name) => ({
    name,
    rate: rate(`${name}_seconds_total`),
  }));
  const all = parts.map((part) => part.rate).join(' + ');
  return parts.map((part) => query(`${part.rate} / (${all})`, part.name));
}

const NEIGHBOURS: Row = {
  title: 'Webhook and Profile API',
  panels: [
    timeseries('Webhook latency', 's', quantiles('webhook_request_duration_seconds')),
    timeseries('Webhook attempts', 'ops', [
      query(rateBy('result', 'webhook_attempts_total'), '{{result}}'),
      query(rate('webhook_retries_total'), 'retries'),
    ]),
    timeseries('Outbox', 'short', [
      query(`sum(${of('outbox_entries')})`, 'deliveries under way'),
      query(`sum(${of('parked_events')})`, 'parked events'),
    ]),
    timeseries('Profile API latency', 's', quantiles('profile_request_duration_seconds')),
    timeseries('Profile API requests', 'ops', [
      query(rate('profile_requests_total'), 'requests'),
      query(rate('profile_errors_total'), 'failed users'),
      query(`sum(${of('profile_breaker_open')})`, 'slots with an open breaker'),
    ]),
    timeseries('Users found in memory', 'percentunit', [
      query(
        `${rate('cache_hits_total')} / ` +
          `(${rate('cache_hits_total')} + ${rate('cache_misses_total')})`,
        'hits',
      ),
    ]),
  ],
};

const phase = (share: number): string =>
  `histogram_quantile(${share}, sum by (phase, le) ` +
  `(rate(${of('checkpoint_phase_seconds_bucket')}[15m])))`;

const STATE: Row = {
  title: 'State and checkpoints',
  panels: [
    timeseries('State', 'bytes', [query(`sum(${of('state_bytes')})`, 'state')]),
    timeseries('Users', 'short', [
      query(`sum(${of('users')})`, 'users'),
      query(`sum(${of('users_cached')})`, 'in memory'),
    ]),
    {
      title: 'State per user',
      description: 'Sizes of users as they are written.',
      kind: 'heatmap',
      unit: 'bytes',
      width: 8,
      queries: [query(`sum by (le) (increase(${of('user_state_bytes_bucket')}[15m]))`, '{{le}}')],
    },
    timeseries('Checkpoint duration', 's', [
      query(maxOf('checkpoint_last_duration_seconds'), 'last'),
      query(maxOf('checkpoint_interval_seconds'), 'interval'),
    ]),
    timeseries('Phases of checkpoints, p99', 's', [query(phase(0.99), '{{phase}}')]),
    timeseries('Checkpoints', 'short', [
      query(`sum(increase(${of('checkpoints_completed_total')}[15m]))`, 'completed in 15m'),
      query(`sum(increase(${of('checkpoints_failed_total')}[15m]))`, 'failed in 15m'),
      query(maxOf('checkpoints_in_progress'), 'under way'),
    ]),
    timeseries('Checkpoint bytes', 'bytes', [
      query(maxOf('checkpoint_last_uploaded_bytes'), 'uploaded by the last'),
      query(maxOf('checkpoint_last_state_bytes'), 'referred to'),
    ]),
    timeseries('RocksDB', 'bytes', [
      query(`sum(${of('rocksdb_pending_compaction_bytes')})`, 'pending compaction'),
      query(`sum(${of('rocksdb_memtable_bytes')})`, 'memtables'),
      query(`sum(${of('rocksdb_block_cache_bytes')})`, 'block cache'),
    ]),
    timeseries('RocksDB compactions', 'short', [
      query(`sum(${of('rocksdb_running_compactions')})`, 'running'),
      query(rate('rocksdb_compaction_seconds_total'), 'cores'),
      query(`sum(${of('rocksdb_level0_files')})`, 'level 0 files'),
    ]),
  ],
};

const bySubtask = (title: string, unit: string, expr: string, more: Partial<Panel> = {}): Panel =>
  timeseries(title, unit, [query(expr, 'subtask {{subtask}}')], more);
const byTaskManager = (title: string, unit: string, ...exprs: [string, string][]): Panel =>
  timeseries(
    title,
    unit,
    exprs.map(([expr, legend]) => query(expr, `{{tm_id}} ${legend}`.trim())),
  );
const tm = (name: string): string => `max by (tm_id) (${of(`taskmanager_${name}`)})`;
const tmRate = (name: string): string =>
  `sum by (tm_id) (rate(${of(`taskmanager_${name}`)}${WINDOW}))`;

const TASKS: Row = {
  title: 'Subtasks and TaskManagers',
  panels: [
    bySubtask('Events by subtask', 'ops', rateBy('subtask', 'subtask_records_total')),
    bySubtask('Busy by subtask', 'percentunit', rateBy('subtask', 'subtask_busy_seconds_total')),
    bySubtask('State by subtask', 'bytes', `max by (subtask) (${of('subtask_state_bytes')})`),
    byTaskManager('CPU', 'short', [tmRate('cpu_seconds_total'), '']),
    byTaskManager(
      'Memory',
      'bytes',
      [tm('resident_memory_bytes'), 'resident'],
      [tm('memory_limit_bytes'), 'limit'],
      [tm('external_memory_bytes'), 'external'],
    ),
    byTaskManager(
      'Event loop lag p99',
      's',
      [tm('event_loop_lag_p99_seconds'), 'main'],
      [`max by (tm_id) (${of('subtask_event_loop_lag_p99_seconds')})`, 'slots'],
    ),
    byTaskManager(
      'Network',
      'Bps',
      [tmRate('network_receive_bytes_total'), 'received'],
      [tmRate('network_transmit_bytes_total'), 'sent'],
    ),
    byTaskManager(
      'Disk traffic',
      'Bps',
      [tmRate('disk_read_bytes_total'), 'read'],
      [tmRate('disk_written_bytes_total'), 'written'],
    ),
    byTaskManager('Free disk', 'percentunit', [
      `min by (tm_id) (${of('taskmanager_disk_free_bytes')} / ${of('taskmanager_disk_bytes')})`,
      '',
    ]),
    timeseries(
      'Queues, the fullest of each kind',
      'percentunit',
      [query(`max by (name) (${of('bound_fill_ratio')})`, '{{name}}')],
      { width: 12 },
    ),
    timeseries(
      'Exchange',
      'bytes',
      [query(`sum(${of('shuffle_queued_bytes')})`, 'waiting for the network')],
      { width: 12 },
    ),
  ],
};

export const JOB_DASHBOARD: Dashboard = {
  uid: 'triggerjob-job',
  title: 'TriggerJob / Job',
  description: 'One TriggerJob.',
  variables: [
    {
      name: 'namespace',
      label: 'Namespace',
      query: 'label_values(triggerjob_running, namespace)',
      many: true,
    },
    {
      name: 'job',
      label: 'Job',
      query: 'label_values(triggerjob_running{namespace=~"$namespace"}, job_name)',
      many: false,
    },
  ],
  annotations: [
    { name: 'Restart', expr: `sum(changes(${of('restarts_total')}[1m])) > 0` },
    {
      name: 'New script, spec or run',
      expr: `count by (filter_version, plan, run) (${of('info')} unless ${of('info')} offset 1m)`,
    },
    { name: 'Checkpoint failed', expr: `sum(increase(${of('checkpoints_failed_total')}[1m])) > 0` },
  ],
  rows: [SUMMARY, FLOW, NEIGHBOURS, STATE, TASKS],
};
