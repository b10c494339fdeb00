/** The debug action: prints each event on one line. */
import { TriggerJobError } from '../runtime/errors.ts';
import type { ActionExecutor, Delivery, DeliveryOutcome } from './action.ts';

/** How many deliveries may wait for a slow terminal or pipe. */
const MAX_IN_FLIGHT = 256;
const PREFIX = Buffer.from('DEBUG EVENT ');
const LINE_END = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** What is needed of a stream such as process.stdout. */
interface DebugSink {
  /** false: its buffer is full; wait for `drain`. */
  write(chunk: Buffer): boolean;
  once(event: 'drain', listener: () => void): unknown;
}

export function openDebug(sink: DebugSink = process.stdout): ActionExecutor {
  return new DebugExecutor(sink);
}

class DebugExecutor implements ActionExecutor {
  readonly maxInFlight = MAX_IN_FLIGHT;
  readonly #sink: DebugSink;
  #closed: TriggerJobError | null = null;
  /** Settled by the next `drain`, or by close: with a reader that is gone it never comes. */
  #full: PromiseWithResolvers<void> | null = null;
  #delivered = 0;
  #waiting = 0;

  constructor(sink: DebugSink) {
    this.#sink = sink;
  }

  async deliver(delivery: Delivery): Promise<DeliveryOutcome> {
    const line = oneLine(delivery.body);
    // A loop: of all that wait for one drain, the first few may fill the buffer again.
    while (this.#full !== null) await this.#drained(this.#full.promise);
    if (this.#closed !== null) throw this.#closed;
    if (!this.#sink.write(line)) {
      const full = Promise.withResolvers<void>();
      // Nobody may be waiting when it is closed.
      full.promise.catch(() => {});
      this.#full = full;
      this.#sink.once('drain', () => {
        this.#full = null;
        full.resolve();
      });
    }
    this.#delivered += 1;
    return { kind: 'delivered', attempts: 1 };
  }

  async #drained(full: Promise<void>): Promise<void> {
    this.#waiting += 1;
    try {
      await full;
    } finally {
      this.#waiting -= 1;
    }
  }

  stats(): Record<string, number> {
    return { attempts: this.#delivered, delivered: this.#delivered, inFlight: this.#waiting };
  }

  async close(): Promise<void> {
    this.#closed = new TriggerJobError('ACTION_CLOSED', 'the action executor was closed');
    this.#full?.reject(this.#closed);
  }
}

/** Raw line ends in JSON are white space between tokens (inside a string they are escaped). */
function oneLine(body: Buffer): Buffer {
  const line = Buffer.concat([PREFIX, body, Buffer.from([LINE_END])]);
  for (let at = PREFIX.length; at < line.length - 1; at++) {
    if (line[at] === LINE_END || line[at] === CARRIAGE_RETURN) line[at] = 0x20;
  }
  return line;
}
