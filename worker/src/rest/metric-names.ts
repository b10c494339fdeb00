/** Names of the job's metrics, after `triggerjob_`; base units, counters as counters. */
import type { CounterName, GaugeName } from '../jobmanager/job-totals.ts';
import type { TallyName } from '../rpc/figures.ts';
import type { HistogramName } from '../runtime/histogram.ts';
import type { Labels } from './prometheus-text.ts';

interface MetricName {
  name: string;
  help: string;
  scale?: number;
  labels?: Labels;
}

export const COUNTER_METRICS: Record<CounterName, MetricName> = {
  cpuSeconds: { name: 'cpu_seconds_total', help: 'CPU time of the slot threads' },
  recordsRead: { name: 'records_read_total', help: 'Records the source emitted' },
  recordsProcessed: { name: 'records_processed_total', help: 'Records applied to a user' },
  bytesRead: { name: 'read_bytes_total', help: 'Bytes of the records read' },
  matched: { name: 'matched_total', help: 'Events whose verdict is true' },
  delivered: { name: 'delivered_total', help: 'Actions delivered' },
  deadLettered: { name: 'dead_lettered_total', help: 'Entries in the dead letter' },
  filterErrors: { name: 'filter_errors_total', help: 'Script errors, each counted as no match' },
  profileRequests: { name: 'profile_requests_total', help: 'Requests to the Profile API' },
  profileErrors: { name: 'profile_errors_total', help: 'Failed attempts at the Profile API' },
  cacheHits: { name: 'cache_hits_total', help: 'Users found in memory' },
  cacheMisses: { name: 'cache_misses_total', help: 'Users not found in memory' },
  expired: { name: 'users_expired_total', help: 'Users that passed state.ttl' },
  truncatedEvents: { name: 'truncated_events_total', help: 'History events dropped for size' },
  divergent: { name: 'divergent_total', help: 'Repeats whose fetched profile may differ' },
  pauseCount: { name: 'checkpoint_pauses_total', help: 'Pauses of processing by checkpoints' },
  busyMs: { name: 'busy_seconds_total', help: 'Time the tasks worked', scale: 0.001 },
  backPressuredMs: {
    name: 'backpressured_seconds_total',
    help: 'Time the tasks waited for room',
    scale: 0.001,
  },
  idleMs: { name: 'idle_seconds_total', help: 'Time the tasks waited for input', scale: 0.001 },
};

const answers = (result: string): MetricName => ({
  name: 'webhook_attempts_total',
  help: 'Attempts at the webhook, by class of the answer or what kept it away',
  labels: { result },
});

const deadLetters = (reason: string): MetricName => ({
  name: 'dead_letters_total',
  help: 'Entries in the dead letter, by what failed',
  labels: { reason },
});

export const TALLY_METRICS: Record<TallyName, MetricName> = {
  webhook2xx: answers('2xx'),
  webhook3xx: answers('3xx'),
  webhook4xx: answers('4xx'),
  webhook5xx: answers('5xx'),
  webhookTimeout: answers('timeout'),
  webhookNetwork: answers('network'),
  webhookRefused: answers('refused_address'),
  webhookRetries: { name: 'webhook_retries_total', help: 'Deliveries that were tried again' },
  deadPoison: deadLetters('poison'),
  deadProfile: deadLetters('profile_api'),
  deadAction: deadLetters('action'),
  profileRetries: { name: 'profile_retries_total', help: 'Users that were asked for again' },
  profileBreakerOpened: {
    name: 'profile_breaker_opened_total',
    help: 'How often a slot took the Profile API for down',
  },
  compactionSeconds: {
    name: 'rocksdb_compaction_seconds_total',
    help: 'Time of RocksDB compactions',
  },
  compactionWrittenBytes: {
    name: 'rocksdb_compaction_written_bytes_total',
    help: 'Bytes that RocksDB compactions wrote, to 10 MB',
  },
};

export const GAUGE_METRICS: Record<GaugeName, MetricName> = {
  parked: { name: 'parked_events', help: 'Events that wait for the Profile API' },
  outbox: { name: 'outbox_entries', help: 'Actions under way' },
  outboxBytes: { name: 'outbox_bytes', help: 'Bytes of the actions under way' },
  usersCached: { name: 'users_cached', help: 'Users in memory' },
  users: { name: 'users', help: 'Users in state' },
  stateBytes: { name: 'state_bytes', help: 'Bytes of state' },
  cacheBytes: { name: 'cache_bytes', help: 'Bytes of the users in memory' },
  ledgerImbalance: { name: 'ledger_imbalance', help: 'I9: must be 0' },
};

export const HISTOGRAM_METRICS: Record<HistogramName, MetricName> = {
  endToEndSeconds: {
    name: 'end_to_end_latency_seconds',
    help: 'From the record timestamp (append to the topic) to the delivery',
  },
  webhookSeconds: { name: 'webhook_request_duration_seconds', help: 'One attempt at the webhook' },
  profileSeconds: {
    name: 'profile_request_duration_seconds',
    help: 'One attempt to fetch a user from the Profile API',
  },
  userBytes: {
    name: 'user_state_bytes',
    help: 'Stored bytes of a user, observed each time its state is written',
  },
};
