/** Functions that walk a collection: map, filter, reduce, sort, and the seq.* tests. */
import {
  arg,
  type Builtin,
  type Builtins,
  builtin,
  functionArg,
  test,
  textArg,
} from './builtin.ts';
import { compare, equal } from './compare.ts';
import type { Frame } from './frame.ts';
import { MAX_COLLECTION_SIZE } from './limits.ts';
import { forEach, rangeSize, sizeOf } from './sequences.ts';
import {
  Double,
  Fault,
  FunctionValue,
  isList,
  keyOf,
  List,
  property,
  Range,
  SetValue,
  typeName,
  type Value,
} from './values.ts';

function mapAll(frame: Frame, args: readonly Value[]): Value {
  const over = arg(args, 0);
  const fn = functionArg(args, 1, 'map');
  if (over === null) return null;
  const into = collector(over);
  // Aviator makes room for whole steps only and fails on the rest.
  let room = over instanceof Range ? rangeSize(over) || MAX_COLLECTION_SIZE : MAX_COLLECTION_SIZE;
  forEach(frame, over, 'map', (item) => {
    if (--room < 0) throw new Fault('map: the range does not end on a whole step');
    into.add(frame, fn.invoke(frame, [item]));
    return true;
  });
  return into.result;
}

function filterAll(frame: Frame, args: readonly Value[]): Value {
  const over = arg(args, 0);
  const fn = functionArg(args, 1, 'filter');
  if (over === null) return null;
  const into = collector(over);
  forEach(frame, over, 'filter', (item) => {
    if (test(frame, fn, item, 'filter')) into.add(frame, item);
    return true;
  });
  return into.result;
}

/** A set gives a set, everything else a list. */
function collector(over: Value): { result: Value; add: (frame: Frame, item: Value) => void } {
  if (over instanceof SetValue) {
    const set = new SetValue();
    return {
      result: set,
      add(frame, item) {
        set.items.set(keyOf(item), item);
        frame.checkSize(set.items.size);
      },
    };
  }
  const items: Value[] = [];
  return {
    result: new List(items),
    add(frame, item) {
      items.push(item);
      frame.checkSize(items.length);
    },
  };
}

function reduce(frame: Frame, args: readonly Value[]): Value {
  const fn = functionArg(args, 1, 'reduce');
  let result = arg(args, 2);
  forEach(frame, arg(args, 0), 'reduce', (item) => {
    result = fn.invoke(frame, [result, item]);
    return true;
  });
  return result;
}

function sort(frame: Frame, args: readonly Value[]): Value {
  const list = arg(args, 0);
  const given = args.length > 1 ? functionArg(args, 1, 'sort') : null;
  if (given !== null && given.ordering === null) {
    throw new Fault('sort: argument 2 is not a comparator(...)');
  }
  if (list === null) return null;
  if (!(list instanceof List) && !isList(list)) {
    throw new Fault(`sort: a ${typeName(list)} is not a list`);
  }
  const items = [...(list instanceof List ? list.items : list)];
  frame.checkSize(items.length);
  frame.charge(items.length);
  const ordering = given?.ordering ?? null;
  items.sort((a, b) => {
    frame.charge(1);
    if (ordering !== null) return ordering(frame, [a, b]) as number;
    sameClass(a, b);
    return compare(a, b, 'sort');
  });
  return new List(items, list instanceof List && list.fixed);
}

/** Java's compareTo: a long and a double do not compare, nor does nil with anything. */
function sameClass(a: Value, b: Value): void {
  if (a === null || b === null || typeName(a) !== typeName(b)) {
    throw new Fault(`cannot order ${typeName(a)} and ${typeName(b)}`);
  }
}

function extremeOf(name: string, sign: 1 | -1): Builtin {
  return builtin(1, 1, (frame, args) => {
    let result: Value = null;
    let isFirst = true;
    forEach(frame, arg(args, 0), name, (item) => {
      if (item === null) {
        if (sign < 0) result = null;
        isFirst = false;
        return sign > 0;
      }
      if (!isFirst) sameClass(item, result);
      if (isFirst || compare(item, result, name) * sign > 0) result = item;
      isFirst = false;
      return true;
    });
    return result;
  });
}

function include(frame: Frame, args: readonly Value[]): Value {
  const over = arg(args, 0);
  const wanted = arg(args, 1);
  if (over instanceof SetValue) return over.items.has(keyOf(wanted));
  let found = false;
  // Aviator answers false where the first argument is no sequence.
  if (typeof over === 'number' || typeof over === 'boolean' || over instanceof Double) return false;
  forEach(frame, over, 'include', (item) => {
    found = equal(item, wanted);
    return !found;
  });
  return found;
}

function quantifier(
  name: string,
  onEmpty: Value,
  stopOn: boolean,
  onStop: boolean | 'item',
): Builtin {
  return builtin(2, 2, (frame, args) => {
    const fn = functionArg(args, 1, name);
    let result = onEmpty;
    forEach(frame, arg(args, 0), name, (item) => {
      if (test(frame, fn, item, name) !== stopOn) return true;
      result = onStop === 'item' ? item : onStop;
      return false;
    });
    return result;
  });
}

/** seq.gt(5), or seq.gt(5, "price") to test a property of each element. */
function predicate(name: string, holds: (a: Value, b: Value) => boolean): Builtin {
  return builtin(1, 2, (_frame, args) => makePredicate(name, holds, arg(args, 0), args, 1));
}

function fixedPredicate(
  name: string,
  holds: (a: Value, b: Value) => boolean,
  value: Value,
): Builtin {
  return builtin(0, 0, (_frame, args) => makePredicate(name, holds, value, args, 0));
}

function makePredicate(
  name: string,
  holds: (a: Value, b: Value) => boolean,
  value: Value,
  args: readonly Value[],
  propertyIndex: number,
): FunctionValue {
  const path = args.length > propertyIndex ? textArg(args, propertyIndex, name).split('.') : [];
  return new FunctionValue(name, (frame, [item = null]) => {
    frame.charge(1 + path.length);
    return holds(path.reduce(property, item), value);
  });
}

function composed(name: string, isAnd: boolean): Builtin {
  return builtin(0, Number.POSITIVE_INFINITY, (_frame, args) => {
    if (args.length === 0) return isAnd;
    return new FunctionValue(name, (frame, item) => {
      for (const [index] of args.entries()) {
        const holds = functionArg(args, index, name).invoke(frame, item) === true;
        if (holds !== isAnd) return holds;
      }
      return isAnd;
    });
  });
}

function is(wanted: (order: number) => boolean) {
  return (a: Value, b: Value): boolean => wanted(compare(a, b, 'the predicate'));
}

type OfSize = (frame: Frame, size: number) => Value;

function count(frame: Frame, size: number): number {
  frame.charge(Math.floor(size / 16));
  return size;
}

function isEmpty(frame: Frame, size: number): boolean {
  return count(frame, size) === 0;
}

function ofSize(apply: OfSize): Builtin {
  return builtin(1, 1, (frame, args) => apply(frame, sizeOf(arg(args, 0))));
}

/** Functions of a sequence's size alone: what they say of `size` elements, and charge for it. */
export const SIZE_FUNCTIONS: ReadonlyMap<string, OfSize> = new Map<string, OfSize>([
  ['count', count],
  ['is_empty', isEmpty],
]);

export const SEQUENCE_FUNCTIONS: Builtins = {
  count: ofSize(count),
  is_empty: ofSize(isEmpty),
  include: builtin(2, 2, include),
  map: builtin(2, 2, mapAll),
  filter: builtin(2, 2, filterAll),
  reduce: builtin(3, 3, reduce),
  sort: builtin(1, 2, sort),
  range: builtin(2, 3, (_frame, args) => {
    const [start = null, end = null, step = 1] = args;
    for (const value of [start, end, step]) {
      if (typeof value !== 'number' && !(value instanceof Double)) {
        throw new Fault(`range: a ${typeName(value)} is not a number`);
      }
    }
    return new Range(start, end, step);
  }),
  'seq.min': extremeOf('seq.min', -1),
  'seq.max': extremeOf('seq.max', 1),
  'seq.every': quantifier('seq.every', true, false, false),
  'seq.not_any': quantifier('seq.not_any', true, true, false),
  'seq.some': quantifier('seq.some', null, true, 'item'),
  'seq.eq': predicate(
    'seq.eq',
    is((c) => c === 0),
  ),
  'seq.neq': predicate(
    'seq.neq',
    is((c) => c !== 0),
  ),
  'seq.gt': predicate(
    'seq.gt',
    is((c) => c > 0),
  ),
  'seq.ge': predicate(
    'seq.ge',
    is((c) => c >= 0),
  ),
  'seq.lt': predicate(
    'seq.lt',
    is((c) => c < 0),
  ),
  'seq.le': predicate(
    'seq.le',
    is((c) => c <= 0),
  ),
  'seq.nil': fixedPredicate(
    'seq.nil',
    is((c) => c === 0),
    null,
  ),
  'seq.exists': fixedPredicate(
    'seq.exists',
    is((c) => c !== 0),
    null,
  ),
  'seq.and': composed('seq.and', true),
  'seq.or': composed('seq.or', false),
};
