/**
 * What a changed spec costs: each field belongs to a class by the disruption that its change
 * causes, and the dearest one wins. A field that is not named here is of the dearest class, so
 * that a new one is never applied by halves.
 */
import { isDeepStrictEqual } from 'node:util';
import { type CheckedSpec, type Fields, fieldAt } from './spec.ts';

/**
 * none: nothing restarts. scale: pods come or go. rolling: the JobManager's pods are replaced,
 * tasks run on. savepoint-restart: the job stops and begins again as another run.
 */
export type ChangeClass = 'none' | 'scale' | 'rolling' | 'savepoint-restart';

const ORDER: readonly ChangeClass[] = ['none', 'scale', 'rolling', 'savepoint-restart'];

/** By path; a path stands for all below it. The longest that fits counts. */
const CLASSES: ReadonlyMap<string, ChangeClass> = new Map([
  ['suspend', 'none'],
  ['upgradeMode', 'none'],
  ['upgrade', 'none'],
  ['deletionPolicy', 'none'],
  ['deletionTimeout', 'none'],
  ['networkPolicy', 'none'],
  ['serviceAccount.annotations', 'none'],
  ['taskManager.localState.lostNodeTimeout', 'none'],
  ['filter.script', 'none'],
  // Its keys are in the fields that they set by now; what is left has no effect.
  ['flinkConfiguration', 'none'],
  ['parallelism', 'scale'],
  ['taskManager.replicas', 'scale'],
  ['jobManager.replicas', 'scale'],
  ['jobManager.resources', 'rolling'],
  ['jobManager.podTemplate', 'rolling'],
]);

const RESTORE = 'restore.savepoint';

export interface SpecChange {
  class: ChangeClass;
  /** What changed, as paths of spec. */
  paths: string[];
  /** The savepoint that the user asks to begin again from; null: there is none. */
  restore: string | null;
}

/** null: they say the same. */
export function specChange(before: CheckedSpec, after: CheckedSpec): SpecChange | null {
  const paths = [...changedPaths(before.complete, after.complete, '')];
  if (paths.length === 0) return null;
  const asked = paths.includes(RESTORE) ? fieldAt(after.complete, RESTORE) : '';
  const restore = typeof asked === 'string' && asked !== '' ? asked : null;
  let dearest = 0;
  for (const path of paths) {
    // Taking back what was used once changes nothing.
    const known = path === RESTORE && restore === null ? 'none' : classOf(path);
    dearest = Math.max(dearest, ORDER.indexOf(known));
  }
  return { class: ORDER[dearest] ?? 'savepoint-restart', paths, restore };
}

function classOf(path: string): ChangeClass {
  for (let at = path; at !== ''; at = at.slice(0, Math.max(at.lastIndexOf('.'), 0))) {
    const found = CLASSES.get(at);
    if (found !== undefined) return found;
  }
  return 'savepoint-restart';
}

/** Paths of the smallest parts that differ; lists are compared as wholes. */
function* changedPaths(before: Fields, after: Fields, prefix: string): Generator<string> {
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = [before[key], after[key]];
    const path = prefix === '' ? key : `${prefix}.${key}`;
    if (isMap(old) && isMap(now)) yield* changedPaths(old, now, path);
    else if (!isDeepStrictEqual(old, now)) yield path;
  }
}

const isMap = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * Why the state could not go from one spec to the other; null: it can. `carried`: it goes by a
 * savepoint, which can be read from anywhere. CEL says some of this at admission already, but an
 * object that was deleted and made again has no old self.
 */
export function stateFault(
  before: CheckedSpec,
  after: CheckedSpec,
  carried: boolean,
): string | null {
  for (const field of ['keyBy', 'maxParallelism'] as const) {
    const [old, now] = [before.plan[field], after.plan[field]];
    if (old === now) continue;
    const given = fieldAt(after.written, field) === undefined ? ELSEWHERE[field] : '';
    return (
      `spec.${field} is ${now}${given}, and the state was made with ${old}: write ${old} again, ` +
      'or set upgradeMode: stateless to begin without it'
    );
  }
  const [old, now] = [storeOf(before), storeOf(after)];
  if (old === now || carried) return null;
  return (
    `spec.checkpointing leads to ${now}, and the newest checkpoint lies in ${old}: set ` +
    'upgradeMode: savepoint to carry the state over, or stateless to begin without it'
  );
}

/** CEL sees neither: flinkConfiguration has any keys, nested or dotted. */
const ELSEWHERE = {
  keyBy: ' by default',
  maxParallelism: ' (pipeline.max-parallelism in spec.flinkConfiguration, or the default)',
} as const;

const storeOf = ({ plan }: CheckedSpec): string => {
  const { directory, s3 } = plan.checkpointing;
  return s3.endpoint === null ? directory : `${directory} at ${s3.endpoint}`;
};
