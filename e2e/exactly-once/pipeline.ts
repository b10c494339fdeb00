/**
 * The pipeline under test, from outside: starts the launcher as a process, polls its status, tails
 * the phase events, stops it, and has a fresh process dump the state.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { cp, mkdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Sample } from './history.ts';
import { sampleOf } from './status.ts';

const MAIN = fileURLToPath(new URL('../../worker/src/main.ts', import.meta.url));
const POLL_MS = 100;
const STOP_GRACE_MS = 30_000;

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** A program that takes the arguments of `triggerjob run`, and where its REST API answers. */
export interface Launcher {
  program: readonly string[];
  /** http://HOST:PORT */
  rest: string;
}

export class Pipeline {
  readonly stateDir: string;
  /** http://HOST:PORT */
  readonly rest: string;
  readonly #child: ChildProcess;
  readonly #stopPolling = new AbortController();
  readonly #polling: Promise<void>;
  /** Every look at the status that differed in time; about ten a second. */
  readonly samples: Sample[] = [];
  /** The last status as it came, for figures the sample has no field for. */
  raw: Record<string, unknown> = {};

  private constructor(child: ChildProcess, stateDir: string, rest: string) {
    this.#child = child;
    this.stateDir = stateDir;
    this.rest = rest;
    this.#polling = this.#poll();
    this.#polling.catch(() => undefined);
  }

  /** Starts `run JOB` and resolves when the job is RUNNING. Output goes to `<stateDir>/run.out`. */
  static async start(
    jobFile: string,
    stateDir: string,
    env: Record<string, string> = {},
    more: readonly string[] = [],
    launcher: Launcher | null = null,
  ): Promise<Pipeline> {
    await mkdir(stateDir, { recursive: true });
    const { program, rest } = launcher ?? {
      program: [MAIN, 'run'],
      rest: `http://127.0.0.1:${await freePort()}`,
    };
    const options = ['--state-dir', stateDir, '--rest-port', new URL(rest).port];
    const child = spawn(
      process.execPath,
      [...program, jobFile, ...options, ...more],
      // A process group of its own: kill() can end the launcher's children with it.
      { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], detached: true },
    );
    const out = createWriteStream(join(stateDir, 'run.out'));
    child.stdout!.pipe(out, { end: false });
    child.stderr!.pipe(out, { end: false });
    const pipeline = new Pipeline(child, stateDir, rest);
    try {
      await pipeline.until((sample) => sample.state === 'RUNNING', 60_000, 'the job to run');
    } catch (error) {
      await pipeline.kill();
      throw error;
    }
    return pipeline;
  }

  get checkpointDirectory(): string {
    return join(this.stateDir, 'checkpoints');
  }

  get last(): Sample | undefined {
    return this.samples.at(-1);
  }

  /**
   * Resolves with the first sample from now on that fulfils `condition`; rejects after `timeoutMs`.
   */
  async until(
    condition: (sample: Sample) => boolean,
    timeoutMs: number,
    what: string,
  ): Promise<Sample> {
    const deadline = Date.now() + timeoutMs;
    for (let from = this.samples.length; Date.now() < deadline; await wait(20)) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        throw new Error(`the launcher ended while waiting for ${what}: ${await this.output()}`);
      }
      for (; from < this.samples.length; from++) {
        if (condition(this.samples[from]!)) return this.samples[from]!;
      }
    }
    const { subtasks, ...rest } = this.last ?? { subtasks: [] };
    throw new Error(
      `waited ${timeoutMs} ms for ${what}; last status ${JSON.stringify(rest)}, ` +
        `${subtasks.length} subtasks; output: ${await this.output()}`,
    );
  }

  /**
   * Ctrl-C: the pipeline takes its final checkpoint and ends; rejects if it does not end in time.
   */
  async stop(): Promise<void> {
    this.#stopPolling.abort();
    await this.#polling;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGINT');
    const ended = await Promise.race([exited.then(() => true), wait(STOP_GRACE_MS, false)]);
    if (ended) return;
    await this.kill();
    throw new Error(`the launcher did not end within ${STOP_GRACE_MS} ms of SIGINT`);
  }

  /** Ends everything at once, whatever state it is in. For after a failure. */
  async kill(): Promise<void> {
    this.#stopPolling.abort();
    const pid = this.#child.pid;
    if (pid !== undefined) {
      try {
        process.kill(-pid, 'SIGKILL');
      } catch {
        // The group is gone already.
      }
    }
    await this.#polling.catch(() => undefined);
  }

  /** The end of what the launcher printed. */
  async output(): Promise<string> {
    const text = await readFile(join(this.stateDir, 'run.out'), 'utf8').catch(() => '');
    return text.slice(-3_000);
  }

  async #poll(): Promise<void> {
    const url = `${this.rest}/api/v1/details`;
    while (!this.#stopPolling.signal.aborted) {
      const status = await getJson(url);
      if (status !== null) {
        this.raw = status;
        this.samples.push(sampleOf(Date.now(), status));
      }
      await wait(POLL_MS);
    }
  }
}

/** null: no answer, or not one in JSON; the pipeline is starting, or busy. */
async function getJson(url: string): Promise<Record<string, unknown> | null> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
    return response.ok ? ((await response.json()) as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/**
 * State dump by a fresh process that sees a copy of the checkpoint directory and nothing else: what
 * is not in the last completed checkpoint's objects can't be in the dump. Returns its lines.
 */
export async function dumpState(checkpoints: string, freshDir: string): Promise<string[]> {
  await mkdir(freshDir, { recursive: true });
  await cp(checkpoints, join(freshDir, 'checkpoints'), { recursive: true });
  const out = join(freshDir, 'dump.ndjson');
  const child = spawn(
    process.execPath,
    [MAIN, 'state', 'dump', '--state-dir', freshDir, '--out', out],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      printed = (printed + text).slice(-3_000);
    });
  }
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`state dump ended with ${code}: ${printed}`);
  return (await readFile(out, 'utf8')).split('\n').filter((line) => line !== '');
}
