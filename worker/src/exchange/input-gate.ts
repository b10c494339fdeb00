/**
 * The receiving end of all channels of one state task: a queue per channel, read in turn, blocked
 * by alignment. Bounded by the credit the senders hold. A gap in a channel's numbers is a lost
 * frame: the task fails at once, a channel is never resumed (P51).
 */
import { TriggerJobError } from '../runtime/errors.ts';
import type { BarrierAligner } from './aligner.ts';
import type { DataFrame, Frame } from './frame.ts';

export interface Received {
  channel: number;
  frame: Frame;
}

export class InputGate {
  readonly #aligner: BarrierAligner;
  readonly #queues: Frame[][];
  readonly #nextSeq: number[];
  #turn = 0;
  #barriersQueued = 0;
  #queued = 0;

  constructor(channels: number, aligner: BarrierAligner) {
    this.#aligner = aligner;
    this.#queues = Array.from({ length: channels }, () => []);
    this.#nextSeq = new Array<number>(channels).fill(0);
  }

  get queued(): number {
    return this.#queued;
  }

  offer(channel: number, frame: Frame): void {
    const expected = this.#nextSeq[channel]!;
    if (frame.seq !== expected) {
      throw new TriggerJobError(
        'CHANNEL_GAP',
        `channel ${channel} delivered frame ${frame.seq} instead of ${expected}`,
      );
    }
    this.#nextSeq[channel] = expected + 1;
    this.#queues[channel]!.push(frame);
    this.#queued++;
    if (frame.kind === 'barrier') this.#barriersQueued++;
  }

  /** The sender is lost: what it sent and nobody took is gone, its successor numbers from 0. */
  reset(channel: number): void {
    for (const { kind } of this.#queues[channel]!) {
      this.#queued--;
      if (kind === 'barrier') this.#barriersQueued--;
    }
    this.#queues[channel] = [];
    this.#nextSeq[channel] = 0;
  }

  /** The next frame of a channel that is not blocked, or null. */
  next(): Received | null {
    const channels = this.#queues.length;
    for (let i = 0; i < channels; i++) {
      const channel = (this.#turn + i) % channels;
      if (this.#queues[channel]!.length === 0 || this.#aligner.isBlocked(channel)) continue;
      this.#turn = (channel + 1) % channels;
      return { channel, frame: this.#shift(channel) };
    }
    return null;
  }

  /**
   * Data frames that stand first on open channels, in turn, until they hold `maxRecords`: one
   * micro-batch. With several slots a frame has few records, and a lookup for ten users costs the
   * backend half of one for two hundred.
   */
  nextData(maxRecords: number): { channel: number; frame: DataFrame }[] {
    const taken: { channel: number; frame: DataFrame }[] = [];
    const channels = this.#queues.length;
    let records = 0;
    for (let passed = 0; passed < channels && records < maxRecords; ) {
      const channel = this.#turn;
      this.#turn = (channel + 1) % channels;
      const first = this.#queues[channel]![0];
      if (first?.kind !== 'data' || this.#aligner.isBlocked(channel)) {
        passed++;
        continue;
      }
      this.#shift(channel);
      taken.push({ channel, frame: first });
      records += first.records;
      passed = 0;
    }
    return taken;
  }

  /**
   * For a task that can't process now: the data frames that stand before a barrier in their queue,
   * and then that barrier's channel is at its barrier. What is returned must be kept as deferred
   * input (P17).
   */
  takeBeforeBarriers(): { channel: number; frame: DataFrame }[] {
    const taken: { channel: number; frame: DataFrame }[] = [];
    if (this.#barriersQueued === 0) return taken;
    this.#queues.forEach((queue, channel) => {
      if (this.#aligner.isBlocked(channel)) return;
      if (!queue.some((frame) => frame.kind === 'barrier')) return;
      while (queue[0]?.kind === 'data') {
        taken.push({ channel, frame: this.#shift(channel) as DataFrame });
      }
    });
    return taken;
  }

  /** The next frame that is no data, of an unblocked channel: barriers and clocks cost no room. */
  nextControl(): Received | null {
    for (const [channel, queue] of this.#queues.entries()) {
      const first = queue[0];
      if (first === undefined || first.kind === 'data' || this.#aligner.isBlocked(channel))
        continue;
      return { channel, frame: this.#shift(channel) };
    }
    return null;
  }

  #shift(channel: number): Frame {
    const frame = this.#queues[channel]!.shift()!;
    this.#queued--;
    if (frame.kind === 'barrier') this.#barriersQueued--;
    return frame;
  }
}
