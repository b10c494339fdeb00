/** Failures of an attempt that ask for another answer than the same restart once more. */

/** A task could not restore from the checkpoint it was given. */
export const DAMAGE_CODES: ReadonlySet<string> = new Set([
  'SEGMENT_CORRUPT',
  'SEGMENT_MISSING',
  'SEGMENT_VERSION',
  'CHAIN_GAP',
]);

/**
 * Restarting can't help: records are gone or are not the ones the checkpoint knows (issue: never
 * skip).
 */
export const FATAL_CODES: ReadonlySet<string> = new Set([
  'SOURCE_OFFSET_OUT_OF_RANGE',
  'SOURCE_TOPIC_RECREATED',
]);
