/**
 * What people may see of one slot: a user's state and last decisions, hot keys, a tap. Beside the
 * records' path: what is noted on it is bounded and cheap, and a question changes nothing.
 */
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import { contains, keyGroupOf } from '../exchange/key-groups.ts';
import type { Verdict } from '../filter/filter.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { SlotAnswer, SlotQuery, TappedRecord, UserAnswer } from '../rpc/inspection.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf } from '../runtime/errors.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import type { RecordColumns } from '../source/record-columns.ts';
import type { Split } from '../source/source.ts';
import { peekBytes, peekUser } from '../state/peek-user.ts';
import type { UserState } from '../state/user-state.ts';
import type { UserStateManager } from '../state/user-state-manager.ts';
import type { AcceptedRecord, RecordPlace } from './accepted-record.ts';
import { DecisionLog } from './decision-log.ts';
import type { EventProcessor } from './event-processor.ts';
import { HotKeys } from './hot-keys.ts';
import type { Outbox, OutboxEntry, OutboxResult } from './outbox.ts';
import { RecordTaps } from './record-tap.ts';

/** Bodies up to this size are parsed for a tap, to show their event. */
const MAX_BODY_BYTES = 64 * 1024;
/** A longer event is shown as the beginning of its text. */
const MAX_EVENT_BYTES = 16 * 1024;
/** Of a user's profile and visit, beside an event. */
const MAX_ENRICHED_BYTES = 32 * 1024;

export interface SlotInspectionDeps {
  env: Env;
  plan: JobPlan;
  subtask: number;
  range: KeyGroupRange;
  manager: UserStateManager;
}

export class SlotInspection {
  readonly taps: RecordTaps;
  readonly decisions: DecisionLog;
  readonly hotKeys: HotKeys;
  readonly #deps: SlotInspectionDeps;
  readonly #topic: string;

  constructor(deps: SlotInspectionDeps) {
    this.#deps = deps;
    const { source, maxParallelism } = deps.plan;
    this.#topic = source.kind === 'kafka' ? source.topic : source.kind;
    this.taps = new RecordTaps(deps.env, maxParallelism);
    this.decisions = new DecisionLog(this.#topic);
    this.hotKeys = new HotKeys(deps.env);
  }

  /** A micro-batch begins. */
  begin(): void {
    this.decisions.now = this.#deps.env.now();
  }

  /** A micro-batch was handled. */
  handled(records: readonly AcceptedRecord[]): void {
    const { manager } = this.#deps;
    this.hotKeys.count(records, (userId) => manager.cached(userId)?.storedBytes ?? null);
  }

  /** Throws nothing: what can't be answered says why. `parts` null: the state is being restored. */
  answer(
    query: SlotQuery,
    parts: { processor: EventProcessor; outbox: Outbox } | null,
  ): SlotAnswer {
    if (query.kind === 'untap') {
      this.taps.close(query.id);
      return { kind: 'untapped' };
    }
    if (parts === null) {
      return { kind: 'failed', code: 'restoring', error: 'the task is still restoring its state' };
    }
    try {
      if (query.kind === 'tap') return { kind: 'tapped', ...this.taps.fetch(query.tap) };
      if (query.kind === 'user') return this.#user(query, parts);
      const { manager, plan } = this.#deps;
      const keyGroup = (userId: string) => keyGroupOf(userId, plan.maxParallelism);
      return this.hotKeys.answer(query.by, query.top, {
        keyGroupOf: keyGroup,
        bytesOf: (userId) => peekBytes(manager, userId, keyGroup(userId)),
      });
    } catch (error) {
      return { kind: 'failed', code: 'failed', error: messageOf(error) };
    }
  }

  #user(
    { userId, keyGroup, historyLimit, maxBytes }: Extract<SlotQuery, { kind: 'user' }>,
    { processor, outbox }: { processor: EventProcessor; outbox: Outbox },
  ): SlotAnswer {
    const { env, manager, range } = this.#deps;
    if (!contains(range, keyGroup)) {
      return { kind: 'failed', code: 'moved', error: `key group ${keyGroup} is another task's` };
    }
    const answer: UserAnswer = {
      kind: 'user',
      found: null,
      parked: processor.parkedOf(userId),
      outbox: outbox.countOf(userId),
      decisions: this.decisions.of(userId, env.now()),
    };
    const limits = { events: historyLimit, bytes: maxBytes };
    const peeked = peekUser(manager, userId, keyGroup, limits);
    if (peeked === null) return answer;
    const { profileText: profile, visitText: visit, history, ...figures } = peeked;
    const texts = { profile, visit, history: `[${history.join(',')}]` };
    return { ...answer, found: { ...figures, ...texts, historyShown: history.length } };
  }

  /** Only while somebody taps the stage, as all below. */
  tapSource(split: Split, keyGroup: number, records: RecordColumns, row: number): void {
    const offset = records.offsets[row]!;
    const start = records.starts[row]!;
    const end = records.ends[row]!;
    this.taps.pass('source', keyGroup, null, () => {
      const { userId, event } = readEvent(records.bytes, start, end, this.#deps.plan.keyBy);
      return this.#tapped({ split, offset }, { stage: 'source', userId, event });
    });
  }

  tapKeyed(record: AcceptedRecord): void {
    this.taps.pass('keyed', record.keyGroup, record.userId, () =>
      this.#tapped(record, { stage: 'keyed', ...eventOf(record) }),
    );
  }

  /** Before its verdict. */
  tapEnriched(user: UserState, record: AcceptedRecord): void {
    this.taps.pass('enriched', record.keyGroup, record.userId, () => {
      const limits = { events: 0, bytes: MAX_ENRICHED_BYTES };
      const peeked = peekUser(this.#deps.manager, user.id, user.keyGroup, limits);
      const enriched = {
        user: onOneLine(peeked?.profileText ?? 'null'),
        visit: onOneLine(peeked?.visitText ?? 'null'),
      };
      return this.#tapped(record, { stage: 'enriched', ...eventOf(record), ...enriched });
    });
  }

  tapJudged(record: AcceptedRecord, verdict: Verdict): void {
    const stage = verdict.match ? 'matched' : 'dropped';
    if (!this.taps.open[stage]) return;
    const error = verdict.match ? null : verdict.error;
    const word = verdict.match ? 'match' : error === null ? 'no-match' : 'error';
    const reason = verdict.match ? null : (error ?? 'the filter did not match');
    this.taps.pass(stage, record.keyGroup, record.userId, () =>
      this.#tapped(record, { stage, ...eventOf(record), verdict: word, reason }),
    );
  }

  /** A record that goes to the dead letter before any verdict; `userId` null: it has none. */
  tapRefused(
    record: RecordPlace & { source: Buffer; start: number; end: number },
    userId: string | null,
    error: string,
  ): void {
    const { keyGroup, source, start, end } = record;
    this.taps.pass('dropped', keyGroup, userId, () => {
      const { event } = readEvent(source, start, end, this.#deps.plan.keyBy);
      const reason = `to the dead letter: ${error}`;
      return this.#tapped(record, { stage: 'dropped', userId, event, reason });
    });
  }

  /** The delivery of a match was answered, or went to the dead letter. */
  tapFired({ delivery, failure, keyGroup }: OutboxEntry, result: OutboxResult): void {
    if (failure !== null) return;
    const { userId, partition, offset, body } = delivery;
    this.taps.pass('fired', keyGroup, userId, () => {
      const reason = result === 'delivered' ? null : 'to the dead letter';
      const seen = { userId, event: firedEvent(body), verdict: 'match' as const, reason };
      return this.#tapped({ split: { partition }, offset }, { stage: 'fired', ...seen });
    });
  }

  #tapped(
    { split, offset }: { split: { partition: number }; offset: number },
    seen: Partial<TappedRecord> & Pick<TappedRecord, 'stage' | 'userId' | 'event'>,
  ): TappedRecord {
    const { env, subtask } = this.#deps;
    const place = { topic: this.#topic, partition: split.partition, offset, subtask };
    return { at: env.now(), verdict: null, reason: null, ...place, ...seen };
  }
}

function eventOf({ userId, source, start, end }: AcceptedRecord): {
  userId: string;
  event: string;
} {
  const whole = end - start <= MAX_EVENT_BYTES;
  const event = whole ? onOneLine(source.toString('utf8', start, end)) : cut(source, start, end);
  return { userId, event };
}

/** Of a record that nobody has parsed. */
function readEvent(
  source: Buffer,
  start: number,
  end: number,
  keyBy: string,
): { userId: string | null; event: string } {
  if (end < 0) return { userId: null, event: 'null' };
  const text = source.toString('utf8', start, end);
  let parsed: unknown = null;
  try {
    parsed = JSON.parse(text);
  } catch {
    return { userId: null, event: cut(source, start, end) };
  }
  const id = isJsonObject(parsed) ? parsed[keyBy] : null;
  const event = end - start > MAX_EVENT_BYTES ? cut(source, start, end) : onOneLine(text);
  return { userId: typeof id === 'string' ? id : null, event };
}

/** The event in an enriched body. */
function firedEvent(body: Buffer): string {
  if (body.length > MAX_BODY_BYTES) return cut(body, 0, body.length);
  const { event } = JSON.parse(body.toString()) as { event: JsonValue };
  const text = JSON.stringify(event);
  return text.length <= MAX_EVENT_BYTES ? text : cut(Buffer.from(text), 0, text.length);
}

/** Between the tokens of JSON a line break is a blank; within a string it is always escaped. */
function onOneLine(json: string): string {
  return json.replace(/[\r\n]+/g, ' ');
}

/** As the text of a JSON string. */
function cut(source: Buffer, start: number, end: number): string {
  const to = Math.min(end, start + MAX_EVENT_BYTES);
  const text = source.toString('utf8', start, to).toWellFormed();
  return JSON.stringify(to < end ? `${text}…` : text);
}
