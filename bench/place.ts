/** What surrounds every run of a benchmark of whole engines: broker, Profile API, a folder. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KafkaBroker, startKafka } from '../e2e/testbed/kafka.ts';
import { PARTITIONS, TopicLoader } from './load-topic.ts';
import { ProfileService } from './profile-service.ts';
import type { Setting } from './settings.ts';

export interface Place {
  broker: KafkaBroker;
  service: ProfileService;
  folder: string;
}

/** All of it ends with `work`, or with this process. */
export async function withPlace<T>(work: (place: Place) => Promise<T>): Promise<T> {
  const broker = await startKafka();
  const service = await ProfileService.start();
  const folder = mkdtempSync(join(tmpdir(), 'triggerjob-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  try {
    return await work({ broker, service, folder });
  } finally {
    service.close();
    await broker.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

let topics = 0;

export interface LoadedTopic {
  name: string;
  loader: TopicLoader;
}

/** A topic with the setting's stream in it: one event of each user, then `events` more. */
export async function loadTopic(
  { broker }: Place,
  { key, users, distribution }: Pick<Setting, 'key' | 'users' | 'distribution'>,
  events: number,
  config: Record<string, string> = {},
): Promise<LoadedTopic> {
  const name = `user-tracking-events-${key}-${topics++}`;
  await broker.createTopic(name, PARTITIONS, config);
  const { bootstrap } = broker;
  const loader = await TopicLoader.connect(bootstrap, name, users, PARTITIONS, distribution);
  await loader.load(users + events);
  return { name, loader };
}

export async function dropTopic({ broker }: Place, { name, loader }: LoadedTopic): Promise<void> {
  await loader.close();
  await broker.deleteTopic(name);
}
