/**
 * Watches the job's file for a changed filter script (P34). Polls the modification time:
 * notifications are lost on network mounts and on ConfigMap volumes, which replace a symbolic link.
 */
import { stat } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';

const POLL_MS = 1_000;

/** A script that was read and does not compile. */
export class ScriptRefused extends TriggerJobError {
  /** As it would have had. */
  readonly version: string;

  constructor(version: string, cause: unknown) {
    super('SCRIPT_REFUSED', messageOf(cause));
    this.version = version;
  }
}

export interface ScriptWatchOptions {
  env: Env;
  log: Logger;
  /** The job's file, and the script's own file where it has one. */
  files: readonly string[];
  /** Reads and compiles; null = the file names no script of its own. Rejects for a broken one. */
  loadScript(): Promise<ScriptVersion | null>;
  onScript(script: ScriptVersion): void;
  onRefused(refused: { fault: string; version: string | null }): void;
}

export class ScriptWatch {
  readonly #options: ScriptWatchOptions;
  #timer: Timer | null = null;
  #seen: string | null = null;
  #closed = false;

  constructor(options: ScriptWatchOptions) {
    this.#options = options;
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#timer = this.#options.env.timer(POLL_MS, () => {
      void this.#look().finally(() => this.#schedule());
    });
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    const { log, loadScript, onScript, onRefused } = this.#options;
    const seen = await this.#stamps();
    // The first look compares with nothing: it loads once, which covers a change during the start.
    if (seen === null || seen === this.#seen || this.#closed) return;
    this.#seen = seen;
    try {
      const script = await loadScript();
      if (script !== null && !this.#closed) onScript(script);
    } catch (error) {
      const fault = messageOf(error);
      log.warn({ fault }, `the changed filter is refused, the old one stays: ${fault}`);
      const version = error instanceof ScriptRefused ? error.version : null;
      onRefused({ fault, version });
    }
  }

  /** null: a file is absent just now, as during a replacement; looked at again. */
  async #stamps(): Promise<string | null> {
    try {
      const stats = await Promise.all(this.#options.files.map((file) => stat(file)));
      // The inode too: a ConfigMap's new file may have the old one's time and size.
      return stats.map(({ mtimeMs, size, ino }) => `${mtimeMs}-${size}-${ino}`).join(' ');
    } catch {
      return null;
    }
  }
}
