/**
 * The `triggerjob` program as a user starts it, its output, and what its REST API says meanwhile.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../worker/src/main.ts', import.meta.url));
/** Ten times what each step usually takes. */
const WATCHDOG_MS = 120_000;

export interface JobStatus {
  state: string;
  processed: number;
  users: number;
  restoredCheckpoint: { id: number } | null;
  lastCheckpoint: { id: number } | null;
  ledgerImbalance: number;
}

/** One `triggerjob` process with all it printed. */
export class Command {
  readonly child: ChildProcess;
  readonly args: string[];
  output = '';

  constructor(args: string[], env: Record<string, string> = {}) {
    this.args = args;
    this.child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
      });
    }
  }

  async until(pattern: RegExp): Promise<RegExpExecArray> {
    const end = Date.now() + WATCHDOG_MS;
    for (;;) {
      const found = pattern.exec(this.output);
      if (found !== null) return found;
      const over = this.child.exitCode !== null || Date.now() > end;
      const name = `triggerjob ${this.args.join(' ')}`;
      assert.ok(!over, `waited for ${pattern} of "${name}", which printed:\n${this.output}`);
      await wait(50);
    }
  }

  async exit(): Promise<number> {
    if (this.child.exitCode === null) {
      const timer = setTimeout(() => this.child.kill('SIGKILL'), WATCHDOG_MS);
      await once(this.child, 'close');
      clearTimeout(timer);
    }
    return this.child.exitCode ?? -1;
  }

  interrupt(): void {
    this.child.kill('SIGINT');
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

export async function json<T>(url: string): Promise<T> {
  const answer = await fetch(url);
  assert.equal(answer.status, 200, url);
  return (await answer.json()) as T;
}

export async function statusUntil(
  rest: string,
  what: string,
  done: (status: JobStatus) => boolean,
) {
  const end = Date.now() + WATCHDOG_MS;
  for (;;) {
    const status = await json<JobStatus>(`${rest}/api/v1/details`).catch(() => null);
    if (status !== null && done(status)) return status;
    assert.ok(Date.now() < end, `waited for ${what}, status ${JSON.stringify(status)}`);
    await wait(200);
  }
}

export async function run(...args: string[]): Promise<{ code: number; output: string }> {
  const command = new Command(args);
  const code = await command.exit();
  return { code, output: command.output };
}

export async function restOf(command: Command): Promise<string> {
  return (await command.until(/REST API and metrics: (http:\S+)/))[1]!;
}
