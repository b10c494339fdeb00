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
import { readRecords } from '../exchange/frame.ts';
import { contains, keyGroupOf } from '../exchange/key-groups.ts';
import type { CompiledFilter, FilterScope } from '../filter/filter.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { invariant } from '../runtime/errors.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import type { Split } from '../source/source.ts';
import type { ProfileAnswer, ProfileApi, ProfileFailure } from '../state/profile-api.ts';
import type { UserState } from '../state/user-state.ts';
import type { UserStateManager } from '../state/user-state-manager.ts';
import type { GroupLedger } from './ledger.ts';
import type { Outbox } from './outbox.ts';
import { decodeUserEvent, type UserEvent } from './user-event.ts';

/** A record on its way: routed, its time fixed (P36). */
interface RecordPlace {
  split: Split;
  keyGroup: number;
  offset: number;
  time: number;
  timestamp: number;
}

export interface IncomingRecord extends RecordPlace {
  value: Buffer | null;
}

export interface AcceptedRecord extends RecordPlace {
  event: UserEvent;
}

export interface ProcessorDeps {
  plan: JobPlan;
  lineage: string;
  range: KeyGroupRange;
  manager: UserStateManager;
  outbox: Outbox;
  profileApi: ProfileApi | null;
  ledger: GroupLedger;
  filter: CompiledFilter;
  /** Of this task; above 1, events may be replayed (P33). */
  attempt: number;
  /** Parked events were handled: there may be room again. */
  onProgress: () => void;
  onFault: (fault: unknown) => void;
}

export interface ProcessorStats {
  processed: number;
  matched: number;
  filterErrors: number;
  divergent: number;
}

/** Heap bytes of a parked record per byte of its value: text, parsed object, fields. */
const PARKED_FACTOR = 4;
const PARKED_BYTES = 300;

const NOTHING: ProfileAnswer = { kind: 'found', profile: '{}', visit: '{}', history: [] };

/** What the script sees; one object reused, its properties read only when the script names them. */
class Scope implements FilterScope {
  event: JsonObject = {};
  user_: UserState | null = null;
  readonly #manager: UserStateManager;

  constructor(manager: UserStateManager) {
    this.#manager = manager;
  }

  get user(): JsonValue {
    return this.user_!.profile;
  }

  get visit(): JsonValue {
    return this.user_!.visit;
  }

  get history(): readonly JsonValue[] {
    return this.user_!.history(this.#manager.readChunks);
  }
}

export class EventProcessor {
  readonly #deps: ProcessorDeps;
  readonly #splits = new Map<number, Split>();
  readonly #replayUntil = new Map<number, number>();
  /** Users whose profile is being fetched, with their events in order (P2, P19). */
  readonly #loading = new Map<string, AcceptedRecord[]>();
  readonly #scope: Scope;
  readonly #topic: string;
  /** A restored record of a split that was not announced yet is older than the restart. */
  readonly #unannounced: number;
  #filter: CompiledFilter;
  #parked = 0;
  #parkedBytes = 0;
  #stats: ProcessorStats = { processed: 0, matched: 0, filterErrors: 0, divergent: 0 };

  constructor(deps: ProcessorDeps) {
    this.#deps = deps;
    this.#filter = deps.filter;
    this.#scope = new Scope(deps.manager);
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
    return this.#filter;
  }

  setFilter(filter: CompiledFilter): void {
    this.#filter = filter;
  }

  /** `replayUntil`: records below it may repeat what an earlier attempt did (P33). */
  addSplits(splits: readonly Split[], replayUntil: number): void {
    for (const split of splits) {
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

  /** Parked records in an order that keeps each user's. */
  parkedRecords(): AcceptedRecord[] {
    return [...this.#loading.values()].flat();
  }

  /**
   * The records of one buffer, accepted here and now (P35). Their values are views on the buffer.
   */
  accept(frame: { bytes: Uint8Array; length: number }): IncomingRecord[] {
    const records = readRecords(frame, (index) => this.splitOf(index));
    for (const { keyGroup } of records) this.#deps.ledger.add('accepted', keyGroup);
    return records;
  }

  /** Handles a micro-batch of accepted records, in order. Poison goes to the dead letter. */
  handle(incoming: readonly IncomingRecord[]): void {
    const { manager } = this.#deps;
    const records: AcceptedRecord[] = [];
    for (const record of incoming) {
      const event = this.#decode(record);
      if (event === null) continue;
      // Named one by one: a parked record must not keep the frame's buffer alive through `value`.
      const { split, keyGroup, offset, time, timestamp } = record;
      records.push({ split, keyGroup, offset, time, timestamp, event });
    }
    this.#stats.processed += incoming.length;
    const missing = new Map<string, number>();
    for (const { event, keyGroup } of records) {
      if (manager.peek(event.userId) === undefined && !this.#loading.has(event.userId)) {
        missing.set(event.userId, keyGroup);
      }
    }
    if (missing.size > 0) manager.load(missing);
    for (const record of records) this.#handleOne(record);
    manager.evict();
  }

  #decode(record: IncomingRecord): UserEvent | null {
    const { plan } = this.#deps;
    const event = decodeUserEvent(record.value, plan.keyBy, plan.source.maxRecordBytes);
    if ('poison' in event) {
      this.#deadLetter(record, event.poison);
      return null;
    }
    // P24: the source routed by a scan of the bytes; whoever parses has the last word.
    const keyGroup = keyGroupOf(event.userId, plan.maxParallelism);
    if (keyGroup === record.keyGroup && contains(this.#deps.range, keyGroup)) return event;
    this.#deadLetter(record, `routed to key group ${record.keyGroup}, its user is of ${keyGroup}`);
    return null;
  }

  #deadLetter(record: IncomingRecord, error: string): void {
    const body = Buffer.from(record.value ?? []);
    const delivery = this.#delivery(record.split, record, '', body, 'dead-letter');
    this.#deps.outbox.add(record.keyGroup, delivery, { stage: 'state', error, attempts: 0 });
  }

  #handleOne(record: AcceptedRecord): void {
    const { manager } = this.#deps;
    const { userId } = record.event;
    const waiting = this.#loading.get(userId);
    if (waiting !== undefined) {
      this.#park(waiting, record);
      return;
    }
    const user = manager.cached(userId);
    if (user !== undefined && !manager.isExpired(user, record.time)) {
      this.#judge(user, record);
      return;
    }
    if (user !== undefined) manager.drop(user);
    this.#fetch(record);
  }

  #fetch(record: AcceptedRecord): void {
    const { profileApi, manager } = this.#deps;
    const { userId } = record.event;
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
    waiting.push(record);
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
    if (answer.kind === 'failed') {
      for (const record of waiting) {
        const body = Buffer.from(record.event.raw);
        const delivery = this.#delivery(record.split, record, userId, body, 'dead-letter');
        const failure = { stage: 'state', error: answer.error, attempts: 1 } as const;
        this.#deps.outbox.add(record.keyGroup, delivery, failure);
      }
      return;
    }
    const { manager, attempt } = this.#deps;
    manager.create(userId, first.keyGroup, answer, first.time, attempt);
    for (const record of waiting) this.#handleOne(record);
    manager.evict();
  }

  #judge(user: UserState, record: AcceptedRecord): void {
    const { manager, ledger } = this.#deps;
    const { event } = record;
    const bytesBefore = user.bytes;
    this.#scope.event = event.parsed;
    this.#scope.user_ = user;
    const verdict = this.#filter.evaluate(this.#scope);
    if (verdict.match) {
      this.#stats.matched++;
      const replayUntil = this.#replayUntil.get(record.split.index) ?? this.#unannounced;
      if (user.fetchedBy === this.#deps.attempt && record.offset < replayUntil)
        this.#stats.divergent++;
      const body = this.#body(user, event);
      const delivery = this.#delivery(record.split, record, user.id, body, 'action');
      this.#deps.outbox.add(record.keyGroup, delivery, null);
    } else {
      if (verdict.error !== null) this.#stats.filterErrors++;
      ledger.add('noMatch', record.keyGroup);
    }
    const { raw, bytes, parsed } = event;
    const { timestamp, time } = record;
    manager.append(user, { raw, bytes, parsed, timestamp, time }, bytesBefore);
  }

  /** The enriched event: user, visit and history as they were before it. Texts go in verbatim. */
  #body(user: UserState, event: UserEvent): Buffer {
    const history = user.historyText(this.#deps.manager.readChunks);
    const visit = JSON.stringify(user.visit);
    return Buffer.from(
      `{"event":${event.raw},"user":${user.profileText},"visit":${visit},"history":[${history}]}`,
    );
  }

  #delivery(
    split: Split,
    place: { offset: number; timestamp: number },
    userId: string,
    body: Buffer,
    action: string,
  ): Delivery {
    const { offset, timestamp } = place;
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

function parkedSize(record: AcceptedRecord): number {
  return record.event.bytes * PARKED_FACTOR + PARKED_BYTES;
}
