/**
 * The syntax tree. Names are resolved by the parser: a node says which slot or scope name it
 * means.
 */
import type { ScopeName } from '../filter.ts';
import type { Complaint } from './cursor.ts';

export type BinaryOperator =
  | '=='
  | '!='
  | '<'
  | '<='
  | '>'
  | '>='
  | '=~'
  | '+'
  | '-'
  | '*'
  | '/'
  | '%'
  | '**'
  | '&'
  | '|'
  | '^'
  | '<<'
  | '>>'
  | '>>>';

export type UnaryOperator = '!' | '-' | '~';

/** A local variable: `hops` function bodies outwards, then the slot. */
export interface VariableRef {
  readonly hops: number;
  readonly slot: number;
}

interface Base {
  /** `line:column` in the script, for messages: an operator's place, not its first operand's. */
  readonly where: string;
  /** The node's own text in the script: UTF-16 offsets, `to` is behind its last character. */
  readonly from: number;
  readonly to: number;
  /** Where it starts with the brackets around it, which are its parent's text. */
  readonly outer: number;
  readonly height: number;
}

export type Constant =
  | null
  | boolean
  | string
  | { readonly long: number }
  | { readonly double: number };

export type Node = Base &
  (
    | { readonly kind: 'constant'; readonly value: Constant }
    | { readonly kind: 'pattern'; readonly source: string }
    | { readonly kind: 'scope'; readonly root: ScopeName; readonly path: readonly string[] }
    | { readonly kind: 'variable'; readonly ref: VariableRef }
    | { readonly kind: 'capture'; readonly group: number }
    | { readonly kind: 'property'; readonly target: Node; readonly name: string }
    | { readonly kind: 'index'; readonly target: Node; readonly index: Node }
    | { readonly kind: 'unary'; readonly op: UnaryOperator; readonly operand: Node }
    | {
        readonly kind: 'binary';
        readonly op: BinaryOperator;
        readonly left: Node;
        readonly right: Node;
      }
    | { readonly kind: 'logic'; readonly op: '&&' | '||'; readonly items: readonly Node[] }
    | {
        readonly kind: 'choice';
        readonly test: Node;
        readonly then: Node;
        readonly otherwise: Node;
      }
    | { readonly kind: 'text'; readonly parts: readonly Node[] }
    | { readonly kind: 'call'; readonly name: string; readonly args: readonly Node[] }
    | { readonly kind: 'function'; readonly name: string }
    | { readonly kind: 'invoke'; readonly target: Node; readonly args: readonly Node[] }
    | { readonly kind: 'lambda'; readonly lambda: Lambda }
    | {
        readonly kind: 'assign';
        readonly target: Node;
        readonly value: Node;
        readonly define: boolean;
      }
    | { readonly kind: 'block'; readonly body: readonly Node[]; readonly hasValue: boolean }
    | {
        readonly kind: 'if';
        readonly test: Node;
        readonly then: Node;
        readonly otherwise: Node | null;
      }
    | {
        readonly kind: 'for';
        readonly names: readonly VariableRef[];
        readonly over: Node;
        readonly loop: Loop;
      }
    | { readonly kind: 'while'; readonly test: Node; readonly loop: Loop }
    | { readonly kind: 'return'; readonly value: Node | null }
    | { readonly kind: 'break' }
    | { readonly kind: 'continue' }
  );

export interface Loop {
  readonly body: Node;
  /** Nodes one round evaluates at most, charged to the step budget. */
  readonly cost: number;
}

export interface Lambda {
  readonly parameters: number;
  readonly slots: number;
  readonly body: Node;
  readonly cost: number;
}

export interface Program {
  readonly body: Node;
  readonly slots: number;
  readonly cost: number;
  readonly reads: ReadonlySet<ScopeName>;
  readonly userPaths: readonly (readonly string[])[];
  readonly complaint: Complaint | null;
}
