/** A script's value as JSON for a reader: types JSON lacks become text, long values are cut. */
import type { JsonObject, JsonValue } from '../../runtime/json.ts';
import {
  Dictionary,
  Double,
  Entry,
  List,
  Pattern,
  Range,
  ScriptValue,
  SetValue,
  type Value,
} from './values.ts';

/** Characters of one value that are shown; what is cut off ends in an ellipsis. */
const MAX_SHOWN_CHARS = 400;
/** Elements of one collection that are shown. */
const MAX_SHOWN_ITEMS = 10;
const MAX_SHOWN_DEPTH = 4;
const CUT = '…';

type Field = readonly [string, Value];

/** Of JSON, which no script changes: what is shown of it, and how many fields there are. */
const HEADS = new WeakMap<object, { fields: readonly Field[]; count: number }>();

interface Room {
  left: number;
}

export function shownValue(value: Value | undefined): JsonValue {
  return shown(value ?? null, { left: MAX_SHOWN_CHARS }, 0);
}

export function shortened(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit).toWellFormed()}${CUT}`;
}

function shown(value: Value, room: Room, depth: number): JsonValue {
  room.left -= 4;
  if (value === null || typeof value === 'boolean' || typeof value === 'number') return value;
  if (room.left <= 0) return CUT;
  if (typeof value === 'string') {
    const text = shortened(value, room.left);
    room.left -= text.length;
    return text;
  }
  if (value instanceof ScriptValue) return shownScriptValue(value, room, depth);
  if (Array.isArray(value)) return shownItems(value, value.length, room, depth);
  const { fields, count } = headOf(value as JsonObject);
  return shownFields(fields, count, room, depth);
}

/** A loop shows the same object in each of its rounds, and keys can't be listed in part. */
function headOf(value: JsonObject): { fields: readonly Field[]; count: number } {
  const known = HEADS.get(value);
  if (known !== undefined) return known;
  const names = Object.keys(value);
  const fields = names.slice(0, MAX_SHOWN_ITEMS).map((name): Field => [name, value[name] ?? null]);
  const head = { fields, count: names.length };
  HEADS.set(value, head);
  return head;
}

function shownScriptValue(value: ScriptValue, room: Room, depth: number): JsonValue {
  if (value instanceof Double) return value.value;
  if (value instanceof List) return shownItems(value.items, value.items.length, room, depth);
  if (value instanceof SetValue) {
    return shownItems(value.items.values(), value.items.size, room, depth);
  }
  if (value instanceof Entry) return shownItems([value.key, value.value], 2, room, depth);
  if (value instanceof Pattern) return `/${shortened(value.source, room.left)}/`;
  if (value instanceof Range) {
    return shownItems([value.start, value.end, value.step], 3, room, depth);
  }
  if (!(value instanceof Dictionary)) return `<${value.type}>`;
  return shownFields(fieldsOf(value, room, depth), value.entries.size, room, depth);
}

function* fieldsOf({ entries }: Dictionary, room: Room, depth: number): Iterable<Field> {
  for (const { key, value } of entries.values()) yield [String(shown(key, room, depth + 1)), value];
}

function shownItems(items: Iterable<Value>, count: number, room: Room, depth: number): JsonValue {
  if (depth >= MAX_SHOWN_DEPTH) return CUT;
  const list: JsonValue[] = [];
  for (const item of items) {
    if (list.length >= MAX_SHOWN_ITEMS || room.left <= 0) break;
    list.push(shown(item, room, depth + 1));
  }
  if (list.length < count) list.push(`${CUT} ${count - list.length} more`);
  return list;
}

function shownFields(pairs: Iterable<Field>, count: number, room: Room, depth: number): JsonValue {
  if (depth >= MAX_SHOWN_DEPTH) return CUT;
  const fields: [string, JsonValue][] = [];
  for (const [key, item] of pairs) {
    if (fields.length >= MAX_SHOWN_ITEMS || room.left <= 0) break;
    const name = shortened(key, room.left);
    room.left -= name.length;
    fields.push([name, shown(item, room, depth + 1)]);
  }
  if (fields.length < count) fields.push([CUT, `${count - fields.length} more`]);
  // fromEntries defines own properties: a field called __proto__ stays one.
  return Object.fromEntries(fields) as JsonObject;
}
