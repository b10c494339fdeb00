/**
 * Text to tokens. Decides what `/` is (division, a pattern, or an operator handed to a function).
 */
import { type SourceText, syntaxError } from '../syntax-error.ts';

type TokenKind = 'number' | 'string' | 'regex' | 'name' | 'op' | 'end';

export interface Token {
  readonly kind: TokenKind;
  /** The name, operator, pattern source, unescaped string or number text. */
  readonly text: string;
  /** Offset in the script, and the one behind its last character. */
  readonly at: number;
  readonly end: number;
  /** Of a string: offset of each of its characters in the script, plus one for its end. */
  readonly offsets?: readonly number[];
}

/**
 * Text and where each of its characters stands in the script; interpolated parts are lexed on
 * their own.
 */
interface LexedText {
  readonly text: string;
  readonly offsetOf: (index: number) => number;
}

const SPACE = /[ \t\r\n]+/y;
const COMMENT = /##[^\n]*/y;
const NUMBER = /0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?/y;
const NAME = /[\p{L}\p{Nl}_$][\p{L}\p{Nl}\p{Nd}\p{Mn}\p{Mc}_$]*/uy;
const OPERATOR = />>>|\*\*|&&|\|\||==|!=|<=|>=|=~|<<|>>|->|[-+*/%!~&|^<>=?:()[\]{},;.]/y;
/** After one of these words a `/` starts a pattern; after any other name it divides. */
const BEFORE_OPERAND = new Set([
  'return',
  'in',
  'if',
  'elsif',
  'else',
  'while',
  'and',
  'or',
  'not',
]);
const ESCAPES: Record<string, string> = { t: '\t', r: '\r', n: '\n', b: '\b', f: '\f', '\\': '\\' };

export function lex(source: SourceText, input: LexedText): Token[] {
  const tokens: Token[] = [];
  const { text } = input;
  let index = 0;
  while (true) {
    index = skipBlank(text, index);
    const at = input.offsetOf(index);
    if (index >= text.length) {
      tokens.push({ kind: 'end', text: '', at, end: at });
      return tokens;
    }
    const start = text[index];
    if (start === '"' || start === "'") {
      index = lexString(source, input, index, tokens);
    } else if (start === '/' && startsPattern(text, index, tokens.at(-1))) {
      index = lexPattern(source, input, index, tokens);
    } else {
      index = lexWord(source, input, index, tokens);
    }
  }
}

function match(expression: RegExp, text: string, index: number): string | null {
  expression.lastIndex = index;
  return expression.exec(text)?.[0] ?? null;
}

function skipBlank(text: string, from: number): number {
  let index = from;
  while (true) {
    const blank = match(SPACE, text, index) ?? match(COMMENT, text, index);
    if (blank === null) return index;
    index += blank.length;
  }
}

function lexWord(source: SourceText, input: LexedText, index: number, tokens: Token[]): number {
  const { text } = input;
  const at = input.offsetOf(index);
  const push = (kind: TokenKind, word: string): number => {
    const end = input.offsetOf(index + word.length - 1) + 1;
    tokens.push({ kind, text: word, at, end });
    return index + word.length;
  };
  const name = match(NAME, text, index);
  if (name !== null) return push('name', name);
  const number =
    endsOperand(tokens.at(-1)) && text[index] === '.' ? null : match(NUMBER, text, index);
  if (number !== null) {
    const suffix = text[index + number.length];
    if (suffix === 'N' || suffix === 'M') {
      throw syntaxError(
        source,
        input.offsetOf(index + number.length),
        `${suffix === 'N' ? 'big integers' : 'decimals'} are not in the supported subset`,
        `drop the ${suffix}: numbers are 53-bit integers and doubles`,
      );
    }
    return push('number', number);
  }
  const operator = match(OPERATOR, text, index);
  if (operator !== null) return push('op', operator);
  const character = String.fromCodePoint(text.codePointAt(index) ?? 0);
  const hint = character === '#' ? 'comments start with ##' : undefined;
  throw syntaxError(source, at, `unexpected character ${JSON.stringify(character)}`, hint);
}

function endsOperand(previous: Token | undefined): boolean {
  if (previous === undefined) return false;
  if (previous.kind === 'op') return previous.text === ')' || previous.text === ']';
  return previous.kind !== 'name' || !BEFORE_OPERAND.has(previous.text);
}

function startsPattern(text: string, index: number, previous: Token | undefined): boolean {
  if (endsOperand(previous)) return false;
  const next = text[skipBlank(text, index + 1)];
  // `reduce(xs, /, 1)` hands over division itself.
  return !(previous?.text === ',' && (next === ',' || next === ')'));
}

function lexPattern(source: SourceText, input: LexedText, start: number, tokens: Token[]): number {
  const { text } = input;
  let pattern = '';
  for (let index = start + 1; index < text.length; index++) {
    const character = text[index] as string;
    if (character === '/') {
      const end = input.offsetOf(index) + 1;
      tokens.push({ kind: 'regex', text: pattern, at: input.offsetOf(start), end });
      return index + 1;
    }
    if (character === '\\' && index + 1 < text.length) {
      pattern += character + (text[index + 1] as string);
      index++;
    } else {
      pattern += character;
    }
  }
  const hint = 'a pattern ends with /; write \\/ for a slash inside it';
  throw syntaxError(source, input.offsetOf(start), 'this pattern has no end', hint);
}

function lexString(source: SourceText, input: LexedText, start: number, tokens: Token[]): number {
  const { text } = input;
  const quote = text[start];
  const offsets: number[] = [];
  let value = '';
  for (let index = start + 1; index < text.length; index++) {
    let character = text[index] as string;
    offsets.push(input.offsetOf(index));
    if (character === quote) {
      const at = input.offsetOf(start);
      tokens.push({ kind: 'string', text: value, at, end: input.offsetOf(index) + 1, offsets });
      return index + 1;
    }
    if (character === '\\') {
      index++;
      const escaped = text[index] ?? '';
      if (escaped === '#') {
        // Kept with its backslash: the interpolation reads `\#` as a plain `#`.
        value += '\\';
        offsets.push(input.offsetOf(index));
        character = '#';
      } else {
        const plain = escaped === quote ? quote : ESCAPES[escaped];
        if (plain === undefined) {
          const hint = 'known escapes: \\t \\r \\n \\b \\f \\\\ \\# and the quote itself';
          throw syntaxError(source, input.offsetOf(index - 1), 'unknown escape in a string', hint);
        }
        character = plain;
      }
    }
    value += character;
  }
  throw syntaxError(
    source,
    input.offsetOf(start),
    'this string has no end',
    `close it with ${quote}`,
  );
}
