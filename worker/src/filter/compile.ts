/** Script text to a filter: picks the language, turns every value and error into a verdict. */
import type { FilterPlan } from '../plan/job-plan.ts';
import { scriptVersion } from '../plan/script-version.ts';
import { compileAviator } from './aviator/aviator.ts';
import { Fault, typeName } from './aviator/values.ts';
import {
  type CompiledFilter,
  type FilterScope,
  MATCH,
  NO_MATCH,
  type ScopeName,
  type Verdict,
} from './filter.ts';
import { compileFiltrex } from './filtrex.ts';
import { syntaxError } from './syntax-error.ts';

/**
 * Distinct error verdicts a filter keeps; messages are stable, so few scripts have more than some.
 */
const MAX_CACHED_VERDICTS = 64;

interface Engine {
  readonly reads: ReadonlySet<ScopeName>;
  readonly userFields: readonly string[] | null;
  readonly historyPaths: readonly (readonly string[])[] | null;
  evaluate(scope: FilterScope): Verdict;
}

/**
 * Compiles the plan's script. Throws FILTER_SYNTAX: `origin:line:col: problem`, the source line, a
 * caret
 * below the place and mostly a hint.
 */
export function compileFilter(plan: FilterPlan): CompiledFilter {
  const engine = plan.language === 'aviator' ? aviatorEngine(plan) : filtrexEngine(plan);
  return {
    language: plan.language,
    script: plan.script,
    version: scriptVersion(plan.language, plan.script),
    reads: engine.reads,
    userFields: engine.userFields,
    historyPaths: engine.historyPaths,
    evaluate: engine.evaluate,
  };
}

function aviatorEngine(plan: FilterPlan): Engine {
  const program = compileAviator(plan, plan.stepBudget);
  if (program.complaint !== null) {
    const { at, problem, hint } = program.complaint;
    throw syntaxError(plan, at, problem, hint);
  }
  const verdicts = new ErrorVerdicts();
  return {
    reads: program.reads,
    userFields: userFieldsOf(program.userPaths),
    historyPaths: program.historyPaths,
    evaluate(scope) {
      try {
        const value = program.run(scope);
        if (value === true) return MATCH;
        if (value === false || value === null) return NO_MATCH;
        return verdicts.of(`the script gave a ${typeName(value)}, not a boolean`);
      } catch (thrown) {
        return verdicts.of(messageOfFault(thrown));
      }
    },
  };
}

/** A path without a property names the whole; `__proto__` can't be set as a plain field. */
function userFieldsOf(paths: readonly (readonly string[])[]): readonly string[] | null {
  const fields = new Set<string>();
  for (const [field] of paths) {
    if (field === undefined || field === '__proto__') return null;
    fields.add(field);
  }
  return [...fields].sort();
}

function messageOfFault(thrown: unknown): string {
  if (thrown instanceof Fault) return thrown.message;
  if (thrown instanceof RangeError) return 'the script ran out of stack';
  // A getter of the scope failed, or the engine has a fault: its own text may hold data, its class
  // not.
  return `evaluation failed: ${thrown instanceof Error ? thrown.name : typeof thrown}`;
}

function filtrexEngine(plan: FilterPlan): Engine {
  const program = compileFiltrex(plan);
  const verdicts = new ErrorVerdicts();
  return {
    reads: program.reads,
    userFields: userFieldsOf(program.userPaths),
    // Its functions take numbers and texts: no event is looked into.
    historyPaths: null,
    evaluate(scope) {
      try {
        const value: unknown = program.run(scope);
        // filtrex RETURNS its errors, and an Error object is truthy: only these two values match.
        if (value === true || value === 1) return MATCH;
        if (value instanceof Error) return verdicts.of(`filtrex: ${value.name}`);
        const isFalse = value === false || value === 0 || value === null || value === undefined;
        return isFalse ? NO_MATCH : verdicts.of(`the script gave a ${typeof value}, not a boolean`);
      } catch (thrown) {
        return verdicts.of(messageOfFault(thrown));
      }
    },
  };
}

/** Frozen verdicts by message: an error on every event allocates nothing either. */
class ErrorVerdicts {
  readonly #known = new Map<string, Verdict>();

  of(error: string): Verdict {
    const known = this.#known.get(error);
    if (known !== undefined) return known;
    const verdict: Verdict = Object.freeze({ match: false, error });
    if (this.#known.size < MAX_CACHED_VERDICTS) this.#known.set(error, verdict);
    return verdict;
  }
}
