import { NO_JVM } from './flink-key-table.ts';

const LEASE = 'leadership is a Lease and the log in the checkpoint store (P38, P39)';
const OWN_RPC = 'JobManager and TaskManagers have their own RPC';

/** Families of keys without meaning here: the prefix itself, and whatever follows it and a dot. */
export const FLINK_FAMILIES: readonly { prefix: string; doc: string }[] = [
  { prefix: 'high-availability', doc: LEASE },
  { prefix: 'akka', doc: OWN_RPC },
  { prefix: 'pekko', doc: OWN_RPC },
  { prefix: 'env.java', doc: NO_JVM },
  { prefix: 'state.backend.rocksdb.metrics', doc: "RocksDB's metrics are always on" },
  { prefix: 'metrics', doc: 'Prometheus metrics are always on' },
];
