/** What surrounds the job under measurement: broker, topic, Profile API, job file; one folder. */
import { rmSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KafkaBroker, startKafka } from '../e2e/testbed/kafka.ts';
import { type JobSettings, jobFile } from './job-file.ts';
import { JobProcess } from './job-process.ts';
import { PARTITIONS, TopicLoader } from './load-topic.ts';
import { ProfileService } from './profile-service.ts';

const TOPIC = 'user-tracking-events';

export class Bed {
  readonly folder: string;
  readonly #broker: KafkaBroker;
  readonly #profiles: ProfileService;
  readonly #loader: TopicLoader;
  #job: JobProcess | null = null;

  private constructor(
    folder: string,
    broker: KafkaBroker,
    profiles: ProfileService,
    loader: TopicLoader,
  ) {
    this.folder = folder;
    this.#broker = broker;
    this.#profiles = profiles;
    this.#loader = loader;
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  }

  static async open(users: number, partitions = PARTITIONS): Promise<Bed> {
    const folder = await mkdtemp(join(tmpdir(), 'triggerjob-bench-'));
    const broker = await startKafka();
    await broker.createTopic(TOPIC, partitions);
    const profiles = await ProfileService.start();
    const loader = await TopicLoader.connect(broker.bootstrap, TOPIC, users, partitions);
    return new Bed(folder, broker, profiles, loader);
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
    const surroundings = {
      bootstrap: this.#broker.bootstrap,
      topic: TOPIC,
      serviceUrl: this.#profiles.url,
    };
    await writeFile(file, JSON.stringify(jobFile(settings, surroundings), null, 2));
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
    this.#profiles.close();
    await this.#broker.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
