/** The parser's state: where it is, what names mean here, how high the tree has grown. */
import type { ScopeName } from '../filter.ts';
import { lineAndColumn, type SourceText, syntaxError } from '../syntax-error.ts';
import type { Node, VariableRef } from './ast.ts';
import type { Token } from './lexer.ts';
import { MAX_TREE_HEIGHT } from './limits.ts';
import { KEYWORDS, OPERATOR_HINTS, WORD_HINTS } from './names.ts';

type Unplaced<T> = T extends unknown
  ? Omit<T, 'where' | 'from' | 'to' | 'outer' | 'height'>
  : never;

/** The names one function body (or the script) declares, block by block. */
interface FunctionNames {
  readonly blocks: Map<string, number>[];
  slots: number;
}

export interface Complaint {
  readonly at: number;
  readonly problem: string;
  readonly hint?: string;
}

/** What parsing one text needs; an interpolated part gets its own tokens and shares the rest. */
export interface ParseContext {
  readonly source: SourceText;
  readonly lineStarts: readonly number[];
  readonly reads: Set<ScopeName>;
  /** Every place that names `user`, with the properties behind it. */
  readonly userPaths: (readonly string[])[];
  readonly functions: FunctionNames[];
  /** Names of blocks that are closed. */
  readonly forgotten: Set<string>;
  /** What Aviator takes but a filter should not: legal, and surely not meant. */
  complaint: Complaint | null;
  cost: number;
  nesting: number;
  /** Loops around the statement being parsed, within its function. */
  loops: number;
}

export class Cursor {
  readonly context: ParseContext;
  readonly #tokens: readonly Token[];
  #index = 0;

  constructor(context: ParseContext, tokens: readonly Token[]) {
    this.context = context;
    this.#tokens = tokens;
  }

  peek(ahead = 0): Token {
    const last = this.#tokens.length - 1;
    return this.#tokens[Math.min(this.#index + ahead, last)] as Token;
  }

  next(): Token {
    const token = this.peek();
    this.#index++;
    return token;
  }

  isOp(text: string, ahead = 0): boolean {
    const token = this.peek(ahead);
    return token.kind === 'op' && token.text === text;
  }

  isName(text: string): boolean {
    const token = this.peek();
    return token.kind === 'name' && token.text === text;
  }

  takeOp(text: string): boolean {
    if (!this.isOp(text)) return false;
    this.#index++;
    return true;
  }

  takeName(text: string): boolean {
    if (!this.isName(text)) return false;
    this.#index++;
    return true;
  }

  expectOp(text: string, purpose: string): void {
    if (!this.takeOp(text)) this.fail(this.peek(), `expected ${text} ${purpose}`);
  }

  fail(at: Token | number, problem: string, hint?: string): never {
    const offset = typeof at === 'number' ? at : at.at;
    const found = typeof at === 'number' ? '' : `, found ${describe(at)}`;
    const known =
      typeof at === 'number' ? undefined : (WORD_HINTS.get(at.text) ?? OPERATOR_HINTS.get(at.text));
    throw syntaxError(this.context.source, offset, problem + found, hint ?? known);
  }

  /** Makes a node: counts it and refuses a tree higher than evaluation may recurse. */
  node(at: number, fields: Unplaced<Node>, ...children: readonly Node[]): Node {
    this.context.cost++;
    let height = 1;
    let from = at;
    for (const child of children) {
      height = Math.max(height, child.height + 1);
      from = Math.min(from, child.outer);
    }
    if (height > MAX_TREE_HEIGHT) this.#tooDeep(at);
    const { line, column } = lineAndColumn(this.context.lineStarts, at);
    const to = this.#tokens[this.#index - 1]?.end ?? at;
    return { ...fields, where: `${line}:${column}`, from, to, outer: from, height } as Node;
  }

  /**
   * Runs `parse` one level deeper; without the limit a row of brackets overflows the parser
   * itself.
   */
  nested<T>(at: number, parse: () => T): T {
    if (++this.context.nesting > MAX_TREE_HEIGHT) this.#tooDeep(at);
    const result = parse();
    this.context.nesting--;
    return result;
  }

  #tooDeep(at: number): never {
    this.fail(at, `nested deeper than ${MAX_TREE_HEIGHT} levels`, 'split it with let');
  }

  /** Nodes `parse` made: what one round of a loop or one call of a lambda costs at most. */
  measured<T>(parse: () => T): { result: T; cost: number } {
    const before = this.context.cost;
    const result = parse();
    return { result, cost: this.context.cost - before };
  }

  inBlock<T>(parse: () => T): T {
    const blocks = this.#names().blocks;
    blocks.push(new Map());
    const result = parse();
    for (const name of blocks.pop()?.keys() ?? []) this.context.forgotten.add(name);
    return result;
  }

  inLoop<T>(parse: () => T): T {
    this.context.loops++;
    const result = this.inBlock(parse);
    this.context.loops--;
    return result;
  }

  inFunction<T>(parse: () => T): { result: T; slots: number } {
    const names: FunctionNames = { blocks: [new Map()], slots: 0 };
    const outerLoops = this.context.loops;
    this.context.functions.push(names);
    this.context.loops = 0;
    const result = parse();
    this.context.loops = outerLoops;
    this.context.functions.pop();
    return { result, slots: names.slots };
  }

  declare(token: Token): VariableRef {
    if (token.kind !== 'name') this.fail(token, 'expected a variable name');
    if (KEYWORDS.has(token.text)) {
      this.complain(token.at, `${token.text} is a keyword: a variable of that name cannot be read`);
    }
    if (isScopeName(token.text))
      this.fail(token.at, `${token.text} is given and cannot be changed`);
    const names = this.#names();
    const block = names.blocks.at(-1) as Map<string, number>;
    const slot = block.get(token.text) ?? names.slots++;
    block.set(token.text, slot);
    return { hops: 0, slot };
  }

  lookUp(name: string): VariableRef | null {
    const { functions } = this.context;
    for (let hops = 0; hops < functions.length; hops++) {
      const { blocks } = functions[functions.length - 1 - hops] as FunctionNames;
      for (let i = blocks.length - 1; i >= 0; i--) {
        const slot = blocks[i]?.get(name);
        if (slot !== undefined) return { hops, slot };
      }
    }
    return null;
  }

  /** Declared once, in a block that is closed: Aviator reads nil. */
  isForgotten(name: string): boolean {
    return this.context.forgotten.has(name);
  }

  /** Keeps the first complaint. */
  complain(at: number, problem: string, hint?: string): void {
    this.context.complaint ??= hint === undefined ? { at, problem } : { at, problem, hint };
  }

  /** Every variable that can be named here, for suggestions. */
  visibleNames(): string[] {
    return this.context.functions.flatMap(({ blocks }) => blocks.flatMap((b) => [...b.keys()]));
  }

  #names(): FunctionNames {
    return this.context.functions.at(-1) as FunctionNames;
  }
}

export const SCOPE_NAMES: readonly ScopeName[] = ['event', 'user', 'visit', 'history'];

export function isScopeName(name: string): name is ScopeName {
  return (SCOPE_NAMES as readonly string[]).includes(name);
}

function describe(token: Token): string {
  if (token.kind === 'end') return 'the end of the script';
  if (token.kind === 'string') return 'a string';
  if (token.kind === 'regex') return 'a pattern';
  return token.text;
}
