/** The job under measurement as its job file says it. */
export type ActionName = 'blackhole' | 'webhook' | 'debug';

const SCRIPT = "event.triggerable && user.country == 'US'";

export interface JobSettings {
  slots: number;
  checkpointInterval: string;
  action: ActionName;
  /** Bytes of live users per slot, as in the job file; left out: the default of the process. */
  slotCache?: string;
  /** Folder for CPU profiles of the slot threads; see slot-preload.ts. */
  profileFolder?: string | undefined;
  /** Folder for the moments of all events; see slot-times.ts. */
  timesFolder?: string;
  script?: string;
  historyMaxEvents?: number;
  /** Further arguments of `triggerjob run`. */
  run?: readonly string[];
  /** Blocks of the spec, in place of those of the same name. */
  spec?: Record<string, unknown>;
}

/** Where the job reads, asks and posts. */
export interface Surroundings {
  bootstrap: string;
  topic: string;
  /** Of the Profile API, whose /hook takes the posts. */
  serviceUrl: string;
}

export function jobFile(settings: JobSettings, surroundings: Surroundings): object {
  const { slots, checkpointInterval, action, slotCache, script, historyMaxEvents, spec } = settings;
  const { bootstrap, topic, serviceUrl } = surroundings;
  const webhook = { url: `${serviceUrl}/hook`, allowPrivateAddresses: true };
  return {
    apiVersion: 'triggerjob.io/v1alpha1',
    kind: 'TriggerJob',
    metadata: { name: 'bench' },
    spec: {
      parallelism: slots,
      source: { kafka: { bootstrapServers: bootstrap, topic, startingOffsets: 'earliest' } },
      // No user may expire between its two events of a long run.
      state: {
        ttl: '2h',
        profileApi: { url: serviceUrl },
        ...(historyMaxEvents !== undefined && { history: { maxEvents: historyMaxEvents } }),
      },
      filter: { script: script ?? SCRIPT },
      // A black hole takes the place of `debug` in the slot threads.
      action: action === 'webhook' ? { webhook } : { debug: {} },
      checkpointing: { interval: checkpointInterval, minPause: '0s' },
      // The figures of a slot reach the status with the heartbeat.
      heartbeat: { interval: '250ms' },
      taskManager: {
        slots,
        ...(slotCache !== undefined && { memory: { slotCache } }),
        resources: { limits: { memory: '4Gi' } },
      },
      ...spec,
    },
  };
}
