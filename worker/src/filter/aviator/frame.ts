/** One evaluation's state, reused by the next: what is read so far, variables, the step counter. */
import { type FilterScope, plainScope } from '../filter.ts';
import {
  CHARS_PER_STEP,
  MAX_CALL_DEPTH,
  MAX_COLLECTION_SIZE,
  MAX_STRING_CHARS,
  STEPS_EXCEEDED,
} from './limits.ts';
import type { PatternCache } from './regex.ts';
import { Fault, type Value } from './values.ts';

/** Not a value: says that a scope property was not read yet. */
const UNREAD = Symbol('unread');

/** Variables of one running function body. */
export interface Variables {
  readonly slots: Value[];
  readonly outer: Variables | null;
}

/** How a statement ended. */
export const RUNNING = 0;
export const RETURNED = 1;
export const BROKE = 2;
export const CONTINUED = 3;

const NO_SCOPE: FilterScope = Object.freeze(
  plainScope({ event: {}, user: null, visit: null, history: [] }),
);

const NO_VARIABLES: Variables = Object.freeze({ slots: [], outer: null });

export class Frame {
  readonly patterns: PatternCache;
  readonly #budget: number;
  readonly #slots: number;
  #scope: FilterScope = NO_SCOPE;
  #event: Value | typeof UNREAD = UNREAD;
  #user: Value | typeof UNREAD = UNREAD;
  #visit: Value | typeof UNREAD = UNREAD;
  #history: Value | typeof UNREAD = UNREAD;
  #stepsLeft = 0;
  #callDepth = 0;
  signal: number = RUNNING;
  variables: Variables = NO_VARIABLES;
  captures: readonly (string | null)[] | null = null;

  /**
   * `stepBudget` without what the script itself costs, which no evaluation can exceed but by loops
   * and calls.
   */
  constructor(stepBudget: number, slots: number, patterns: PatternCache) {
    this.#budget = stepBudget;
    this.#slots = slots;
    this.patterns = patterns;
  }

  begin(scope: FilterScope): void {
    this.#scope = scope;
    this.#stepsLeft = this.#budget;
    this.#callDepth = 0;
    this.signal = RUNNING;
    if (this.#slots > 0) {
      this.variables = { slots: new Array<Value>(this.#slots).fill(null), outer: null };
    }
  }

  /** Lets go of the user's state, which may be 16 MB; begin() relies on it. */
  end(): void {
    this.#scope = NO_SCOPE;
    this.#event = UNREAD;
    this.#user = UNREAD;
    this.#visit = UNREAD;
    this.#history = UNREAD;
    this.captures = null;
    if (this.#slots > 0) this.variables = NO_VARIABLES;
  }

  get event(): Value {
    if (this.#event === UNREAD) this.#event = this.#scope.event;
    return this.#event;
  }

  get user(): Value {
    if (this.#user === UNREAD) this.#user = this.#scope.user;
    return this.#user;
  }

  get visit(): Value {
    if (this.#visit === UNREAD) this.#visit = this.#scope.visit;
    return this.#visit;
  }

  get history(): Value {
    if (this.#history === UNREAD) this.#history = this.#scope.history;
    return this.#history;
  }

  get historyCount(): number {
    return this.#scope.historyCount;
  }

  charge(steps: number): void {
    this.#stepsLeft -= steps;
    if (this.#stepsLeft < 0) throw new Fault(STEPS_EXCEEDED);
  }

  /** Charges work on `text` and refuses a string that is too long to be made. */
  checkString(length: number): void {
    if (length > MAX_STRING_CHARS)
      throw new Fault(`string longer than ${MAX_STRING_CHARS} characters`);
    if (length >= CHARS_PER_STEP) this.charge(Math.floor(length / CHARS_PER_STEP));
  }

  /** Charges one element and refuses a collection that is too big to be made. */
  checkSize(size: number): void {
    if (size > MAX_COLLECTION_SIZE) {
      throw new Fault(`collection larger than ${MAX_COLLECTION_SIZE} elements`);
    }
    this.charge(1);
  }

  enter(cost: number): void {
    this.charge(cost);
    if (++this.#callDepth > MAX_CALL_DEPTH) {
      throw new Fault(`lambdas call each other deeper than ${MAX_CALL_DEPTH}`);
    }
  }

  leave(): void {
    this.#callDepth--;
  }
}
