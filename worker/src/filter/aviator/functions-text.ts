/** string.* : UTF-16 positions as in Java; patterns are RE2. */
import type { RE2JS } from 're2js';
import { arg, type Builtins, builtin, numberArg, textArg } from './builtin.ts';
import type { Frame } from './frame.ts';
import { CHARS_PER_STEP, MAX_STRING_CHARS } from './limits.ts';
import { matchCost } from './regex.ts';
import { toText } from './text.ts';
import { Fault, isList, List, SetValue, typeName, type Value } from './values.ts';

/** Each search may run to the end of the text, few do: each is charged this part of the rest. */
const SEARCH_DISCOUNT = 16;

function matcherOf(frame: Frame, text: string, source: string, name: string) {
  // Compiling is work too, and the pattern may be another one in each round of a loop.
  frame.charge(source.length);
  const { regex, size } = compiledOf(frame, source, name);
  const matcher = regex.matcher(text);
  const find = (from: number): boolean => {
    frame.charge(Math.ceil(matchCost(size, text.length - from) / SEARCH_DISCOUNT));
    return matcher.find();
  };
  return { matcher, find };
}

function compiledOf(frame: Frame, source: string, name: string): { regex: RE2JS; size: number } {
  const pattern = frame.patterns.get(source);
  if (pattern.regex === null) throw new Fault(`${name}: the pattern does not compile`);
  return pattern;
}

function subject(frame: Frame, args: readonly Value[], name: string): string {
  const text = textArg(args, 0, name);
  frame.checkString(text.length);
  return text;
}

function two(name: string, apply: (text: string, part: string) => Value) {
  return builtin(2, 2, (frame, args) => apply(subject(frame, args, name), textArg(args, 1, name)));
}

function substring(frame: Frame, args: readonly Value[]): Value {
  const text = subject(frame, args, 'string.substring');
  const from = Math.trunc(numberArg(args, 1, 'string.substring'));
  const to = args.length > 2 ? Math.trunc(numberArg(args, 2, 'string.substring')) : text.length;
  if (from >= 0 && from <= to && to <= text.length) return text.slice(from, to);
  throw new Fault('string.substring: position outside of the string');
}

/**
 * Java's String.split: limit 0 drops empty parts at the end, a match of nothing at the start is
 * skipped.
 */
function split(frame: Frame, args: readonly Value[]): Value {
  const text = subject(frame, args, 'string.split');
  const { matcher, find } = matcherOf(
    frame,
    text,
    textArg(args, 1, 'string.split'),
    'string.split',
  );
  const limit = args.length > 2 ? Math.trunc(numberArg(args, 2, 'string.split')) : 0;
  const parts: string[] = [];
  let from = 0;
  while ((limit <= 0 || parts.length < limit - 1) && find(from)) {
    if (matcher.end() === 0) continue;
    frame.checkSize(parts.length + 1);
    parts.push(text.slice(from, matcher.start()));
    from = matcher.end();
  }
  if (from === 0 && parts.length === 0) return new List([text], true);
  parts.push(text.slice(from));
  if (limit === 0) while (parts.at(-1) === '') parts.pop();
  return new List(parts, true);
}

function join(frame: Frame, args: readonly Value[]): Value {
  const items = arg(args, 0);
  // Java appends a nil separator as the word null, between elements only.
  const separator =
    args.length < 2 ? '' : arg(args, 1) === null ? 'null' : textArg(args, 1, 'string.join');
  let list: readonly Value[];
  if (items instanceof List) list = items.items;
  else if (isList(items)) list = items;
  else if (items instanceof SetValue) list = [...items.items.values()];
  else throw new Fault(`string.join: a ${typeName(items)} is not a list`);
  let length = 0;
  const parts = list.map((item) => {
    const part = toText(frame, item);
    length += part.length + separator.length;
    frame.checkString(length > MAX_STRING_CHARS ? length : part.length);
    frame.charge(1);
    return part;
  });
  return parts.join(separator);
}

function replace(name: string, all: boolean) {
  return builtin(3, 3, (frame, args) => {
    const text = subject(frame, args, name);
    const { matcher, find } = matcherOf(frame, text, textArg(args, 1, name), name);
    const replacement = textArg(args, 2, name);
    const parts: string[] = [];
    let from = 0;
    let length = 0;
    while (find(from)) {
      const value = expand(
        replacement,
        (group) => matcher.group(group),
        matcher.groupCount(),
        name,
      );
      length += matcher.start() - from + value.length;
      frame.charge(1 + Math.floor(value.length / CHARS_PER_STEP));
      if (length > MAX_STRING_CHARS) frame.checkString(length);
      parts.push(text.slice(from, matcher.start()), value);
      from = matcher.end();
      if (!all) break;
    }
    frame.checkString(length + text.length - from);
    return parts.join('') + text.slice(from);
  });
}

/** Java's replacement language: $1, and a backslash before a character taken as it is. */
function expand(
  template: string,
  group: (index: number) => string | null,
  groups: number,
  name: string,
): string {
  let result = '';
  for (let i = 0; i < template.length; i++) {
    const character = template[i] as string;
    if (character === '\\') {
      i++;
      if (i >= template.length) throw new Fault(`${name}: a lone \\ ends the replacement`);
      result += template[i];
    } else if (character === '$') {
      let index = digit(template, i + 1);
      if (index < 0 || index > groups) throw new Fault(`${name}: no such group in the replacement`);
      i++;
      for (let next = digit(template, i + 1); next >= 0 && index * 10 + next <= groups; i++) {
        index = index * 10 + next;
        next = digit(template, i + 2);
      }
      result += group(index) ?? '';
    } else {
      result += character;
    }
  }
  return result;
}

function digit(text: string, index: number): number {
  const character = text[index] ?? '';
  return character >= '0' && character <= '9' ? Number(character) : -1;
}

export const TEXT_FUNCTIONS: Builtins = {
  'string.contains': two('string.contains', (text, part) => text.includes(part)),
  'string.startsWith': two('string.startsWith', (text, part) => text.startsWith(part)),
  'string.endsWith': two('string.endsWith', (text, part) => text.endsWith(part)),
  'string.indexOf': two('string.indexOf', (text, part) => text.indexOf(part)),
  'string.length': builtin(1, 1, (_frame, args) => textArg(args, 0, 'string.length').length),
  'string.substring': builtin(2, 3, substring),
  'string.split': builtin(2, 3, split),
  'string.join': builtin(1, 2, join),
  'string.replace_all': replace('string.replace_all', true),
  'string.replace_first': replace('string.replace_first', false),
};
