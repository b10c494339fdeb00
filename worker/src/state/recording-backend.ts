import { MemoryBackend } from './memory-backend.ts';
import type { UserRow } from './user-state.ts';

/** For tests: remembers every row that was written, in order. */
export class RecordingBackend extends MemoryBackend {
  readonly written: UserRow[] = [];
  override write(ops: readonly UserRow[]): void {
    this.written.push(...ops);
    super.write(ops);
  }
}
