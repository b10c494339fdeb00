/** The search by words finds what a search along the bytes finds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NameSearch, NONE, SEVERAL } from './name-search.ts';

/** Few letters, so that near misses and repetitions are common. */
const word = (minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom('a', 'b', '"', '_'), minLength, maxLength });
const name = fc.oneof(
  fc.constantFrom('user_id', 'id', 'ab', 'aaaa', 'aaaaaaaaaaaa', 'x_user_id_of_the_event'),
  word(2, 24).map((text) => text.replaceAll('"', 'a')),
);

function expected(text: string, quoted: string, start: number, end: number): number {
  const within = text.slice(start, end);
  const first = within.indexOf(quoted);
  if (first < 0) return NONE;
  return within.indexOf(quoted, first + 1) < 0 ? start + first : SEVERAL;
}

test('the only occurrence within the bounds, none, or several', () => {
  const seen = new Map<number, number>();
  let given = 0;
  fc.assert(
    fc.property(
      name,
      fc.array(fc.oneof(word(0, 30), fc.constant(null)), { maxLength: 5 }),
      fc.nat(40),
      fc.nat(40),
      (field, parts, cutStart, cutEnd) => {
        const search = NameSearch.of(field);
        if (search === null) return;
        given++;
        const quoted = `"${field}"`;
        const text = parts.map((part) => part ?? quoted).join('');
        const bytes = Buffer.from(text);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        const start = Math.min(cutStart, text.length);
        const end = Math.max(start, text.length - cutEnd);
        for (const [from, to] of [
          [0, text.length],
          [start, end],
        ] as const) {
          const at = search.only({ bytes, view }, from, to);
          assert.equal(at, expected(text, quoted, from, to), `${quoted} in ${text}`);
          seen.set(Math.min(at, 0), (seen.get(Math.min(at, 0)) ?? 0) + 1);
        }
      },
    ),
    { seed: 4, numRuns: 20_000 },
  );
  assert.ok(given > 10_000);
  for (const kind of [NONE, SEVERAL, 0]) assert.ok((seen.get(kind) ?? 0) > 1_000, `kind ${kind}`);
});

test('a usual name has a search; one that repeats itself has none', () => {
  for (const field of ['user_id', 'id', 'customerReference', 'account_number_of_the_user']) {
    assert.notEqual(NameSearch.of(field), null, field);
  }
  assert.equal(NameSearch.of('aaaaaaaa'), null);
});
