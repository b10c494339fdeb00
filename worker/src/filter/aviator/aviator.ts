/**
 * AviatorScript, levels 1 and 2: text to a function of the scope. See testdata/ for how close it
 * is.
 */
import type { FilterScope, ScopeName } from '../filter.ts';
import { type SourceText, syntaxError } from '../syntax-error.ts';
import type { Program } from './ast.ts';
import { compileWatched, type Evaluate, type Watch } from './compile-expression.ts';
import { compileBody } from './compile-statement.ts';
import type { Complaint } from './cursor.ts';
import { Frame } from './frame.ts';
import { historyPaths } from './history-paths.ts';
import { parseProgram } from './parse-statement.ts';
import { PatternCache } from './regex.ts';
import type { Value } from './values.ts';

interface AviatorProgram {
  readonly reads: ReadonlySet<ScopeName>;
  readonly userPaths: readonly (readonly string[])[];
  readonly historyPaths: readonly (readonly string[])[] | null;
  /**
   * Something Aviator takes that cannot be meant in a filter, such as a script without a result.
   */
  readonly complaint: Complaint | null;
  /** The script's value. Throws a Fault, or a RangeError where the stack ends. Not reentrant. */
  run(scope: FilterScope): Value;
}

export function compileAviator(source: SourceText, stepBudget: number): AviatorProgram {
  const program = parsed(source, stepBudget);
  return {
    reads: program.reads,
    userPaths: program.userPaths,
    historyPaths: historyPaths(program.body),
    complaint: program.complaint,
    run: runner(program, compileBody(program.body), stepBudget),
  };
}

/** The same program, each of its expressions and statements shown to `watch` as it runs. */
export function watchAviator(
  source: SourceText,
  stepBudget: number,
  watch: Watch,
): AviatorProgram['run'] {
  const program = parsed(source, stepBudget);
  return runner(program, compileWatched(program.body, watch), stepBudget);
}

function parsed(source: SourceText, stepBudget: number): Program {
  const program = parseProgram(source);
  if (program.cost > stepBudget) {
    const hint = `raise stepBudget above ${program.cost}`;
    throw syntaxError(
      source,
      0,
      `the script has ${program.cost} steps, its budget is ${stepBudget}`,
      hint,
    );
  }
  return program;
}

function runner(program: Program, evaluate: Evaluate, stepBudget: number): AviatorProgram['run'] {
  const frame = new Frame(stepBudget - program.cost, program.slots, new PatternCache());
  return (scope) => {
    frame.begin(scope);
    try {
      return evaluate(frame);
    } finally {
      frame.end();
    }
  };
}
