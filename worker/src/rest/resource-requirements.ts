/**
 * Flink's resource requirements: {vertex id: {parallelism: {lowerBound, upperBound}}}. The stages
 * of a slot are chained, so all vertices have one parallelism. Pure.
 */
import type { JobView } from '../jobmanager/job-view.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';
import { VERTEX_IDS } from './flink-vertices.ts';
import { RestError } from './rest-error.ts';

/** With a single slot the job still runs. */
const LOWER_BOUND = 1;

export function resourceRequirements(view: JobView): JsonObject {
  const parallelism = { lowerBound: LOWER_BOUND, upperBound: view.scaling.wanted };
  return Object.fromEntries(VERTEX_IDS.map((id) => [id, { parallelism: { ...parallelism } }]));
}

/** The upper bound that all four vertices ask for. Throws RestError 400. */
export function askedParallelism(body: Readonly<Record<string, unknown>>): number {
  const refuse = (why: string): never => {
    throw new RestError(400, why);
  };
  const unknown = Object.keys(body).find((id) => !VERTEX_IDS.includes(id));
  if (unknown !== undefined) refuse(`${unknown} is no vertex of the job`);
  const bounds = VERTEX_IDS.map((id) => {
    const { lowerBound, upperBound } = boundsOf(body[id] as JsonValue | undefined);
    if (lowerBound !== LOWER_BOUND) refuse(`vertex ${id}: lowerBound must be ${LOWER_BOUND}`);
    if (typeof upperBound === 'number') return upperBound;
    return refuse(`vertex ${id}: parallelism.upperBound is missing; all vertices must be named`);
  });
  const [first = 0] = bounds;
  if (bounds.every((bound) => bound === first)) return first;
  const all = bounds.join(', ');
  return refuse(`all vertices must ask for the same upperBound, they ask for ${all}`);
}

function boundsOf(requirement: JsonValue | undefined): JsonObject {
  if (requirement === undefined || !isJsonObject(requirement)) return { lowerBound: LOWER_BOUND };
  const { parallelism } = requirement;
  if (parallelism === undefined || !isJsonObject(parallelism)) return { lowerBound: LOWER_BOUND };
  return { lowerBound: LOWER_BOUND, ...parallelism };
}
