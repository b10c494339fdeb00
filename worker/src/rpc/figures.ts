/** Figures of a heartbeat that have a name each, so that they are added up by loops. */

/** Counters of a subtask by kind: the answers of the webhook by class, dead letters by reason. */
export const TALLIES = [
  'webhook2xx',
  'webhook3xx',
  'webhook4xx',
  'webhook5xx',
  'webhookTimeout',
  'webhookNetwork',
  'webhookRefused',
  'webhookRetries',
  'deadPoison',
  'deadProfile',
  'deadAction',
  'profileRetries',
  'profileBreakerOpened',
  'compactionSeconds',
  'compactionWrittenBytes',
] as const;

export type TallyName = (typeof TALLIES)[number];
export type Tallies = Record<TallyName, number>;

export function noTallies(): Tallies {
  return Object.fromEntries(TALLIES.map((name) => [name, 0])) as Tallies;
}

/** What the system says of a process; null where there is no /proc. Counters since its start. */
export interface SystemFigures {
  /** Of block devices. */
  readBytes: number;
  writtenBytes: number;
  /** Of the network namespace: of the pod, where there is one; at most 8 devices. */
  network: { device: string; receivedBytes: number; sentBytes: number }[];
  /** Of the disk that holds local state. */
  diskFreeBytes: number;
  diskBytes: number;
}

export interface TaskManagerFigures {
  rssBytes: number;
  /** User and system, all threads. */
  cpuSeconds: number;
  /** That it may use. */
  cores: number;
  /** Of the main thread; each slot has a heap of its own. */
  heapBytes: number;
  heapTotalBytes: number;
  externalBytes: number;
  /** The least of what the container and the machine have. */
  memoryLimitBytes: number;
  /** Of the main thread, over the last seconds. */
  eventLoopLagP99Ms: number;
  system: SystemFigures | null;
}
