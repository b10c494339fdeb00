/**
 * Which clause decided: the innermost condition or `return` that fixed the script's value.
 *
 *   a && b, false            -> the false one (true: the whole, since each part was needed)
 *   a || b, true             -> the true one (false: the whole)
 *   if (c) { return true; }  -> c, since a constant decides nothing
 *   two ifs, then return     -> the return, since no one condition led there
 *   a script that failed     -> the innermost part that failed
 */
import type { Step } from './trace.ts';

export function decidingStep(root: Step): Step {
  return root.failed ? failing(root) : deciding(root, null);
}

function failing(step: Step): Step {
  const inner = step.steps.at(-1);
  return inner?.failed ? failing(inner) : step;
}

/** `governing`: the condition under which this step runs; null: none, or more than one. */
function deciding(step: Step, governing: Step | null): Step {
  const { node, steps } = step;
  const last = steps.at(-1);
  switch (node.kind) {
    case 'block': {
      const gates = steps.slice(0, -1).filter((statement) => statement.node.kind === 'if');
      const [gate] = gates;
      if (last === undefined) return governed(step, governing);
      if (gates.length > 1) return deciding(last, null);
      return deciding(last, gate === undefined ? governing : (gate.steps[0] ?? governing));
    }
    case 'if':
    case 'choice': {
      const [test, branch] = steps;
      if (test === undefined) return step;
      return branch === undefined ? clause(test) : deciding(branch, test);
    }
    case 'return':
      if (last === undefined || last.node.kind === 'constant') return governed(step, governing);
      return deciding(last, null);
    case 'constant':
      return governed(step, governing);
    case 'assign':
      return last === undefined ? step : deciding(last, governing);
    case 'for':
    case 'while':
      return last !== undefined && step.returned ? deciding(last, null) : governed(step, governing);
    default:
      return clause(step);
  }
}

function governed(step: Step, governing: Step | null): Step {
  return governing === null ? step : clause(governing);
}

/** The part of a condition that made it what it is. */
function clause(step: Step): Step {
  const { node, steps, value } = step;
  const last = steps.at(-1);
  if (last === undefined) return step;
  if (node.kind === 'choice') return deciding(step, null);
  if (node.kind === 'logic') return value === (node.op === '||') ? clause(last) : step;
  if (node.kind === 'unary' && node.op === '!') {
    const inner = clause(last);
    return inner === last ? step : inner;
  }
  return step;
}
