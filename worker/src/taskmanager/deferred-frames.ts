/** Frames that were accepted before a barrier while the task could not process: in order (P17). */
import { type DataFrame, type FrameRecord, readRecords } from '../exchange/frame.ts';
import type { Received } from '../exchange/input-gate.ts';

export interface DeferredFrame {
  channel: number;
  frame: DataFrame;
  /** Its sender waits for the credit. */
  owed: boolean;
}

export class DeferredFrames {
  readonly #frames: DeferredFrame[] = [];

  get length(): number {
    return this.#frames.length;
  }

  get records(): number {
    return this.#frames.reduce((sum, { frame }) => sum + frame.records, 0);
  }

  push({ channel, frame }: Received & { frame: DataFrame }): void {
    this.#frames.push({ channel, frame, owed: true });
  }

  next(): DeferredFrame | undefined {
    return this.#frames.shift();
  }

  /** Nobody waits for the credit of these channels any more. */
  detach(channels: readonly number[]): void {
    for (const one of this.#frames) if (channels.includes(one.channel)) one.owed = false;
  }

  /** Views on the frames, in order. */
  read(splitOf: Parameters<typeof readRecords>[1]): FrameRecord[] {
    return this.#frames.flatMap(({ frame }) => readRecords(frame, splitOf));
  }
}
