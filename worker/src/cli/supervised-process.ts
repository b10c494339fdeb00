/**
 * One child process of a local run: a role of this same program in a session of its own (so the
 * terminal's Ctrl-C reaches only the launcher), started again when it dies until it is told to
 * stop. An IPC channel ties it to the launcher: when the launcher is gone, however it went, the
 * channel closes and the child ends itself (main.ts), so nothing is left behind.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Env, Timer } from '../runtime/env.ts';
import { MALLOC_SETTINGS } from '../runtime/malloc.ts';
import { ERROR_LEVEL, LogFile, type LogView, parseLogLine } from './log-view.ts';
import type { Terminal } from './terminal.ts';

const FIRST_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 5_000;
/** A child that lived this long starts again at once; then the first backoff follows. */
const STEADY_AFTER_MS = 10_000;
/** Last lines that were no log entries, kept to explain a child that died at its start. */
const MAX_LAST_WORDS = 12;

export interface ProcessExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface SupervisedProcessOptions {
  env: Env;
  terminal: Terminal;
  logView: LogView;
  /** For logs and messages: `jobmanager`, `taskmanager-1`. */
  name: string;
  logFile: string;
  /**
   * Compiled modules are kept here: the second start of a job takes a fraction of the first's time.
   */
  compileCache: string;
  /** The program: worker/src/main.ts. */
  entry: string;
  /** Its command line; asked again at each start. */
  args: () => string[];
  /** Decides what an exit that was not asked for means. */
  onExit: (exit: ProcessExit) => 'restart' | 'stay';
}

export class SupervisedProcess {
  readonly #options: SupervisedProcessOptions;
  readonly #log: LogFile;
  #child: ChildProcess | null = null;
  #restart: Timer | null = null;
  #stopping = false;
  #startedAt = 0;
  #backoffMs = FIRST_BACKOFF_MS;
  #lastWords: string[] = [];
  #lastError = '';
  #gone = Promise.withResolvers<void>();
  /** Starts after the first. */
  restarts = 0;

  constructor(options: SupervisedProcessOptions) {
    this.#options = options;
    this.#log = new LogFile(options.logFile);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get lastWords(): string {
    return this.#lastWords.join('\n');
  }

  /** The last error that this run of it has logged, '' if none. */
  get lastError(): string {
    return this.#lastError;
  }

  start(): void {
    this.#startedAt = this.#options.env.monotonic();
    this.#lastWords = [];
    this.#lastError = '';
    const { entry, args, compileCache, logFile } = this.#options;
    const child = spawn(process.execPath, [...process.execArgv, entry, ...args()], {
      detached: true,
      env: {
        NODE_COMPILE_CACHE: compileCache,
        ...MALLOC_SETTINGS,
        ...process.env,
        TRIGGERJOB_LOG_FILE: logFile,
      },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#child = child;
    if (child.stdout) this.#follow(child.stdout, (line) => this.#options.terminal.print(line));
    if (child.stderr) this.#follow(child.stderr, (line) => this.#complain(line));
    child.once('error', (error) => {
      this.#complain(error.message);
      if (child.pid === undefined) this.#exited({ code: null, signal: null });
    });
    // Not 'exit': by 'close' the last words have been read too.
    child.once('close', (code, signal) => {
      if (child.pid !== undefined) this.#exited({ code, signal });
    });
  }

  /** No restart from now on; `signal` goes to the child. Resolves when it is gone. */
  stop(signal: NodeJS.Signals | null): Promise<void> {
    this.#stopping = true;
    this.#restart?.cancel();
    this.#restart = null;
    if (this.#child === null) this.#gone.resolve();
    else if (signal !== null) this.#child.kill(signal);
    return this.#gone.promise;
  }

  close(): void {
    this.#log.close();
  }

  /** Log lines go to the file and the view; other text is the program's own output. */
  #follow(stream: NodeJS.ReadableStream, show: (line: string) => void): void {
    createInterface({ input: stream }).on('line', (line) => {
      const entry = parseLogLine(line);
      if (entry === null) {
        show(line);
        return;
      }
      this.#log.write(line);
      if (entry.level >= ERROR_LEVEL) this.#lastError = entry.message;
      this.#options.logView.show(this.#options.name, entry);
    });
  }

  #complain(line: string): void {
    this.#log.write(line);
    this.#lastWords = [...this.#lastWords, line].slice(-MAX_LAST_WORDS);
  }

  #exited(exit: ProcessExit): void {
    this.#child = null;
    if (this.#stopping) {
      this.#gone.resolve();
      return;
    }
    if (this.#options.onExit(exit) === 'stay') {
      this.#stopping = true;
      this.#gone.resolve();
      return;
    }
    const { env, terminal, name } = this.#options;
    // One that has run for long can't be in a loop: nothing is gained by waiting.
    if (env.monotonic() - this.#startedAt >= STEADY_AFTER_MS) this.#backoffMs = 0;
    const how = exit.signal ?? `exit code ${exit.code}`;
    terminal.error(`${name} ended (${how}); it starts again in ${this.#backoffMs} ms`);
    for (const line of this.#lastWords) terminal.error(`${name}: ${line}`);
    this.#restart = env.timer(this.#backoffMs, () => {
      this.restarts += 1;
      this.start();
    });
    this.#backoffMs = Math.min(Math.max(this.#backoffMs * 2, FIRST_BACKOFF_MS), MAX_BACKOFF_MS);
  }
}
