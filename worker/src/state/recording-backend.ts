import { MemoryBackend } from './memory-backend.ts';
import type { UserRow } from './rows.ts';

/** For tests: remembers every row that was written, in order. */
export class RecordingBackend extends MemoryBackend {
  readonly written: UserRow[] = [];
  override write(ops: readonly UserRow[]): void {
    for (const { key, value } of ops) {
      this.written.push({ key: Buffer.from(key), value: value && Buffer.from(value) });
    }
    super.write(ops);
  }
}
