import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { splitJsonArray } from './json-array.ts';

test('elements keep their exact text', () => {
  const elements = [
    '{"n":1.0,"big":12345678901234567890}',
    '{ "a" : [ 1 , {"b":"],[}{"} ] }',
    '{"e":"\\"\\\\","u":"\\u00e9","x":"é😀"}',
    '{"dup":1,"dup":2}',
    '[]',
    '"a,]b"',
    'null',
    '-1.50e+10',
  ];
  const text = ` \n[\t${elements.join(' ,\r\n ')} ] `;
  assert.deepEqual(splitJsonArray(text), elements);
});

test('an empty array has no elements; no array is refused', () => {
  assert.deepEqual(splitJsonArray('[]'), []);
  assert.deepEqual(splitJsonArray(' [ \n ] '), []);
  for (const text of ['{}', '', '"[]"', '[1', '["a']) {
    assert.throws(() => splitJsonArray(text), { code: 'JSON_ARRAY' });
  }
});

test('any array comes back element by element, whatever white space stands between', () => {
  const space = fc.string({ unit: fc.constantFrom(' ', '\n', '\r', '\t'), maxLength: 3 });
  const element = fc
    .tuple(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(0, 2))
    .map(([value, indent]) => JSON.stringify(value, null, indent));
  const unicode = fc.string({ unit: 'binary', maxLength: 8 }).map((text) => JSON.stringify(text));
  const row = fc.tuple(fc.oneof(element, unicode), space, space);
  fc.assert(
    fc.property(fc.array(row, { maxLength: 8 }), space, (rows, around) => {
      const body = rows.map(([text, before, after]) => before + text + after).join(',');
      const text = `${around}[${body}${rows.length === 0 ? around : ''}]${around}`;
      JSON.parse(text);
      assert.deepEqual(
        splitJsonArray(text),
        rows.map(([element]) => element),
      );
    }),
    { seed: 7, numRuns: 2_000 },
  );
});

test('raw lone surrogates survive too', () => {
  const text = '["\ud800x", {"k":"\udc00"}]';
  assert.deepEqual(splitJsonArray(text), ['"\ud800x"', '{"k":"\udc00"}']);
});

test('an element does not keep the whole text alive', async (t) => {
  setFlagsFromString('--expose-gc');
  // Large texts made from buffers lie outside the heap.
  const held = () => process.memoryUsage().heapUsed + process.memoryUsage().external;
  const gc = runInNewContext('gc') as () => void;
  const kept: string[] = [];
  gc();
  const before = held();
  for (let n = 0; n < 8; n++) {
    const text = `[{"small":${n},"marker":"xxxxxxxxxxxxxxxx"},"${'y'.repeat(4 * 1024 * 1024)}"]`;
    kept.push(splitJsonArray(Buffer.from(text).toString('utf8'))[0]!);
  }
  // Buffers' memory is given back only after the turn of the collection that found them dead.
  gc();
  await new Promise((resolve) => setImmediate(resolve));
  gc();
  const grown = held() - before;
  t.diagnostic(`${kept.length} elements kept, heap grew by ${grown} bytes`);
  assert.ok(grown < 16 * 1024 * 1024, `heap grew by ${grown} bytes`);
});
