/**
 * The job's one log: the seat of authority (P39-P43). Whoever creates the next index has spoken; a
 * leader that finds another's takeover there is no leader any more and ends at once.
 *
 * The one delicate moment is a create whose reply is lost: the record may be there or not, now or
 * later. So every create is read back until its index holds *something*: then either it is ours or
 * can never be.
 */
import type { Bound } from '../runtime/bound.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { invariant, TriggerJobError } from '../runtime/errors.ts';
import { decodeRecord, encodeRecord, type LogState, readState, repeated } from './log-record.ts';
import type { ObjectStore } from './object-store.ts';
import { logPath, MAX_LOG_INDEX } from './paths.ts';
import {
  type EndRecord,
  orderOf,
  type RunClaim,
  refuseLoss,
  refuseSuperseded,
  startOfRun,
} from './run-claim.ts';
import type { LogRecord } from './snapshot.ts';

/**
 * Tries of one store call whose outcome is unknown, with a pause that doubles. About half a
 * minute.
 */
const TRIES = 10;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 10_000;
/** Records read at once. */
const WINDOW = 64;
/** Records kept in memory beside the genesis; older ones are forgotten, never deleted. */
const KEPT = 2048;

type Distribute<T> = T extends LogRecord
  ? Omit<T, 'logIndex' | 'leaderEpoch' | 'at' | 'writer' | 'nonce'>
  : never;
/** A record without what `append` fills in. */
export type LogBody = Distribute<LogRecord>;

export interface JobLogOptions {
  store: ObjectStore;
  env: Env;
  /** Names this process in its records, for people. */
  writer: string;
  /** An index near the end; only speeds up `findEnd` (P39). */
  hint?: number;
  /** Checkpoints whose records must be at hand: `checkpointing.retained`. */
  retained: number;
  /** Of the operator's deployment that this process belongs to; null = not the operator's. */
  run?: RunClaim | null;
}

export class JobLog {
  readonly #options: JobLogOptions;
  /** Dense up to the known end, apart from a gap after the genesis. */
  #records: LogRecord[] = [];
  #leaderEpoch: number | null = null;
  #lost: TriggerJobError | null = null;
  #unsettled: LogBody | null = null;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: JobLogOptions) {
    this.#options = options;
  }

  /** Known records: the genesis and at least what the newest `retained` checkpoints need. */
  get records(): readonly LogRecord[] {
    return this.#records;
  }

  /** Records in memory; beyond the limit the older half is forgotten, once it is not needed. */
  get kept(): Bound {
    return { value: this.#records.length, limit: 2 * KEPT };
  }

  get state(): LogState {
    return readState(this.#records);
  }

  /** Of this leader. Throws before `takeover`. */
  get leaderEpoch(): number {
    invariant(this.#leaderEpoch !== null, 'the log was not taken over');
    return this.#leaderEpoch;
  }

  /**
   * Index of the log's last record, -1 if it is empty; by reads alone: gallop from the hint, then
   * bisect.
   */
  async findEnd(): Promise<number> {
    let present = -1;
    let absent = MAX_LOG_INDEX + 1;
    const start = Math.min(Math.max(this.#options.hint ?? 0, 0), MAX_LOG_INDEX);
    if ((await this.#get(start)) !== null) {
      present = start;
      for (let step = 1; absent > MAX_LOG_INDEX && present + step <= MAX_LOG_INDEX; step *= 2) {
        if ((await this.#get(present + step)) === null) absent = present + step;
        else present += step;
      }
    } else {
      absent = start;
      for (let step = 1; present < 0 && absent > 0; step *= 2) {
        const at = Math.max(absent - step, 0);
        if ((await this.#get(at)) === null) absent = at;
        else present = at;
      }
    }
    while (absent - present > 1) {
      const middle = Math.floor((absent + present) / 2);
      if ((await this.#get(middle)) === null) absent = middle;
      else present = middle;
    }
    return present;
  }

  /** Every record, oldest first. For tools; a leader reads no more than it needs. */
  async readAll(): Promise<LogRecord[]> {
    return this.#readRange(0, await this.findEnd());
  }

  /**
   * The genesis and the log's tail, as much of it as `records` promises. [] if the log is empty.
   */
  async readTail(): Promise<LogRecord[]> {
    const end = await this.findEnd();
    if (end < 0) return [];
    let first = end + 1;
    let tail: LogRecord[] = [];
    while (first > 0) {
      const next = Math.max(0, first - WINDOW);
      tail = [...(await this.#readRange(next, first - 1)), ...tail];
      first = next;
      const state = readState(tail);
      if (state.renewed) break;
      if (state.suffices && state.line.length > this.#options.retained) break;
    }
    return first > 0 ? [...(await this.#readRange(0, 0)), ...tail] : tail;
  }

  /**
   * Claims leadership: makes the genesis of an empty log, then appends `takeover` with the next
   * epoch. Afterwards the end of the log is this leader's own record (P42). Returns `records`.
   * `genesis.restoredFrom`: what the spec's restore.savepoint says; null only if it asks for none
   * (P43). `genesis` null: planned for a job that goes on; throws CLAIM_LOST if that was disposed
   * of since. `after`: the epoch whose leader the caller knows to be gone; throws CLAIM_LOST if
   * another one has led since, for a claim over that one would end a leader that lives. Throws
   * RUN_ENDED if the job has ended in this run or a later one, RUN_SUPERSEDED if there is a later
   * one: what the first leader of a run begins with is part of its claim, so it is done once; and
   * STATE_MISSING (I6).
   */
  takeover(
    genesis: { lineage: string; restoredFrom: string | null } | null,
    after: number | null = null,
  ): Promise<readonly LogRecord[]> {
    return this.#serial(async () => {
      this.#leaderEpoch = null;
      this.#lost = null;
      this.#unsettled = null;
      this.#records = await this.readTail();
      const { run = null, store } = this.#options;
      for (;;) {
        const { leaderEpoch } = this.state;
        const last = this.#records.at(-1);
        if (last === undefined || last.kind === 'disposed') {
          startOfRun(this.state, run);
          if (genesis === null) {
            throw new TriggerJobError('CLAIM_LOST', 'the job to go on with was deleted meanwhile');
          }
          if (genesis.restoredFrom === null) refuseLoss(run, store.url);
          await this.#place({ kind: 'genesis', ...genesis }, leaderEpoch);
          continue;
        }
        if (after !== null && leaderEpoch !== after) {
          const text = `epoch ${leaderEpoch} leads; the claim was for the one after ${after}`;
          throw new TriggerJobError('CLAIM_LOST', text);
        }
        const claim = leaderEpoch + 1;
        if (await this.#place({ kind: 'takeover', ...startOfRun(this.state, run) }, claim)) {
          this.#leaderEpoch = claim;
          return this.#records;
        }
      }
    });
  }

  /**
   * Appends at the end; resolves when the record is there for good. Throws LEADERSHIP_LOST (end
   * this process), CHECKPOINT_ABORTED or CHECKPOINT_PUBLISHED (the log already decided otherwise),
   * and LOG_UNAVAILABLE, after which the outcome is unknown until `settle`.
   */
  append(body: LogBody): Promise<LogRecord> {
    return this.#serial(() => this.#append(body));
  }

  /**
   * Ends the doubt that a LOG_UNAVAILABLE left, with a record of this leader at the end (P42): a
   * checkpoint that did not get there is aborted, anything else is appended again.
   */
  settle(): Promise<void> {
    return this.#serial(async () => {
      const body = this.#unsettled;
      if (body === null) return;
      if (body.kind !== 'checkpoint') {
        await this.#append(body);
        return;
      }
      const { checkpointId } = body;
      try {
        await this.#append({ kind: 'abort', checkpointId, reason: 'the store did not answer' });
      } catch (fault) {
        if (!(fault instanceof TriggerJobError) || fault.code !== 'CHECKPOINT_PUBLISHED')
          throw fault;
        this.#unsettled = null; // it got there after all
      }
    });
  }

  /** Reads end + 1: throws LEADERSHIP_LOST if another leader's record is there (P48). */
  confirmEnd(): Promise<void> {
    return this.#serial(async () => {
      this.#checkLeading();
      for (;;) {
        const content = await this.#get(this.#nextIndex);
        if (content === null) return;
        this.#absorb(content);
        this.#checkLeading();
      }
    });
  }

  /**
   * Claims the log as a takeover does, and says that all the job has stored is being deleted.
   * Whoever leads meets it at its next record; the same job asks for it as often as it likes.
   * Throws RUN_SUPERSEDED. null: nothing was ever stored.
   */
  dispose({ run }: { run: number }): Promise<EndRecord | null> {
    return this.#serial(async () => {
      this.#leaderEpoch = null;
      this.#records = await this.readTail();
      if (this.#records.length === 0) return null;
      for (;;) {
        const { end, leaderEpoch, lineage } = this.state;
        if (end?.kind === 'disposed') return end;
        refuseSuperseded(this.state, this.#options.run ?? null);
        const outcome = end?.outcome ?? ({ kind: 'canceled' } as const);
        const body = { kind: 'disposed', run, lineage: lineage ?? '', outcome } as const;
        await this.#place({ ...body, savepoint: null }, leaderEpoch + 1);
      }
    });
  }

  /** After `dispose`: throws RUN_SUPERSEDED if another job has begun behind it (P48). */
  confirmDisposed(): Promise<void> {
    return this.#serial(async () => {
      if ((await this.#get(this.#nextIndex)) === null) return;
      const text = 'another job has begun in this folder; what is left in it is not deleted';
      throw new TriggerJobError('RUN_SUPERSEDED', text);
    });
  }

  get #nextIndex(): number {
    return (this.#records.at(-1)?.logIndex ?? -1) + 1;
  }

  async #append(body: LogBody): Promise<LogRecord> {
    for (;;) {
      this.#checkLeading();
      this.#refuseConflict(body);
      this.#unsettled = body;
      const placed = await this.#place(body, this.leaderEpoch);
      this.#unsettled = null;
      if (placed) return this.#records.at(-1) as LogRecord;
    }
  }

  /** Tries the next index: true = ours; false = the other's record there was read. */
  async #place(body: LogBody, leaderEpoch: number): Promise<boolean> {
    const { env, store, writer } = this.#options;
    const logIndex = this.#nextIndex;
    invariant(logIndex <= MAX_LOG_INDEX, 'the log is full');
    const frame = { logIndex, leaderEpoch, at: env.now(), writer, nonce: env.id() };
    const { run = null } = this.#options;
    // Repeated for as long as it holds: a later leader reads only the tail.
    const record = { ...frame, ...repeated(this.state, run && orderOf(run)), ...body };
    const content = encodeRecord(record);
    const found = await this.#retry(`creating ${logPath(logIndex)}`, async (again) => {
      // 'exists' may be our own record, if an earlier try's reply was lost (P41).
      const answer = await store.create(logPath(logIndex), content);
      if (answer === 'created') return content;
      return (await store.get(logPath(logIndex))) ?? again();
    });
    if (!found.equals(content)) {
      this.#absorb(found);
      return false;
    }
    this.#records.push(record);
    this.#trim();
    return true;
  }

  #absorb(content: Buffer): void {
    const record = decodeRecord(content, this.#nextIndex);
    this.#records.push(record);
    this.#trim();
    const own = this.#leaderEpoch;
    if (own === null || record.leaderEpoch <= own) return;
    this.#lost = new TriggerJobError(
      'LEADERSHIP_LOST',
      `leader epoch ${own} is over: ${record.writer} took over with epoch ${record.leaderEpoch} ` +
        `at index ${record.logIndex} of the log`,
    );
  }

  #checkLeading(): void {
    if (this.#lost !== null) throw this.#lost;
    invariant(this.#leaderEpoch !== null, 'the log was not taken over');
  }

  #refuseConflict(body: LogBody): void {
    const { published, aborted } = this.state;
    if (body.kind !== 'checkpoint' && body.kind !== 'abort') return;
    const id = body.checkpointId;
    if (published.has(id)) {
      throw new TriggerJobError('CHECKPOINT_PUBLISHED', `checkpoint ${id} is published already`);
    }
    if (body.kind === 'checkpoint' && aborted.has(id)) {
      throw new TriggerJobError('CHECKPOINT_ABORTED', `checkpoint ${id} was aborted before`);
    }
    const newest = Math.max(0, ...published);
    if (body.kind === 'checkpoint' && id < newest) {
      throw new TriggerJobError('CHECKPOINT_ABORTED', `checkpoint ${newest} came before ${id}`);
    }
  }

  /** Forgets old records once the newer ones suffice. */
  #trim(): void {
    if (this.#records.length <= 2 * KEPT) return;
    const kept = this.#records.slice(-KEPT);
    const { suffices, line } = readState(kept);
    const first = this.#records[0];
    if (!suffices || line.length <= this.#options.retained || first === undefined) return;
    this.#records = [first, ...kept];
  }

  async #readRange(first: number, last: number): Promise<LogRecord[]> {
    const records: LogRecord[] = [];
    for (let from = first; from <= last; from += WINDOW) {
      const length = Math.min(WINDOW, last - from + 1);
      const indexes = Array.from({ length }, (_, i) => from + i);
      const contents = await Promise.all(indexes.map((index) => this.#get(index)));
      contents.forEach((content, i) => {
        if (content === null) {
          const hole = `the job's log has no record ${from + i} but one at ${last}`;
          throw new TriggerJobError('LOG_CORRUPT', `${hole}. Nothing is started from such a log.`);
        }
        records.push(decodeRecord(content, from + i));
      });
    }
    return records;
  }

  #get(logIndex: number): Promise<Buffer | null> {
    const name = logPath(logIndex);
    return this.#retry(`reading ${name}`, () => this.#options.store.get(name));
  }

  /**
   * A throw of the store means "unknown" (P41): it is asked again, and so is what calls `again`.
   */
  async #retry<T>(what: string, work: (again: () => never) => Promise<T>): Promise<T> {
    let pauseMs = FIRST_PAUSE_MS;
    for (let left = TRIES; ; left--) {
      try {
        return await work(() => {
          throw new Error('the store contradicts itself: the object exists and is absent');
        });
      } catch (cause) {
        if (left <= 1) {
          throw new TriggerJobError(
            'LOG_UNAVAILABLE',
            `${what} in ${this.#options.store.url} failed ${TRIES} times; the outcome is unknown`,
            { cause, retryable: true },
          );
        }
      }
      await sleep(this.#options.env, pauseMs);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }

  /** One operation at a time: two appends must not race for one index. */
  #serial<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#queue.then(work);
    this.#queue = run.catch(() => {});
    return run;
  }
}
