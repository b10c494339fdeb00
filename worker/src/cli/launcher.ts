/**
 * The processes of a local run: JobManagers (one leads, the others stand by) and TaskManagers, the
 * very ones of a cluster, as children. Stages: all started at once -> the JobManagers' port files
 * read, by the TaskManagers, too -> whatever dies is started again -> stop with a final checkpoint,
 * or the end of the job.
 */
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { EXIT } from './exit-codes.ts';
import { LogView } from './log-view.ts';
import { awaitPorts, JOB_MANAGER_START_LIMIT_MS, type Ports } from './port-file.ts';
import type { StateDir } from './state-dir.ts';
import { type ProcessExit, SupervisedProcess } from './supervised-process.ts';
import type { Terminal } from './terminal.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const LOOPBACK = '127.0.0.1';
/** How long TaskManagers may take after the JobManager has told them to end. */
const TASK_MANAGER_END_LIMIT_MS = 5_000;

export interface LaunchOptions {
  env: Env;
  terminal: Terminal;
  planFile: string;
  /** The resolved plan as JSON: the JobManager need not know how a local run resolves it. */
  planJson: string;
  /** 1 unless told. */
  jobManagers?: number;
  taskManagers: number;
  /** Of each TaskManager. */
  slots: number;
  /** Of each slot's thread, as the plan has it (slotHeapMebibytes): they start before it comes. */
  slotHeapMebibytes: number;
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

interface JobManagerChild {
  readonly child: SupervisedProcess;
  readonly portFile: string;
  /** Of the REST API; 0 = any. */
  readonly restPort: number;
  /** null until its first answer. */
  ports: Ports | null;
}

export class Launcher {
  readonly #options: LaunchOptions;
  readonly #jobManagers: JobManagerChild[] = [];
  readonly #taskManagers: SupervisedProcess[] = [];
  readonly #end = Promise.withResolvers<LaunchEnd>();

  constructor(options: LaunchOptions) {
    this.#options = options;
    const { env, terminal, jobManagers = 1, taskManagers, dir } = options;
    const logView = new LogView(terminal, env);
    const compileCache = dir.file('compile-cache');
    const shared = { env, terminal, logView, compileCache, entry: options.entry ?? MAIN };
    for (let index = 0; index < jobManagers; index += 1) {
      const name = index === 0 ? 'jobmanager' : `jobmanager-${index + 1}`;
      const child = new SupervisedProcess({
        ...shared,
        name,
        logFile: dir.logFile(name),
        args: () => this.#jobManagerArgs(this.#jobManagers[index]!),
        onExit: (exit) => this.#jobManagerExited(this.#jobManagers[index]!, exit),
      });
      const portFile = index === 0 ? dir.portFile : dir.file(`${name}.json`);
      const restPort = index === 0 ? options.restPort : 0;
      this.#jobManagers.push({ child, portFile, restPort, ports: null });
    }
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

  /** Of the first JobManager; as a standby it sends everybody on to the leader. */
  get restUrl(): string {
    const { ports, restPort } = this.#jobManagers[0]!;
    return `http://${LOOPBACK}:${ports?.restPort ?? restPort}`;
  }

  get taskManagerPids(): number[] {
    return this.#taskManagers.flatMap((child) => child.pid ?? []);
  }

  /** Resolves when the JobManagers answer. */
  async start(): Promise<void> {
    for (const { child, portFile } of this.#jobManagers) {
      rmSync(portFile, { force: true });
      child.start();
    }
    for (const child of this.#taskManagers) child.start();
    for (const one of this.#jobManagers) one.ports = await this.#readPorts(one);
  }

  /**
   * Asks the JobManager for a final checkpoint and the end, and waits for it. false: it took longer
   * than `limitMs`; the next start then resumes from the checkpoint before.
   */
  async stop(limitMs: number): Promise<boolean> {
    const taskManagersGone = this.#taskManagers.map((child) => child.stop(null));
    // Of several, SIGTERM is for one leader alone.
    const signal = this.#jobManagers.length > 1 ? 'SIGINT' : 'SIGTERM';
    const gone = Promise.all(this.#jobManagers.map(({ child }) => child.stop(signal)));
    const inTime = await this.#within(gone, limitMs);
    if (inTime) await this.#within(Promise.all(taskManagersGone), TASK_MANAGER_END_LIMIT_MS);
    await this.kill();
    return inTime;
  }

  /** Ends every child at once. Idempotent. */
  async kill(): Promise<void> {
    const children = [...this.#jobManagers.map(({ child }) => child), ...this.#taskManagers];
    await Promise.all(children.map((child) => child.stop('SIGKILL')));
    for (const child of children) child.close();
    for (const { portFile } of this.#jobManagers) rmSync(portFile, { force: true });
  }

  get #secretArgs(): string[] {
    const { secretFile } = this.#options;
    return secretFile === null ? [] : ['--secret-file', secretFile];
  }

  #jobManagerArgs({ ports, portFile, restPort }: JobManagerChild): string[] {
    const { planFile, planJson, storeUrl, from } = this.#options;
    return [
      'jobmanager',
      ...['--plan', planFile],
      ...['--plan-json', planJson],
      ...['--store', storeUrl],
      // The same port again after a restart: the TaskManagers know this address.
      ...['--rpc-port', String(ports?.rpcPort ?? 0)],
      ...['--rest-port', String(ports?.restPort ?? restPort)],
      ...['--port-file', portFile],
      ...(this.#jobManagers.length > 1 ? ['--on-sigterm', 'release'] : []),
      ...this.#secretArgs,
      // A restarted JobManager goes on with what it did, not with what the user once asked for.
      ...(from === null || ports !== null ? [] : ['--from', from]),
    ];
  }

  #taskManagerArgs(name: string, index: number): string[] {
    const { slots, slotHeapMebibytes, dir, dataPort } = this.#options;
    const portFiles = this.#jobManagers.map(({ portFile }) => portFile);
    return [
      'taskmanager',
      ...['--jobmanager-port-files', ...portFiles],
      ...['--slots', String(slots)],
      ...['--slot-heap', String(slotHeapMebibytes)],
      ...['--local-state-dir', `${dir.rocksdb}/${name}`],
      ...['--id', name],
      ...['--shuffle-port', String(dataPort === 0 ? 0 : dataPort + index)],
      // What it would find out by asking a JobManager, which may not answer yet.
      ...['--shuffle-host', LOOPBACK],
      ...this.#secretArgs,
    ];
  }

  #jobManagerExited({ child, ports }: JobManagerChild, exit: ProcessExit): 'restart' | 'stay' {
    if (exit.code === EXIT.ok) {
      this.#end.resolve({ kind: 'finished' });
      return 'stay';
    }
    // Before its first answer, or by its own verdict: starting it again would end the same way.
    if (ports === null || exit.code === EXIT.failed) {
      const how = exit.signal ?? `exit code ${exit.code}`;
      // The role shows what it threw as any command does, and this one will, too.
      const words = child.lastWords.replace(/^error: /, '') || child.lastError;
      this.#end.resolve({
        kind: 'failed',
        message: words === '' ? `the JobManager ended with ${how}` : words,
      });
      return 'stay';
    }
    return 'restart';
  }

  async #readPorts({ portFile }: JobManagerChild): Promise<Ports> {
    const { env, dir } = this.#options;
    let end: LaunchEnd | null = null;
    void this.#end.promise.then((value) => {
      end = value;
    });
    const ports = await awaitPorts(env, portFile, JOB_MANAGER_START_LIMIT_MS, () => {
      if (end !== null) throw startFailure(end);
    });
    if (ports !== null) return ports;
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
