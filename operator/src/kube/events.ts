/**
 * Events (events.k8s.io/v1) on the operator's objects. Best effort: nothing waits for them, nothing
 * fails by them, and what they may cost is bounded. The same note again is counted up in its
 * Event's series, written at most twice a minute; an object that is noisy gets a few Events, then
 * one in a while.
 */
import type { Env } from '../env.ts';
import { KubeError } from './kube-error.ts';
import { type Event, KINDS, refOf } from './objects.ts';
import type { EventNote, KubeObject, ObjectRef } from './port.ts';

/** Notes that wait to be written; more are dropped and counted. */
const MAX_QUEUED = 1_000;
/** Events that may be counted up; the oldest is forgotten, its next repeat is a new Event. */
const MAX_SERIES = 4_096;
const SERIES_WRITE_MS = 30_000;
/** A note that comes again after this begins a new Event: the old one may be gone (1 h). */
const SERIES_END_MS = 6 * 60_000;
/** New Events per object: so many at once, then one per this time. */
const BURST = 25;
const REFILL_MS = 60_000;
const MAX_NOTE_BYTES = 1_024;
const MAX_NAME = 253;
const TRIES = 3;

interface Series {
  event: Event;
  created: boolean;
  count: number;
  lastAt: number;
  /** Monotonic ms. */
  seenAt: number;
  writeScheduled: boolean;
}

export interface RecorderOptions {
  env: Env;
  api: {
    create<T extends KubeObject>(object: T): Promise<T>;
    patch<T extends KubeObject>(ref: ObjectRef, patch: object): Promise<T>;
  };
  /** Such as triggerjob.io/operator. */
  controller: string;
  /** This process. */
  instance: string;
  /** A note was not written: there were too many, or the API server refused it. */
  onDropped(reason: 'queue' | 'rate' | 'refused'): void;
}

export class EventRecorder {
  readonly #options: RecorderOptions;
  readonly #series = new Map<string, Series>();
  /** Per object, new Events left and when that was counted. */
  readonly #budgets = new Map<string, { left: number; at: number }>();
  readonly #queue: Series[] = [];
  #writing = false;

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  record(note: EventNote): void {
    const { env } = this.#options;
    const now = env.monotonic();
    const key = [note.about.uid, note.type, note.reason, note.action, note.note].join('\n');
    const known = this.#series.get(key);
    if (known !== undefined && now - known.seenAt < SERIES_END_MS) {
      known.count += 1;
      known.seenAt = now;
      known.lastAt = env.now();
      this.#series.delete(key);
      this.#series.set(key, known);
      this.#scheduleSeries(known);
      return;
    }
    if (!this.#mayCreate(note.about.uid, now)) {
      this.#options.onDropped('rate');
      return;
    }
    const event = this.#eventOf(note);
    const series = {
      event,
      created: false,
      count: 1,
      lastAt: env.now(),
      seenAt: now,
      writeScheduled: false,
    };
    this.#series.delete(key);
    this.#series.set(key, series);
    dropOldest(this.#series, MAX_SERIES);
    this.#enqueue(series);
  }

  #mayCreate(uid: string, now: number): boolean {
    const budget = this.#budgets.get(uid) ?? { left: BURST, at: now };
    const refill = Math.floor((now - budget.at) / REFILL_MS);
    const left = Math.min(BURST, budget.left + refill);
    this.#budgets.delete(uid);
    this.#budgets.set(uid, {
      left: Math.max(0, left - 1),
      at: left === BURST ? now : budget.at + refill * REFILL_MS,
    });
    dropOldest(this.#budgets, MAX_SERIES);
    return left > 0;
  }

  #scheduleSeries(series: Series): void {
    if (series.writeScheduled) return;
    series.writeScheduled = true;
    this.#options.env.timer(SERIES_WRITE_MS, () => {
      series.writeScheduled = false;
      this.#enqueue(series);
    });
  }

  #enqueue(series: Series): void {
    if (this.#queue.length >= MAX_QUEUED) {
      this.#options.onDropped('queue');
      return;
    }
    this.#queue.push(series);
    if (!this.#writing) void this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      await this.#write(next);
    }
    this.#writing = false;
  }

  async #write(series: Series): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        if (series.created) await this.#countUp(series);
        else await this.#options.api.create(series.event);
        series.created = true;
        return;
      } catch (error) {
        const again = error instanceof KubeError && error.code === 'KUBE_UNAVAILABLE';
        // Made by a try whose answer was lost.
        if (error instanceof KubeError && error.reason === 'AlreadyExists') series.created = true;
        if (series.created && !again) return;
        if (again && attempt < TRIES) continue;
        this.#options.onDropped('refused');
        return;
      }
    }
  }

  async #countUp({ event, count, lastAt }: Series): Promise<void> {
    const series = { count, lastObservedTime: microTime(lastAt) };
    await this.#options.api.patch(refOf(event), { series });
  }

  #eventOf({ about, type, reason, action, note }: EventNote): Event {
    const { env, controller, instance } = this.#options;
    const { apiVersion, kind } = KINDS.Event;
    const suffix = `.${env.id().slice(0, 16)}`;
    const { uid, resourceVersion, ...ref } = about;
    return {
      apiVersion,
      kind,
      metadata: {
        name: `${about.name.slice(0, MAX_NAME - suffix.length)}${suffix}`,
        // Events on objects without a namespace lie in `default`, as the API server wants it.
        namespace: about.namespace ?? 'default',
      },
      eventTime: microTime(env.now()),
      reportingController: controller,
      reportingInstance: instance.slice(0, 128),
      action,
      reason,
      type,
      note: cut(note),
      regarding: { ...ref, uid, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
    };
  }
}

const microTime = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z');

/** At most 1 KiB, as the API server wants it, and no half character. */
function cut(note: string): string {
  const bytes = Buffer.from(note, 'utf8');
  if (bytes.length <= MAX_NOTE_BYTES) return note;
  const text = bytes.subarray(0, MAX_NOTE_BYTES - 4).toString('utf8');
  return `${text.replace(/\uFFFD+$/, '')}…`;
}

function dropOldest<K>(map: Map<K, unknown>, limit: number): void {
  if (map.size <= limit) return;
  const oldest = map.keys().next();
  if (!oldest.done) map.delete(oldest.value);
}
