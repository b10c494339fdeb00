/** `triggerjob eval`: one evaluation of a filter, its value and why. */
import { readFile } from 'node:fs/promises';
import { type Explanation, explainFilter, type TraceNode } from '../filter/explain.ts';
import { plainScope } from '../filter/filter.ts';
import type { FilterLanguage, FilterPlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';
import { EXIT } from './exit-codes.ts';
import { callRest } from './rest-client.ts';
import { jobId } from './savepoint.ts';
import type { OutputFormat } from './shared-options.ts';
import type { Terminal } from './terminal.ts';
import { checkFile, faultLines } from './validate.ts';

/** spec.filter.stepBudget's default: a script that runs out of it here does so in a job. */
const STEP_BUDGET = 100_000;
const MAX_SHOWN = 120;
const STANDARD_INPUT = '/dev/stdin';

export interface EvalOptions {
  file?: string;
  job?: string;
  event: string;
  profile?: string;
  visit?: string;
  history?: string;
  language?: FilterLanguage;
  user?: string;
  trace?: true;
  rest: string;
  output: OutputFormat;
}

/** The exit code. */
export async function evalCommand(
  env: Env,
  terminal: Terminal,
  script: string | null,
  options: EvalOptions,
): Promise<number> {
  const filter = await filterOf(script, options);
  const explanation =
    options.user === undefined
      ? await explainHere(filter, options)
      : await explainThere(env, filter, options.user, options);
  if (options.output === 'json') terminal.print(JSON.stringify(explanation, null, 2));
  else {
    const lines = explanationLines(terminal, explanation, options.trace ?? false);
    terminal.print(lines.join('\n'));
  }
  return explanation.verdict === 'error' ? EXIT.failed : EXIT.ok;
}

/** null: none was given. */
async function filterOf(script: string | null, options: EvalOptions): Promise<FilterPlan | null> {
  const { file, job, language = 'aviator' } = options;
  const given = [script, file, job].filter((one) => one !== null && one !== undefined);
  if (given.length > 1) {
    throw new TriggerJobError('USAGE', 'give one of SCRIPT, --file and --job');
  }
  if (job !== undefined) {
    const { plan, faults } = await checkFile(job);
    if (plan === null) throw new TriggerJobError('USAGE', faultLines(faults).join('\n'));
    return plan.filter;
  }
  const text = file === undefined ? script : await readFile(file, 'utf8');
  if (text === null) return null;
  return { language, script: text, origin: file ?? 'script', stepBudget: STEP_BUDGET };
}

async function explainHere(
  filter: FilterPlan | null,
  { event, profile = '{}', visit = '{}', history = '[]' }: EvalOptions,
): Promise<Explanation> {
  if (filter === null) {
    throw new TriggerJobError('USAGE', 'give SCRIPT, --file FILE, --job FILE or --user ID');
  }
  const past = await jsonOf('--history', history);
  if (!Array.isArray(past)) throw new TriggerJobError('USAGE', '--history: must be a list');
  const scope = plainScope({
    event: await objectOf('--event', event),
    user: await jsonOf('--profile', profile),
    visit: await jsonOf('--visit', visit),
    history: past,
  });
  return explainFilter(filter, scope);
}

async function explainThere(
  env: Env,
  filter: FilterPlan | null,
  userId: string,
  { rest, event, language }: EvalOptions,
): Promise<Explanation> {
  const body: JsonObject = { userId, event: await objectOf('--event', event) };
  if (filter !== null) {
    body['script'] = filter.script;
    body['language'] = language ?? filter.language;
  }
  const job = await jobId({ env, rest });
  const answer = await callRest(env, `${rest}/api/v1/jobs/${job}/explain`, {
    method: 'POST',
    body,
  });
  return answer as unknown as Explanation;
}

async function objectOf(option: string, text: string): Promise<JsonObject> {
  const value = await jsonOf(option, text);
  if (isJsonObject(value)) return value;
  throw new TriggerJobError('USAGE', `${option}: must be an object`);
}

/** JSON in place, or from `@FILE` or `@-`. */
async function jsonOf(option: string, text: string): Promise<JsonValue> {
  try {
    const source = text.startsWith('@')
      ? await readFile(text === '@-' ? STANDARD_INPUT : text.slice(1))
      : text;
    return JSON.parse(source.toString()) as JsonValue;
  } catch (error) {
    const hint = text.startsWith('@') ? '' : '; a file is written @FILE';
    throw new TriggerJobError('USAGE', `${option}: ${messageOf(error)}${hint}`);
  }
}

const VERDICT_COLORS = { match: 'green', 'no-match': 'yellow', error: 'red' } as const;

function explanationLines(
  terminal: Terminal,
  explanation: Explanation,
  withTrace: boolean,
): string[] {
  const { verdict, value, error, deciding, trace, truncated } = explanation;
  const word = terminal.paint(VERDICT_COLORS[verdict], verdict);
  const lines = [error === null ? `${word}: the filter gave ${shown(value)}` : `${word}: ${error}`];
  if (deciding !== null) {
    const { line, column, text, value: gave } = deciding;
    // Null is also what a clause has that failed.
    const failed = verdict === 'error' && gave === null;
    const how = failed ? 'failed here' : `gave ${shown(gave)}`;
    lines.push(`decided by ${oneLine(text)} (line ${line}, column ${column}), which ${how}`);
  }
  if (withTrace && trace !== null) {
    lines.push('', ...traceLines(terminal, trace, deciding));
    if (truncated) lines.push('... the rest was too long to be recorded');
  }
  return lines;
}

type Place = { line: number; column: number; text: string } | null;

/** One line per part, its parts below it; the deciding one is marked. */
function traceLines(
  terminal: Terminal,
  node: TraceNode,
  deciding: Place,
  first = '',
  rest = '',
): string[] {
  const isDeciding =
    deciding !== null &&
    node.line === deciding.line &&
    node.column === deciding.column &&
    node.text === deciding.text;
  const gave = node.failed === true ? terminal.paint('red', 'failed') : shown(node.value);
  const mark = isDeciding ? terminal.paint('bold', '  <- decided') : '';
  const lines = [`${first}${oneLine(node.text)}  = ${gave}${mark}`];
  for (const [at, child] of node.children.entries()) {
    const last = at === node.children.length - 1 && node.omitted === undefined;
    const branch = `${rest}${last ? '└─ ' : '├─ '}`;
    const below = `${rest}${last ? '   ' : '│  '}`;
    lines.push(...traceLines(terminal, child, deciding, branch, below));
  }
  if (node.omitted !== undefined) lines.push(`${rest}└─ ... ${node.omitted} more rounds`);
  return lines;
}

const oneLine = (text: string): string => cut(text.replaceAll(/\s+/g, ' ').trim());
const shown = (value: JsonValue): string => cut(JSON.stringify(value) ?? 'nothing');
const cut = (text: string): string =>
  text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
