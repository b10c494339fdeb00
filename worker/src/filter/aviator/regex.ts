/** Patterns in linear time: re2js behind a length limit, compiled once. */
import { RE2JS } from 're2js';
import { MAX_CACHED_PATTERNS, MAX_PATTERN_CHARS } from './limits.ts';

export type CompiledPattern =
  | { readonly regex: RE2JS; readonly groups: number; readonly problem: null }
  | { readonly regex: null; readonly problem: string };

export function compilePattern(source: string): CompiledPattern {
  if (source.length > MAX_PATTERN_CHARS) {
    return { regex: null, problem: `longer than ${MAX_PATTERN_CHARS} characters` };
  }
  try {
    const regex = RE2JS.compile(source);
    return { regex, groups: regex.groupCount(), problem: null };
  } catch (error) {
    return { regex: null, problem: error instanceof Error ? error.message : String(error) };
  }
}

/** Patterns that reach a function as strings; a bounded cache, since the string may come from the event. */
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
