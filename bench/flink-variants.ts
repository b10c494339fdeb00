/** The ways to run Flink from which a setting's best is taken, and their configuration. */
import { HEARTBEAT, RESTART_DELAY_MS, SLOTS } from './engine.ts';
import type { Setting } from './settings.ts';

export interface FlinkVariant {
  /** For --variants. */
  key: string;
  /** In the table. */
  name: string;
  layout: 'tuned' | 'one-value';
  parallelism: number;
  /** What differs in the configuration. */
  options: Readonly<Record<string, string | number>>;
}

const tuned: FlinkVariant = {
  key: 'tuned',
  name: 'Flink tuned',
  layout: 'tuned',
  parallelism: SLOTS,
  options: {},
};

/** The first one is tried in every setting. */
export const TUNED_VARIANTS: readonly FlinkVariant[] = [
  tuned,
  { ...tuned, key: 'p2', name: 'Flink tuned, parallelism 2', parallelism: 2 },
  {
    ...tuned,
    key: 'managed',
    name: 'Flink tuned, managed 0.6',
    options: { 'taskmanager.memory.managed.fraction': 0.6 },
  },
  {
    ...tuned,
    key: 'heap',
    name: 'Flink tuned, heap backend',
    options: { 'state.backend.type': 'hashmap', 'taskmanager.memory.managed.fraction': 0 },
  },
];

export const ONE_VALUE: FlinkVariant = {
  ...tuned,
  key: 'one-value',
  name: 'Flink one-value',
  layout: 'one-value',
};

export interface Addresses {
  rpcPort: number;
  restPort: number;
}

const LOOPBACK = '127.0.0.1';
/** Of a JobManager; its heap is what is left of it. */
const JOB_MANAGER_MEBIBYTES = 1_600;
const KEPT_CHECKPOINTS = 1_000;

export function flinkConfiguration(
  variant: FlinkVariant,
  setting: Setting,
  folder: string,
  checkpointIntervalMs: number,
  { rpcPort, restPort }: Addresses,
): Record<string, string | number> {
  return {
    'jobmanager.rpc.address': LOOPBACK,
    'jobmanager.rpc.port': rpcPort,
    'jobmanager.bind-host': LOOPBACK,
    'jobmanager.memory.process.size': `${JOB_MANAGER_MEBIBYTES}m`,
    'rest.address': LOOPBACK,
    'rest.bind-address': LOOPBACK,
    'rest.port': restPort,
    'web.checkpoints.history': KEPT_CHECKPOINTS,
    'taskmanager.host': LOOPBACK,
    'taskmanager.bind-host': LOOPBACK,
    'taskmanager.numberOfTaskSlots': SLOTS,
    'taskmanager.memory.process.size': `${setting.processMebibytes}m`,
    'taskmanager.memory.managed.fraction': 0.4,
    'parallelism.default': variant.parallelism,
    'pipeline.object-reuse': 'true',
    'io.tmp.dirs': `${folder}/tmp`,
    'state.backend.type': 'rocksdb',
    'state.backend.rocksdb.use-bloom-filter': 'true',
    'state.backend.rocksdb.predefined-options': 'FLASH_SSD_OPTIMIZED',
    'execution.checkpointing.incremental': 'true',
    'execution.checkpointing.interval': `${checkpointIntervalMs}ms`,
    'execution.checkpointing.mode': 'EXACTLY_ONCE',
    'execution.checkpointing.timeout': '10min',
    'execution.checkpointing.dir': `file://${folder}/checkpoints`,
    'restart-strategy.type': 'fixed-delay',
    'restart-strategy.fixed-delay.delay': `${RESTART_DELAY_MS}ms`,
    'restart-strategy.fixed-delay.attempts': 100,
    'heartbeat.interval': HEARTBEAT.intervalMs,
    'heartbeat.timeout': HEARTBEAT.timeoutMs,
    ...variant.options,
  };
}
