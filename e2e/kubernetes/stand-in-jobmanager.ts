/**
 * What a job's JobManager does as far as the operator can tell, with a store that outlives it (the
 * rules of operator/src/model/model-jobmanager.ts, with real time). A state is one number, how much
 * of the stream it holds: a run that begins with less than was stored has lost some.
 */
import { parse } from 'yaml';
import { fieldAt } from '../../operator/src/decide/spec.ts';
import type { TriggerKind } from '../../operator/src/observe/jobmanager-api.ts';
import { scriptVersion } from '../../worker/src/plan/script-version.ts';

/** A trigger completes when it is asked about after this. */
const TRIGGER_MS = 20;
const TERMINAL: readonly string[] = ['FINISHED', 'CANCELED', 'FAILED'];
/** The mark of a spec that starts and never gets well, in `state.ttl`. */
const NEVER_WELL_TTL = '13m';

/** How a run began, for the judge. */
interface RunStart {
  run: number;
  from: 'fresh' | 'savepoint' | 'last-state' | 'stateless';
  holds: number;
  /** What the newest checkpoint or savepoint held by then. */
  stored: number;
}

/** The pods that are there. `leader`: the arguments of one JobManager; null: there is none. */
interface PodsOfJob {
  leader: readonly string[] | null;
  workers: number;
}

interface Process {
  run: number;
  state: string;
  since: number;
  holds: number;
  desired: number;
}

interface Trigger {
  kind: TriggerKind;
  dueAt: number;
  location: string | null;
  completed: boolean;
}

const runIn = (args: readonly string[]): number => Number(args[args.indexOf('--run') + 1]);

export class StandInJobManager {
  readonly starts: RunStart[] = [];
  readonly faults: string[] = [];
  /** Nobody answers, though pods run. */
  mute = false;
  #newest: { id: number; holds: number; at: number } | null = null;
  readonly #savepoints = new Map<string, number>();
  readonly #used = new Set<string>();
  readonly #triggers = new Map<string, Trigger>();
  #run = 0;
  #ended: { run: number; state: string } | null = null;
  #process: Process | null = null;
  #workers = 0;
  #content = '';
  #spec: unknown = {};

  /** The file that the ConfigMap holds. */
  configure(content: string): void {
    if (content === this.#content) return;
    this.#content = content;
    this.#spec = fieldAt(parse(content), 'spec');
  }

  /** Savepoints and stops that were begun. */
  get savepoints(): string[] {
    return [...this.#triggers].flatMap(([id, { kind }]) => (kind === 'checkpoint' ? [] : [id]));
  }

  /** A process with these arguments would begin another run than the one that is there. */
  isNewRun(args: readonly string[]): boolean {
    return this.#process?.run !== runIn(args);
  }

  pods({ leader, workers }: PodsOfJob): void {
    this.#workers = workers;
    if (leader === null) this.#process = null;
    else this.#start(leader);
    this.#advance();
  }

  /** One request; null: nobody answers. `path` begins behind namespace and name. */
  answer(
    method: string,
    path: string,
    body: unknown,
  ): { status: number; body: Record<string, unknown> } | null {
    const process = this.#process;
    if (process === null || this.mute) return null;
    this.#advance();
    const [, first, , third, fourth] = path.split('/');
    if (path === '/api/v1/status') return { status: 200, body: this.#status(process) };
    if (path === '/jobs') return { status: 200, body: { jobs: [{ id: 'job' }] } };
    if (first !== 'jobs') return { status: 404, body: { errors: [`no such path: ${path}`] } };
    if (third === 'resource-requirements') return this.#requirements(method, process, body);
    if (method === 'GET') return this.#progress(third, decodeURIComponent(fourth ?? ''));
    return this.#trigger(third ?? '', String(fieldAt(body, 'triggerId')), process);
  }

  #start(args: readonly string[]): void {
    if (!this.isNewRun(args)) return;
    const run = runIn(args);
    if (run < this.#run) this.faults.push(`run ${run} after run ${this.#run}`);
    const base = { run, since: Date.now(), desired: this.#parallelism() };
    if (this.#ended !== null && run <= this.#ended.run) {
      this.#process = { ...base, state: this.#ended.state, holds: 0 };
      return;
    }
    const holds = run > this.#run ? this.#claim(run, args) : (this.#newest?.holds ?? 0);
    this.#process = { ...base, state: 'CREATED', holds };
  }

  #claim(run: number, args: readonly string[]): number {
    const stored = this.#newest?.holds ?? 0;
    this.#run = run;
    const begin = (from: RunStart['from'], holds: number): number => {
      this.starts.push({ run, from, holds, stored });
      if (from !== 'last-state') this.#newest = { id: run * 1000, holds, at: 0 };
      return holds;
    };
    if (args.includes('stateless')) return begin('stateless', 0);
    const savepoint = this.#text('restore.savepoint');
    if (savepoint !== '' && !this.#used.has(savepoint)) {
      this.#used.add(savepoint);
      const holds = this.#savepoints.get(savepoint);
      if (holds === undefined) this.faults.push(`run ${run}: there is no savepoint ${savepoint}`);
      return begin('savepoint', holds ?? 0);
    }
    return this.#newest === null ? begin('fresh', 0) : begin('last-state', stored);
  }

  /** Brings the state up to now. */
  #advance(): void {
    const process = this.#process;
    if (process === null || TERMINAL.includes(process.state)) return;
    const well = this.#workers > 0 && this.#text('state.ttl') !== NEVER_WELL_TTL;
    const state = well ? 'RUNNING' : 'RESTARTING';
    if (state !== process.state) process.since = Date.now();
    process.state = state;
    if (state !== 'RUNNING') return;
    process.holds += 10;
    for (const [id, trigger] of this.#triggers) {
      const due = !trigger.completed && Date.now() >= trigger.dueAt;
      if (due && !TERMINAL.includes(process.state)) this.#complete(process, id, trigger);
    }
  }

  #complete(process: Process, id: string, trigger: Trigger): void {
    const { holds, run } = process;
    this.#newest = { id: (this.#newest?.id ?? 0) + 1, holds, at: Date.now() };
    trigger.completed = true;
    if (trigger.kind !== 'checkpoint') {
      trigger.location = `s3://savepoints/${id}`;
      this.#savepoints.set(trigger.location, holds);
    }
    if (trigger.kind !== 'stop') return;
    this.#ended = { run, state: 'FINISHED' };
    process.state = 'FINISHED';
    process.since = Date.now();
  }

  #status(process: Process): Record<string, unknown> {
    const newest = this.#newest;
    const slots = this.#workers * this.#slots();
    const { run, state, since, desired } = process;
    const parallelism = state === 'RUNNING' ? Math.min(desired, slots) : 0;
    const language = this.#text('filter.language') === 'filtrex' ? 'filtrex' : 'aviator';
    return {
      run,
      state,
      since: new Date(since).toISOString(),
      parallelism,
      desiredParallelism: desired,
      taskManagers: {
        registered: this.#workers,
        slotsTotal: slots,
        slotsFree: Math.max(0, slots - parallelism),
      },
      numRestarts: 0,
      lastCheckpoint:
        newest === null || newest.at === 0
          ? null
          : {
              id: newest.id,
              completedAt: new Date(newest.at).toISOString(),
              durationMs: 5,
              bytes: 9,
              location: 's3://checkpoints/newest',
            },
      failedCheckpoints: 0,
      lastSavepoint: null,
      scriptVersion: { running: scriptVersion(language, this.#text('filter.script')) },
      lag: 0,
      error: null,
    };
  }

  #progress(book: string | undefined, id: string) {
    const found = this.#triggers.get(id);
    const kept = found?.kind === 'checkpoint' ? 'checkpoints' : 'savepoints';
    if (found === undefined || kept !== book) {
      return { status: 404, body: { errors: [`no trigger ${id}`] } };
    }
    const { completed, location } = found;
    const operation = completed ? { operation: { location, bytes: 9 } } : {};
    const body = { status: { id: completed ? 'COMPLETED' : 'IN_PROGRESS' }, ...operation };
    return { status: 200, body };
  }

  #trigger(word: string, id: string, { state }: Process) {
    const kind = ({ savepoints: 'savepoint', checkpoints: 'checkpoint', stop: 'stop' } as const)[
      word
    ];
    if (kind === undefined) return { status: 404, body: { errors: [`no such trigger: ${word}`] } };
    if (!this.#triggers.has(id)) {
      if (state !== 'RUNNING') return { status: 409, body: { errors: [`it is ${state}`] } };
      const dueAt = Date.now() + TRIGGER_MS;
      this.#triggers.set(id, { kind, dueAt, location: null, completed: false });
    }
    return { status: 202, body: { 'request-id': id } };
  }

  #requirements(method: string, process: Process, body: unknown) {
    if (method === 'PUT') {
      const wanted = fieldAt(body, 'vertex.parallelism.upperBound');
      if (typeof wanted === 'number') process.desired = wanted;
    }
    const parallelism = { lowerBound: 1, upperBound: process.desired };
    return { status: 200, body: { vertex: { parallelism } } };
  }

  #text(path: string): string {
    const value = fieldAt(this.#spec, path);
    return typeof value === 'string' ? value : '';
  }

  #count(path: string): number {
    const value = fieldAt(this.#spec, path);
    return typeof value === 'number' ? value : 0;
  }

  #slots(): number {
    return this.#count('taskManager.slots') || 1;
  }

  #parallelism(): number {
    const given = this.#count('parallelism');
    return given || (this.#count('taskManager.replicas') || 1) * this.#slots();
  }
}
