/** TaskManagers started by hand next to the launcher's own, as a second machine would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Pipeline } from './pipeline.ts';

const MAIN = fileURLToPath(new URL('../../worker/src/main.ts', import.meta.url));
const REGISTER_LIMIT_MS = 60_000;

export class ExtraTaskManager {
  readonly name: string;
  readonly #child: ChildProcess;

  private constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.#child = child;
  }

  /** Resolves when the JobManager shows it. */
  static async start(pipeline: Pipeline, name: string, slots: number): Promise<ExtraTaskManager> {
    const { stateDir } = pipeline;
    const ports = JSON.parse(await readFile(join(stateDir, 'jobmanager.json'), 'utf8'));
    const address = ['--jobmanager', `127.0.0.1:${ports.rpcPort}`, '--id', name];
    const place = ['--local-state-dir', join(stateDir, 'rocksdb', name)];
    const secretFile = join(stateDir, 'secret');
    const secret = existsSync(secretFile) ? ['--secret-file', secretFile] : [];
    const child = spawn(
      process.execPath,
      [MAIN, 'taskmanager', ...address, ...place, ...secret, '--slots', String(slots)],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const log = createWriteStream(join(stateDir, 'logs', `${name}.log`));
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    const made = new ExtraTaskManager(name, child);
    const shown = () => pipeline.last?.taskManagers.some(({ pid }) => pid === child.pid) ?? false;
    await pipeline.until(shown, REGISTER_LIMIT_MS, `${name} to register`).catch(async (error) => {
      await made.kill();
      throw error;
    });
    return made;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** SIGKILL; resolves when it is gone. Idempotent. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }
}
