/**
 * `triggerjob validate FILE`: every fault at once, those of the filter's script too, each with its
 * line and column in the file; or what would run.
 */
import { readFile } from 'node:fs/promises';
import { isScalar, LineCounter, parseDocument, Scalar } from 'yaml';
import { compileFilter } from '../filter/compile.ts';
import type { FilterLanguage, FilterPlan, JobPlan } from '../plan/job-plan.ts';
import { loadPlanFile } from '../plan/plan-file.ts';
import type { CompleteTriggerJob } from '../plan/schema.ts';
import { messageOf } from '../runtime/errors.ts';
import { isJsonObject } from '../runtime/json.ts';
import { formatAge, formatBytes } from './amounts.ts';
import { EXIT } from './exit-codes.ts';
import type { Terminal } from './terminal.ts';

/** Only to compile a script for its faults; nothing runs with it. */
const ANY_STEP_BUDGET = 1_000;
const INLINE_ORIGIN = 'spec.filter.script';

export interface FileFault {
  /** Of the job, or of the script file it names. */
  file: string;
  line: number;
  column: number;
  /** `spec.filter.script`; '' for a fault of the whole file. */
  field: string;
  /** May have several lines: a fault of a script shows the place with a caret. */
  message: string;
}

export type CheckedFile =
  | { plan: JobPlan; job: CompleteTriggerJob; faults: [] }
  | { plan: null; faults: FileFault[] };

/** `stateDir`: below which a local run keeps what the file gives no directory. */
export async function checkFile(file: string, stateDir?: string): Promise<CheckedFile> {
  const loaded = await loadPlanFile(file, stateDir === undefined ? {} : { stateDir });
  const faults: FileFault[] = loaded.faults.map(({ path, message, line, column }) => ({
    file,
    line,
    column,
    field: path,
    message,
  }));
  const filter = loaded.plan?.filter ?? inlineFilter(loaded.doc);
  const scriptFault = filter === null ? null : await faultOfScript(file, filter);
  if (scriptFault !== null) faults.push(scriptFault);
  if (loaded.plan !== null && faults.length === 0) {
    return { plan: loaded.plan, job: loaded.job, faults: [] };
  }
  faults.sort((a, b) => a.line - b.line || a.column - b.column);
  return { plan: null, faults };
}

/** The script of a file with other faults, so that its own are reported in the same run. */
function inlineFilter(doc: unknown): FilterPlan | null {
  const spec = isJsonObject(doc) ? doc['spec'] : undefined;
  const filter = isJsonObject(spec) ? spec['filter'] : undefined;
  if (!isJsonObject(filter)) return null;
  const { script, language = 'aviator' } = filter;
  if (typeof script !== 'string' || script.trim() === '') return null;
  if (language !== 'aviator' && language !== 'filtrex') return null;
  const known: FilterLanguage = language;
  return { language: known, script, origin: INLINE_ORIGIN, stepBudget: ANY_STEP_BUDGET };
}

async function faultOfScript(file: string, filter: FilterPlan): Promise<FileFault | null> {
  try {
    compileFilter(filter);
    return null;
  } catch (error) {
    const text = messageOf(error);
    const place = /^(.*?):(\d+):(\d+): ([\s\S]*)$/.exec(text);
    const position = { line: Number(place?.[2] ?? 1), column: Number(place?.[3] ?? 1) };
    const message = place?.[4] ?? text;
    if (filter.origin !== INLINE_ORIGIN) {
      return { file: filter.origin, ...position, field: 'spec.filter', message };
    }
    const at = placeOfScript(await readFile(file, 'utf8'), position);
    return { file, ...at, field: INLINE_ORIGIN, message };
  }
}

/** From a place in the inline script to the place in the file. */
function placeOfScript(
  text: string,
  position: { line: number; column: number },
): { line: number; column: number } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const node = document.getIn(['spec', 'filter', 'script'], true);
  if (!isScalar(node) || !node.range) return { line: 1, column: 1 };
  const start = lines.linePos(node.range[0]);
  // Only a literal block keeps the script's lines as they are; elsewhere the start has to do.
  if (node.type !== Scalar.BLOCK_LITERAL) return { line: start.line, column: start.col };
  const source = text.split('\n').slice(start.line, lines.linePos(node.range[1]).line);
  const first = source.find((line) => line.trim() !== '') ?? '';
  const indent = first.length - first.trimStart().length - scriptIndent(String(node.value));
  return { line: start.line + position.line, column: Math.max(0, indent) + position.column };
}

/**
 * Blanks before the script's first word that belong to the script, not to the block's indentation.
 */
function scriptIndent(script: string): number {
  const first = script.split('\n').find((line) => line.trim() !== '') ?? '';
  return first.length - first.trimStart().length;
}

/**
 * `FILE:LINE:COLUMN: FIELD: MESSAGE`; a message that begins with its field is not given it twice.
 */
export function faultLines(faults: readonly FileFault[]): string[] {
  return faults.map(({ file, line, column, field, message }) => {
    const named = field === '' || message.startsWith(field) ? message : `${field}: ${message}`;
    return `${file}:${line}:${column}: ${named}`;
  });
}

/** What the plan would do, a line per stage of the pipeline. */
function describePlan(plan: JobPlan): string[] {
  const { source, state, filter, action, checkpointing } = plan;
  const sources = {
    kafka: () => `kafka topic ${source.kind === 'kafka' ? source.topic : ''}`,
    datagen: () => `datagen ${source.kind === 'datagen' ? source.eventsPerSecond : 0} events/s`,
    file: () => `file ${source.kind === 'file' ? source.paths.join(', ') : ''}`,
  };
  const every = formatAge(checkpointing.intervalMs);
  return [
    `job          ${plan.namespace}/${plan.name}`,
    `source       ${sources[source.kind]()}, keyed by ${plan.keyBy}`,
    `state        ttl ${formatAge(state.ttlMs)}, ${state.historyMaxEvents} events and at most ` +
      `${formatBytes(state.maxBytesPerUser)} a user, ` +
      `profiles from ${state.profileApi?.url ?? 'nowhere'}`,
    `filter       ${filter.language}, ${filter.origin}`,
    `action       ${action.kind === 'webhook' ? `POST ${action.url}` : 'debug: print each match'}`,
    `dead letter  ${plan.deadLetter.kind}`,
    `checkpoints  every ${every} to ${checkpointing.directory}, ${checkpointing.retained} kept`,
    `parallelism  ${plan.parallelism} on ${plan.taskManagers} TaskManager(s) of ` +
      `${plan.slotsPerTaskManager} slots, ${plan.maxParallelism} key groups`,
  ];
}

export async function validateFile(
  terminal: Terminal,
  file: string,
  output: 'text' | 'json',
): Promise<number> {
  const { plan, faults } = await checkFile(file);
  if (output === 'json') {
    terminal.print(JSON.stringify({ file, valid: plan !== null, faults, plan }, null, 2));
  } else if (plan === null) {
    for (const line of faultLines(faults)) terminal.error(line);
    terminal.error(`${faults.length} fault${faults.length === 1 ? '' : 's'}`);
  } else {
    terminal.print([`${file} is valid and would run:`, ...describePlan(plan)].join('\n  '));
  }
  return plan === null ? EXIT.failed : EXIT.ok;
}
