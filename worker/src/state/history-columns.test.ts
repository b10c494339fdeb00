import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '../runtime/json.ts';
import { HistoryColumns, sharedTexts } from './history-columns.ts';
import { HistoryView } from './history-view.ts';

const setOf = (...paths: string[]) => ({
  paths: paths.map((path) => path.split('.')),
  retired: false,
});

const EVENTS: JsonObject[] = [
  { name: 'buy', at: 1.5, cart: { total: 10, items: [1] } },
  { name: 'buy', at: 2, cart: null, constructor: 'own' },
  { at: 'late', name: null, cart: { total: null } },
  {},
];

test('an event shows what it has at the paths, and nothing else', () => {
  const columns = new HistoryColumns(setOf('at', 'cart.total', 'constructor', 'name'), EVENTS);
  const seen: JsonObject[] = [
    { name: 'buy', at: 1.5, cart: { total: 10 } },
    { name: 'buy', at: 2, constructor: 'own' },
    { at: 'late' },
    {},
  ];
  assert.deepEqual(columns.events(), seen);
  assert.deepEqual(new HistoryColumns(setOf('name'), EVENTS).events(), [
    { name: 'buy' },
    { name: 'buy' },
    {},
    {},
  ]);
  assert.deepEqual(new HistoryColumns(setOf(), EVENTS).events(), [{}, {}, {}, {}]);
});

test('the oldest go, and with them their share of the memory', () => {
  const texts = Array.from({ length: 50 }, (_, i) => ({ id: `${i}`.padStart(100, '-') }));
  const columns = new HistoryColumns(setOf('id'), texts);
  const full = columns.bytes;
  assert.ok(full > 50 * 100, `${full} bytes`);
  columns.keep(49);
  columns.keep(10);
  columns.keep(10);
  assert.deepEqual(columns.events(), texts.slice(40));
  assert.ok(columns.bytes < full / 3, `${columns.bytes} of ${full} bytes`);
  assert.ok(Number.isInteger(columns.bytes));
});

test('texts that come again cost nothing: in a user, and over users', () => {
  const events = Array.from({ length: 90 }, (_, i) => ({ name: `event-${i % 3}` }));
  const first = new HistoryColumns(setOf('name'), events);
  const second = new HistoryColumns(setOf('name'), JSON.parse(JSON.stringify(events)));
  assert.ok(first.bytes - second.bytes >= 3 * 7, `${first.bytes} and ${second.bytes}`);
  assert.ok(second.bytes < 90 * 8 + 300, `${second.bytes} bytes`);
});

test('shared texts are bounded: all are let go of', () => {
  const { limit } = sharedTexts.bound;
  const events = Array.from({ length: limit + 1 }, (_, i) => ({ id: `unique-${i}` }));
  const columns = new HistoryColumns(setOf('id'), events);
  assert.ok(sharedTexts.bound.value <= limit);
  assert.deepEqual(columns.events(), events);
});

test('an object, a list or a long text at a path, or no event: the rows are needed', () => {
  const misfits = [{ cart: { total: 1 } }, { cart: [1] }, { cart: 'x'.repeat(257) }, null, 'text'];
  for (const misfit of misfits) {
    const columns = new HistoryColumns(setOf('cart'), [{ cart: 1 }, misfit]);
    assert.ok(columns.unfit, JSON.stringify(misfit));
    columns.push({ cart: 2 });
    columns.keep(1);
    assert.ok(columns.unfit, 'for good: what it has lost is not counted');
  }
  assert.ok(!new HistoryColumns(setOf('cart.total'), [{ cart: [1] }, { cart: {} }]).unfit);
});

test('a view answers a script from what it asked for, until its script is another', () => {
  const view = new HistoryView();
  const names = setOf('name');
  assert.equal(view.known(names), null);
  assert.equal(view.take([...EVENTS], names).length, 4);
  assert.equal(view.known(null), null, 'whole events were not kept');
  assert.equal(view.known(setOf('name')), null, 'another script of the same fields');
  assert.equal(view.hasParsed, false);
  view.push({ name: 'sell' }, 3);
  assert.deepEqual(view.known(names), [{}, {}, { name: 'sell' }]);
  assert.ok(view.columnBytes > 0);
  names.retired = true;
  view.push({ name: 'sell' }, 3);
  assert.equal(view.columnBytes, 0);
  assert.equal(view.known(names), null);
});

test('where columns do not do, whole events are kept, and follow what comes', () => {
  const view = new HistoryView();
  const cart = setOf('cart');
  const asked = () => view.known(cart);
  view.take([...EVENTS], cart);
  assert.ok(view.hasParsed);
  assert.deepEqual(asked(), EVENTS);
  view.push({ cart: 1 }, 2);
  assert.deepEqual(asked(), [EVENTS[3], { cart: 1 }]);
  view.dropParsed();
  assert.equal(asked(), null);
});

test('an event that does not fit ends the columns: the rows are read again', () => {
  const view = new HistoryView();
  const cart = setOf('cart');
  view.take([{ cart: 1 }], cart);
  view.push({ cart: { total: 2 } }, 2);
  assert.equal(view.known(cart), null);
  assert.deepEqual(view.take([{ cart: 1 }, { cart: { total: 2 } }], cart).length, 2);
  assert.deepEqual(view.known(cart), [{ cart: 1 }, { cart: { total: 2 } }]);
});
