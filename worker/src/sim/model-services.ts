/**
 * The outside world of a slot: Profile API, webhook, dead letter. They are late, they fail, they
 * are down for a while; a request on the wire arrives although its sender has died. The receivers
 * write down all that arrives, in the order in which it does.
 */
import type { ActionExecutor, DeadLetter, DeadLetterWriter, Delivery } from '../action/action.ts';
import type { Receipt } from '../rehearsal/honest-repeats.ts';
import type { Seeded } from '../rehearsal/seeded.ts';
import type { SimProcess, SimThread } from '../rehearsal/sim-process.ts';
import type { ProfileAnswer, ProfileApi, ProfileFailure } from '../state/profile-api.ts';

export type Service = 'api' | 'webhook' | 'deadLetter' | 'store' | 'source' | 'backend';

/** What the services of all slots share. */
export interface Outside {
  rng: Seeded;
  /** `subtask`: for what may be down for one slot alone. */
  isDown(service: Service, subtask?: number): boolean;
  /** A final failure of a delivery may happen now. */
  readonly webhookMayFail: boolean;
  readonly profileMayFail: boolean;
  hit(what: string): void;
  /** A point where a process may be made to crash. */
  point(process: SimProcess, name: string): void;
  arrived(receipt: Receipt): void;
}

const RETRY_MS = 300;
const DEADLINE_MS = 6000;

/**
 * What the API says of a user: the same at every time, so that a repeat has the same body (P33).
 */
export function profileOf(user: string): Omit<ProfileAnswer, 'kind'> {
  const number = Number(user.slice(1));
  if (number % 5 === 0) return { profile: '{}', visit: '{}', history: [] };
  const country = number % 2 === 0 ? 'US' : 'DE';
  return {
    profile: `{"id":"${user}","country":"${country}"}`,
    visit: number % 3 === 0 ? '{"event_count":7,"page":"/a"}' : '{"page":"/b"}',
    history: Array.from({ length: number % 4 }, (_, n) => `{"old":${n}}`),
  };
}

/** `onError: deadLetter`: users the API has no good answer for, ever. */
export function isRefused(user: string, mayFail: boolean): boolean {
  return mayFail && Number(user.slice(1)) % 7 === 6;
}

export class ModelProfileApi implements ProfileApi {
  readonly #thread: SimThread;
  readonly #outside: Outside;

  constructor(thread: SimThread, outside: Outside) {
    this.#thread = thread;
    this.#outside = outside;
  }

  fetch(userId: string): Promise<ProfileAnswer | ProfileFailure> {
    const { rng } = this.#outside;
    return new Promise((resolve) => {
      const answer = () => {
        if (this.#outside.isDown('api') || rng.chance(0.1)) {
          this.#outside.hit('api: retried');
          this.#thread.env.timer(RETRY_MS, answer);
          return;
        }
        this.#outside.point(this.#thread.process, 'profile answer');
        if (!isRefused(userId, this.#outside.profileMayFail)) {
          if (profileOf(userId).profile === '{}') this.#outside.hit('api: 404');
          resolve({ kind: 'found', ...profileOf(userId) });
          return;
        }
        this.#outside.hit('api: dead-lettered');
        resolve({ kind: 'failed', error: 'no good answer' });
      };
      this.#thread.env.timer(rng.chance(0.2) ? rng.between(50, 900) : rng.between(0, 30), answer);
    });
  }

  stats(): Record<string, number> {
    return {};
  }

  async close(): Promise<void> {}
}

export class ModelWebhook implements ActionExecutor {
  readonly maxInFlight = 64;
  readonly #thread: SimThread;
  readonly #outside: Outside;
  readonly #attempt: number;
  readonly #subtask: number;
  #calls = 0;
  #closed = false;

  constructor(thread: SimThread, outside: Outside, attempt: number, subtask: number) {
    this.#thread = thread;
    this.#outside = outside;
    this.#attempt = attempt;
    this.#subtask = subtask;
  }

  deliver(delivery: Delivery): ReturnType<ActionExecutor['deliver']> {
    const call = `${this.#thread.process.name}/${this.#attempt}/${delivery.id}/${this.#calls++}`;
    const deadline = this.#thread.process.time.nowMs + DEADLINE_MS;
    return new Promise((resolve) => {
      let attempts = 0;
      const answer = (kind: 'delivered' | 'failed') => {
        this.#thread.env.timer(this.#outside.rng.between(0, 40), () => {
          if (this.#closed) return;
          this.#outside.point(this.#thread.process, `webhook said ${kind}`);
          if (kind === 'delivered') resolve({ kind, attempts });
          else resolve({ kind, attempts, error: 'final' });
        });
      };
      const again = () => {
        this.#outside.hit('webhook: retried');
        this.#thread.env.timer(RETRY_MS, post);
      };
      const post = () => {
        if (this.#closed) return;
        attempts++;
        const late = this.#thread.process.time.nowMs > deadline && this.#outside.webhookMayFail;
        if (late || (this.#outside.webhookMayFail && this.#outside.rng.chance(0.03))) {
          answer('failed');
          return;
        }
        if (this.#outside.isDown('webhook', this.#subtask) || this.#outside.rng.chance(0.05))
          again();
        else this.#send(delivery, call, () => answer('delivered'), again);
      };
      post();
    });
  }

  /** Arrives whatever becomes of the sender. Its reply may be lost. */
  #send(delivery: Delivery, call: string, answered: () => void, lost: () => void): void {
    const { rng } = this.#outside;
    this.#outside.point(this.#thread.process, 'webhook request');
    if (!this.#thread.process.alive) return;
    this.#thread.process.time.after(rng.between(0, 60), () => {
      const { id, userId, partition, offset, body } = delivery;
      const place = { id, userId, partition, offset, body: body.toString() };
      const sender = { attempt: this.#attempt, call };
      this.#outside.arrived({ to: 'webhook', ...place, ...sender, stage: null });
      this.#outside.point(this.#thread.process, 'webhook arrived');
      if (rng.chance(0.03)) {
        this.#outside.hit('webhook: lost reply');
        if (this.#thread.process.alive) lost();
      } else if (this.#thread.process.alive) answered();
    });
  }

  stats(): Record<string, number> {
    return {};
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}

export class ModelDeadLetter implements DeadLetterWriter {
  readonly #thread: SimThread;
  readonly #outside: Outside;
  readonly #attempt: number;
  #calls = 0;
  #closed = false;

  constructor(thread: SimThread, outside: Outside, attempt: number) {
    this.#thread = thread;
    this.#outside = outside;
    this.#attempt = attempt;
  }

  write(entry: DeadLetter): Promise<void> {
    const call = `${this.#thread.process.name}/${this.#attempt}/${entry.id}/${this.#calls++}`;
    return new Promise((resolve) => {
      const write = () => {
        if (this.#closed || !this.#thread.process.alive) return;
        if (this.#outside.isDown('deadLetter')) {
          this.#outside.hit('dead letter: retried');
          this.#thread.env.timer(RETRY_MS, write);
          return;
        }
        const { id, userId, partition, offset, raw, stage } = entry;
        const place = { id, userId: userId ?? '', partition, offset, body: raw.toString() };
        const attempt = this.#attempt;
        this.#outside.arrived({ to: 'deadLetter', ...place, attempt, call, stage });
        this.#outside.point(this.#thread.process, 'dead letter written');
        this.#thread.env.timer(this.#outside.rng.between(0, 30), resolve);
      };
      this.#thread.env.timer(this.#outside.rng.between(0, 30), write);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}
