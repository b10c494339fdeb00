/** What surrounds the job under measurement: broker, topic, Profile API, job file; one folder. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KafkaBroker, startKafka } from '../e2e/testbed/kafka.ts';
import { JobProcess } from './job-process.ts';
import { PARTITIONS, TopicLoader } from './load-topic.ts';

const TOPIC = 'user-tracking-events';
const SCRIPT = "event.triggerable && user.country == 'US'";

export type ActionName = 'blackhole' | 'webhook' | 'debug';

export interface JobSettings {
  slots: number;
  checkpointInterval: string;
  action: ActionName;
  /** Bytes of live users per slot, as in the job file; left out: the default of a 4 GiB process. */
  slotCache?: string;
  /** Folder for CPU profiles of the slot threads; see slot-preload.ts. */
  profileFolder?: string | undefined;
  /** Folder for the moments of all events; see slot-times.ts. */
  timesFolder?: string;
  script?: string;
  /** Further arguments of `triggerjob run`. */
  run?: readonly string[];
  /** Blocks of the spec, in place of those of the same name. */
  spec?: Record<string, unknown>;
}

export class Bed {
  readonly folder: string;
  readonly #broker: KafkaBroker;
  readonly #profiles: ChildProcess;
  readonly #profilePort: number;
  readonly #loader: TopicLoader;
  #job: JobProcess | null = null;

  private constructor(
    folder: string,
    broker: KafkaBroker,
    profiles: { child: ChildProcess; port: number },
    loader: TopicLoader,
  ) {
    this.folder = folder;
    this.#broker = broker;
    this.#profiles = profiles.child;
    this.#profilePort = profiles.port;
    this.#loader = loader;
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  }

  static async open(users: number, partitions = PARTITIONS): Promise<Bed> {
    const folder = await mkdtemp(join(tmpdir(), 'triggerjob-bench-'));
    const broker = await startKafka();
    await broker.createTopic(TOPIC, partitions);
    const child = fork(new URL('./profile-server.ts', import.meta.url), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const [{ port }] = (await once(child, 'message')) as [{ port: number }];
    const loader = await TopicLoader.connect(broker.bootstrap, TOPIC, users, partitions);
    return new Bed(folder, broker, { child, port }, loader);
  }

  get loader(): TopicLoader {
    return this.#loader;
  }

  get brokerPid(): number {
    return this.#broker.pid!;
  }

  async startJob(settings: JobSettings): Promise<JobProcess> {
    const file = join(this.folder, 'job.yaml');
    // JSON is YAML, too.
    await writeFile(file, JSON.stringify(this.#jobFile(settings), null, 2));
    const { action, profileFolder, timesFolder, run = [] } = settings;
    const env = {
      TRIGGERJOB_BENCH_BLACK_HOLE: action === 'blackhole' ? '1' : '0',
      ...(profileFolder !== undefined && { TRIGGERJOB_BENCH_PROFILE: profileFolder }),
      ...(timesFolder !== undefined && { TRIGGERJOB_BENCH_TIMES: timesFolder }),
    };
    this.#job = await JobProcess.start(file, this.folder, env, run);
    return this.#job;
  }

  async close(): Promise<void> {
    await this.#job?.end();
    await this.#loader.close();
    this.#profiles.disconnect();
    await this.#broker.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #jobFile({ slots, checkpointInterval, action, slotCache, script, spec }: JobSettings): object {
    const host = `http://127.0.0.1:${this.#profilePort}`;
    const webhook = { url: `${host}/hook`, allowPrivateAddresses: true };
    return {
      apiVersion: 'triggerjob.io/v1alpha1',
      kind: 'TriggerJob',
      metadata: { name: 'bench' },
      spec: {
        parallelism: slots,
        source: {
          kafka: {
            bootstrapServers: this.#broker.bootstrap,
            topic: TOPIC,
            startingOffsets: 'earliest',
          },
        },
        // No user may expire between its two events of a long run.
        state: { ttl: '2h', profileApi: { url: host } },
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
}
