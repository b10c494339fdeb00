/** A StateBackend in memory, for the simulation and hermetic tests: same semantics, no disk. */
import type { ScanOptions, StateBackend } from './backend.ts';
import type { UserRow } from './rows.ts';

export class MemoryBackend implements StateBackend {
  readonly #rows = new Map<string, Buffer>();

  getMany(keys: readonly Buffer[]): (Buffer | undefined)[] {
    return keys.map((key) => this.#rows.get(key.toString('latin1')));
  }

  write(ops: readonly UserRow[]): void {
    for (const { key, value } of ops) {
      if (value === null) this.#rows.delete(key.toString('latin1'));
      else this.#rows.set(key.toString('latin1'), Buffer.from(value));
    }
  }

  scan({ gte, lt, maxRows }: ScanOptions): AsyncIterableIterator<{ key: Buffer; value: Buffer }[]> {
    const first = gte.toString('latin1');
    const end = lt.toString('latin1');
    const found = [...this.#rows]
      .filter(([key]) => key >= first && key < end)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => ({ key: Buffer.from(key, 'latin1'), value }));
    return batches(found, maxRows);
  }

  stalled(): boolean {
    return false;
  }

  heldBytes(): number {
    return 0;
  }

  stats(): Record<string, number> {
    return { rows: this.#rows.size };
  }

  async close(): Promise<void> {
    this.#rows.clear();
  }
}

async function* batches<T>(items: T[], size: number): AsyncGenerator<T[], undefined> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}
