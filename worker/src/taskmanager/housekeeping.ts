/** Now and then, beside event processing: expired users leave (P37), RocksDB's brake (P8). */
import type { SlotConfig, SlotParts, SlotPorts } from './slot-parts.ts';

const PERIOD_MS = 250;
const PURGE_ROWS = 256;
const PURGE_BYTES = 1024 * 1024;

export interface HousekeepingOptions {
  ports: SlotPorts;
  config: SlotConfig;
  parts: SlotParts;
  /** After each round. */
  done: () => void;
  fault: (fault: unknown) => void;
}

export class Housekeeping {
  readonly #options: HousekeepingOptions;
  readonly #channelClocks: number[];
  #purgedUntil = 0;
  #backendStalled = false;
  #closed = false;

  constructor(options: HousekeepingOptions) {
    this.#options = options;
    this.#channelClocks = new Array<number>(options.config.ranges.length).fill(-1);
  }

  /** RocksDB wants no writes now, as of the last round. */
  get backendStalled(): boolean {
    return this.#backendStalled;
  }

  start(): void {
    const { ports, fault, done } = this.#options;
    ports.env.timer(PERIOD_MS, () => {
      if (this.#closed) return;
      this.#backendStalled = ports.backend.stalled();
      done();
      this.#purge()
        .then(() => this.start())
        .catch(fault);
    });
  }

  /** The slowest split of the source on `channel`. */
  clock(channel: number, time: number): void {
    this.#channelClocks[channel] = time;
  }

  close(): void {
    this.#closed = true;
  }

  async #purge(): Promise<void> {
    const { parts, ports, config } = this.#options;
    const { manager, processor } = parts;
    const slowest = Math.min(...this.#channelClocks);
    const until = slowest - config.plan.state.ttlGraceMs;
    if (!Number.isFinite(until) || until <= this.#purgedUntil) return;
    this.#purgedUntil = until;
    const range = manager.expiry.expiredRange(until);
    const scan = ports.backend.scan({ ...range, maxRows: PURGE_ROWS, maxBytes: PURGE_BYTES });
    for await (const rows of scan) {
      if (this.#closed) return;
      const marks = rows.map(({ key }) => manager.expiry.parse(key));
      manager.purge(marks, until, (userId) => processor.isBusy(userId));
    }
  }
}
