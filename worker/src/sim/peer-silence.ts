/**
 * When a TaskManager takes a peer for lost that it does not hear: what peer-link.ts does with pings
 * over a socket. Whoever gives a connection up closes it, which the other learns if packets reach
 * it (P51).
 */

import type { Seeded } from '../rehearsal/seeded.ts';
import type { VirtualTime } from '../rehearsal/virtual-time.ts';
import type { Network } from './network.ts';
import type { SimShuffle } from './sim-shuffle.ts';
import type { SimTaskManager } from './sim-task-manager.ts';

const LOOK_MS = 250;
/** Silence limits until a connection that is not there yet is missed (shuffle-server.ts). */
const CONNECT_TIMEOUTS = 2;

export interface PeerSilenceDeps {
  time: VirtualTime;
  rng: Seeded;
  network: Network;
  shuffle: SimShuffle;
  timeoutMs: number;
  hit(what: string): void;
}

export class PeerSilence {
  readonly #deps: PeerSilenceDeps;

  constructor(deps: PeerSilenceDeps) {
    this.#deps = deps;
  }

  /** `one` hears nothing of `other` from now on. `lost`: the connection is dead when it is over. */
  begin(one: SimTaskManager, other: SimTaskManager, untilMs: number, lost: boolean): void {
    this.#look(one, other, { since: this.#deps.time.nowMs, untilMs, lost });
  }

  #look(
    one: SimTaskManager,
    other: SimTaskManager,
    silence: { since: number; untilMs: number; lost: boolean },
  ): void {
    const { time, timeoutMs } = this.#deps;
    const { since, untilMs, lost } = silence;
    const now = time.nowMs;
    if (!one.process.alive || !other.process.alive) return;
    const linkedAt = one.linkedAt(other.process.name);
    if (linkedAt !== null && !one.process.frozen) {
      const limitMs = linkedAt > since ? CONNECT_TIMEOUTS * timeoutMs : timeoutMs;
      const silent = now - Math.max(since, linkedAt) > limitMs;
      const reset = lost && linkedAt <= since && now >= untilMs;
      if (silent || reset) {
        this.#lose(one, other, silent);
        return;
      }
    }
    if (now < untilMs) time.after(LOOK_MS, () => this.#look(one, other, silence));
  }

  #lose(one: SimTaskManager, other: SimTaskManager, silent: boolean): void {
    const { time, rng, network, shuffle, hit } = this.#deps;
    const [here, there] = [one.process.name, other.process.name];
    const newest = Math.max(one.newest, other.newest);
    if (shuffle.isBroken(here, there, newest)) return;
    hit(silent ? 'shuffle: a silent peer was given up' : 'shuffle: reset');
    shuffle.breakLink(here, there, newest);
    one.peerLost(there, silent);
    const openAt = network.between(here, there)?.untilMs ?? time.nowMs;
    time.after(openAt - time.nowMs + rng.between(0, 8), () => {
      other.process.awake(() => {
        if (other.newest <= newest) other.peerLost(here, false);
      });
    });
  }
}
