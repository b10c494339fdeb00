/**
 * Flink's metric ids over REST: [{id}] without `get`, [{id, value}] with it, and over several
 * subjects [{id, min, max, avg, sum}]. Values of a single subject are text. Pure.
 */
import type { JsonObject } from '../runtime/json.ts';
import type { FlinkMetric } from './flink-metrics.ts';
import { RestError } from './rest-error.ts';

const AGGREGATIONS: Readonly<Record<string, (values: readonly number[]) => number>> = {
  min: (values) => Math.min(...values),
  max: (values) => Math.max(...values),
  avg: (values) => total(values) / values.length,
  sum: total,
};

/** Ids of one request; Flink's own page asks for some tens. */
const MAX_IDS = 1_000;

export interface MetricValue {
  id: string;
  value: number | string;
}

/** Operators' metrics bear their operator's name, all others their own alone. */
export function withIds(metrics: readonly FlinkMetric[], prefix = ''): MetricValue[] {
  return metrics.map(({ scope, name, labels, value }) => ({
    id: prefix + (scope === 'operator' ? `${labels['operator_name']}.${name}` : name),
    value,
  }));
}

/** All metrics of one subject, or those that are asked for and exist. */
export function metricList(values: readonly MetricValue[], query: URLSearchParams): JsonObject[] {
  const asked = listed(query, 'get');
  if (asked === null) return values.map(({ id }) => ({ id }));
  const wanted = new Set(asked);
  return values
    .filter(({ id }) => wanted.has(id))
    .map(({ id, value }) => ({ id, value: String(value) }));
}

/** Over all subjects; text has no aggregate. */
export function aggregatedMetrics(
  values: readonly MetricValue[],
  query: URLSearchParams,
): JsonObject[] {
  const byId = Map.groupBy(values, ({ id }) => id);
  const asked = listed(query, 'get');
  if (asked === null) return [...byId.keys()].map((id) => ({ id }));
  const aggregations = (listed(query, 'agg') ?? Object.keys(AGGREGATIONS)).map((name) => {
    const known = name.toLowerCase();
    if (Object.hasOwn(AGGREGATIONS, known)) return known;
    throw new RestError(400, `agg=${name}: use ${Object.keys(AGGREGATIONS).join(', ')}`);
  });
  return [...new Set(asked)].flatMap((id) => {
    const numbers = (byId.get(id) ?? []).flatMap(({ value }) =>
      typeof value === 'number' ? [value] : [],
    );
    if (numbers.length === 0) return [];
    const entries = aggregations.map((name) => [name, AGGREGATIONS[name]!(numbers)]);
    return [{ id, ...Object.fromEntries(entries) }];
  });
}

/** A list with commas of the query; null = it is not there. Flink's tools repeat it, too. */
export function listed(query: URLSearchParams, name: string): string[] | null {
  const given = query.getAll(name).flatMap((text) => text.split(','));
  const parts = given.map((part) => part.trim()).filter((part) => part !== '');
  if (parts.length > MAX_IDS) throw new RestError(400, `${name} names more than ${MAX_IDS}`);
  return parts.length === 0 ? null : parts;
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
