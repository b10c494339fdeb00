/** String literals: plain text, or text with `#{expression}` parts. */
import type { Node } from './ast.ts';
import { Cursor } from './cursor.ts';
import { lex, type Token } from './lexer.ts';
import { parseExpression } from './parse-expression.ts';

const MIN_INTERPOLATED_CHARS = 3;

export function parseText(p: Cursor, token: Token): Node {
  const constant = (value: string): Node => p.node(token.at, { kind: 'constant', value });
  const { text } = token;
  const parts: Node[] = [];
  let plain = '';
  let interpolated = false;
  // As in Aviator, text this short holds no interpolation.
  if (text.length < MIN_INTERPOLATED_CHARS) return constant(text);
  for (let index = 0; index < text.length; index++) {
    if (text.startsWith('\\#', index)) {
      plain += '#';
      index++;
    } else if (text.startsWith('#{', index)) {
      interpolated = true;
      if (plain !== '') parts.push(constant(plain));
      plain = '';
      const end = closingBrace(p, token, index + 2);
      parts.push(parseInside(p, token, index + 2, end));
      index = end;
    } else {
      plain += text[index];
    }
  }
  if (!interpolated) return constant(plain);
  if (plain !== '') parts.push(constant(plain));
  return p.node(token.at, { kind: 'text', parts }, ...parts);
}

function offsetOf(token: Token, index: number): number {
  return token.offsets?.[index] ?? token.at;
}

/** Skips nested braces and quoted text: `#{map["}"]}` ends at its own brace. */
function closingBrace(p: Cursor, token: Token, from: number): number {
  let depth = 1;
  let quote = '';
  for (let index = from; index < token.text.length; index++) {
    const character = token.text[index] as string;
    if (quote !== '') {
      if (character === quote) quote = '';
    } else if (character === '"' || character === "'") {
      quote = character;
    } else if (character === '{') {
      depth++;
    } else if (character === '}' && --depth === 0) {
      return index;
    }
  }
  return p.fail(
    offsetOf(token, from - 2),
    'expected } to end this interpolation',
    'write \\# for a plain #',
  );
}

function parseInside(p: Cursor, token: Token, from: number, to: number): Node {
  const text = token.text.slice(from, to);
  const at = offsetOf(token, from);
  if (text.trim() === '') return p.node(at, { kind: 'constant', value: null });
  const tokens = lex(p.context.source, { text, offsetOf: (i) => offsetOf(token, from + i) });
  const inner = new Cursor(p.context, tokens);
  const node = p.nested(at, () => parseExpression(inner));
  if (inner.peek().kind !== 'end') inner.fail(inner.peek(), 'expected } to end this interpolation');
  return node;
}
