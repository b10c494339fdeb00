/** Tells the slot threads (slot-preload.ts) when to profile, by files in a folder they watch. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

/** Profiles of a minute take seconds to write. */
const WRITTEN_WITHIN_MS = 30_000;
const POLL_MS = 200;

export class ProfileMarks {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  start(): void {
    mkdirSync(this.#folder, { recursive: true });
    rmSync(join(this.#folder, 'stop'), { force: true });
    writeFileSync(join(this.#folder, 'start'), '');
  }

  /** Resolves when the first thread's figures, which it writes last, are there. */
  async stop(): Promise<void> {
    writeFileSync(join(this.#folder, 'stop'), '');
    const deadline = Date.now() + WRITTEN_WITHIN_MS;
    const written = () => readdirSync(this.#folder).some((name) => name.endsWith('.json'));
    while (existsSync(this.#folder) && !written() && Date.now() < deadline) await wait(POLL_MS);
    await wait(1_000);
    rmSync(join(this.#folder, 'start'), { force: true });
  }
}
