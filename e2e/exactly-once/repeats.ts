/**
 * Every repeated delivery belongs to one class of P32, computed from what each attempt was restored
 * from; any other repeat is a violation (I3). Pure.
 *
 * Classes: `retry` (a) within an attempt, after an answer that was not 2xx; `replay` (b) the record
 * is at or after the restored position; `in-flight` (c) the restored checkpoint held it in outbox
 * or parking; `overlap` (d) a frozen TaskManager woke up beside its successor.
 *
 * Class (c) is not taken on trust. An entry leaves the outbox on 2xx, so it can be in a checkpoint
 * only if no 2xx came before the barrier; and there can't be more of them than the manifest's
 * ledgers say.
 */
import { attemptAt, attemptOf, inOverlap, positionIn, restoredFrom } from './attempts.ts';
import type { Acked, CheckpointFact, History, Receipt } from './history.ts';

export type RepeatClass = 'retry' | 'replay' | 'in-flight' | 'overlap';

export interface RepeatFindings {
  byClass: Record<RepeatClass, number>;
  violations: string[];
}

/**
 * A 2xx answer counts as "before the barrier" only if it is older than the trigger by this: the
 * pipeline must first have seen the answer, on a machine of 2 cores full of other work.
 */
const ANSWER_SEEN_MS = 1_000;

const isAnswered2xx = (receipt: Receipt): boolean =>
  receipt.status !== null && receipt.status >= 200 && receipt.status < 300;

interface Sent {
  receipt: Receipt;
  attempt: number;
}

class Classifier {
  readonly #history: History;
  readonly byClass: Record<RepeatClass, number> = {
    retry: 0,
    replay: 0,
    'in-flight': 0,
    overlap: 0,
  };
  readonly violations: string[] = [];
  /** Repeats of class (c), by attempt. */
  readonly #inFlight = new Map<number, number>();

  constructor(history: History) {
    this.#history = history;
  }

  /** All receipts of one event, in order of arrival. */
  judge(event: Acked, receipts: readonly Receipt[]): void {
    const { kills } = this.#history;
    const certain = receipts.filter((receipt) => !inOverlap(kills, receipt));
    this.byClass.overlap += receipts.length - certain.length;
    const sent: Sent[] = certain.map((receipt) => ({
      receipt,
      attempt: attemptOf(kills, receipt),
    }));
    for (const [index, { receipt, attempt }] of sent.entries()) {
      if (index === 0) continue;
      const name = `${event.user}/${event.seq} (id ${receipt.id}) at ${receipt.at}`;
      const before = sent.slice(0, index).filter((one) => one.attempt === attempt);
      if (before.length > 0) {
        if (before.some((one) => isAnswered2xx(one.receipt))) {
          this.violations.push(`${name}: sent again by attempt ${attempt} after a 2xx`);
        } else this.byClass.retry++;
        continue;
      }
      this.#judgeRestored(name, event, attempt, sent);
    }
  }

  #judgeRestored(name: string, event: Acked, attempt: number, sent: readonly Sent[]): void {
    const restored = restoredFrom(this.#history, attempt);
    if (restored === null) {
      this.violations.push(`${name}: attempt ${attempt} was restored from no known checkpoint`);
    } else if (event.offset >= positionIn(restored, event.partition)) {
      this.byClass.replay++;
    } else if (this.#mayHold(restored, event, sent)) {
      this.byClass['in-flight']++;
      this.#inFlight.set(attempt, (this.#inFlight.get(attempt) ?? 0) + 1);
    } else {
      this.violations.push(
        `${name}: offset ${event.offset} lies before the restored position ` +
          `${positionIn(restored, event.partition)} of partition ${event.partition}, and ` +
          `checkpoint ${restored.checkpointId} can't hold it: it was delivered before the barrier`,
      );
    }
  }

  /**
   * Whether `checkpoint` can hold the event in outbox or parking, by what was answered before it.
   */
  #mayHold(checkpoint: CheckpointFact, event: Acked, sent: readonly Sent[]): boolean {
    const taker = attemptAt(this.#history.kills, checkpoint.triggeredAt);
    const barrier = checkpoint.triggeredAt - ANSWER_SEEN_MS;
    const done = sent.some(
      ({ receipt, attempt }) =>
        attempt === taker && isAnswered2xx(receipt) && (receipt.answeredAt ?? 0) < barrier,
    );
    if (done) return false;
    const began = restoredFrom(this.#history, taker);
    if (taker === 0 || began === null) return taker === 0;
    // Read again by the attempt that took the checkpoint, or handed on from the one before it.
    if (event.offset >= positionIn(began, event.partition)) return true;
    return began.triggeredAt < checkpoint.triggeredAt && this.#mayHold(began, event, sent);
  }

  /** No more in-flight repeats than the restored ledgers held. */
  checkBounds(): void {
    for (const [attempt, count] of this.#inFlight) {
      const restored = restoredFrom(this.#history, attempt);
      const held = (restored?.ledgers ?? []).reduce(
        (sum, ledger) => sum + ledger.inOutbox + ledger.parked,
        0,
      );
      if (count > held) {
        this.violations.push(
          `attempt ${attempt} repeated ${count} deliveries from before its restored positions, ` +
            `but checkpoint ${restored?.checkpointId} held only ${held} in outbox and parking`,
        );
      }
    }
  }
}

export function judgeRepeats(
  history: History,
  byEvent: ReadonlyMap<string, readonly Receipt[]>,
  acked: ReadonlyMap<string, Acked>,
): RepeatFindings {
  const classifier = new Classifier(history);
  for (const [key, receipts] of byEvent) {
    const event = acked.get(key);
    if (event !== undefined && receipts.length > 1) classifier.judge(event, receipts);
  }
  classifier.checkBounds();
  return { byClass: classifier.byClass, violations: classifier.violations };
}
