/** What a command shows and exits with when something was thrown. */
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { EXIT } from './exit-codes.ts';
import type { Terminal } from './terminal.ts';

export function reportThrown(terminal: Terminal, thrown: unknown): number {
  terminal.error(`${terminal.paint('red', 'error')}: ${messageOf(thrown)}`);
  const inUse = thrown instanceof TriggerJobError && thrown.code === 'STATE_DIR_IN_USE';
  return inUse ? EXIT.stateDirInUse : EXIT.failed;
}
