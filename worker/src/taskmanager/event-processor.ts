/**
 * State, filter and action of one slot, chained: what happens to a record that arrived. Synchronous
 * per micro-batch, so a barrier falls between two batches and no event is half done (P19).
 *
 *   decode -> poison? dead letter -> users of the batch in one multi-get -> per record, in order:
 *     user unknown: park, ask the Profile API once
 *     user known: judge, outbox entry, append to history
 */
import type { Delivery } from '../action/action.ts';
import { deliveryId } from '../action/delivery-id.ts';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import { AcceptedOffsets } from '../exchange/accepted-offsets.ts';
import { type DataFrame, FrameCursor } from '../exchange/frame.ts';
import { contains, keyGroupOf } from '../exchange/key-groups.ts';
import type { CompiledFilter } from '../filter/filter.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { viewOf } from '../runtime/copy-words.ts';
import { invariant } from '../runtime/errors.ts';
import type { Split } from '../source/source.ts';
import type { ProfileAnswer, ProfileApi, ProfileFailure } from '../state/profile-api.ts';
import type { UserState } from '../state/user-state.ts';
import type { UserStateManager } from '../state/user-state-manager.ts';
import {
  type AcceptedRecord,
  type IncomingRecord,
  parkedSize,
  type RecordPlace,
} from './accepted-record.ts';
import { enrichedBody } from './enriched-body.ts';
import { Judge } from './judge.ts';
import type { GroupLedger } from './ledger.ts';
import type { Outbox } from './outbox.ts';
import type { SlotInspection } from './slot-inspection.ts';
import { decodeUserEvent } from './user-event.ts';

export interface ProcessorDeps {
  plan: JobPlan;
  lineage: string;
  range: KeyGroupRange;
  manager: UserStateManager;
  outbox: Outbox;
  profileApi: ProfileApi | null;
  ledger: GroupLedger;
  filter: CompiledFilter;
  inspection: SlotInspection;
  /** Of this task; above 1, events may be replayed (P33). */
  attempt: number;
  /** A deliberate defect, for tests of the checkers only. */
  mutant: string | null;
  /** Parked events were handled: there may be room again. */
  onProgress: () => void;
  onFault: (fault: unknown) => void;
}

export interface ProcessorStats {
  processed: number;
  matched: number;
  filterErrors: number;
  divergent: number;
  /** Records that were accepted before, from a source that has a successor (P50). */
  repeats: number;
}

const NOTHING: ProfileAnswer = { kind: 'found', profile: '{}', visit: '{}', history: [] };

export class EventProcessor {
  readonly #deps: ProcessorDeps;
  readonly accepted: AcceptedOffsets;
  readonly #splits = new Map<number, Split>();
  readonly #replayUntil = new Map<number, number>();
  /** Users whose profile is being fetched, with their events in order (P2, P19). */
  readonly #loading = new Map<string, AcceptedRecord[]>();
  readonly #take: (bytes: number) => Buffer;
  readonly #topic: string;
  /** A restored record of a split that was not announced yet is older than the restart. */
  readonly #unannounced: number;
  readonly #judging: Judge;
  #parked = 0;
  #parkedBytes = 0;
  readonly #stats = { processed: 0, matched: 0, filterErrors: 0, divergent: 0, repeats: 0 };

  constructor(deps: ProcessorDeps) {
    this.#deps = deps;
    this.#judging = new Judge(deps.manager, deps.filter);
    this.accepted = new AcceptedOffsets(deps.mutant === 'vector-ignored');
    this.#take = (bytes) => deps.outbox.bodies.take(bytes);
    this.#unannounced = deps.attempt > 1 ? Number.POSITIVE_INFINITY : 0;
    const { source } = deps.plan;
    this.#topic = source.kind === 'kafka' ? source.topic : source.kind;
  }

  get stats(): Readonly<ProcessorStats> {
    return this.#stats;
  }

  get parked(): number {
    return this.#parked;
  }

  get parkedBytes(): number {
    return this.#parkedBytes;
  }

  get filter(): CompiledFilter {
    return this.#judging.filter;
  }

  setFilter(filter: CompiledFilter): void {
    this.#judging.setFilter(filter);
  }

  /** `replayUntil`: records below it may repeat what an earlier attempt did (P33). */
  addSplits(splits: readonly Split[], replayUntil: number): void {
    for (const split of splits) {
      // Again from a lost source's successor: what it repeats is dropped here, so nothing new can.
      if (this.#splits.has(split.index)) continue;
      this.#splits.set(split.index, split);
      this.#replayUntil.set(split.index, replayUntil);
    }
  }

  splitOf(index: number): Split {
    const split = this.#splits.get(index);
    invariant(split !== undefined, `a record of split ${index}, which was never announced`);
    return split;
  }

  isBusy(userId: string): boolean {
    return this.#loading.has(userId) || this.#deps.outbox.holds(userId);
  }

  /** The user's events that wait for its profile. */
  parkedOf(userId: string): number {
    return this.#loading.get(userId)?.length ?? 0;
  }

  /** Parked records in an order that keeps each user's. */
  parkedRecords(): AcceptedRecord[] {
    return [...this.#loading.values()].flat();
  }

  /**
   * The records of one buffer are accepted here and now (P35), whenever they are handled; those
   * that were accepted before are cut out of it (P50).
   */
  accept(frame: DataFrame): void {
    const { ledger } = this.#deps;
    this.#stats.repeats += this.accepted.accept(frame, (keyGroup) => {
      ledger.add('accepted', keyGroup);
    });
  }

  /** Handles the accepted records of some buffers as one micro-batch; keeps none of their bytes. */
  handleFrames(frames: readonly DataFrame[]): void {
    const records: AcceptedRecord[] = [];
    let count = 0;
    for (const frame of frames) {
      const cursor = new FrameCursor(frame);
      while (cursor.next()) {
        count++;
        const { keyGroup, offset, time, timestamp, start, end, bytes, view } = cursor;
        const place = { split: this.splitOf(cursor.split), keyGroup, offset, time, timestamp };
        this.#decode(place, bytes, view, start, end, records);
      }
    }
    this.#handleBatch(records, count);
  }

  /** Handles records of a restored checkpoint, in order. */
  handle(incoming: readonly IncomingRecord[]): void {
    const records: AcceptedRecord[] = [];
    for (const { value, ...place } of incoming) {
      const bytes = value ?? NO_BYTES;
      this.#decode(place, bytes, viewOf(bytes), 0, value?.length ?? -1, records);
    }
    this.#handleBatch(records, incoming.length);
  }

  #handleBatch(records: readonly AcceptedRecord[], count: number): void {
    const { manager, inspection } = this.#deps;
    this.#stats.processed += count;
    inspection.begin();
    let missing: Map<string, number> | null = null;
    for (const record of records) {
      record.user = manager.cached(record.userId);
      if (record.user !== undefined || this.#loading.has(record.userId)) continue;
      missing ??= new Map();
      missing.set(record.userId, record.keyGroup);
    }
    if (missing !== null) manager.load(missing);
    this.#judging.readAhead(records);
    for (const record of records) this.#handleOne(record);
    inspection.handled(records);
    manager.settle();
  }

  /** Adds the record to `records`. Poison goes to the dead letter. */
  #decode(
    place: RecordPlace,
    source: Buffer,
    view: DataView,
    start: number,
    end: number,
    records: AcceptedRecord[],
  ): void {
    const { plan } = this.#deps;
    const event = decodeUserEvent(source, start, end, plan.keyBy, plan.source.maxRecordBytes);
    if ('poison' in event) {
      this.#deadLetter(place, source, start, end, event.poison);
      return;
    }
    const { userId, parsed } = event;
    const { split, keyGroup, offset, time, timestamp } = place;
    // P24: the source routed by a scan of the bytes; whoever parses has the last word.
    const owner = keyGroupOf(userId, plan.maxParallelism);
    if (owner !== keyGroup || !contains(this.#deps.range, owner)) {
      const error = `routed to key group ${keyGroup}, its user is of ${owner}`;
      this.#deadLetter(place, source, start, end, error);
      return;
    }
    const record = {
      split,
      keyGroup,
      offset,
      time,
      timestamp,
      userId,
      parsed,
      source,
      view,
      start,
      end,
      user: undefined,
      verdict: null,
      verdictOf: null,
      verdictAt: null,
    };
    records.push(record);
    const { inspection } = this.#deps;
    if (inspection.taps.open.keyed) inspection.tapKeyed(record);
  }

  #deadLetter(place: RecordPlace, source: Buffer, start: number, end: number, error: string): void {
    const body = Buffer.from(source.subarray(start, Math.max(start, end)));
    const delivery = this.#delivery(place, '', body, 'dead-letter');
    const { inspection } = this.#deps;
    if (inspection.taps.open.dropped) {
      inspection.tapRefused({ ...place, source, start, end }, null, error);
    }
    this.#deps.outbox.add(place.keyGroup, delivery, { stage: 'state', error, attempts: 0 });
  }

  #handleOne(record: AcceptedRecord): void {
    const { manager } = this.#deps;
    const { userId } = record;
    let { user } = record;
    const found = user !== undefined;
    if (user === undefined || user.released) {
      const waiting = this.#loading.get(userId);
      if (waiting !== undefined) {
        this.#park(waiting, record);
        return;
      }
      user = manager.cached(userId);
    }
    if (user === undefined) {
      this.#fetch(record);
      return;
    }
    manager.used(user, found);
    if (!manager.isExpired(user, record.time)) {
      this.#judge(user, record);
      return;
    }
    manager.drop(user);
    this.#fetch(record);
  }

  #fetch(record: AcceptedRecord): void {
    const { profileApi, manager } = this.#deps;
    const { userId } = record;
    if (profileApi === null) {
      this.#judge(manager.create(userId, record.keyGroup, NOTHING, record.time), record);
      return;
    }
    const waiting: AcceptedRecord[] = [];
    this.#loading.set(userId, waiting);
    this.#park(waiting, record);
    profileApi
      .fetch(userId)
      .then((answer) => {
        this.#answered(userId, answer);
        this.#deps.onProgress();
      })
      .catch(this.#deps.onFault);
  }

  #park(waiting: AcceptedRecord[], record: AcceptedRecord): void {
    const { source, start, end } = record;
    // Its own copy: the frame's buffer goes back to its sender.
    const value = Buffer.from(source.subarray(start, end));
    const text = { source: value, view: viewOf(value), start: 0, end: value.length };
    const unseen = { user: undefined, verdict: null, verdictOf: null, verdictAt: null };
    waiting.push({ ...record, ...text, ...unseen });
    this.#parked++;
    this.#parkedBytes += parkedSize(record);
  }

  /** The whole answer is applied in this turn: before a barrier or after it (P19). */
  #answered(userId: string, answer: ProfileAnswer | ProfileFailure): void {
    const waiting = this.#loading.get(userId);
    invariant(waiting !== undefined && waiting.length > 0, 'an answer for a user nobody waits for');
    this.#loading.delete(userId);
    for (const record of waiting) {
      this.#parked--;
      this.#parkedBytes -= parkedSize(record);
    }
    const first = waiting[0]!;
    this.#deps.inspection.begin();
    if (answer.kind === 'failed') {
      for (const record of waiting) {
        const delivery = this.#delivery(record, userId, record.source, 'dead-letter');
        const failure = { stage: 'state', error: answer.error, attempts: 1 } as const;
        this.#deps.outbox.add(record.keyGroup, delivery, failure);
        const { inspection } = this.#deps;
        if (inspection.taps.open.dropped) inspection.tapRefused(record, userId, answer.error);
      }
      return;
    }
    const { manager, attempt } = this.#deps;
    this.#judging.prepare(manager.create(userId, first.keyGroup, answer, first.time, attempt));
    for (const record of waiting) this.#handleOne(record);
    manager.settle();
  }

  #judge(user: UserState, record: AcceptedRecord): void {
    const { manager, ledger, inspection } = this.#deps;
    const { open } = inspection.taps;
    if (open.enriched) inspection.tapEnriched(user, record);
    const verdict = this.#judging.verdict(user, record);
    inspection.decisions.note(user.id, record, verdict, this.filter.version);
    if (open.matched || open.dropped) inspection.tapJudged(record, verdict);
    if (verdict.match) {
      this.#stats.matched++;
      const replayUntil = this.#replayUntil.get(record.split.index) ?? this.#unannounced;
      if (user.fetchedBy === this.#deps.attempt && record.offset < replayUntil)
        this.#stats.divergent++;
      const body = enrichedBody(user, record, manager.stored, this.#take);
      const delivery = this.#delivery(record, user.id, body, 'action');
      this.#deps.outbox.add(record.keyGroup, delivery, null);
    } else {
      if (verdict.error !== null) this.#stats.filterErrors++;
      ledger.add('noMatch', record.keyGroup);
    }
    manager.append(user, record);
  }

  #delivery(place: RecordPlace, userId: string, body: Buffer, action: string): Delivery {
    const { split, offset, timestamp } = place;
    return {
      id: deliveryId(this.#deps.lineage, split.sourceId, split.id, offset, action),
      userId,
      topic: this.#topic,
      partition: split.partition,
      offset,
      timestamp,
      body,
    };
  }
}

const NO_BYTES = Buffer.alloc(0);
