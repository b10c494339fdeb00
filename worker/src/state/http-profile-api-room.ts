/**
 * The bytes that large answers may take up in one slot (I7). What an attempt holds of them is a
 * lease; a lease grows while its answers come in, and never waits for that, so that two of them
 * can't deadlock on each other: an attempt without room ends, and waits before it begins again.
 */
import { Permits } from '../http/permits.ts';
import { type Env, sleep } from '../runtime/env.ts';

/** After a refusal the user comes back for so many times what it asked for. */
const GROWTH = 4;

/** Per slot, of bodies that turned out too large or found no room. */
const WASTED_BYTES_PER_SECOND = 32 * 1024 * 1024;

export interface RoomLease {
  /** Leave to hold so many bytes more. */
  claim(bytes: number): boolean;
  /** Of the claim that was refused: what the next lease should begin with; 0 none was. */
  readonly wanted: number;
  /**
   * So many bytes were read for nothing. Their room is not given back before they are paid for: an
   * API that answers everyone with 100 MB took all cores, for users that it did not help.
   */
  waste(bytes: number): void;
  /** Gives it back; called once. */
  end(): void;
}

export class AnswerRoom {
  readonly #env: Env;
  readonly #bytes: number;
  readonly #signal: AbortSignal;
  readonly #permits: Permits;
  #paidAt = 0;

  /** `signal` ends all waits. No lease can need more than `bytes`. */
  constructor(env: Env, bytes: number, signal: AbortSignal) {
    this.#env = env;
    this.#bytes = bytes;
    this.#signal = signal;
    this.#permits = new Permits(env, bytes);
  }

  /** All that leases may hold together. */
  get bytes(): number {
    return this.#bytes;
  }

  get held(): number {
    return this.#permits.held;
  }

  get waiting(): number {
    return this.#permits.waiting;
  }

  /** A lease of `bytes`, as soon as there is room; rejects with the signal's reason. */
  async enter(bytes: number): Promise<RoomLease> {
    if (bytes > 0) await this.#permits.acquire(this.#signal, Number.POSITIVE_INFINITY, bytes);
    return this.#lease(bytes);
  }

  /** null: there is no room now, or others wait for it. */
  tryEnter(bytes: number): RoomLease | null {
    const granted = Math.min(bytes, this.#bytes);
    return this.#permits.tryAcquire(granted) ? this.#lease(granted) : null;
  }

  #lease(from: number): RoomLease {
    let granted = from;
    let used = 0;
    let wanted = 0;
    let wasted = 0;
    const claim = (bytes: number): boolean => {
      const lacking = used + bytes - granted;
      if (lacking > 0) {
        if (!this.#permits.tryAcquire(lacking)) {
          wanted = Math.min((used + bytes) * GROWTH, this.#bytes);
          return false;
        }
        granted += lacking;
      }
      used += bytes;
      return true;
    };
    return {
      claim,
      get wanted() {
        return wanted;
      },
      waste: (bytes) => {
        wasted += bytes;
      },
      end: () => this.#end(granted, wasted),
    };
  }

  #end(granted: number, wastedBytes: number): void {
    if (granted === 0) return;
    if (wastedBytes === 0) {
      this.#permits.release(granted);
      return;
    }
    const now = this.#env.monotonic();
    this.#paidAt = Math.max(now, this.#paidAt) + (wastedBytes / WASTED_BYTES_PER_SECOND) * 1_000;
    const giveBack = () => this.#permits.release(granted);
    sleep(this.#env, this.#paidAt - now, this.#signal).then(giveBack, giveBack);
  }
}
