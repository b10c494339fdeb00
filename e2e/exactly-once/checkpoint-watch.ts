/**
 * Collects the completed checkpoints of a run from the checkpoint directory, as plain JSON: the
 * job's log says which manifests count, and a manifest is read while it is still retained.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { CheckpointFact, LedgerFact } from './history.ts';

/** Well below `retained` x interval of every run. */
const POLL_MS = 200;

interface ManifestJson {
  checkpointId: number;
  kind: string;
  triggeredAt: number;
  completedAt: number;
  splits: { split: { partition: number }; offset: number }[];
  script: { version: string } | null;
  subtasks: { subtask: number; ledger: Omit<LedgerFact, 'subtask'> }[];
}

/** A `restore` record of the job's log. */
export interface Restore {
  at: number;
  checkpointId: number;
  attempt: number;
}

function restoreOf({ at, checkpointId, deployment }: Record<string, unknown>): Restore {
  const { attempt = 0 } = (deployment ?? {}) as { attempt?: number };
  return { at: Number(at), checkpointId: Number(checkpointId), attempt };
}

function checkpointFact(manifest: ManifestJson): CheckpointFact {
  const positions: Record<string, number> = {};
  for (const { split, offset } of manifest.splits) positions[String(split.partition)] = offset;
  return {
    checkpointId: manifest.checkpointId,
    kind: manifest.kind,
    triggeredAt: manifest.triggeredAt,
    completedAt: manifest.completedAt,
    positions,
    ledgers: manifest.subtasks.map(({ subtask, ledger }) => ({ subtask, ...ledger })),
    scriptVersion: manifest.script?.version ?? null,
  };
}

/**
 * Folder of the job below the checkpoint directory: the one that has `log`. null before the start.
 */
async function jobFolder(directory: string): Promise<string | null> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(
    () => [],
  );
  const log = entries.find((entry) => entry.isDirectory() && entry.name === 'log');
  return log === undefined ? null : log.parentPath;
}

export class CheckpointWatch {
  readonly #directory: string;
  readonly #seen = new Set<string>();
  readonly #stop = new AbortController();
  #job: string | null = null;
  #running: Promise<void> | null = null;
  readonly checkpoints: CheckpointFact[] = [];
  /** Each attempt but the first: by the time of its decision the one before it was over. */
  readonly restores: Restore[] = [];
  /** Log records by kind, for the figures. */
  readonly records = new Map<string, number>();
  /** Manifests that were named by the log but gone before they were read. */
  readonly missed: string[] = [];

  constructor(directory: string) {
    this.#directory = directory;
  }

  start(): void {
    this.#running = this.#loop();
    // Awaited in stop(); a rejection in between must not end the test process.
    this.#running.catch(() => undefined);
  }

  /**
   * Resolves when a completed checkpoint covers all `records` with nothing parked or in an outbox:
   * what it holds is then the state after the last event, and every delivery has left.
   */
  async untilDrained(records: number, timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!this.#isDrained(records)) {
      if (Date.now() > deadline) {
        const newest = this.checkpoints.at(-1);
        throw new Error(
          `no checkpoint settled all ${records} records within ${timeoutMs} ms; newest of ` +
            `${this.checkpoints.length}: ${JSON.stringify(newest ?? null)}`,
        );
      }
      await wait(POLL_MS);
    }
  }

  #isDrained(records: number): boolean {
    const newest = this.checkpoints.at(-1);
    if (newest === undefined) return false;
    const covered = Object.values(newest.positions).reduce((sum, offset) => sum + offset, 0);
    const waiting = newest.ledgers.reduce((sum, one) => sum + one.parked + one.inOutbox, 0);
    return covered >= records && waiting === 0;
  }

  /** Reads what came last and ends. Rejects if a poll failed. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#poll();
  }

  async #loop(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#poll();
      await wait(POLL_MS);
    }
  }

  async #poll(): Promise<void> {
    this.#job ??= await jobFolder(this.#directory);
    if (this.#job === null) return;
    for (const name of (await readdir(join(this.#job, 'log'))).sort()) {
      if (this.#seen.has(name)) continue;
      const record = await readJson(join(this.#job, 'log', name));
      // Not JSON: the temporary file of a publish under way (P44), looked at again.
      if (record === null) continue;
      this.#seen.add(name);
      const kind = String(record['kind']);
      this.records.set(kind, (this.records.get(kind) ?? 0) + 1);
      if (kind === 'restore') this.restores.push(restoreOf(record));
      const manifest = record['manifest'] as { name: string } | null | undefined;
      if (kind === 'checkpoint' && manifest) await this.#read(manifest.name);
    }
  }

  async #read(name: string): Promise<void> {
    const manifest = await readJson(join(this.#job!, name));
    if (manifest === null) this.missed.push(name);
    else this.checkpoints.push(checkpointFact(manifest as unknown as ManifestJson));
  }
}

async function readJson(file: string): Promise<Record<string, unknown> | null> {
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
