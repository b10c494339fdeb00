/**
 * Which attempt of each subtask this task speaks with (P38). A message of an older attempt is
 * dropped, whichever way it came: between two threads there is no order among ports. One of a
 * newer attempt has overtaken the word of it and waits for that word.
 */
import type { Frame } from '../exchange/frame.ts';

export class PeerTasks {
  readonly #attempts: number[];
  readonly #lost = new Set<number>();
  /** Bounded by the credit of their channels. */
  #early: { channel: number; attempt: number; frame: Frame }[] = [];

  constructor(attempts: readonly number[]) {
    this.#attempts = [...attempts];
  }

  attemptOf(subtask: number): number {
    return this.#attempts[subtask]!;
  }

  /** From the attempt that counts: may be handled now. */
  admits(subtask: number, attempt: number): boolean {
    return attempt === this.#attempts[subtask] && !this.#lost.has(subtask);
  }

  /** false: not now; a frame of an attempt that we have not been told of is kept till then. */
  takes(channel: number, attempt: number, frame: Frame): boolean {
    if (this.admits(channel, attempt)) return true;
    if (attempt > this.#attempts[channel]!) this.#early.push({ channel, attempt, frame });
    return false;
  }

  detach(subtasks: readonly number[]): void {
    for (const subtask of subtasks) this.#lost.add(subtask);
  }

  /** The successors' attempts; returns their frames that came early, in order. */
  replace(attempts: readonly number[]): { channel: number; frame: Frame }[] {
    attempts.forEach((attempt, subtask) => {
      if (attempt === this.#attempts[subtask]) return;
      this.#attempts[subtask] = attempt;
      this.#lost.delete(subtask);
    });
    const early = this.#early;
    this.#early = [];
    return early.filter(({ channel, attempt }) => this.admits(channel, attempt));
  }
}
