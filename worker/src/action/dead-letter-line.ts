/** One dead letter as a line of NDJSON: the format of the file and of the store. */
import { isUtf8 } from 'node:buffer';
import type { DeadLetter } from './action.ts';

/** Errors may quote their input; the raw bytes are in the entry anyway. */
const MAX_ERROR_CHARS = 4_096;

export function errorText(entry: DeadLetter): string {
  return entry.error.slice(0, MAX_ERROR_CHARS).toWellFormed();
}

/**
 * `raw` is base64, the exact bytes. `text` is there for people, when the bytes are UTF-8. The line
 * ends with a line feed.
 */
function deadLetterLine(entry: DeadLetter): string {
  const line = {
    id: entry.id,
    topic: entry.topic,
    partition: entry.partition,
    offset: entry.offset,
    user: entry.userId,
    stage: entry.stage,
    error: errorText(entry),
    attempts: entry.attempts,
    raw: entry.raw.toString('base64'),
    ...(isUtf8(entry.raw) && { text: entry.raw.toString('utf8') }),
  };
  return `${JSON.stringify(line)}\n`;
}

export function deadLetterLines(batch: readonly DeadLetter[]): Buffer {
  return Buffer.from(batch.map(deadLetterLine).join(''), 'utf8');
}
