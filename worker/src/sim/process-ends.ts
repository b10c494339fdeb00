/** Why a process of the simulation ended by itself, and whether it may have. Pure. */
import { messageOf, TriggerJobError } from '../runtime/errors.ts';

/** What a broken store or source makes a process end with. */
const FROM_OUTSIDE = /503 slow down|connection (refused|reset|timed out)|broker does not answer/;

/** An Error: a bug. Else the name of what happened, or null for a fault of the outside. */
export function judgeEnd(error: unknown, severalLeaders: boolean): Error | string | null {
  const code = error instanceof TriggerJobError ? error.code : '';
  // The older of two may be the slower one, and take over last.
  if (code === 'LEADERSHIP_LOST' && severalLeaders) return 'leader: stale, ended';
  if (code === 'LEASE_LOST' && severalLeaders) return 'leader: lease expired';
  if (code === 'PROCESS_FROZEN' && severalLeaders) return 'leader: stood still';
  if (code === 'LOG_UNAVAILABLE' || FROM_OUTSIDE.test(messageOf(error))) return null;
  return new Error(`a process ended with ${code}: ${messageOf(error)}`, { cause: error });
}
