/**
 * One JobManager and one TaskManager process of Apache Flink and the job in them: what the
 * distribution's scripts start, without them. Everything ends with `end` or with this process.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../e2e/testbed/command.ts';
import type { Launch } from './engine.ts';
import { type FlinkVariant, flinkConfiguration } from './flink-variants.ts';

const run = promisify(execFile);

const QUIET = '-Dorg.slf4j.simpleLogger.defaultLogLevel=error';
const LOGGING = ['-Dorg.slf4j.simpleLogger.defaultLogLevel=warn'];
/** As in the distribution's default configuration: what Flink reaches into. */
const OPENED = [
  ...['java.lang', 'java.net', 'java.io', 'java.nio', 'sun.nio.ch', 'java.lang.reflect'],
  ...['java.text', 'java.time', 'java.util', 'java.util.concurrent'],
  ...['java.util.concurrent.atomic', 'java.util.concurrent.locks'],
].map((name) => `--add-opens=java.base/${name}=ALL-UNNAMED`);
const EXPORTED = [
  'java.base/sun.net.util',
  'java.management/sun.management',
  'java.rmi/sun.rmi.registry',
  'java.security.jgss/sun.security.krb5',
].map((name) => `--add-exports=${name}=ALL-UNNAMED`);
const JOB_MANAGER_FLAGS = ['-Xms1024m', '-Xmx1024m', '-XX:MaxMetaspaceSize=256m'];
const TASK_MANAGER_FLAGS = ['-XX:+UseG1GC'];
const TTL_MS = 2 * 60 * 60_000;
const SHOWN_LOG_CHARS = 4_000;

export class FlinkCluster {
  readonly startedAt = Date.now();
  readonly progressFolder: string;
  readonly rest: string;
  readonly #classPath: string;
  readonly #folder: string;
  readonly #memoryFlags: string[];
  readonly #memoryOptions: string[];
  #jobManager: ChildProcess | null = null;
  #taskManager: ChildProcess | null = null;
  readonly #killAtExit = () => this.#kill();
  #ended = false;

  private constructor(
    classPath: string,
    folder: string,
    restPort: number,
    flags: [string[], string[]],
  ) {
    this.#classPath = classPath;
    this.#folder = folder;
    this.rest = `http://127.0.0.1:${restPort}`;
    this.progressFolder = join(folder, 'progress');
    [this.#memoryFlags, this.#memoryOptions] = flags;
    process.once('exit', this.#killAtExit);
  }

  static async start(
    classPath: string,
    variant: FlinkVariant,
    launch: Launch,
  ): Promise<FlinkCluster> {
    const { folder, setting, checkpointIntervalMs } = launch;
    for (const name of ['conf', 'tmp', 'checkpoints', 'progress']) await mkdir(join(folder, name));
    const ports = { rpcPort: await freePort(), restPort: await freePort() };
    const configuration = flinkConfiguration(variant, setting, folder, checkpointIntervalMs, ports);
    const lines = Object.entries(configuration).map(([key, value]) => `${key}: ${value}`);
    await writeFile(join(folder, 'conf', 'config.yaml'), `${lines.join('\n')}\n`);
    // The distribution's scripts do this first; it is not counted as start-up.
    const flags = await memoryFlags(classPath, join(folder, 'conf'));
    const cluster = new FlinkCluster(classPath, folder, ports.restPort, flags);
    cluster.#startJobManager(jobArguments(variant, launch, cluster.progressFolder));
    cluster.startTaskManager();
    return cluster;
  }

  get jobManagerPid(): number {
    return this.#jobManager!.pid!;
  }

  get taskManagerPid(): number {
    return this.#taskManager!.pid!;
  }

  startTaskManager(): void {
    const main = 'org.apache.flink.runtime.taskexecutor.TaskManagerRunner';
    this.#taskManager = this.#java('taskmanager', [
      ...this.#memoryFlags,
      ...TASK_MANAGER_FLAGS,
      ...this.#common(main),
      '--configDir',
      join(this.#folder, 'conf'),
      ...this.#memoryOptions,
    ]);
  }

  async killTaskManager(): Promise<void> {
    const child = this.#taskManager!;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  async get(path: string): Promise<unknown> {
    const signal = AbortSignal.timeout(5_000);
    const response = await fetch(`${this.rest}${path}`, { signal });
    if (!response.ok) throw new Error(`GET ${path}: ${response.status}`);
    return await response.json();
  }

  /** Throws, with the end of the logs, if a process is gone. */
  async assertAlive(): Promise<void> {
    const gone = (child: ChildProcess | null) =>
      child === null || child.exitCode !== null || child.signalCode !== null;
    if (!gone(this.#jobManager) && !gone(this.#taskManager)) return;
    const logs = await Promise.all(
      ['jobmanager', 'taskmanager'].map(async (name) => {
        const text = await readFile(join(this.#folder, `${name}.log`), 'utf8').catch(() => '');
        return `${name}: ${text.slice(-SHOWN_LOG_CHARS)}`;
      }),
    );
    throw new Error(`a process of Flink ended:\n${logs.join('\n')}`);
  }

  async end(): Promise<void> {
    this.#ended = true;
    const children = [this.#jobManager, this.#taskManager].filter((child) => child !== null);
    const open = children.filter((one) => one.exitCode === null && one.signalCode === null);
    const exits = open.map((child) => once(child, 'exit'));
    this.#kill();
    await Promise.all(exits);
    process.removeListener('exit', this.#killAtExit);
  }

  #startJobManager(ofJob: string[]): void {
    const command = [...JOB_MANAGER_FLAGS, ...this.#common('bench.JobManager')];
    this.#jobManager = this.#java('jobmanager', [...command, join(this.#folder, 'conf'), ...ofJob]);
  }

  #common(main: string): string[] {
    return [...OPENED, ...EXPORTED, ...LOGGING, '-cp', this.#classPath, main];
  }

  #java(name: string, args: string[]): ChildProcess {
    if (this.#ended) throw new Error(`${name}: the cluster has ended`);
    const log = openSync(join(this.#folder, `${name}.log`), 'a');
    const child = spawn('java', args, { stdio: ['ignore', log, log] });
    closeSync(log);
    return child;
  }

  #kill(): void {
    for (const child of [this.#jobManager, this.#taskManager]) child?.kill('SIGKILL');
  }
}

async function memoryFlags(classPath: string, conf: string): Promise<[string[], string[]]> {
  const command = ['-Xmx64m', QUIET, '-cp', classPath, 'bench.MemoryFlags', conf];
  const { stdout } = await run('java', command);
  const [flags = '', options = ''] = stdout.trim().split('\n').slice(-2);
  return [flags.trim().split(/\s+/), options.trim().split(/\s+/)];
}

function jobArguments(variant: FlinkVariant, launch: Launch, progressFolder: string): string[] {
  const { setting, bootstrap, topic, service } = launch;
  const { heavy, httpProfiles, webhook, readsHistory, script } = setting;
  const named = {
    layout: variant.layout,
    bootstrap,
    topic,
    script,
    history: readsHistory ? 'eager' : 'lazy',
    profiles: httpProfiles ? service.url : 'synthetic',
    webhook: webhook ? `${service.url}/hook` : 'none',
    progress: progressFolder,
    'ttl-ms': TTL_MS,
    'heavy-every': heavy?.every ?? 0,
    'heavy-padding': heavy?.paddingBytes ?? 0,
  };
  return Object.entries(named).flatMap(([name, value]) => [`--${name}`, String(value)]);
}
