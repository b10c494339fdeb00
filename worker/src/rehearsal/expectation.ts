/**
 * What a test expects against what happened. Pure. An object that is expected names only the fields
 * that matter; a list is expected whole, element by element; anything else must be equal.
 */
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';

export interface Expectation {
  /** All that arrived since the test began, each once, in the order of their first arrival. */
  deliveries?: readonly JsonObject[];
  deadLetters?: readonly JsonObject[];
  /** By user; null: the user has no state. */
  state?: Readonly<Record<string, JsonObject | null>>;
  /** Deliveries that came again, with the id they had before. */
  repeats?: number;
}

export interface Happened {
  deliveries: readonly JsonObject[];
  deadLetters: readonly JsonObject[];
  state: ReadonlyMap<string, JsonObject>;
  repeats: number;
}

/** `undefined` on either side: there is nothing. */
export interface Difference {
  /** Such as `state.u1.visit.event_count`. */
  path: string;
  expected: JsonValue | undefined;
  actual: JsonValue | undefined;
}

export function differences(expected: Expectation, happened: Happened): Difference[] {
  const found: Difference[] = [];
  for (const name of ['deliveries', 'deadLetters'] as const) {
    const list = expected[name];
    if (list !== undefined) found.push(...ofLists(name, list, happened[name]));
  }
  for (const [user, wanted] of Object.entries(expected.state ?? {})) {
    const path = `state.${user}`;
    const actual = happened.state.get(user);
    if (wanted !== null) found.push(...ofValues(path, wanted, actual));
    else if (actual !== undefined) found.push({ path, expected: undefined, actual });
  }
  const { repeats } = expected;
  if (repeats !== undefined) found.push(...ofValues('repeats', repeats, happened.repeats));
  return found;
}

/** Of the same length: field by field. Else what has no counterpart on the other side. */
function ofLists(
  path: string,
  expected: readonly JsonObject[],
  actual: readonly JsonObject[],
): Difference[] {
  if (expected.length === actual.length) {
    return expected.flatMap((one, at) => ofValues(`${path}[${at}]`, one, actual[at]));
  }
  const rest = actual.map((value, at) => ({ value, at }));
  const found: Difference[] = [];
  for (const [at, wanted] of expected.entries()) {
    const match = rest.findIndex(({ value }) => ofValues('', wanted, value).length === 0);
    if (match >= 0) rest.splice(match, 1);
    else found.push({ path: `${path}[${at}]`, expected: wanted, actual: undefined });
  }
  for (const { value, at } of rest) {
    found.push({ path: `${path}[${at}]`, expected: undefined, actual: value });
  }
  return found;
}

function ofValues(path: string, expected: JsonValue, actual: JsonValue | undefined): Difference[] {
  if (Array.isArray(expected) && Array.isArray(actual) && expected.length === actual.length) {
    return expected.flatMap((one, at) => ofValues(`${path}[${at}]`, one, actual[at]));
  }
  if (isJsonObject(expected) && actual !== undefined && isJsonObject(actual)) {
    return Object.entries(expected).flatMap(([name, one]) =>
      ofValues(`${path}.${name}`, one, Object.hasOwn(actual, name) ? actual[name] : undefined),
    );
  }
  return expected === actual ? [] : [{ path, expected, actual }];
}
