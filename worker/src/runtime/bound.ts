/** A bounded place as a metric: what is in it now, and the most that may be (I7). */
export interface Bound {
  value: number;
  limit: number;
}

export type Bounds = Record<string, Bound>;

/** `name` and `name_limit`, for places where metrics are numbers by name. */
export function flattened(bounds: Bounds): Record<string, number> {
  return Object.fromEntries(
    Object.entries(bounds).flatMap(([name, { value, limit }]) => [
      [name, value],
      [`${name}${LIMIT_SUFFIX}`, limit],
    ]),
  );
}

export const LIMIT_SUFFIX = '_limit';
