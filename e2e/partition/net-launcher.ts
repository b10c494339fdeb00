/**
 * In place of `triggerjob run`, for a job whose processes are in network namespaces of their own,
 * each as a machine: starts JobManagers and TaskManagers there, starts again what dies, and at
 * SIGINT ends the job with a final checkpoint. Its children are in its process group, and end with
 * it when its parent is gone.
 *
 *   node e2e/partition/net-launcher.ts MACHINES.json JOB.json --state-dir DIR --store URL ...
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

export interface Machine {
  name: string;
  address: string;
  /** Of a process in its network namespace. */
  pid: number;
}

/** The same on every machine: each has its own. */
const RPC_PORT = 6123;
export const REST_PORT = 8081;

export interface Machines {
  jobManagers: Machine[];
  taskManagers: Machine[];
  slots: number;
}

const MAIN = fileURLToPath(new URL('../../worker/src/main.ts', import.meta.url));
const COUNTS = {
  'rest-port': { type: 'string' },
  'task-managers': { type: 'string' },
  'job-managers': { type: 'string' },
} as const;
const RESTART_MS = 200;
const TASK_MANAGER_END_MS = 5_000;

class Supervised {
  readonly #command: readonly string[];
  readonly #name: string;
  readonly #logFile: string;
  #child: ChildProcess | null = null;
  #stopping = false;
  readonly gone: Promise<void>;

  constructor({ name, pid }: Machine, args: readonly string[], logs: string) {
    this.#name = name;
    this.#logFile = join(logs, `${name}.log`);
    this.#command = ['-t', String(pid), '-n', '--', process.execPath, MAIN, ...args];
    this.gone = this.#run();
  }

  /** No restart from now on; null: it ends by itself. */
  stop(signal: NodeJS.Signals | null): void {
    this.#stopping = true;
    if (signal !== null) this.#child?.kill(signal);
  }

  async #run(): Promise<void> {
    const log = createWriteStream(this.#logFile, { flags: 'a' });
    while (!this.#stopping) {
      const child = spawn('nsenter', this.#command, { stdio: ['ignore', 'pipe', 'pipe'] });
      this.#child = child;
      child.stdout.pipe(log, { end: false });
      child.stderr.pipe(log, { end: false });
      const [code, signal] = await once(child, 'close');
      if (this.#stopping) break;
      console.log(`${this.#name} ended (${signal ?? `exit code ${code}`}), starts again`);
      await wait(RESTART_MS);
    }
    log.end();
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    // The rest is in the machines' file.
    strict: false,
    options: { 'state-dir': { type: 'string' }, store: { type: 'string' }, ...COUNTS },
  });
  const [machinesFile, jobFile] = positionals;
  const dir = String(values['state-dir']);
  const machines = JSON.parse(readFileSync(machinesFile!, 'utf8')) as Machines;
  const logs = join(dir, 'logs');
  mkdirSync(logs, { recursive: true });
  const secretFile = join(dir, 'secret');
  writeFileSync(secretFile, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  const secret = ['--secret-file', secretFile];

  const jobManagers = machines.jobManagers.map((machine) => {
    const { name, address } = machine;
    const ports = ['--rpc-port', RPC_PORT, '--rest-port', REST_PORT].map(String);
    const role = ['jobmanager', '--plan', jobFile!, '--store', String(values['store'])];
    const reached = ['--advertise-host', address, '--port-file', join(dir, `${name}.json`)];
    const args = [...role, ...ports, ...reached, '--on-sigterm', 'release', ...secret];
    return new Supervised(machine, args, logs);
  });
  const rpc = machines.jobManagers.map(({ address }) => `${address}:${RPC_PORT}`).join(',');
  const taskManagers = machines.taskManagers.map((machine) => {
    const own = ['--id', machine.name, '--slots', String(machines.slots)];
    const place = ['--local-state-dir', join(dir, 'rocksdb', machine.name)];
    return new Supervised(
      machine,
      ['taskmanager', '--jobmanager', rpc, ...own, ...place, ...secret],
      logs,
    );
  });

  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid === parent) return;
    for (const one of [...jobManagers, ...taskManagers]) one.stop('SIGKILL');
    process.exit(1);
  }, 1_000).unref();
  await once(process, 'SIGINT');
  for (const one of taskManagers) one.stop(null);
  for (const one of jobManagers) one.stop('SIGINT');
  await Promise.all(jobManagers.map(({ gone }) => gone));
  // The leader has told them to end; who does not hear it is ended.
  await Promise.race([
    Promise.all(taskManagers.map(({ gone }) => gone)),
    wait(TASK_MANAGER_END_MS),
  ]);
  for (const one of taskManagers) one.stop('SIGKILL');
  await Promise.all(taskManagers.map(({ gone }) => gone));
  process.exit(0);
}

if (import.meta.main) await main();
