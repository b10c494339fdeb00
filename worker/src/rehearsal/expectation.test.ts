import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { differences, type Happened } from './expectation.ts';

const happened: Happened = {
  deliveries: [
    { userId: 'a', event: { name: 'x', n: 1 }, history: [] },
    { userId: 'b', event: { name: 'y', n: 2 }, history: [{ name: 'x' }] },
  ],
  deadLetters: [],
  state: new Map([['a', { visit: { event_count: 2 }, history: [{ name: 'x', n: 1 }] }]]),
  repeats: 1,
};

describe('expectation', () => {
  it('looks only at fields that are named, and at lists as a whole', () => {
    const expected = {
      deliveries: [{ userId: 'a' }, { event: { name: 'y' }, history: [{}] }],
      deadLetters: [],
      state: { a: { history: [{ name: 'x' }] }, b: null },
      repeats: 1,
    };
    assert.deepEqual(differences(expected, happened), []);
    assert.deepEqual(differences({}, happened), []);
  });

  it('names the path of each difference', () => {
    const expected = {
      deliveries: [{ userId: 'a', event: { name: 'z' } }, { history: [] }],
      state: { a: { visit: { event_count: 3, gone: null } }, c: {} },
      repeats: 0,
    };
    assert.deepEqual(differences(expected, happened), [
      { path: 'deliveries[0].event.name', expected: 'z', actual: 'x' },
      { path: 'deliveries[1].history', expected: [], actual: [{ name: 'x' }] },
      { path: 'state.a.visit.event_count', expected: 3, actual: 2 },
      { path: 'state.a.visit.gone', expected: null, actual: undefined },
      { path: 'state.c', expected: {}, actual: undefined },
      { path: 'repeats', expected: 0, actual: 1 },
    ]);
    const state = happened.state.get('a');
    assert.deepEqual(differences({ state: { a: null } }, happened), [
      { path: 'state.a', expected: undefined, actual: state },
    ]);
  });

  it('says what is missing and what is too much where the lengths differ', () => {
    const found = differences({ deliveries: [{ userId: 'b' }] }, happened);
    assert.deepEqual(found, [
      { path: 'deliveries[0]', expected: undefined, actual: happened.deliveries[0] },
    ]);
    const [missing] = differences({ deadLetters: [{ stage: 'state' }] }, happened);
    assert.deepEqual(missing, {
      path: 'deadLetters[0]',
      expected: { stage: 'state' },
      actual: undefined,
    });
  });
});
