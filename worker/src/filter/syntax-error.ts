/** The one shape of every load-time complaint about a script: place, source line, caret, fix. */
import { TriggerJobError } from '../runtime/errors.ts';

/**
 * A long generated line is cut around the caret so that the message stays readable in a status
 * field.
 */
const MAX_SHOWN_COLUMNS = 120;

export interface SourceText {
  readonly script: string;
  /** `spec.filter.script` or a file name: the reader knows where to look. */
  readonly origin: string;
}

/** Offsets at which the lines of a script start: found once, asked for every node. */
export function lineStarts(script: string): readonly number[] {
  const starts = [0];
  for (let at = script.indexOf('\n'); at >= 0; at = script.indexOf('\n', at + 1)) {
    starts.push(at + 1);
  }
  return starts;
}

/** 1-based line and column of a UTF-16 offset. */
export function lineAndColumn(
  starts: readonly number[],
  offset: number,
): { line: number; column: number } {
  let low = 0;
  let high = starts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((starts[middle] as number) <= offset) low = middle;
    else high = middle;
  }
  return { line: low + 1, column: offset - (starts[low] as number) + 1 };
}

/**
 * FILTER_SYNTAX: `origin:line:col: problem`, the source line, a caret below the place, and the
 * fix.
 */
export function syntaxError(
  source: SourceText,
  offset: number,
  problem: string,
  hint?: string,
): TriggerJobError {
  const { line, column } = lineAndColumn(lineStarts(source.script), offset);
  const whole = (source.script.split('\n')[line - 1] ?? '').replace(/\r$/, '');
  const from = Math.max(0, column - 1 - MAX_SHOWN_COLUMNS / 2);
  const shown = whole.slice(from, from + MAX_SHOWN_COLUMNS);
  // Tabs before the caret are kept, so that it stands below its character in any tab width.
  const indent = shown.slice(0, column - 1 - from).replace(/[^\t]/g, ' ');
  const lines = [`${source.origin}:${line}:${column}: ${problem}`, `  ${shown}`, `  ${indent}^`];
  if (hint !== undefined) lines.push(`  hint: ${hint}`);
  return new TriggerJobError('FILTER_SYNTAX', lines.join('\n'));
}

/** The known word nearest to a typo, when it is near enough to be meant. */
export function nearest(word: string, known: Iterable<string>): string | null {
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
