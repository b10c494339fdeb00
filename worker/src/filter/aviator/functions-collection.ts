/**
 * Functions that make, read and change collections. Event data is read only: changing it is an
 * error.
 */
import { arg, type Builtins, builtin, numberArg } from './builtin.ts';
import { same } from './compare.ts';
import type { Frame } from './frame.ts';
import {
  Dictionary,
  Entry,
  Fault,
  isList,
  isNumeric,
  isPlainObject,
  keyOf,
  List,
  SetValue,
  typeName,
  type Value,
} from './values.ts';

const ANY = Number.POSITIVE_INFINITY;

function wrong(name: string, value: Value): Fault {
  const isGiven = isList(value) || isPlainObject(value);
  return new Fault(
    isGiven ? `${name}: event data cannot be changed` : `${name}: not for a ${typeName(value)}`,
  );
}

/** `target[index]`, and seq.get: a miss in a map is nil, a position outside of a list an error. */
export function elementAt(target: Value, index: Value, name: string): Value {
  if (target instanceof List) return itemAt(target.items, index, name);
  if (isList(target)) return itemAt(target, index, name);
  if (target instanceof Dictionary) return target.entries.get(keyOf(index))?.value ?? null;
  if (isPlainObject(target)) {
    const isOwn = typeof index === 'string' && Object.hasOwn(target, index);
    return isOwn ? (target[index] ?? null) : null;
  }
  throw new Fault(`${name}: a ${typeName(target)} has no elements`);
}

function itemAt(items: readonly Value[], index: Value, name: string): Value {
  return items[position(items, index, name)] as Value;
}

function position(items: readonly Value[], index: Value, name: string): number {
  if (!isNumeric(index))
    throw new Fault(`${name}: the index is a ${typeName(index)}, not a number`);
  const at = Math.trunc(numberArg([index], 0, name));
  if (at >= 0 && at < items.length) return at;
  throw new Fault(`${name}: index outside of the list`);
}

/** Puts a value into a collection the script made, and returns the one that was there. */
export function putElement(
  frame: Frame,
  target: Value,
  index: Value,
  value: Value,
  name: string,
): Value {
  if (target instanceof List) {
    const at = position(target.items, index, name);
    const previous = target.items[at] as Value;
    target.items[at] = value;
    return previous;
  }
  if (!(target instanceof Dictionary)) throw wrong(name, target);
  const key = keyOf(index);
  const previous = target.entries.get(key)?.value ?? null;
  target.entries.set(key, new Entry(index, value));
  frame.checkSize(target.entries.size);
  return previous;
}

function add(frame: Frame, args: readonly Value[]): Value {
  const target = arg(args, 0);
  const item = arg(args, 1);
  if (args.length === 3) {
    if (target instanceof List && !target.fixed) throw wrong('seq.add', target);
    putElement(frame, target, item, arg(args, 2), 'seq.add');
  } else if (target instanceof List && !target.fixed) {
    target.items.push(item);
    frame.checkSize(target.items.length);
  } else if (target instanceof SetValue) {
    target.items.set(keyOf(item), item);
    frame.checkSize(target.items.size);
  } else if (target instanceof Dictionary && item instanceof Entry) {
    putElement(frame, target, item.key, item.value, 'seq.add');
  } else {
    throw wrong('seq.add', target);
  }
  return target;
}

function remove(frame: Frame, args: readonly Value[]): Value {
  const target = arg(args, 0);
  const item = arg(args, 1);
  if (target instanceof List && !target.fixed) {
    frame.charge(target.items.length);
    const at = target.items.findIndex((other) => same(other, item));
    if (at >= 0) target.items.splice(at, 1);
  } else if (target instanceof SetValue) {
    target.items.delete(keyOf(item));
  } else if (target instanceof Dictionary) {
    target.entries.delete(keyOf(item));
  } else {
    throw wrong('seq.remove', target);
  }
  return target;
}

function get(_frame: Frame, args: readonly Value[]): Value {
  const target = arg(args, 0);
  const key = arg(args, 1);
  if (target instanceof SetValue) return target.items.has(keyOf(key)) ? key : null;
  return elementAt(target, key, 'seq.get');
}

function containsKey(_frame: Frame, args: readonly Value[]): Value {
  const target = arg(args, 0);
  const key = arg(args, 1);
  if (target === null) return false;
  if (target instanceof Dictionary) return target.entries.has(keyOf(key));
  if (isPlainObject(target)) return typeof key === 'string' && Object.hasOwn(target, key);
  const items = target instanceof List ? target.items : target;
  if (!isList(items as Value)) throw new Fault(`seq.contains_key: not for a ${typeName(target)}`);
  const at = Math.trunc(numberArg(args, 1, 'seq.contains_key'));
  return at >= 0 && at < (items as readonly Value[]).length;
}

function keys(frame: Frame, args: readonly Value[]): Value {
  const target = arg(args, 0);
  if (target === null) return null;
  const set = new SetValue();
  for (const key of entriesOf(frame, target, 'seq.keys')) set.items.set(keyOf(key.key), key.key);
  return set;
}

function vals(frame: Frame, args: readonly Value[]): Value {
  const target = arg(args, 0);
  if (target === null) return null;
  return new List(entriesOf(frame, target, 'seq.vals').map((entry) => entry.value));
}

function entriesOf(frame: Frame, target: Value, name: string): Entry[] {
  if (target instanceof Dictionary) {
    frame.charge(target.entries.size);
    return [...target.entries.values()];
  }
  if (!isPlainObject(target)) throw new Fault(`${name}: a ${typeName(target)} is not a map`);
  const pairs = Object.entries(target);
  frame.checkSize(pairs.length);
  frame.charge(pairs.length);
  return pairs.map(([key, value]) => new Entry(key, value));
}

function dictionary(frame: Frame, args: readonly Value[]): Value {
  if (args.length % 2 !== 0) throw new Fault('seq.map: keys and values come in pairs');
  const map = new Dictionary();
  for (let i = 0; i < args.length; i += 2)
    putElement(frame, map, arg(args, i), arg(args, i + 1), 'seq.map');
  return map;
}

function set(frame: Frame, args: readonly Value[]): Value {
  const result = new SetValue();
  for (const item of args) {
    result.items.set(keyOf(item), item);
    frame.charge(1);
  }
  return result;
}

export const COLLECTION_FUNCTIONS: Builtins = {
  tuple: builtin(0, ANY, (_frame, args) => new List([...args], true)),
  'seq.list': builtin(0, ANY, (_frame, args) => new List([...args])),
  'seq.set': builtin(0, ANY, set),
  'seq.map': builtin(0, ANY, dictionary),
  'seq.entry': builtin(2, 2, (_frame, args) => new Entry(arg(args, 0), arg(args, 1))),
  'seq.get': builtin(2, 2, get),
  'seq.put': builtin(3, 3, (frame, args) => {
    return putElement(frame, arg(args, 0), arg(args, 1), arg(args, 2), 'seq.put');
  }),
  'seq.add': builtin(2, 3, add),
  'seq.remove': builtin(2, 2, remove),
  'seq.contains_key': builtin(2, 2, containsKey),
  'seq.keys': builtin(1, 1, keys),
  'seq.vals': builtin(1, 1, vals),
};
