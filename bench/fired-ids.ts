/** Which events fired: each once, and how often one came again. */

/** `{"event":{"event_id":`: how each enriched body of the benchmark begins. */
const ID_AT = 21;
const ZERO = 0x30;
const NINE = 0x39;

/** The id of the event that a body of the benchmark is about. */
export function eventIdOf(body: Uint8Array): number {
  let id = 0;
  for (let at = ID_AT; at < body.length; at++) {
    const digit = body[at]!;
    if (digit < ZERO || digit > NINE) break;
    id = id * 10 + digit - ZERO;
  }
  return id;
}

export class FiredIds {
  #seen = new Uint8Array(1 << 16);
  fired = 0;
  firedSum = 0;
  repeated = 0;

  add(id: number): void {
    if (id >= this.#seen.length) this.#grow(id);
    if (this.#seen[id] === 1) {
      this.repeated += 1;
      return;
    }
    this.#seen[id] = 1;
    this.fired += 1;
    this.firedSum += id;
  }

  #grow(id: number): void {
    const grown = new Uint8Array(Math.max(this.#seen.length * 2, id + 1));
    grown.set(this.#seen);
    this.#seen = grown;
  }
}
