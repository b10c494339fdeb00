/** `triggerjob test`: finds the tests of each file, runs them, shows what differs. */
import { readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Difference } from '../rehearsal/expectation.ts';
import { runTest, type TestFailure, type TestOutcome } from '../rehearsal/run-test.ts';
import { type JobTest, parseTestFile } from '../rehearsal/test-file.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf } from '../runtime/errors.ts';
import { formatAge } from './amounts.ts';
import { EXIT } from './exit-codes.ts';
import type { OutputFormat } from './shared-options.ts';
import type { Terminal } from './terminal.ts';
import { checkFile, faultLines } from './validate.ts';

const TESTS = /\.tests\.ya?ml$/;
const MAX_FILE_BYTES = 1024 * 1024;
const MAX_SHOWN = 300;

export interface TestCommand {
  env: Env;
  terminal: Terminal;
  files: readonly string[];
  /** null: all tests. */
  name: string | null;
  output: OutputFormat;
}

interface FileResult {
  file: string;
  /** Why no test could run; `FILE:LINE:COLUMN: FAULT` each. */
  faults: readonly string[];
  tests: readonly TestOutcome[];
}

/** The exit code. */
export async function testFiles(command: TestCommand): Promise<number> {
  const { terminal, output } = command;
  const results: FileResult[] = [];
  for (const file of command.files) {
    const result = await testFile(command, file);
    results.push(result);
    if (output === 'text') for (const fault of result.faults) terminal.error(fault);
  }
  const tests = results.flatMap((result) => result.tests);
  const failed = tests.filter(({ passed }) => !passed).length;
  const broken = results.some(({ faults }) => faults.length > 0);
  // A name that selects nothing is a mistake: a green run of no test would hide it.
  const ok = failed === 0 && !broken && tests.length > 0;
  if (output === 'json') {
    const figures = { ok, passed: tests.length - failed, failed };
    terminal.print(JSON.stringify({ ...figures, files: results }, null, 2));
  } else {
    const color = ok ? 'green' : 'red';
    const none = tests.length === 0 && !broken ? ': no test has such a name' : '';
    terminal.print(
      terminal.paint(color, `${tests.length - failed} passed, ${failed} failed${none}`),
    );
  }
  return ok ? EXIT.ok : EXIT.failed;
}

async function testFile(command: TestCommand, given: string): Promise<FileResult> {
  const file = TESTS.test(given) ? given : given.replace(/(\.ya?ml)?$/, '.tests.yaml');
  const loaded = await load(file, TESTS.test(given) ? null : given);
  if ('faults' in loaded) return { file, faults: loaded.faults, tests: [] };
  const outcomes: TestOutcome[] = [];
  const { name, env, terminal, output } = command;
  for (const test of loaded.tests) {
    if (name !== null && !test.name.includes(name)) continue;
    const outcome = await runTest(loaded.plan, test, env);
    outcomes.push(outcome);
    if (output === 'text') terminal.print(resultLines(terminal, file, outcome).join('\n'));
  }
  return { file, faults: [], tests: outcomes };
}

type Loaded = { plan: JobPlan; tests: readonly JobTest[] } | { faults: string[] };

/** `job`: given on the command line, in place of the one that the tests name. */
async function load(file: string, job: string | null): Promise<Loaded> {
  let text: string;
  try {
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) return { faults: [`${file}: more than ${MAX_FILE_BYTES} bytes`] };
    text = await readFile(file, 'utf8');
  } catch (error) {
    const hint = job === null ? '' : `; the tests of ${job} are expected there`;
    return { faults: [`${file}: can't be read: ${messageOf(error)}${hint}`] };
  }
  const parsed = parseTestFile(text);
  if (parsed.file === null) {
    return {
      faults: parsed.faults.map(
        ({ line, column, message }) => `${file}:${line}:${column}: ${message}`,
      ),
    };
  }
  const named = parsed.file.job;
  const beside = file.replace(TESTS, '.yaml');
  const jobFile = job ?? (named === null ? beside : resolve(dirname(file), named));
  const { plan, faults } = await checkFile(jobFile);
  return plan === null ? { faults: faultLines(faults) } : { plan, tests: parsed.file.tests };
}

function resultLines(terminal: Terminal, file: string, outcome: TestOutcome): string[] {
  const { name, passed, virtualMs, failures } = outcome;
  const mark = passed ? terminal.paint('green', 'pass') : terminal.paint('red', 'FAIL');
  const took = terminal.paint('dim', `(${formatAge(virtualMs)} of virtual time)`);
  return [`${mark} ${name} ${took}`, ...failures.flatMap((one) => failureLines(file, one))];
}

function failureLines(file: string, failure: TestFailure): string[] {
  const { line, message, differences } = failure;
  return [
    `  ${file}:${line}:${message === '' ? '' : ` ${message}`}`,
    ...differences.flatMap(differenceLines),
  ];
}

function differenceLines({ path, expected, actual }: Difference): string[] {
  if (expected === undefined) return [`    ${path}: not expected`, `      + ${shown(actual)}`];
  if (actual === undefined) return [`    ${path}: is missing`, `      - ${shown(expected)}`];
  return [`    ${path}`, `      - ${shown(expected)}`, `      + ${shown(actual)}`];
}

function shown(value: Difference['actual']): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
}
