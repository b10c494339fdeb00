/**
 * What a script can see of the events in `history`: paths of properties, told from its text. Most
 * scripts name one or two fields of an event; who evaluates them need not parse all of the others.
 *
 * Each value is followed from `history` on, as one of three kinds. Whatever lets an event, or a
 * list of them, out of sight (put into a collection, compared with another, handed to a function
 * that is not known to look at properties alone) makes the answer "all of it". A variable has one
 * kind for the whole script: that of all its assignments.
 */
import type { Lambda, Loop, Node, VariableRef } from './ast.ts';
import { SIZE_FUNCTIONS } from './functions-seq.ts';

/** `other` is never an event, nor holds one. nil may be of any kind. */
type Kind = 'other' | 'event' | 'list';

/** The script may look at events as a whole. */
class Whole {}

/** One body's variables, by slot, and what it returns. */
interface Scope {
  readonly slots: Map<number, Kind>;
  result: Kind;
}

/** The outermost first; as a lambda is met again, it finds its scope as it left it. */
type Scopes = readonly Scope[];

/** Functions that hand each element of a list to a lambda; what they then give. */
const WALKERS: ReadonlyMap<string, (lambdaResult: Kind) => Kind> = new Map<
  string,
  (lambdaResult: Kind) => Kind
>([
  ['filter', () => 'list'],
  ['map', listOf],
  ['seq.some', () => 'event'],
  ['seq.every', () => 'other'],
  ['seq.not_any', () => 'other'],
]);

/** Predicates of a property, if their second argument names one; else of the element itself. */
const PREDICATES: ReadonlySet<string> = new Set(
  ['eq', 'neq', 'gt', 'ge', 'lt', 'le'].map((name) => `seq.${name}`),
);
/** Whether there is an element, not what is in it. */
const NIL_PREDICATES: ReadonlySet<string> = new Set(['seq.nil', 'seq.exists']);

/**
 * Paths within an event, sorted, each with at least one name; none: no event is looked into. null:
 * all of it.
 */
export function historyPaths(body: Node): readonly (readonly string[])[] | null {
  const walk = new Walk();
  const root: Scope = { slots: new Map(), result: 'other' };
  try {
    // A loop's first statement may read what its last one assigns.
    do {
      walk.changed = false;
      walk.visit(body, [root]);
    } while (walk.changed);
  } catch (thrown) {
    if (thrown instanceof Whole) return null;
    throw thrown;
  }
  return walk.paths;
}

class Walk {
  readonly #scopes = new Map<Lambda, Scope>();
  readonly #paths = new Map<string, readonly string[]>();
  /** A variable or a body has another kind than the round before. */
  changed = false;

  get paths(): readonly (readonly string[])[] {
    return [...this.#paths.keys()].sort().map((key) => this.#paths.get(key)!);
  }

  visit(node: Node, scopes: Scopes): Kind {
    switch (node.kind) {
      case 'constant':
      case 'pattern':
      case 'function':
      case 'capture':
      case 'break':
      case 'continue':
        return 'other';
      case 'scope':
        // A property of a list is nil.
        return node.root === 'history' && node.path.length === 0 ? 'list' : 'other';
      case 'variable':
        return scopeOf(node.ref, scopes).slots.get(node.ref.slot) ?? 'other';
      case 'property':
        return this.#property(node, scopes);
      case 'index':
        return this.#element(node.target, node.index, scopes);
      case 'binary':
        return this.#binary(node, scopes);
      case 'unary':
        return this.#others([node.operand], scopes);
      case 'logic':
        return this.#others(node.items, scopes);
      case 'text':
        return this.#others(node.parts, scopes);
      case 'call':
        return this.#call(node.name, node.args, scopes);
      case 'invoke':
        return this.#others([node.target, ...node.args], scopes);
      case 'lambda':
        // Who calls it, and what becomes of its result, is not followed.
        return other(this.#lambda(node.lambda, [], scopes));
      default:
        return this.#statement(node, scopes);
    }
  }

  #statement(node: Node, scopes: Scopes): Kind {
    switch (node.kind) {
      case 'choice':
      case 'if': {
        this.#others([node.test], scopes);
        const then = this.visit(node.then, scopes);
        return node.otherwise === null ? then : join(then, this.visit(node.otherwise, scopes));
      }
      case 'block': {
        let last: Kind = 'other';
        for (const statement of node.body) last = this.visit(statement, scopes);
        return last;
      }
      case 'assign':
        return this.#assign(node.target, this.visit(node.value, scopes), scopes);
      case 'for':
        return this.#for(node.names, this.visit(node.over, scopes), node.loop, scopes);
      case 'while':
        this.#others([node.test], scopes);
        return this.visit(node.loop.body, scopes);
      case 'return': {
        const value = node.value === null ? 'other' : this.visit(node.value, scopes);
        this.#returns(scopes.at(-1)!, value);
        return value;
      }
      default:
        throw new Whole();
    }
  }

  /** Operands that may be no event and no list of them. */
  #others(nodes: readonly Node[], scopes: Scopes): Kind {
    for (const node of nodes) other(this.visit(node, scopes));
    return 'other';
  }

  #property(node: Node, scopes: Scopes): Kind {
    const path: string[] = [];
    let target = node;
    for (; target.kind === 'property'; target = target.target) path.unshift(target.name);
    if (this.visit(target, scopes) !== 'event') return 'other';
    this.#sees(path);
    return 'other';
  }

  #sees(path: readonly string[]): void {
    // It can't be set as a plain field.
    if (path.includes('__proto__')) throw new Whole();
    this.#paths.set(JSON.stringify(path), path);
  }

  /** `seq.gt(5, "price")` in place of a lambda. */
  #predicate(node: Node, scopes: Scopes): void {
    if (node.kind !== 'call') throw new Whole();
    const { name, args } = node;
    if (name === 'seq.and' || name === 'seq.or') {
      for (const part of args) this.#predicate(part, scopes);
      return;
    }
    this.#others(args, scopes);
    if (NIL_PREDICATES.has(name)) return;
    const [, named] = args;
    if (!PREDICATES.has(name) || named?.kind !== 'constant') throw new Whole();
    if (typeof named.value !== 'string') throw new Whole();
    this.#sees(named.value.split('.'));
  }

  #element(target: Node, index: Node, scopes: Scopes): Kind {
    this.#others([index], scopes);
    const kind = this.visit(target, scopes);
    if (kind === 'list') return 'event';
    return other(kind);
  }

  #binary(node: Extract<Node, { kind: 'binary' }>, scopes: Scopes): Kind {
    const { op, left, right } = node;
    const isNil = (side: Node): boolean => side.kind === 'constant' && side.value === null;
    // Whether there is one, not what is in it.
    if ((op === '==' || op === '!=') && (isNil(left) || isNil(right))) {
      this.visit(left, scopes);
      this.visit(right, scopes);
      return 'other';
    }
    return this.#others([left, right], scopes);
  }

  #call(name: string, args: readonly Node[], scopes: Scopes): Kind {
    const [over, second, init] = args;
    if (over === undefined) return 'other';
    if (SIZE_FUNCTIONS.has(name)) {
      if (this.visit(over, scopes) === 'event') throw new Whole();
      return 'other';
    }
    if (name === 'seq.get' && second !== undefined) return this.#element(over, second, scopes);
    const result = WALKERS.get(name);
    const isReduce = name === 'reduce' && init !== undefined;
    if ((result === undefined && !isReduce) || second === undefined) {
      return this.#others(args, scopes);
    }
    const kind = this.visit(over, scopes);
    if (kind === 'event') throw new Whole();
    const element: Kind = kind === 'list' ? 'event' : 'other';
    if (second.kind !== 'lambda') {
      if (kind !== 'list') return this.#others(args.slice(1), scopes);
      // Of reduce it would be told the sum so far.
      if (result === undefined) throw new Whole();
      this.#predicate(second, scopes);
      return result('other');
    }
    if (result !== undefined) {
      const given = this.#lambda(second.lambda, [element], scopes);
      return kind === 'list' ? result(given) : other(given);
    }
    const first = this.visit(init!, scopes);
    return join(first, this.#lambda(second.lambda, [first, element], scopes, true));
  }

  /** `folds`: its result is its first argument the next time. */
  #lambda(lambda: Lambda, args: readonly Kind[], scopes: Scopes, folds = false): Kind {
    let own = this.#scopes.get(lambda);
    if (own === undefined) {
      own = { slots: new Map(), result: 'other' };
      this.#scopes.set(lambda, own);
    }
    args.forEach((kind, slot) => {
      this.#becomes(own, slot, kind);
    });
    this.#returns(own, this.visit(lambda.body, [...scopes, own]));
    if (folds) this.#becomes(own, 0, own.result);
    return own.result;
  }

  #for(names: readonly VariableRef[], over: Kind, loop: Loop, scopes: Scopes): Kind {
    if (over === 'event') throw new Whole();
    const element = names.at(-1);
    if (over === 'list' && element !== undefined) {
      this.#becomes(scopeOf(element, scopes), element.slot, 'event');
    }
    return this.visit(loop.body, scopes);
  }

  #assign(target: Node, value: Kind, scopes: Scopes): Kind {
    if (target.kind === 'variable') {
      this.#becomes(scopeOf(target.ref, scopes), target.ref.slot, value);
      return value;
    }
    // Into a collection, from where nobody follows it.
    this.#others(target.kind === 'index' ? [target.target, target.index] : [target], scopes);
    return other(value);
  }

  #becomes(scope: Scope, slot: number, kind: Kind): void {
    const known = scope.slots.get(slot) ?? 'other';
    const joined = join(known, kind);
    if (joined === known) return;
    scope.slots.set(slot, joined);
    this.changed = true;
  }

  #returns(scope: Scope, kind: Kind): void {
    const joined = join(scope.result, kind);
    if (joined === scope.result) return;
    scope.result = joined;
    this.changed = true;
  }
}

function scopeOf({ hops }: VariableRef, scopes: Scopes): Scope {
  return scopes[scopes.length - 1 - hops]!;
}

function other(kind: Kind): Kind {
  if (kind !== 'other') throw new Whole();
  return kind;
}

function join(a: Kind, b: Kind): Kind {
  if (a === b || b === 'other') return a;
  if (a === 'other') return b;
  throw new Whole();
}

function listOf(element: Kind): Kind {
  if (element === 'list') throw new Whole();
  return element === 'event' ? 'list' : 'other';
}
