/**
 * A hand that goes round over the live users and picks who has to go; users come and go meanwhile,
 * and there must be one.
 *
 * V8 keeps each table that a map had since an iterator of it last moved, with all that was in it: a
 * hand that rests while users come and go would hold those that are gone. So it has to `move`.
 */
import type { UserState } from './user-state.ts';

/** Users with a second chance that one pick passes over at most. */
const MAX_LOOKS = 64;

export class UserClock {
  readonly #users: ReadonlyMap<string, UserState>;
  #hand: Iterator<UserState> | null = null;

  constructor(users: ReadonlyMap<string, UserState>) {
    this.#users = users;
  }

  /** One that was not used since the hand came by. */
  leastUsed(): UserState {
    let user = this.#next();
    // Bounded: with every user hot, a full round of the clock per eviction took 15 % of the thread.
    for (let looks = MAX_LOOKS; user.referenced && looks > 0; looks--) {
      user.referenced = false;
      user = this.#next();
    }
    return user;
  }

  /** One that let go of a body nobody asked for since the hand came by; null: none is near. */
  shrunk(): UserState | null {
    for (let looks = MAX_LOOKS; looks > 0; looks--) {
      const user = this.#next();
      if (user.accountedBody === 0) continue;
      user.shrink();
      if (user.bodyBytes < user.accountedBody) return user;
    }
    return null;
  }

  /** A step, if it is under way. */
  move(): void {
    if (this.#hand?.next().done === true) this.#hand = null;
  }

  #next(): UserState {
    for (;;) {
      this.#hand ??= this.#users.values();
      const next = this.#hand.next();
      if (next.done !== true) return next.value;
      this.#hand = null;
    }
  }
}
