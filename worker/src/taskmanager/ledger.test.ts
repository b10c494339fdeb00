import assert from 'node:assert/strict';
import { test } from 'node:test';
import { imbalance } from '../checkpoint/conservation.ts';
import { GroupLedger } from './ledger.ts';

test('counts belong to their key group and sum up', () => {
  const ledger = new GroupLedger(16);
  ledger.add('accepted', 3, 5);
  ledger.add('accepted', 4);
  ledger.add('noMatch', 3, 2);
  ledger.add('delivered', 3);
  ledger.add('deadLettered', 4);
  assert.deepEqual(ledger.group(3), [5, 2, 1, 0]);
  assert.deepEqual(ledger.group(4), [1, 0, 0, 1]);
  assert.equal(ledger.group(5), null);
  const totals = ledger.totals(1, 1);
  assert.deepEqual(totals, {
    accepted: 6,
    noMatch: 2,
    delivered: 1,
    deadLettered: 1,
    parked: 1,
    inOutbox: 1,
  });
  assert.equal(imbalance(totals), 0);
  assert.equal(imbalance({ ...totals, parked: 0 }), 1, 'a lost record shows');
  assert.equal(imbalance({ ...totals, delivered: 2 }), -1, 'one counted twice too');
});

test('a group moves to another task with its counts', () => {
  const [from, to] = [new GroupLedger(8), new GroupLedger(8)];
  from.add('accepted', 7, 9);
  from.add('delivered', 7, 9);
  to.restore(7, from.group(7)!);
  assert.deepEqual(to.group(7), [9, 0, 9, 0]);
  to.restore(7, [1, 1, 0, 0]);
  assert.deepEqual(to.group(7), [1, 1, 0, 0], 'restoring sets, it does not add');
});

test('counts beyond 32 bits stay exact', () => {
  const ledger = new GroupLedger(1);
  ledger.add('accepted', 0, 2 ** 40);
  ledger.add('accepted', 0);
  assert.equal(ledger.totals(0, 0).accepted, 2 ** 40 + 1);
});
