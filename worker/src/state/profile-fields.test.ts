import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fieldSetOf, projected, type StoredFields, storedFields } from './profile-fields.ts';

const SET = fieldSetOf(['city', '__proto__']);

const of = (profile: string): StoredFields => projected(JSON.parse(profile), SET)!;

test('users with the same values share them, and a head row gives back the same', () => {
  const fields = of('{"city":"Zürich","other":1}');
  assert.equal(of('{"other":2,"city":"Zürich"}'), fields);
  const bytes = Buffer.concat([Buffer.from(SET.digest, 'latin1'), Buffer.from(fields.text)]);
  assert.equal(storedFields(bytes.toString('latin1')), fields);
  assert.deepEqual(fields.values, { city: 'Zürich' });
});

test('a field called __proto__ stays a field', () => {
  const { values } = of('{"__proto__":"x"}');
  assert.equal(Object.getPrototypeOf(values), Object.prototype);
  assert.deepEqual(Object.entries(values), [['__proto__', 'x']]);
});

test('of values that are unique only some are kept, and all are right', () => {
  const first = of('{"city":"0"}');
  for (let n = 1; n <= 5_000; n++) {
    assert.deepEqual(of(`{"city":"${n}"}`).values, { city: String(n) });
  }
  const again = of('{"city":"0"}');
  assert.notEqual(again, first, 'nothing is held for ever');
  assert.deepEqual(again.values, first.values);
});
