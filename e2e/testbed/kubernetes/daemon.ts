/**
 * One long-running program of a test cluster: its output in a file, its end with ours. The kernel
 * ends it when this process is gone for whatever reason, a SIGKILL by a watchdog included, so that
 * an interrupted test leaves nothing that runs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { endProcess } from '../end-process.ts';

const STOP_TIMEOUT_MS = 20_000;
const POLL_MS = 50;
const LOG_LINES_SHOWN = 15;

export interface Program {
  name: string;
  command: string;
  args: string[];
  env?: Record<string, string>;
}

export interface Daemon {
  readonly name: string;
  readonly child: ChildProcess;
  readonly logFile: string;
  /** SIGTERM, and SIGKILL when that does not do. */
  stop(): Promise<void>;
  kill(): Promise<void>;
}

/** Output is appended to `<logs>/<name>.log`. */
export function startDaemon(program: Program, logs: string): Daemon {
  const logFile = join(logs, `${program.name}.log`);
  const log = openSync(logFile, 'a');
  // Detached: a Ctrl-C in the terminal is for the test, which then stops its daemons in order.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program.command, ...program.args], {
    stdio: ['ignore', log, log],
    detached: true,
    env: { ...process.env, ...program.env },
  });
  closeSync(log);
  return {
    name: program.name,
    child,
    logFile,
    stop: () => endProcess(child, STOP_TIMEOUT_MS),
    async kill() {
      child.kill('SIGKILL');
      await endProcess(child, STOP_TIMEOUT_MS);
    },
  };
}

/** Waits until `ready` holds; an error that shows the daemon's log when it ended or never did. */
export async function untilReady(
  what: string,
  daemon: Daemon,
  limitMs: number,
  ready: () => Promise<boolean>,
): Promise<void> {
  for (const deadline = Date.now() + limitMs; ; await delay(POLL_MS)) {
    if (await ready()) return;
    const ended = daemon.child.exitCode ?? daemon.child.signalCode;
    if (ended === null && Date.now() < deadline) continue;
    const why = ended === null ? `not after ${limitMs / 1000} s` : `${daemon.name} ended: ${ended}`;
    throw new Error(`waited for ${what}: ${why}; end of its log:\n${await endOfLog(daemon)}`);
  }
}

async function endOfLog(daemon: Daemon): Promise<string> {
  const text = await readFile(daemon.logFile, 'utf8').catch(() => '');
  return text.split('\n').slice(-LOG_LINES_SHOWN).join('\n');
}
