/**
 * The processes of a local run: one JobManager and its TaskManagers, the very ones of a cluster, as
 * children. Stages: JobManager started -> its port file read -> TaskManagers started ->
 * whatever dies is started again -> stop with a final checkpoint, or the end of the job.
 */
import { readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject } from '../runtime/json.ts';
import { EXIT } from './exit-codes.ts';
import { LogView } from './log-view.ts';
import type { StateDir } from './state-dir.ts';
import { type ProcessExit, SupervisedProcess } from './supervised-process.ts';
import type { Terminal } from './terminal.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const LOOPBACK = '127.0.0.1';
const PORT_FILE_POLL_MS = 50;
/** From the JobManager's start to its port file; beyond it the start has failed. */
const JOB_MANAGER_START_LIMIT_MS = 60_000;
/** How long TaskManagers may take after the JobManager has told them to end. */
const TASK_MANAGER_END_LIMIT_MS = 5_000;

export interface LaunchOptions {
  env: Env;
  terminal: Terminal;
  planFile: string;
  /** The resolved plan as JSON: the JobManager need not know how a local run resolves it. */
  planJson: string;
  taskManagers: number;
  /** Of each TaskManager. */
  slots: number;
  dir: StateDir;
  storeUrl: string;
  restPort: number;
  /** For all processes; null = plain TCP. */
  secretFile: string | null;
  /** Of the first TaskManager for the others, the next ones follow; 0 = any. */
  dataPort: number;
  /** `latest`, `earliest` or a checkpoint id; null = go on from the newest checkpoint. */
  from: string | null;
  /** The program that the children run; only tests have another one. */
  entry?: string;
}

/** How the job ended without being asked to. */
export type LaunchEnd = { kind: 'finished' } | { kind: 'failed'; message: string };

interface Ports {
  rpcPort: number;
  restPort: number;
}

export class Launcher {
  readonly #options: LaunchOptions;
  readonly #jobManager: SupervisedProcess;
  readonly #taskManagers: SupervisedProcess[] = [];
  readonly #end = Promise.withResolvers<LaunchEnd>();
  #ports: Ports | null = null;

  constructor(options: LaunchOptions) {
    this.#options = options;
    const { env, terminal, taskManagers, dir } = options;
    const logView = new LogView(terminal, env);
    const compileCache = dir.file('compile-cache');
    const shared = { env, terminal, logView, compileCache, entry: options.entry ?? MAIN };
    this.#jobManager = new SupervisedProcess({
      ...shared,
      name: 'jobmanager',
      logFile: dir.logFile('jobmanager'),
      args: () => this.#jobManagerArgs(),
      onExit: (exit) => this.#jobManagerExited(exit),
    });
    for (let index = 0; index < taskManagers; index += 1) {
      const name = taskManagers === 1 ? 'taskmanager' : `taskmanager-${index + 1}`;
      this.#taskManagers.push(
        new SupervisedProcess({
          ...shared,
          name,
          logFile: dir.logFile(name),
          args: () => this.#taskManagerArgs(name, index),
          onExit: () => 'restart',
        }),
      );
    }
  }

  /** Settles when the job ends by itself; never when it was stopped. */
  get ended(): Promise<LaunchEnd> {
    return this.#end.promise;
  }

  get restUrl(): string {
    return `http://${LOOPBACK}:${this.#ports?.restPort ?? this.#options.restPort}`;
  }

  get taskManagerPids(): number[] {
    return this.#taskManagers.flatMap((child) => child.pid ?? []);
  }

  /** Resolves when the JobManager answers and the TaskManagers are started. */
  async start(): Promise<void> {
    rmSync(this.#options.dir.portFile, { force: true });
    this.#jobManager.start();
    this.#ports = await this.#readPorts();
    for (const child of this.#taskManagers) child.start();
  }

  /**
   * Asks the JobManager for a final checkpoint and the end, and waits for it. false: it took longer
   * than `limitMs`; the next start then resumes from the checkpoint before.
   */
  async stop(limitMs: number): Promise<boolean> {
    const taskManagersGone = this.#taskManagers.map((child) => child.stop(null));
    const gone = this.#jobManager.stop('SIGTERM').then(() => true);
    const inTime = await this.#within(gone, limitMs);
    if (inTime) await this.#within(Promise.all(taskManagersGone), TASK_MANAGER_END_LIMIT_MS);
    await this.kill();
    return inTime;
  }

  /** Ends every child at once. Idempotent. */
  async kill(): Promise<void> {
    const children = [this.#jobManager, ...this.#taskManagers];
    await Promise.all(children.map((child) => child.stop('SIGKILL')));
    for (const child of children) child.close();
    rmSync(this.#options.dir.portFile, { force: true });
  }

  get #secretArgs(): string[] {
    const { secretFile } = this.#options;
    return secretFile === null ? [] : ['--secret-file', secretFile];
  }

  #jobManagerArgs(): string[] {
    const { planFile, planJson, storeUrl, restPort, from, dir } = this.#options;
    return [
      'jobmanager',
      ...['--plan', planFile],
      ...['--plan-json', planJson],
      ...['--store', storeUrl],
      // The same port again after a restart: the TaskManagers know this address.
      ...['--rpc-port', String(this.#ports?.rpcPort ?? 0)],
      ...['--rest-port', String(restPort)],
      ...['--port-file', dir.portFile],
      ...this.#secretArgs,
      // A restarted JobManager goes on with what it did, not with what the user once asked for.
      ...(from === null || this.#ports !== null ? [] : ['--from', from]),
    ];
  }

  #taskManagerArgs(name: string, index: number): string[] {
    const { slots, dir, dataPort } = this.#options;
    return [
      'taskmanager',
      ...['--jobmanager', `${LOOPBACK}:${this.#ports?.rpcPort ?? 0}`],
      ...['--slots', String(slots)],
      ...['--local-state-dir', `${dir.rocksdb}/${name}`],
      ...['--id', name],
      ...['--shuffle-port', String(dataPort === 0 ? 0 : dataPort + index)],
      ...this.#secretArgs,
    ];
  }

  #jobManagerExited(exit: ProcessExit): 'restart' | 'stay' {
    if (exit.code === EXIT.ok) {
      this.#end.resolve({ kind: 'finished' });
      return 'stay';
    }
    // Before its first answer, or by its own verdict: starting it again would end the same way.
    if (this.#ports === null || exit.code === EXIT.failed) {
      const how = exit.signal ?? `exit code ${exit.code}`;
      // The role shows what it threw as any command does, and this one will, too.
      const words =
        this.#jobManager.lastWords.replace(/^error: /, '') || this.#jobManager.lastError;
      this.#end.resolve({
        kind: 'failed',
        message: words === '' ? `the JobManager ended with ${how}` : words,
      });
      return 'stay';
    }
    return 'restart';
  }

  async #readPorts(): Promise<Ports> {
    const { env, dir } = this.#options;
    const startedAt = env.monotonic();
    let end: LaunchEnd | null = null;
    void this.#end.promise.then((value) => {
      end = value;
    });
    while (env.monotonic() - startedAt < JOB_MANAGER_START_LIMIT_MS) {
      const ports = readPortFile(dir.portFile);
      if (ports !== null) return ports;
      if (end !== null) throw startFailure(end);
      await sleep(env, PORT_FILE_POLL_MS);
    }
    throw new TriggerJobError(
      'JOB_MANAGER_START',
      `the JobManager was not ready after ${JOB_MANAGER_START_LIMIT_MS / 1000} s; ` +
        `see ${dir.logFile('jobmanager')}`,
    );
  }

  async #within(work: Promise<unknown>, limitMs: number): Promise<boolean> {
    const late = Promise.withResolvers<boolean>();
    const timer = this.#options.env.timer(limitMs, () => late.resolve(false));
    const done = await Promise.race([work.then(() => true), late.promise]);
    timer.cancel();
    return done;
  }
}

function startFailure(end: LaunchEnd): TriggerJobError {
  const message = end.kind === 'failed' ? end.message : 'the JobManager ended while it started';
  return new TriggerJobError('JOB_MANAGER_START', message);
}

/** null while the file is absent or half written. */
function readPortFile(path: string): Ports | null {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (!isJsonObject(value)) return null;
    const { rpcPort, restPort } = value;
    return typeof rpcPort === 'number' && typeof restPort === 'number'
      ? { rpcPort, restPort }
      : null;
  } catch {
    return null;
  }
}
