/**
 * A real Kafka broker for tests: fetched once through Maven, one KRaft node as a child process on
 * loopback, data in a temporary folder. Everything it starts ends with `stop()` or with this
 * process.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type Admin, Kafka, logLevel } from 'kafkajs';
import { endProcess } from './end-process.ts';
import { installJars } from './maven.ts';

const run = promisify(execFile);

const KAFKA_VERSION = '4.1.0';
const HEAP = '-Xmx768m';
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;

export interface KafkaOptions {
  /** Adds a TLS listener that asks for SASL: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. */
  secure?: { username: string; password: string };
  /** More lines of server.properties. */
  config?: Record<string, string>;
  /** An address of this machine to listen on and to be known by; loopback unless told. */
  host?: string;
}

const LOOPBACK = '127.0.0.1';

export interface KafkaBroker {
  /** host:port of the plain listener. */
  readonly bootstrap: string;
  /**
   * Only with `secure`: host:port of the SASL and TLS listener, and the PEM file that certifies
   * it.
   */
  readonly secure?: { bootstrap: string; caFile: string };
  readonly pid: number | undefined;
  createTopic(name: string, partitions: number, config?: Record<string, string>): Promise<void>;
  deleteTopic(name: string): Promise<void>;
  /** The broker process ends; data and ports stay for `up`. */
  down(): Promise<void>;
  up(): Promise<void>;
  restart(): Promise<void>;
  /** Ends the broker and removes its data. */
  stop(): Promise<void>;
}

/** Starts a broker and waits until it answers: about 5 s, and once per machine the download. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaBroker> {
  const folder = await mkdtemp(join(tmpdir(), 'triggerjob-kafka-'));
  const { host = LOOPBACK } = options;
  const [plain, controller, secure] = await freePorts(3, host);
  const classPath = join(await installKafka(), '*');
  const caFile = join(folder, 'ca.pem');
  if (options.secure !== undefined) await makeCertificate(folder, caFile);
  const properties = join(folder, 'server.properties');
  const lines = serverProperties({ folder, plain, controller, secure }, options);
  await writeFile(properties, `${lines.join('\n')}\n`);
  await format(classPath, properties, options);

  const bootstrap = `${host}:${plain}`;
  const kafka = new Kafka({
    brokers: [bootstrap],
    clientId: 'testbed',
    logLevel: logLevel.NOTHING,
    retry: { retries: 8, initialRetryTime: 50, maxRetryTime: 1_000 },
  });
  const admin = kafka.admin();
  let child = await startBroker(folder, classPath, properties, bootstrap);

  const down = async () => await endProcess(child, STOP_TIMEOUT_MS);
  const up = async () => {
    child = await startBroker(folder, classPath, properties, bootstrap);
  };
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  await admin.connect();

  return {
    bootstrap,
    ...(options.secure !== undefined && {
      secure: { bootstrap: `127.0.0.1:${secure}`, caFile },
    }),
    get pid() {
      return child.pid;
    },
    async createTopic(topic, numPartitions, config = {}) {
      const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
      await admin.createTopics({
        topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }],
        waitForLeaders: false,
      });
      await untilLed(kafka.admin(), topic);
    },
    async deleteTopic(topic) {
      await admin.deleteTopics({ topics: [topic] });
    },
    down,
    up,
    async restart() {
      await down();
      await up();
    },
    async stop() {
      await admin.disconnect();
      await down();
      process.removeListener('exit', killAtExit);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/**
 * kafkajs's own wait gives up on a broker that is too busy to know the new topic at once, and
 * metadata name a leader before it leads: only then it tells offsets, and takes records. `admin` is
 * for this alone: it asks for the topic for ever after, and fails once that one is deleted.
 */
async function untilLed(admin: Admin, topic: string): Promise<void> {
  await admin.connect();
  await telling(admin, topic).finally(() => admin.disconnect());
}

async function telling(admin: Admin, topic: string): Promise<void> {
  for (const deadline = Date.now() + START_TIMEOUT_MS; ; await delay(50)) {
    try {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      if (topics[0]?.partitions.every(({ leader }) => leader >= 0)) {
        await admin.fetchTopicOffsets(topic);
        return;
      }
    } catch (error) {
      // Its own tries are over by then, and an error that says so is no longer marked retriable.
      if (Date.now() > deadline) throw error;
    }
    if (Date.now() > deadline) throw new Error(`${topic} has partitions without a leader`);
  }
}

function installKafka(): Promise<string> {
  return installJars(`kafka/${KAFKA_VERSION}`, [
    ['org.apache.kafka', 'kafka_2.13', KAFKA_VERSION],
    ['org.apache.kafka', 'kafka-tools', KAFKA_VERSION],
    ['org.slf4j', 'slf4j-simple', '1.7.36'],
  ]);
}

interface Layout {
  folder: string;
  plain: number | undefined;
  controller: number | undefined;
  secure: number | undefined;
}

function serverProperties(layout: Layout, options: KafkaOptions): string[] {
  const { folder, plain, controller, secure } = layout;
  const { host = LOOPBACK } = options;
  const listeners = [`PLAINTEXT://${host}:${plain}`, `CONTROLLER://127.0.0.1:${controller}`];
  if (options.secure !== undefined) listeners.push(`SECURE://127.0.0.1:${secure}`);
  return [
    'process.roles=broker,controller',
    'node.id=1',
    `controller.quorum.voters=1@127.0.0.1:${controller}`,
    `listeners=${listeners.join(',')}`,
    'listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL',
    'controller.listener.names=CONTROLLER',
    'inter.broker.listener.name=PLAINTEXT',
    `log.dirs=${join(folder, 'data')}`,
    'auto.create.topics.enable=false',
    'offsets.topic.num.partitions=1',
    'offsets.topic.replication.factor=1',
    'transaction.state.log.num.partitions=1',
    'transaction.state.log.replication.factor=1',
    'transaction.state.log.min.isr=1',
    'group.initial.rebalance.delay.ms=0',
    'message.max.bytes=33554432',
    'log.retention.check.interval.ms=600000',
    // A restarted broker may register only once its former session is over (default 9 s).
    'broker.heartbeat.interval.ms=500',
    'broker.session.timeout.ms=2000',
    ...(options.secure === undefined ? [] : securityProperties(folder, options.secure)),
    ...Object.entries(options.config ?? {}).map(([key, value]) => `${key}=${value}`),
  ];
}

function securityProperties(folder: string, user: { username: string; password: string }) {
  const modules = 'org.apache.kafka.common.security';
  const jaas = 'sasl.jaas.config';
  return [
    'sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
    `listener.name.secure.plain.${jaas}=${modules}.plain.PlainLoginModule required ` +
      `user_${user.username}="${user.password}";`,
    `listener.name.secure.scram-sha-256.${jaas}=${modules}.scram.ScramLoginModule required;`,
    `listener.name.secure.scram-sha-512.${jaas}=${modules}.scram.ScramLoginModule required;`,
    'listener.name.secure.ssl.keystore.type=PEM',
    `listener.name.secure.ssl.keystore.location=${join(folder, 'server.pem')}`,
  ];
}

/** One self-signed certificate that is its own authority; Kafka wants key and chain in one file. */
async function makeCertificate(folder: string, caFile: string): Promise<void> {
  const key = join(folder, 'key.pem');
  const subject = ['-subj', '/CN=localhost', '-days', '2'];
  const names = ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const kind = ['-x509', '-newkey', 'rsa:2048', '-nodes'];
  const files = ['-keyout', key, '-out', caFile];
  await run('openssl', ['req', ...kind, ...files, ...subject, ...names]);
  const pem = (await readFile(key, 'utf8')) + (await readFile(caFile, 'utf8'));
  await writeFile(join(folder, 'server.pem'), pem, { mode: 0o600 });
}

async function format(classPath: string, properties: string, options: KafkaOptions) {
  const quickStart = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC'];
  const tool = [...quickStart, '-cp', classPath, 'kafka.tools.StorageTool', 'format'];
  const { secure } = options;
  const scram = (secure === undefined ? [] : ['SCRAM-SHA-256', 'SCRAM-SHA-512']).flatMap(
    (mechanism) => [
      '--add-scram',
      `${mechanism}=[name=${secure?.username},password=${secure?.password}]`,
    ],
  );
  const clusterId = Buffer.from('triggerjob-tests').toString('base64url').slice(0, 22);
  await run('java', [...tool, '-t', clusterId, '-c', properties, ...scram]);
}

async function startBroker(
  folder: string,
  classPath: string,
  properties: string,
  bootstrap: string,
): Promise<ChildProcess> {
  await mkdir(folder, { recursive: true });
  const logFile = join(folder, 'broker.log');
  const log = openSync(logFile, 'a');
  const logging = '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn';
  const child = spawn('java', [HEAP, logging, '-cp', classPath, 'kafka.Kafka', properties], {
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const admin = new Kafka({
    brokers: [bootstrap],
    clientId: 'testbed-probe',
    logLevel: logLevel.NOTHING,
    retry: { retries: 0 },
  }).admin();
  for (const deadline = Date.now() + START_TIMEOUT_MS; ; await delay(200)) {
    try {
      await admin.connect();
      const { brokers } = await admin.describeCluster();
      await admin.disconnect();
      if (brokers.length > 0) return child;
    } catch (cause) {
      if (child.exitCode === null && Date.now() < deadline) continue;
      child.kill('SIGKILL');
      const tail = (await readFile(logFile, 'utf8')).split('\n').slice(-20).join('\n');
      throw new Error(`Kafka did not start on ${bootstrap}; end of its log:\n${tail}`, { cause });
    }
  }
}

/** Ports that were free a moment ago: all are held open together so that they differ. */
async function freePorts(count: number, host: string): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, host));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
