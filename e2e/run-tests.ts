/**
 * `npm test`: every suite of the repository, one after another, each under a watchdog. The last
 * line is `N passed, N failed`; the exit code is 1 when anything failed. All suites run even after
 * a failure, so that one run shows everything that is wrong.
 *
 *   node e2e/run-tests.ts                  all
 *   node e2e/run-tests.ts lint unit sim    only these
 *   node e2e/run-tests.ts --list           the suites and their files
 */
import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { installKubernetes } from './testbed/kubernetes/binaries.ts';
import { labImpediment } from './testbed/kubernetes/lab.ts';
import { provideRequirements } from './testbed/requirements.ts';
import { filesOf, runSuite, type Suite, type SuiteResult } from './testbed/suite-runner.ts';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const NEEDED_NODE = 24;
/** Every process of a test compiles the same modules: from the second one on, it need not. */
const COMPILED = join(tmpdir(), `triggerjob-compiled-${process.pid}`);

/** Fastest answer first. `int` and `e2e` start brokers: one file at a time. */
const SUITES: Suite[] = [
  {
    name: 'unit',
    globs: [
      'worker/**/*.test.ts',
      'operator/**/*.test.ts',
      'e2e/**/*.test.ts',
      'bench/**/*.test.ts',
    ],
    exclude: /\.(int|sim)\.test\.ts$/,
    concurrency: 2,
    usualSeconds: 60,
  },
  {
    name: 'sim',
    globs: ['worker/**/*.sim.test.ts', 'operator/**/*.sim.test.ts'],
    concurrency: 1,
    usualSeconds: 300,
  },
  {
    name: 'int',
    globs: ['worker/**/*.int.test.ts', 'operator/**/*.int.test.ts', 'e2e/**/*.int.test.ts'],
    concurrency: 1,
    usualSeconds: 120,
  },
  { name: 'e2e', globs: ['e2e/**/*.e2e.ts'], concurrency: 1, usualSeconds: 600 },
];
const BROKER_SUITES = ['int', 'e2e'];

const CHECKS = [
  {
    name: 'biome ci',
    command: 'node',
    args: ['e2e/testbed/biome.ts', 'ci', '--colors=off', '--error-on-warnings', '.'],
    usualSeconds: 5,
  },
  { name: 'tsc', command: 'tsc', args: ['--noEmit', '-p', '.'], usualSeconds: 15 },
];
const CHECK_WATCHDOG_FACTOR = 10;

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** One command of node_modules/.bin; its output is shown only when it fails. */
function runCheck(check: (typeof CHECKS)[number]): Promise<boolean> {
  return new Promise((done) => {
    const file = join(ROOT, 'node_modules/.bin', check.command);
    const child = spawn(file, check.args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const limitSeconds = check.usualSeconds * CHECK_WATCHDOG_FACTOR;
    const watchdog = setTimeout(() => {
      output += `\nstuck, ended by the watchdog after ${limitSeconds} s`;
      child.kill('SIGKILL');
    }, limitSeconds * 1000);
    const finish = (ok: boolean) => {
      clearTimeout(watchdog);
      print(`  ${ok ? '✔' : '✖'} ${check.name}`);
      if (!ok) print(output.trimEnd());
      done(ok);
    };
    child.once('error', (error) => {
      output += error.message;
      finish(false);
    });
    child.once('close', (code) => finish(code === 0));
  });
}

async function runChecks(): Promise<SuiteResult> {
  const result: SuiteResult = { passed: 0, failed: [], skipped: [] };
  for (const check of CHECKS) {
    if (await runCheck(check)) result.passed += 1;
    else result.failed.push(check.name);
  }
  return result;
}

function chosenSuites(args: readonly string[]): string[] {
  const known = ['lint', ...SUITES.map((suite) => suite.name)];
  const unknown = args.filter((arg) => !known.includes(arg));
  if (unknown.length > 0) {
    print(`unknown suite ${unknown.join(', ')}; known: ${known.join(', ')}`);
    process.exit(2);
  }
  return args.length === 0 ? known : known.filter((name) => args.includes(name));
}

async function runOne(name: string): Promise<SuiteResult> {
  const suite = SUITES.find((candidate) => candidate.name === name);
  if (suite === undefined) return runChecks();
  if (BROKER_SUITES.includes(name)) {
    const missing = provideRequirements(print, (await labImpediment()) === null);
    if (missing.length > 0) return { passed: 0, failed: missing, skipped: [] };
    const failure = await installKubernetes(print).then(() => null, String);
    if (failure !== null) return { passed: 0, failed: [failure], skipped: [] };
  }
  return runSuite(suite, ROOT, print);
}

async function main(args: readonly string[]): Promise<number> {
  if (Number(process.versions.node.split('.')[0]) < NEEDED_NODE) {
    print(`Node ${NEEDED_NODE} or newer is needed, this is ${process.version}: run it as npm test`);
    return 2;
  }
  if (args.includes('--list')) {
    for (const suite of SUITES) print([suite.name, ...filesOf(suite, ROOT)].join('\n  '));
    return 0;
  }
  process.env['NODE_COMPILE_CACHE'] ??= COMPILED;
  const total: SuiteResult = { passed: 0, failed: [], skipped: [] };
  for (const name of chosenSuites(args)) {
    print(`\n${name}`);
    const startedAt = performance.now();
    const result = await runOne(name);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    print(`  ${name}: ${result.passed} passed, ${result.failed.length} failed, ${seconds} s`);
    total.passed += result.passed;
    total.failed.push(...result.failed);
    total.skipped.push(...result.skipped);
  }
  await rm(COMPILED, { recursive: true, force: true });
  if (total.skipped.length > 0) print(['', 'skipped:', ...total.skipped].join('\n  '));
  if (total.failed.length > 0) print(['', 'failed:', ...total.failed].join('\n  '));
  print(`\n${total.passed} passed, ${total.failed.length} failed`);
  return total.failed.length === 0 ? 0 : 1;
}

// Explicit: after a watchdog, pipes of ended processes may still hold the event loop.
process.exit(await main(process.argv.slice(2)));
