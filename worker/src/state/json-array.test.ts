import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { isJsonObjectText, jsonObjectTexts, MAX_JSON_DEPTH } from './json-array.ts';

const split = (text: string) => jsonObjectTexts(Buffer.from(text));

test('objects keep their exact text', () => {
  const objects = [
    '{"n":1.0,"big":12345678901234567890}',
    '{ "a" : [ 1 , {"b":"],[}{"} ] }',
    '{"e":"\\"\\\\\\/","u":"\\u00e9","x":"é😀"}',
    '{"dup":1,"dup":2}',
    '{"t":true,"f":false,"n":null,"z":-0.5e+10,"s":"a,]b"}',
    '{}',
  ];
  const text = ` \n[\t${objects.join(' ,\r\n ')} ] `;
  assert.deepEqual(split(text), objects);
});

test('an empty array has none; what is no array of objects is refused', () => {
  assert.deepEqual(split('[]'), []);
  assert.deepEqual(split(' [ \n ] '), []);
  const wrong = [
    '{}',
    '',
    '"[]"',
    '[1]',
    '[[]]',
    '[{},1]',
    '[{}',
    '[{},]',
    '[,{}]',
    '[{}]x',
    '[{}',
  ];
  for (const text of wrong) assert.equal(split(text), null, text);
});

const space = fc.string({ unit: fc.constantFrom(' ', '\n', '\r', '\t'), maxLength: 3 });
const unicode = fc.string({ unit: 'grapheme', maxLength: 8 });
const object = fc
  .tuple(
    fc.dictionary(unicode, fc.jsonValue({ maxDepth: 4, stringUnit: 'grapheme' }), { maxKeys: 5 }),
    fc.constantFrom(0, 2),
  )
  .map(([value, indent]) => JSON.stringify(value, null, indent));

test('any array of objects comes back object by object, whatever space stands between', () => {
  const row = fc.tuple(object, space, space);
  fc.assert(
    fc.property(fc.array(row, { maxLength: 8 }), space, (rows, around) => {
      const body = rows.map(([text, before, after]) => before + text + after).join(',');
      const text = `${around}[${body}${rows.length === 0 ? around : ''}]${around}`;
      assert.deepEqual(
        split(text),
        rows.map(([object]) => object),
      );
    }),
    { seed: 7, numRuns: 2_000 },
  );
});

/** What JSON.parse says; both functions must say the same of any text. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isObject = (value: unknown) =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function checkLikeJsonParse(text: string): void {
  const value = parsed(text);
  const bytes = Buffer.from(text);
  assert.equal(isJsonObjectText(bytes), isObject(value), text);
  const texts = jsonObjectTexts(bytes);
  assert.equal(texts !== null, Array.isArray(value) && value.every(isObject), text);
  if (texts !== null) assert.deepEqual(texts.map(parsed), value);
}

test('of each value, good or nearly good, it says what JSON.parse says', () => {
  const values = [
    'true false null tru nul falsee TRUE 0 -0 00 01 -01 - -a 1. .5 1.5 -1.50 1e5 1E+5 1e-5 1e 1e+',
    '1.e5 +1 0x1 1_0 NaN Infinity "a" "\\u00e9" "\\u00E9" "\\u00g9" "\\u00 "\\u" "\\x" "\\"',
    '"\\\\" "\\/" "\\b\\f\\n\\r\\t" "\\0" \'a\' "a [ ] [1,] [,1] [1,,2] [1 2] [[]] [[] { } {}',
    '{"a"} {"a":} {"a":1,} {,} {a:1} {"a":1 "b":2} {"a":1,"b":2} {"a":{"b":[{}]}} {"a":1}}',
    '"\u007f" "\u2028" // /**/',
  ].flatMap((line) => line.split(' '));
  const controls = Array.from({ length: 32 }, (_, code) => `"${String.fromCharCode(code)}"`);
  for (const value of [...values, ...controls, '', ' ', '\ufeff']) {
    for (const text of [value, ` {"k":${value}}`, `[${value}]`, `[{"k":${value}},{}]`]) {
      checkLikeJsonParse(text);
    }
    checkLikeJsonParse(`{"k":${value}`);
    checkLikeJsonParse(`${value}{"k":1}`);
  }
});

test('so it does of texts with bytes changed, added and cut', () => {
  const edits = '{}[]",:\\ u0e-+.1a\n\u0001ént'.split('');
  const edit = fc.tuple(fc.nat(), fc.constantFrom(...edits), fc.constantFrom(0, 1, 2));
  fc.assert(
    fc.property(
      fc.array(object, { maxLength: 3 }),
      fc.array(edit, { maxLength: 3 }),
      (rows, all) => {
        for (const start of [`[${rows.join(',')}]`, rows[0] ?? '{}']) {
          let text = start;
          for (const [place, char, cut] of all) {
            const at = place % (text.length + 1);
            text = text.slice(0, at) + char + text.slice(at + cut);
          }
          // A cut surrogate pair has no UTF-8; such bytes are refused before.
          checkLikeJsonParse(text.toWellFormed());
        }
      },
    ),
    { seed: 8, numRuns: 5_000 },
  );
});

test('nesting has a limit, the same for both', () => {
  const nested = (depth: number) => `${'{"a":'.repeat(depth - 1)}{}${'}'.repeat(depth - 1)}`;
  assert.equal(isJsonObjectText(Buffer.from(nested(MAX_JSON_DEPTH))), true);
  assert.equal(isJsonObjectText(Buffer.from(nested(MAX_JSON_DEPTH + 1))), false);
  assert.equal(split(`[${nested(MAX_JSON_DEPTH - 1)}]`)?.length, 1);
  assert.equal(split(`[${nested(MAX_JSON_DEPTH)}]`), null);
  assert.equal(isJsonObjectText(Buffer.from(`{"a":${'['.repeat(1_000_000)}`)), false);
});

test('an object does not keep the whole text alive', async (t) => {
  setFlagsFromString('--expose-gc');
  // Large texts made from buffers lie outside the heap.
  const held = () => process.memoryUsage().heapUsed + process.memoryUsage().external;
  const gc = runInNewContext('gc') as () => void;
  const kept: string[] = [];
  gc();
  const before = held();
  for (let n = 0; n < 8; n++) {
    const pad = 'y'.repeat(4 * 1024 * 1024);
    kept.push(split(`[{"small":${n},"marker":"xxxxxxxxxxxxxxxx"},{"pad":"${pad}"}]`)![0]!);
  }
  // Buffers' memory is given back only after the turn of the collection that found them dead.
  gc();
  await new Promise((resolve) => setImmediate(resolve));
  gc();
  const grown = held() - before;
  t.diagnostic(`${kept.length} objects kept, heap grew by ${grown} bytes`);
  assert.ok(grown < 16 * 1024 * 1024, `heap grew by ${grown} bytes`);
});
