/**
 * Runs one suite of test files with node's own test runner, each file in a process of its own,
 * prints what happened while it happens, and returns the counts. A suite that takes ten times its
 * usual time is stuck: what it waited for is printed and its processes are ended.
 */
import { globSync } from 'node:fs';
import { join, relative } from 'node:path';
import { finished } from 'node:stream/promises';
import { type EventData, run } from 'node:test';
import { inspect } from 'node:util';

export interface Suite {
  name: string;
  globs: string[];
  /** Files that match but belong to another suite. */
  exclude?: RegExp;
  /** Test files at a time. */
  concurrency: number;
  /** What it takes on a quiet machine of 2 cores. The watchdog allows ten times that. */
  usualSeconds: number;
}

export interface SuiteResult {
  passed: number;
  /** `<file>: <test>`, each with the first line of its error. */
  failed: string[];
  /** `<file>: <test>: <why>`. */
  skipped: string[];
}

const WATCHDOG_FACTOR = 10;
/** After the watchdog ended the test processes: how long their pipes may stay open. */
const END_GRACE_MS = 10_000;

export function filesOf(suite: Suite, root: string): string[] {
  const found = globSync(suite.globs, { cwd: root, exclude: ['node_modules'] });
  return found.filter((file) => suite.exclude?.test(file) !== true).toSorted();
}

export async function runSuite(
  suite: Suite,
  root: string,
  print: (line: string) => void,
): Promise<SuiteResult> {
  const result: SuiteResult = { passed: 0, failed: [], skipped: [] };
  const files = filesOf(suite, root);
  if (files.length === 0) {
    // A renamed folder must not turn a suite into a success.
    result.failed.push(`${suite.name}: no file matches ${suite.globs.join(' ')}`);
    return result;
  }
  const events = new SuiteEvents(root, result, print);
  const abort = new AbortController();
  const limitMs = suite.usualSeconds * WATCHDOG_FACTOR * 1000;
  const stuck = Promise.withResolvers<void>();
  const watchdog = setTimeout(() => {
    result.failed.push(`${suite.name}: stuck, ended by the watchdog after ${limitMs / 1000} s`);
    print(
      `\n${suite.name} is stuck: ${limitMs / 1000} s passed, usual is ${suite.usualSeconds} s.`,
    );
    for (const line of events.running()) print(`  waits for ${line}`);
    abort.abort(new Error('ended by the watchdog'));
    setTimeout(stuck.resolve, END_GRACE_MS).unref();
  }, limitMs);
  const stream = run({
    // Absolute: only then do the runner's events tell a file from a test by its name.
    files: files.map((file) => join(root, file)),
    cwd: root,
    concurrency: suite.concurrency,
    signal: abort.signal,
    execArgv: ['--disable-warning=ExperimentalWarning'],
  });
  const consumed = events.follow(stream);
  try {
    await Promise.race([consumed, stuck.promise]);
  } finally {
    clearTimeout(watchdog);
  }
  return result;
}

/** Turns the runner's events into lines and counts. */
class SuiteEvents {
  readonly #root: string;
  readonly #result: SuiteResult;
  readonly #print: (line: string) => void;
  /** Per test file: the tests that began and have not ended, and whether the file itself ended. */
  readonly #open = new Map<string, Set<string>>();
  #fileShown = '';

  constructor(root: string, result: SuiteResult, print: (line: string) => void) {
    this.#root = root;
    this.#result = result;
    this.#print = print;
  }

  /** Resolves when the runner has reported everything. */
  async follow(stream: ReturnType<typeof run>): Promise<void> {
    stream.on('test:dequeue', (data) => this.#begin(data));
    stream.on('test:complete', (data) => this.#end(data));
    stream.on('test:pass', (data) => this.#passed(data));
    stream.on('test:fail', (data) => this.#failed(data));
    stream.on('test:stdout', (data) => this.#printed(data.message));
    stream.on('test:stderr', (data) => this.#printed(data.message));
    await finished(stream.resume());
  }

  running(): string[] {
    return [...this.#open].map(([file, tests]) => {
      const names = [...tests].map((name) => `"${name}"`).join(', ');
      return names === ''
        ? `${file}: no test of it runs; an open handle keeps its process alive`
        : `${file}: ${names}`;
    });
  }

  #begin(data: EventData.TestDequeue): void {
    const file = this.#fileOf(data);
    if (this.#isFile(data)) this.#open.set(file, new Set());
    else this.#open.get(file)?.add(data.name);
  }

  #end(data: EventData.TestComplete): void {
    const file = this.#fileOf(data);
    if (this.#isFile(data)) this.#open.delete(file);
    else this.#open.get(file)?.delete(data.name);
  }

  #passed(data: EventData.TestPass): void {
    if (data.details.type === 'suite') return;
    const file = this.#fileOf(data);
    if (this.#isFile(data)) {
      // The runner reports a file only when it holds no test: a test that can't fail.
      this.#result.failed.push(`${file}: holds no test`);
      return;
    }
    const omitted = data.skip ?? data.todo;
    if (omitted !== undefined && omitted !== false) {
      const why = typeof omitted === 'string' && omitted !== '' ? omitted : 'no reason given';
      this.#result.skipped.push(`${file}: ${data.name}: ${why}`);
      this.#show(file, `- ${data.name} (skipped: ${why})`);
      return;
    }
    this.#result.passed += 1;
    this.#show(file, `✔ ${data.name} (${Math.round(data.details.duration_ms)} ms)`);
  }

  #failed(data: EventData.TestFail): void {
    const error = data.details.error;
    // The failure was counted at the subtest.
    if (failureType(error) === 'subtestsFailed') return;
    const file = this.#fileOf(data);
    const cause = error.cause ?? error;
    const text = cause instanceof Error ? (cause.stack ?? cause.message) : inspect(cause);
    const name = this.#isFile(data) ? 'the file itself' : data.name;
    this.#result.failed.push(`${file}: ${name}: ${firstLine(text)}`);
    this.#show(file, `✖ ${name} (${Math.round(data.details.duration_ms)} ms)`);
    for (const line of text.split('\n')) this.#print(`      ${line}`);
  }

  #printed(message: string): void {
    for (const line of message.trimEnd().split('\n')) this.#print(`    | ${line}`);
  }

  #show(file: string, line: string): void {
    if (file !== this.#fileShown) this.#print(`  ${file}`);
    this.#fileShown = file;
    this.#print(`    ${line}`);
  }

  #isFile(data: { name: string; nesting: number; file?: string | undefined }): boolean {
    return data.nesting === 0 && data.name === data.file;
  }

  #fileOf(data: { name: string; file?: string | undefined }): string {
    // A test made by a shared module bears that module's file; entryFile is the file that was run.
    const entry = (data as { entryFile?: string }).entryFile;
    return relative(this.#root, entry ?? data.file ?? data.name);
  }
}

function failureType(error: unknown): string {
  return error instanceof Error && 'failureType' in error ? String(error.failureType) : '';
}

/** Node puts an assertion's own message on the lines after the error's name. */
function firstLine(text: string): string {
  const [first = '', second = ''] = text.split('\n').filter((line) => line.trim() !== '');
  return first.trimEnd().endsWith(':') ? `${first.trimEnd()} ${second.trim()}` : first;
}
