/** What an object's name may be: the same in every store, so that a job can move between them. */
import { TriggerJobError } from '../runtime/errors.ts';

/**
 * A directory store's temporary files of uploads under way; beside the objects, because link()
 * needs the same file system.
 */
export const TEMPORARY = '.tmp';

/** Throws STORE_NAME for a name that would leave the store's folder, or reach its own files. */
export function checkName(name: string): void {
  const parts = name.split('/');
  const safe = parts.every((part) => part !== '' && part !== '.' && part !== '..');
  if (safe && !name.includes('\0') && !name.includes('\\') && parts[0] !== TEMPORARY) return;
  throw new TriggerJobError(
    'STORE_NAME',
    `object name ${JSON.stringify(name)}: must be relative, with no empty, "." or ".." part`,
  );
}

/** As `checkName`, for the prefix of a list. */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkName(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}
