/**
 * One attempt to fetch a user: its three requests in parallel under one deadline. One that ended
 * for its size ends the others: the user is asked for all of them again, and what they still send
 * would be read for nothing.
 */
import type { Dispatcher } from 'undici';
import { BoundedGet, type GetLimits, type GetResult } from '../http/bounded-get.ts';
import type { Env, Timer } from '../runtime/env.ts';
import type { PartName } from './http-profile-api-part.ts';
import type { RoomLease } from './http-profile-api-room.ts';

export const PARTS: readonly PartName[] = ['profile', 'visit', 'history'];

/** An answer within this is read without asking for room. */
export const SMALL_ANSWER_BYTES = 64 * 1024;

export class ProfileAttempt {
  readonly #gets: BoundedGet[];
  readonly #results: GetResult[] = [];
  #left = PARTS.length;
  #timer: Timer | null = null;
  #done: (results: readonly GetResult[]) => void = () => {};

  constructor(maxResponseBytes: number, lease: RoomLease) {
    const limits: GetLimits = {
      maxBytes: maxResponseBytes,
      freeBytes: SMALL_ANSWER_BYTES,
      claim: lease.claim,
    };
    this.#gets = PARTS.map((_, i) => new BoundedGet(limits, (result) => this.#settled(i, result)));
  }

  /** Bytes of bodies that came. */
  get received(): number {
    return this.#gets.reduce((sum, get) => sum + get.received, 0);
  }

  /** `path` is the user's, without the part. The results are in the order of PARTS. */
  run(
    env: Env,
    pool: Dispatcher,
    request: { path: string; headers: Record<string, string>; timeoutMs: number },
  ): Promise<readonly GetResult[]> {
    const { path, headers, timeoutMs } = request;
    return new Promise((resolve) => {
      this.#done = resolve;
      this.#timer = env.timer(timeoutMs, () => {
        const error = `no complete answer within ${Math.round(timeoutMs)} ms`;
        this.#end({ kind: 'fault', error });
      });
      for (const [i, part] of PARTS.entries())
        this.#gets[i]!.send(pool, `${path}/${part}`, headers);
    });
  }

  /** Ends what is not settled, at once. */
  cut(): void {
    this.#end({ kind: 'cut' });
  }

  #end(result: GetResult): void {
    for (const get of this.#gets) get.end(result);
  }

  #settled(index: number, result: GetResult): void {
    this.#results[index] = result;
    this.#left -= 1;
    if (this.#left === 0) {
      this.#timer?.cancel();
      this.#done(this.#results);
    } else if (result.kind === 'tooLarge' || result.kind === 'crowded') this.cut();
  }
}
