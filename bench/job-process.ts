/**
 * The job under measurement: the real JobManager and TaskManager processes, started by
 * `triggerjob run`, seen through their REST API.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../worker/bin/triggerjob.mjs', import.meta.url));
const PRELOAD = new URL('./slot-preload.ts', import.meta.url).href;
const POLL_MS = 100;
/** A start restores the state: 1.6 GB for 100,000 users. */
const START_LIMIT_MS = 5 * 60_000;
const CHILDREN_END_MS = 500;

/** The fields of /api/v1/details and its subtasks that the benchmarks read. */
export interface Status {
  state: string;
  processed: number;
  matched: number;
  users: number;
  parked: number;
  outbox: number;
  lag: number | null;
  restarts: number;
  failure: string | null;
  taskManagers: { id: string; pid: number; rssBytes: number }[];
  tasks: { subtask: number; taskManagerId: string }[];
  replacements: { done: number; givenUp: number; running: boolean };
  subtasks: Subtask[];
}

interface Subtask {
  attempt: number;
  restoreMs: number;
  cpuSeconds: number;
  usersCached: number;
  cacheHits: number;
  cacheMisses: number;
  pauseCount: number;
  pauseP99Ms: number;
  pauseMaxMs: number;
}

export interface CheckpointFigures {
  id: number;
  status: string;
  trigger_timestamp: number;
  checkpointed_size: number;
  state_size: number;
  end_to_end_duration: number;
}

export class JobProcess {
  readonly #child: ChildProcess;
  readonly #url: string;
  readonly #output: string;
  /** When the first of its processes began, ms since the epoch. */
  readonly startedAt = Date.now();
  #jobId = '';

  private constructor(child: ChildProcess, url: string, output: string) {
    this.#child = child;
    this.#url = url;
    this.#output = output;
    const killAtExit = () => child.kill('SIGKILL');
    process.once('exit', killAtExit);
    child.once('exit', () => process.removeListener('exit', killAtExit));
  }

  /** Resolves when the job runs. `env` goes to its processes. */
  static async start(
    jobFile: string,
    folder: string,
    env: Record<string, string>,
    more: readonly string[] = [],
  ): Promise<JobProcess> {
    const restPort = await freePort();
    const place = ['--state-dir', join(folder, 'state'), '--rest-port', String(restPort)];
    const command = ['--import', PRELOAD, MAIN, 'run', jobFile, ...place, ...more];
    const child = spawn(process.execPath, command, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output = join(folder, 'run.out');
    const out = createWriteStream(output);
    child.stdout.pipe(out, { end: false });
    child.stderr.pipe(out, { end: false });
    const job = new JobProcess(child, `http://127.0.0.1:${restPort}`, output);
    try {
      await job.until((status) => status.state === 'RUNNING', START_LIMIT_MS, 'the job runs');
      const { jobs } = (await job.#get('/jobs')) as { jobs: { id: string }[] };
      job.#jobId = jobs[0]!.id;
      return job;
    } catch (error) {
      await job.end();
      throw error;
    }
  }

  async status(): Promise<Status> {
    return (await this.#get('/api/v1/details')) as Status;
  }

  get rest(): string {
    return this.#url;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /**
   * Polls until `condition`; throws after `timeoutMs`, when the job ends, fails or, unless it may,
   * restarts.
   */
  async until(
    condition: (status: Status) => boolean,
    timeoutMs: number,
    what: string,
    mayRestart = false,
  ): Promise<Status> {
    const deadline = Date.now() + timeoutMs;
    let last: Status | null = null;
    while (Date.now() < deadline) {
      if (this.#child.exitCode !== null) break;
      last = await this.status().catch(() => null);
      if (last !== null) {
        if (last.restarts > 0 && !mayRestart) throw new Error(`the job restarted: ${last.failure}`);
        if (condition(last)) return last;
      }
      await wait(POLL_MS);
    }
    const output = await readFile(this.#output, 'utf8').catch(() => '');
    const { subtasks: _, ...shown } = last ?? { subtasks: [] };
    const facts = `last status ${JSON.stringify(shown)}\n${output.slice(-3_000)}`;
    throw new Error(`waited in vain until ${what}: ${facts}`);
  }

  /** Newest first. */
  async checkpoints(): Promise<CheckpointFigures[]> {
    const answer = await this.#get(`/jobs/${this.#jobId}/checkpoints`);
    return (answer as { history: CheckpointFigures[] }).history;
  }

  /** Takes one now and waits for its end. */
  async checkpoint(): Promise<CheckpointFigures> {
    const last = (await this.checkpoints())[0]?.id ?? 0;
    const url = `${this.#url}/jobs/${this.#jobId}/checkpoints`;
    const response = await fetch(url, { method: 'POST', body: '{}' });
    if (!response.ok) throw new Error(`POST ${url}: ${response.status} ${await response.text()}`);
    for (;;) {
      const newest = (await this.checkpoints())[0];
      if (newest !== undefined && newest.id > last) {
        if (newest.status === 'COMPLETED') return newest;
        if (newest.status === 'FAILED') throw new Error(`checkpoint ${newest.id} failed`);
      }
      await wait(20);
    }
  }

  /** Ctrl-C: a final checkpoint, from which the next start goes on. */
  async stop(): Promise<void> {
    await this.#endBy('SIGINT');
    if (this.#child.exitCode !== 0) throw new Error(`no final checkpoint; see ${this.#output}`);
  }

  /** Ends the launcher at once; its children end with it. */
  async end(): Promise<void> {
    await this.#endBy('SIGKILL');
    await wait(CHILDREN_END_MS);
  }

  async #endBy(signal: NodeJS.Signals): Promise<void> {
    if (this.hasEnded) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill(signal);
    await exited;
  }

  async #get(path: string): Promise<unknown> {
    const response = await fetch(`${this.#url}${path}`, { signal: AbortSignal.timeout(5_000) });
    if (!response.ok) throw new Error(`GET ${path}: ${response.status}`);
    return await response.json();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
