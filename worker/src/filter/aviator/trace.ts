/**
 * What a script did, step by step: one step per evaluated expression or statement, within the one
 * it is part of. Parts that were not evaluated (behind a false `&&`, of a branch not taken) have
 * none. Bounded: repeats in the middle of a loop are dropped, and past a total nothing is recorded.
 */
import type { JsonValue } from '../../runtime/json.ts';
import type { Node } from './ast.ts';
import type { Evaluate } from './compile-expression.ts';
import { RETURNED } from './frame.ts';
import { shortened, shownValue } from './shown-value.ts';

/** Characters of all texts and values of one trace, and what a step counts beside its own. */
const MAX_TRACE_CHARS = 512 * 1024;
const STEP_CHARS = 60;
/** Steps within steps: a script alone is less high, lambdas that call each other are not. */
const MAX_TRACE_DEPTH = 200;
/** Characters of the script that one step shows. */
const MAX_TEXT_CHARS = 300;
/** Rounds of a loop (or calls of a lambda) that are kept at its start, and as many at its end. */
const KEPT_ROUNDS = 20;

/** Only these repeat what is inside them; in all others each child is a part of its own. */
const REPEATING = new Set(['for', 'while', 'call', 'invoke']);

export interface Step {
  readonly node: Node;
  readonly text: string;
  value: JsonValue;
  failed: boolean;
  /** A `return` was met in it. */
  returned: boolean;
  readonly steps: Step[];
  /** Steps that were dropped from the middle of `steps`. */
  omitted: number;
  /** Of it and all steps within. */
  chars: number;
}

export class TraceRecorder {
  readonly #script: string;
  #chars = 0;
  #depth = 0;
  #current: Step | null = null;
  root: Step | null = null;
  /** Something was not recorded, so the steps are not the whole story. */
  truncated = false;

  constructor(script: string) {
    this.#script = script;
  }

  watch(node: Node, evaluate: Evaluate): Evaluate {
    const text = shortened(this.#script.slice(node.from, node.to), MAX_TEXT_CHARS);
    return (frame) => {
      const parent = this.#current;
      const step = this.#begin(node, text);
      if (step === null) return evaluate(frame);
      try {
        const value = evaluate(frame);
        step.value = shownValue(value);
        step.returned = frame.signal === RETURNED;
        return value;
      } catch (thrown) {
        step.failed = true;
        throw thrown;
      } finally {
        this.#current = parent;
        this.#end(step, parent);
      }
    };
  }

  #begin(node: Node, text: string): Step | null {
    if (this.#chars > MAX_TRACE_CHARS || this.#depth >= MAX_TRACE_DEPTH) {
      this.truncated = true;
      return null;
    }
    const start = { value: null, failed: false, returned: false, steps: [], omitted: 0, chars: 0 };
    const step: Step = { node, text, ...start };
    this.#current?.steps.push(step);
    this.root ??= step;
    this.#current = step;
    this.#depth++;
    return step;
  }

  #end(step: Step, parent: Step | null): void {
    this.#depth--;
    const own = STEP_CHARS + step.text.length + (JSON.stringify(step.value)?.length ?? 0);
    this.#chars += own;
    step.chars += own;
    if (parent === null) return;
    parent.chars += step.chars;
    if (!REPEATING.has(parent.node.kind) || parent.steps.length <= 2 * KEPT_ROUNDS) return;
    const [dropped] = parent.steps.splice(KEPT_ROUNDS, 1);
    parent.omitted++;
    parent.chars -= dropped!.chars;
    this.#chars -= dropped!.chars;
  }
}
