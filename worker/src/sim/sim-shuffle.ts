/**
 * The exchange between slots, whichever process they are in: who is subtask s of attempt n. What is
 * sent to a slot that is not deployed yet waits for it, as frames wait for a connection. A
 * connection belongs to two processes and one deployment; once broken, nothing of that passes.
 */

import type { VirtualTime } from '../rehearsal/virtual-time.ts';
import type { Network } from './network.ts';
import type { SimSlot } from './sim-slot.ts';

type Act = (slot: SimSlot) => void;

export interface SimShuffleDeps {
  time: VirtualTime;
  network: Network;
  hit(what: string): void;
  mutant: string | null;
}

export class SimShuffle {
  readonly #deps: SimShuffleDeps;
  /** Closed ones stay: they drop what comes, as a closed connection does. */
  readonly #slots = new Map<string, SimSlot>();
  readonly #early = new Map<string, { from: SimSlot; act: Act }[]>();
  /** Behind a cut, by sender and receiver: a channel keeps its order. */
  readonly #held = new Map<string, (() => void)[]>();
  /** Something sent this way was lost, so nothing that is sent later can pass. */
  readonly #cutOff = new Set<string>();
  /** By pair of processes: the newest attempt of its broken connections. */
  readonly #broken = new Map<string, number>();

  constructor(deps: SimShuffleDeps) {
    this.#deps = deps;
  }

  add(slot: SimSlot): void {
    const key = keyOf(slot.attempt, slot.subtask);
    this.#slots.set(key, slot);
    const early = this.#early.get(key) ?? [];
    this.#early.delete(key);
    for (const { from, act } of early) this.reach(from, slot.attempt, slot.subtask, act);
  }

  /** The task was ended, though its process lives. */
  wasEnded(attempt: number, subtask: number): boolean {
    return this.#slots.get(keyOf(attempt, subtask))?.ended ?? true;
  }

  /** What `from` sent to that subtask of that attempt has come over. */
  reach(from: SimSlot, attempt: number, subtask: number, act: Act): void {
    const key = keyOf(attempt, subtask);
    const slot = this.#slots.get(key);
    if (slot === undefined) {
      this.#early.set(key, [...(this.#early.get(key) ?? []), { from, act }]);
      return;
    }
    const pair = pairOf(from.process.name, slot.process.name);
    if ((this.#broken.get(pair) ?? 0) >= Math.max(attempt, from.attempt)) {
      this.#deps.hit('shuffle: dropped, the connection is lost');
      return;
    }
    if (from.process === slot.process) act(slot);
    else
      this.#pass(
        from,
        slot,
        () => act(slot),
        () => this.reach(from, attempt, subtask, act),
      );
  }

  /** The connection of these two is over, for all tasks up to this attempt. */
  breakLink(one: string, other: string, newest: number): void {
    this.#broken.set(pairOf(one, other), newest);
  }

  isBroken(one: string, other: string, newest: number): boolean {
    return (this.#broken.get(pairOf(one, other)) ?? 0) >= newest;
  }

  #pass(from: SimSlot, to: SimSlot, arrive: () => void, again: () => void): void {
    const { time, network, hit } = this.#deps;
    const way = `${keyOf(from.attempt, from.subtask)}>${keyOf(to.attempt, to.subtask)}`;
    const held = this.#held.get(way);
    const cut = network.between(from.process.name, to.process.name);
    if (this.#cutOff.has(way)) return;
    if (held === undefined && cut === null) {
      arrive();
      return;
    }
    // A connection that is yet to be made loses nothing.
    const isOld = cut !== null && Math.max(from.since, to.since) <= cut.sinceMs;
    if (cut?.lost === true && isOld) {
      hit('shuffle: lost');
      if (this.#deps.mutant !== 'broken-link-resumed') this.#cutOff.add(way);
      return;
    }
    hit('shuffle: held');
    if (held !== undefined || cut === null) {
      held?.push(again);
      return;
    }
    this.#held.set(way, [again]);
    time.after(cut.untilMs - time.nowMs, () => {
      const waiting = this.#held.get(way) ?? [];
      this.#held.delete(way);
      for (const one of waiting) one();
    });
  }
}

const keyOf = (attempt: number, subtask: number): string => `${attempt}/${subtask}`;
const pairOf = (one: string, other: string): string => [one, other].sort().join(' ');
