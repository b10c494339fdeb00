/** What a command shows and exits with when something was thrown. */
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { EXIT } from './exit-codes.ts';
import type { Terminal } from './terminal.ts';

export function reportThrown(terminal: Terminal, thrown: unknown): number {
  terminal.error(`${terminal.paint('red', 'error')}: ${messageOf(thrown)}`);
  switch (thrown instanceof TriggerJobError ? thrown.code : '') {
    case 'STATE_DIR_IN_USE':
      return EXIT.stateDirInUse;
    case 'START_AGAIN':
      return EXIT.restart;
    default:
      return EXIT.failed;
  }
}
