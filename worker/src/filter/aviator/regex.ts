/** Patterns in linear time: re2js behind a length limit, compiled once. */
import { RE2JS } from 're2js';
import { MAX_CACHED_PATTERNS, MAX_PATTERN_CHARS, MAX_PATTERN_INSTRUCTIONS } from './limits.ts';

export type CompiledPattern =
  | {
      readonly regex: RE2JS;
      readonly groups: number;
      readonly size: number;
      readonly problem: null;
    }
  | { readonly regex: null; readonly problem: string };

const FIXED_INSTRUCTIONS = 16;
const INSTRUCTIONS_PER_STEP = 128;

/** Steps of one match: linear in the text, steeper for a bigger pattern (measured: 1 us each). */
export function matchCost(size: number, chars: number): number {
  return 1 + Math.floor((chars * (FIXED_INSTRUCTIONS + size)) / INSTRUCTIONS_PER_STEP);
}

export function compilePattern(source: string): CompiledPattern {
  if (source.length > MAX_PATTERN_CHARS) {
    return { regex: null, problem: `longer than ${MAX_PATTERN_CHARS} characters` };
  }
  try {
    const regex = RE2JS.compile(source);
    const size = regex.programSize();
    if (size > MAX_PATTERN_INSTRUCTIONS) {
      return { regex: null, problem: `its repetitions make ${size} instructions of it` };
    }
    return { regex, groups: regex.groupCount(), size, problem: null };
  } catch (error) {
    return { regex: null, problem: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * Patterns that reach a function as strings; a bounded cache, since the string may come from the
 * event.
 */
export class PatternCache {
  readonly #patterns = new Map<string, CompiledPattern>();

  get(source: string): CompiledPattern {
    const known = this.#patterns.get(source);
    if (known !== undefined) return known;
    const compiled = compilePattern(source);
    if (this.#patterns.size >= MAX_CACHED_PATTERNS) {
      const oldest = this.#patterns.keys().next();
      if (!oldest.done) this.#patterns.delete(oldest.value);
    }
    this.#patterns.set(source, compiled);
    return compiled;
  }
}
