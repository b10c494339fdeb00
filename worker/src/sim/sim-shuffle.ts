/**
 * The exchange between slots, whichever process they are in: who is subtask s of attempt n. What is
 * sent to a slot that is not deployed yet waits for it, as frames wait for a connection.
 */
import type { SimSlot } from './sim-slot.ts';

export class SimShuffle {
  /** Closed ones stay: they drop what comes, as a closed connection does. */
  readonly #slots = new Map<string, SimSlot>();
  readonly #early = new Map<string, ((slot: SimSlot) => void)[]>();

  add(slot: SimSlot): void {
    const key = `${slot.attempt}/${slot.subtask}`;
    this.#slots.set(key, slot);
    for (const act of this.#early.get(key) ?? []) act(slot);
    this.#early.delete(key);
  }

  /** The task was ended, though its process lives. */
  wasEnded(attempt: number, subtask: number): boolean {
    return this.#slots.get(`${attempt}/${subtask}`)?.ended ?? true;
  }

  /** `attempt`: of the subtask that is meant. */
  reach(attempt: number, subtask: number, act: (slot: SimSlot) => void): void {
    const key = `${attempt}/${subtask}`;
    const slot = this.#slots.get(key);
    if (slot !== undefined) act(slot);
    else this.#early.set(key, [...(this.#early.get(key) ?? []), act]);
  }
}
