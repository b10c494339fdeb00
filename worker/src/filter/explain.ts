/**
 * One evaluation of a filter, explained: its verdict, what each part of the script gave, and which
 * clause decided. A separate evaluation, over closures made for it: events are judged by compile.ts
 * alone, and so is the verdict here.
 */
import type { FilterPlan } from '../plan/job-plan.ts';
import type { JsonValue } from '../runtime/json.ts';
import { watchAviator } from './aviator/aviator.ts';
import { decidingStep } from './aviator/deciding.ts';
import { shownValue } from './aviator/shown-value.ts';
import { type Step, TraceRecorder } from './aviator/trace.ts';
import type { Value } from './aviator/values.ts';
import { compileFilter } from './compile.ts';
import type { FilterScope } from './filter.ts';
import { compileFiltrex, FILTREX_TOKEN } from './filtrex.ts';
import { lineAndColumn, lineStarts } from './syntax-error.ts';

/** Names of a filtrex script that are listed; it has no loops, so few scripts read as many. */
const MAX_FILTREX_READS = 200;

/** `line`, `column`: 1-based place of the clause's first character. */
export interface Clause {
  text: string;
  line: number;
  column: number;
  /** Cut where it is long; null too where the clause failed. */
  value: JsonValue;
}

export interface TraceNode extends Clause {
  /** Only on a part that failed, or that contains the one that did. */
  failed?: true;
  /** Rounds of a loop that are left out of the middle of `children`. */
  omitted?: number;
  /** What was evaluated within, in order. Constants are left out. */
  children: TraceNode[];
}

export interface Explanation {
  verdict: 'match' | 'no-match' | 'error';
  value: JsonValue;
  error: string | null;
  scriptVersion: string;
  trace: TraceNode | null;
  /** null: filtrex, or a trace that was too long to be recorded to its end. */
  deciding: Clause | null;
  truncated: boolean;
}

/** Throws FILTER_SYNTAX as compileFilter does. */
export function explainFilter(plan: FilterPlan, scope: FilterScope): Explanation {
  const filter = compileFilter(plan);
  const verdict = filter.evaluate(scope);
  const error = verdict.match ? null : verdict.error;
  const word = verdict.match ? 'match' : error === null ? 'no-match' : 'error';
  const traced =
    plan.language === 'aviator' ? traceAviator(plan, scope) : traceFiltrex(plan, scope);
  return { verdict: word, error, scriptVersion: filter.version, ...traced };
}

type Traced = Pick<Explanation, 'value' | 'trace' | 'deciding' | 'truncated'>;
type Place = (offset: number) => { line: number; column: number };

function traceAviator(plan: FilterPlan, scope: FilterScope): Traced {
  const recorder = new TraceRecorder(plan.script);
  const run = watchAviator(plan, plan.stepBudget, (node, evaluate) =>
    recorder.watch(node, evaluate),
  );
  let value: JsonValue = null;
  try {
    value = shownValue(run(scope));
  } catch {
    // The verdict has the message; the steps say where.
  }
  const starts = lineStarts(plan.script);
  const place: Place = (offset) => lineAndColumn(starts, offset);
  const { root, truncated } = recorder;
  if (root === null) return { value, trace: null, deciding: null, truncated };
  const deciding = truncated ? null : clauseOf(decidingStep(root), place);
  return { value, trace: traceNode(root, place), deciding, truncated };
}

function clauseOf(step: Step, place: Place): Clause {
  return { text: step.text, ...place(step.node.from), value: step.value };
}

function traceNode(step: Step, place: Place): TraceNode {
  const [only] = step.steps;
  // A block of one statement says what its statement says.
  if (step.node.kind === 'block' && step.steps.length === 1 && only!.text === step.text) {
    return traceNode(only!, place);
  }
  const parts = step.steps.filter(({ node }) => !LITERALS.has(node.kind));
  const children = parts.map((part) => traceNode(part, place));
  const node: TraceNode = { ...clauseOf(step, place), children };
  if (step.failed) node.failed = true;
  if (step.omitted > 0) node.omitted = step.omitted;
  return node;
}

const LITERALS = new Set(['constant', 'pattern', 'function']);

/** filtrex compiles to one JavaScript expression: its value, and the names it read on the way. */
function traceFiltrex(plan: FilterPlan, scope: FilterScope): Traced {
  const starts = lineStarts(plan.script);
  const places = new Map<string, number>();
  for (const { 0: token, index } of plan.script.matchAll(FILTREX_TOKEN)) {
    const name = token.replace(/^'|'$/g, '');
    if (!places.has(name)) places.set(name, index);
  }
  const reads = new Map<string, TraceNode>();
  let truncated = false;
  const program = compileFiltrex(plan, (text, value) => {
    const child = { text, ...lineAndColumn(starts, places.get(text) ?? 0), children: [] };
    const read = { ...child, value: shownValue(value as Value) };
    const key = JSON.stringify(read);
    if (reads.size < MAX_FILTREX_READS) reads.set(key, read);
    else if (!reads.has(key)) truncated = true;
  });
  let value: JsonValue = null;
  let failed = false;
  try {
    const result: unknown = program.run(scope);
    failed = result instanceof Error;
    if (!failed) value = shownValue(result as Value);
  } catch {
    failed = true;
  }
  const trace: TraceNode = {
    text: plan.script,
    line: 1,
    column: 1,
    value,
    children: [...reads.values()],
  };
  if (failed) trace.failed = true;
  return { value, trace, deciding: null, truncated };
}
