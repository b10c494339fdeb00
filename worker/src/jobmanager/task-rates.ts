/**
 * How fast a running task's counters rise, per second, over its newest heartbeats. Counters alone
 * tell a reader who looks once nothing about now.
 */
/** Flink's meters look back a minute; a person who looks wants to see what they just did. */
const WINDOW_MS = 10_000;
/** Samples lie at least this far apart, so that fast heartbeats do not shorten the window. */
const STEP_MS = 1_000;
const MAX_SAMPLES = 12;

interface TaskAttempt {
  subtask: number;
  attempt: number;
}

interface Sample<Name extends string> {
  /** Monotonic, ms. */
  at: number;
  counts: Counts<Name>;
}

type Counts<Name extends string> = Record<Name, number>;

export class TaskRates<Name extends string> {
  readonly #names: readonly Name[];
  readonly #tasks = new Map<number, { attempt: number; samples: Sample<Name>[] }>();

  constructor(names: readonly Name[]) {
    this.#names = names;
  }

  /** `now`: monotonic, ms. A new attempt counts from zero, so it begins anew. */
  add({ subtask, attempt }: TaskAttempt, metrics: Counts<Name>, now: number): void {
    const known = this.#tasks.get(subtask);
    const task = known?.attempt === attempt ? known : { attempt, samples: [] };
    this.#tasks.set(subtask, task);
    const { samples } = task;
    // The newest sample moves along until it is one step from the one before it.
    const previous = samples.at(-2);
    if (previous !== undefined && (samples.at(-1)?.at ?? 0) - previous.at < STEP_MS) samples.pop();
    samples.push({ at: now, counts: this.#each((name) => metrics[name]) });
    while (samples.length > MAX_SAMPLES || (samples[1]?.at ?? now) < now - WINDOW_MS) {
      samples.shift();
    }
  }

  remove(subtask: number): void {
    this.#tasks.delete(subtask);
  }

  /** null: it runs for less than two heartbeats, or not at all. */
  of(subtask: number): Counts<Name> | null {
    const samples = this.#tasks.get(subtask)?.samples ?? [];
    const first = samples[0];
    const last = samples.at(-1);
    if (first === undefined || last === undefined || last.at <= first.at) return null;
    const seconds = (last.at - first.at) / 1_000;
    return this.#each((name) => (last.counts[name] - first.counts[name]) / seconds);
  }

  #each(value: (name: Name) => number): Counts<Name> {
    return Object.fromEntries(this.#names.map((name) => [name, value(name)])) as Counts<Name>;
  }
}
