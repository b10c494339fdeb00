/**
 * A hand that goes round over the live users and picks who has to go; users come and go meanwhile.
 * There must be one.
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

  /** One with `accountedBody`; somebody must have some. */
  nextBody(): UserState {
    let user = this.#next();
    while (user.accountedBody === 0) user = this.#next();
    return user;
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
