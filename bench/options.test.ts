import assert from 'node:assert/strict';
import { it } from 'node:test';
import { positiveNumber, wholeNumber, wholeNumbers } from './options.ts';

it('takes numbers, and says of anything else what to write', () => {
  assert.deepEqual(wholeNumbers('--users', '1000,10'), [1_000, 10]);
  assert.equal(positiveNumber('--seconds', '0.5'), 0.5);
  const wrong = /--users is "(0|-1|1\.5|ten|)": write a whole number of 1 or more/;
  for (const given of ['0', '-1', '1.5', 'ten', '']) {
    assert.throws(() => wholeNumber('--users', given), wrong);
  }
  assert.throws(() => wholeNumbers('--users', '1,'), wrong);
  assert.throws(() => positiveNumber('--seconds', '0'), /--seconds is "0": write a number above 0/);
});
