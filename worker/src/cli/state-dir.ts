/**
 * The directory of a local run and its lock. Layout: `checkpoints/` (the store), `rocksdb/` (a
 * cache, deleted at each start), `logs/`, `compile-cache/`, `lock`, `plan.json` (what runs),
 * `jobmanager.json` (ports of the running JobManager), and `secret` (of its connections).
 */
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject } from '../runtime/json.ts';

export class StateDir {
  readonly root: string;

  constructor(root: string) {
    this.root = resolve(root);
  }

  get storeUrl(): string {
    return pathToFileURL(join(this.root, 'checkpoints')).href;
  }

  get rocksdb(): string {
    return join(this.root, 'rocksdb');
  }

  get portFile(): string {
    return join(this.root, 'jobmanager.json');
  }

  logFile(process: string): string {
    return join(this.root, 'logs', `${process}.log`);
  }

  file(name: string): string {
    return join(this.root, name);
  }

  create(): void {
    mkdirSync(join(this.root, 'logs'), { recursive: true });
    mkdirSync(join(this.root, 'checkpoints'), { recursive: true });
  }
}

interface Holder {
  pid: number;
  host: string;
  /**
   * Start of the process by the kernel's clock, so that a reused pid is not taken for the holder.
   */
  started: string;
}

/** Kernel start time of a process, '' where the system has no /proc. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command name in parentheses may hold spaces; field 22 is the 20th after it.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function isAlive(holder: Holder): boolean {
  if (holder.host !== hostname()) return true;
  if (holder.pid === process.pid) return holder.started === startOf(process.pid);
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) return false;
  }
  const started = startOf(holder.pid);
  return started === '' || holder.started === '' || started === holder.started;
}

function readHolder(text: string): Holder | null {
  try {
    const value: unknown = JSON.parse(text);
    if (!isJsonObject(value)) return null;
    const { pid, host, started } = value;
    if (typeof pid !== 'number' || typeof host !== 'string') return null;
    return { pid, host, started: typeof started === 'string' ? started : '' };
  } catch {
    return null;
  }
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

/**
 * Takes the directory for this process; the answer gives it back. Throws STATE_DIR_IN_USE while its
 * holder lives. A holder that is gone is replaced: its file is renamed away first and looked at
 * again, so that of two runs that find the same dead holder only one goes on.
 */
export function lockStateDir(dir: StateDir, env: Env): () => void {
  const path = dir.file('lock');
  const mine = JSON.stringify({
    pid: process.pid,
    host: hostname(),
    started: startOf(process.pid),
    nonce: env.id(),
  });
  const draft = `${path}.${process.pid}.${env.id()}`;
  const file = openSync(draft, 'wx');
  writeSync(file, mine);
  closeSync(file);
  try {
    if (!tryLink(draft, path)) {
      removeDeadHolder(dir, path, env);
      if (!tryLink(draft, path)) throw inUse(dir, readHolder(readOrNull(path) ?? ''));
    }
  } finally {
    rmSync(draft, { force: true });
  }
  return () => {
    if (readOrNull(path) === mine) rmSync(path, { force: true });
  };
}

/** link() fails when the name is taken, and the name appears with its full content. */
function tryLink(draft: string, path: string): boolean {
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

function removeDeadHolder(dir: StateDir, path: string, env: Env): void {
  const seen = readOrNull(path);
  if (seen === null) return;
  const holder = readHolder(seen);
  if (holder !== null && isAlive(holder)) throw inUse(dir, holder);
  const aside = `${path}.dead.${env.id()}`;
  renameSync(path, aside);
  // Someone replaced the dead holder between the look and the rename: that lock is given back.
  if (readOrNull(aside) !== seen) {
    tryLink(aside, path);
    rmSync(aside, { force: true });
    throw inUse(dir, readHolder(readOrNull(path) ?? ''));
  }
  rmSync(aside, { force: true });
}

function inUse(dir: StateDir, holder: Holder | null): TriggerJobError {
  const who = holder === null ? 'another run' : `process ${holder.pid} on ${holder.host}`;
  return new TriggerJobError(
    'STATE_DIR_IN_USE',
    `state directory ${dir.root} is used by ${who}: stop that run or pass another --state-dir`,
  );
}
