/** How many cores a process keeps busy, from readings of its total CPU time. */

/** Readings closer together than this say more about the clock than about the process. */
const STEP_MS = 1_000;

export class CpuMeter {
  #from: { at: number; seconds: number } | null = null;
  #to: { at: number; seconds: number } | null = null;

  /** `seconds` since the process began; `now`: monotonic, ms. */
  add(seconds: number, now: number): void {
    const reading = { at: now, seconds };
    if (this.#from === null) this.#from = reading;
    else if (this.#to === null || now - this.#to.at < STEP_MS) this.#to = reading;
    else {
      this.#from = this.#to;
      this.#to = reading;
    }
  }

  /** null: not known yet. */
  get cores(): number | null {
    const from = this.#from;
    const to = this.#to;
    if (from === null || to === null || to.at <= from.at) return null;
    return Math.max(0, ((to.seconds - from.seconds) * 1_000) / (to.at - from.at));
  }
}
