/**
 * The benchmarks' events and users: made from their numbers alone, so any process and any other
 * implementation makes the same bytes. User n, event i; nothing is stored but a counter per user.
 * The Apache Flink job that we compare with reads the same stream and the same profiles.
 */

const EVENT_TYPES = ['page_view', 'click', 'add_cart', 'purchase', 'search'];
const LANGUAGES = ['en', 'de', 'fr', 'ja', 'pt', 'es', 'hi', 'zh'];
/** Of the four fifths of users that are not in the US. */
const OTHER_COUNTRIES = ['DE', 'FR', 'JP', 'BR', 'IN', 'GB', 'CA', 'MX'];
const DEVICES = ['ios', 'android', 'desktop', 'tablet'];

const HISTORY_EVENTS = 100;
const TRIGGERABLE_PER_10K = 2_000;
const SEED = 1;
const SECOND_SEED = SEED ^ 0x5bd1e995;
/** Prime: multiplied by it, user numbers are a permutation if it does not divide `users`. */
const STRIDE = 7_919;
const FIRST_EVENT_MS = 1_700_000_000_000;

/** A 32-bit hash of two integers, unsigned. */
export function mix(a: number, b: number): number {
  let h = a ^ Math.imul(b, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Halves from a table: `toString(16)` of a number above 2^31 was a third of filling the state. */
const HEX4 = Array.from({ length: 2 ** 16 }, (_, i) => i.toString(16).padStart(4, '0'));

function hex8(value: number): string {
  return HEX4[value >>> 16]! + HEX4[value & 0xffff]!;
}

function pick(values: readonly string[], hash: number): string {
  return values[hash % values.length]!;
}

function joined(count: number, item: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => item(i)).join(',');
}

export function userId(user: number): string {
  return `u${String(user).padStart(10, '0')}`;
}

interface EventFields {
  id: number;
  user: number;
  seq: number;
  type: string;
  page: number;
  ts: number;
  triggerable: boolean;
  /** Follows the page: makes an event of any size. */
  padding?: string;
}

function eventJson(fields: EventFields): string {
  const { id, user, seq, type, page, ts, triggerable, padding = '' } = fields;
  return (
    `{"event_id":${id},"user_id":"${userId(user)}","seq":${seq},"type":"${type}",` +
    `"page":"/p/${hex8(page)}${padding}","ts":${ts},"triggerable":${triggerable}}`
  );
}

function isInUs(user: number): boolean {
  return mix(user, 1) % 5 === 0;
}

/** How the events after each user's first one are spread over the users. */
export type Distribution = 'uniform' | 'zipf';

/** What a job that handles all of the stream must find: the filter asks for triggerable and US. */
export interface Expected {
  events: number;
  fired: number;
  /** Of the ids of the fired events. */
  firedSum: number;
}

/** Zipf's law with exponent 1: sums of 1/rank. */
function zipfSums(users: number): Float64Array {
  const sums = new Float64Array(users);
  let sum = 0;
  for (let rank = 0; rank < users; rank++) {
    sum += 1 / (rank + 1);
    sums[rank] = sum;
  }
  return sums;
}

/** One stream of events; `next` makes event 0, 1, 2, ... The first `users` events are one each. */
export class EventStream {
  readonly expected: Expected = { events: 0, fired: 0, firedSum: 0 };
  readonly #users: number;
  readonly #sequences: Int32Array;
  readonly #zipf: Float64Array | null;
  #next = 0;

  constructor(users: number, distribution: Distribution = 'uniform') {
    if (users % STRIDE === 0) throw new Error(`users must not be a multiple of ${STRIDE}`);
    this.#users = users;
    this.#sequences = new Int32Array(users);
    this.#zipf = distribution === 'zipf' ? zipfSums(users) : null;
  }

  next(): { user: number; json: string } {
    const id = this.#next++;
    const user = this.userOf(id);
    return { user, json: this.#event(id, user) };
  }

  /** Of an event that `next` makes. */
  userOf(id: number): number {
    const users = this.#users;
    if (id < users) return this.#permuted(id);
    const hash = mix(SEED, id);
    return this.#zipf === null ? hash % users : this.#permuted(this.#rank(this.#zipf, hash));
  }

  #permuted(index: number): number {
    return (index * STRIDE + 13) % this.#users;
  }

  #rank(sums: Float64Array, hash: number): number {
    const wanted = (hash / 2 ** 32) * sums.at(-1)!;
    let [low, high] = [0, sums.length - 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sums[middle]! > wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The next event, of a user of the caller's choice. */
  nextOf(user: number): string {
    return this.#event(this.#next++, user);
  }

  #event(id: number, user: number): string {
    const seq = this.#sequences[user]!;
    this.#sequences[user] = seq + 1;
    const triggerable = mix(SECOND_SEED, id) % 10_000 < TRIGGERABLE_PER_10K;
    this.expected.events += 1;
    if (triggerable && isInUs(user)) {
      this.expected.fired += 1;
      this.expected.firedSum += id;
    }
    return eventJson({
      id,
      user,
      seq,
      type: pick(EVENT_TYPES, mix(id, 11)),
      page: mix(id, 12),
      ts: FIRST_EVENT_MS + id,
      triggerable,
    });
  }
}

/** About 1.8 KB. */
export function profileJson(n: number): string {
  const country = isInUs(n) ? 'US' : pick(OTHER_COUNTRIES, mix(n, 7));
  const tags = joined(10, (i) => `"${hex8(mix(n, 100 + i))}"`);
  const attrs = joined(38, (i) => {
    const words = [0, 1, 2, 3].map((j) => hex8(mix(n, 200 + i * 4 + j)));
    return `"k${String(i).padStart(2, '0')}":"${words.join('')}"`;
  });
  return (
    `{"user_id":"${userId(n)}","name":"User ${n}","country":"${country}",` +
    `"city":"City ${mix(n, 2) % 500}","age":${18 + (mix(n, 3) % 60)},` +
    `"lang":"${pick(LANGUAGES, mix(n, 4))}","segment":"s${mix(n, 5) % 20}",` +
    `"created":${1_500_000_000 + (mix(n, 6) % 200_000_000)},"tags":[${tags}],"attrs":{${attrs}}}`
  );
}

/** About 1.0 KB. */
export function visitJson(n: number): string {
  const pages = joined(38, (i) => {
    return `"/p/${hex8(mix(n, 400 + i * 2))}${hex8(mix(n, 401 + i * 2))}"`;
  });
  return (
    `{"user_id":"${userId(n)}","visit_id":"${hex8(mix(n, 22))}${hex8(mix(n, 23))}",` +
    `"pageviews":${mix(n, 21) % 50},"last_event":0,` +
    `"started":${1_699_990_000_000 + (mix(n, 24) % 10_000_000)},` +
    `"device":"${pick(DEVICES, mix(n, 25))}","ref":"https://ref.example/${hex8(mix(n, 26))}",` +
    `"pages":[${pages}]}`
  );
}

const VARIED_CHARS = 2 ** 20;
let varied = '';

/** Hex digits, other ones for each `seed`: made once, since each user's own would cost seconds. */
function variedText(seed: number, chars: number): string {
  if (varied === '')
    varied = Array.from({ length: VARIED_CHARS / 8 }, (_, i) => hex8(mix(i, 31))).join('');
  const from = seed % (VARIED_CHARS - chars);
  return varied.slice(from, from + chars);
}

/**
 * About 13 KB: the events before the stream, oldest first, with negative ids. `paddingBytes` more
 * of each event make a user of any size; `isVaried`: they do not compress to nothing.
 */
export function historyEvents(n: number, paddingBytes = 0, isVaried = false): string[] {
  const same = isVaried ? '' : 'x'.repeat(paddingBytes);
  return Array.from({ length: HISTORY_EVENTS }, (_, i) =>
    eventJson({
      padding: isVaried ? variedText(mix(n, 900 + i), paddingBytes) : same,
      id: i - HISTORY_EVENTS,
      user: n,
      seq: i - HISTORY_EVENTS,
      type: pick(EVENT_TYPES, mix(n, 600 + i)),
      page: mix(n, 700 + i),
      ts: 1_690_000_000_000 + i * 60_000,
      triggerable: mix(n, 800 + i) % 5 === 0,
    }),
  );
}

export function historyJson(n: number): string {
  return `[${historyEvents(n).join(',')}]`;
}
