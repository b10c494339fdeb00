/**
 * From the user's TriggerJob to the plan, or to all of its faults at once:
 * shape -> Flink keys -> defaults -> rules -> plan. Pure: what must be read from disk is handed in.
 */
import { buildPlan, type ScriptText } from './build.ts';
import { fillDefaults } from './defaults.ts';
import type { LooseSpec } from './derived.ts';
import { type Fault, Faults } from './fault.ts';
import { applyFlinkKeys } from './flink-keys.ts';
import type { JobPlan } from './job-plan.ts';
import { checkRules } from './rules.ts';
import { type CompleteTriggerJob, specSchema, triggerJobSchema } from './schema.ts';
import { nodeOf } from './schema-fields.ts';
import { checkShape, isFields } from './validate.ts';

export interface ResolveOptions {
  /**
   * A run on this machine: relative paths start at `baseDir`, what has no directory goes below
   * `stateDir`, ports are bound to loopback. Left out: a cluster, where the spec must say all that.
   */
  local?: { baseDir: string; stateDir: string };
  /** Content of filter.scriptFile or filter.scriptFrom, or why it can't be had. */
  script?: ScriptText | { problem: string };
}

/** Several times what the schema needs, and far from what recursion can bear. */
const MAX_DEPTH = 64;

/** Without recursion of its own; true for a value that contains itself. */
function isDeeperThan(value: unknown, limit: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > limit) return true;
    const below: unknown[] = [];
    for (const node of new Set(level)) {
      if (typeof node !== 'object' || node === null) continue;
      for (const child of Object.values(node)) below.push(child);
    }
    level = below;
  }
  return false;
}

/** `job` is the document with Flink's keys taken over and its defaults filled in. */
export type Resolution = { plan: JobPlan; job: CompleteTriggerJob } | { faults: Fault[] };

/** The plan of `doc`, or every fault of it. Never throws for what a user can write. */
export function resolveJob(doc: unknown, options: ResolveOptions = {}): Resolution {
  const faults = new Faults();
  if (!isFields(doc)) {
    return {
      faults: [{ path: '', message: 'the document must be a TriggerJob, a map of fields' }],
    };
  }
  if (isDeeperThan(doc, MAX_DEPTH)) {
    const message = `the document is nested deeper than ${MAX_DEPTH} levels: flatten it`;
    return { faults: [{ path: '', message }] };
  }
  const valid = checkShape(
    nodeOf(triggerJobSchema),
    doc,
    '',
    faults,
  ) as Partial<CompleteTriggerJob>;
  const given = isFields(valid.spec) ? applyFlinkKeys(valid.spec, faults) : {};
  const spec = fillDefaults(nodeOf(specSchema), given, 'spec', faults) as LooseSpec;
  const job = fillDefaults(nodeOf(triggerJobSchema), { ...valid, spec }, '', faults);
  const site = { baseDir: null, stateDir: null, ...options.local };
  const script = scriptOf(spec, options, faults);
  if (isFields(valid.spec)) {
    const { name = '', namespace = '' } = (job as CompleteTriggerJob).metadata ?? {};
    checkRules({ spec, given: given as LooseSpec, name, namespace, site }, faults);
  }
  if (faults.list.length > 0 || script === null) return { faults: faults.list };
  const plan = buildPlan(job as CompleteTriggerJob, script, site);
  if (plan === null) throw new Error('a TriggerJob without faults has no plan: a rule is missing');
  return { plan, job: job as CompleteTriggerJob };
}

function scriptOf(spec: LooseSpec, options: ResolveOptions, faults: Faults): ScriptText | null {
  const { script: text, scriptFile, scriptFrom } = spec.filter ?? {};
  const origin = 'spec.filter.script';
  if (text !== undefined) {
    if (text.trim() === '') faults.add(origin, 'is blank: write an expression');
    return { text, origin };
  }
  if (scriptFile === undefined && scriptFrom === undefined) return null;
  const path = scriptFile === undefined ? 'spec.filter.scriptFrom' : 'spec.filter.scriptFile';
  const found = options.script ?? { problem: 'was not read: give filter.script instead' };
  if ('problem' in found) faults.add(path, found.problem);
  else if (found.text.trim() === '') faults.add(path, `is blank (${found.origin})`);
  else return found;
  return null;
}
