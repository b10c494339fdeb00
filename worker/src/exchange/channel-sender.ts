/**
 * The sending end of one channel: fills buffers, numbers frames, keeps to the credit that the
 * receiver grants. Data waits for credit; barriers and what stands before them never do (P17): one
 * buffer of overdraft per channel is reserved at the receiver.
 */
import { type Frame, FrameBuilder, type Unnumbered, type ValueBytes } from './frame.ts';

export class ChannelSender {
  readonly #builder: FrameBuilder;
  readonly #send: (frame: Frame) => void;
  readonly #fullCredit: number;
  #credit: number;
  #seq = 0;
  #closed = false;

  constructor(options: { bufferBytes: number; credit: number; send: (frame: Frame) => void }) {
    this.#builder = new FrameBuilder(options.bufferBytes);
    this.#fullCredit = options.credit;
    this.#credit = options.credit;
    this.#send = options.send;
  }

  get credit(): number {
    return this.#credit;
  }

  get buffered(): number {
    return this.#builder.records;
  }

  /** The receiver is lost: what is for it goes nowhere, without waiting for credit (P51). */
  close(): void {
    this.#closed = true;
    this.#builder.take();
  }

  /** To its successor, from the first number on and with all of the credit. */
  reopen(): void {
    this.#closed = false;
    this.#credit = this.#fullCredit;
    this.#seq = 0;
  }

  /**
   * As `FrameBuilder.append`. false: the buffer is full and there is no credit to send it; try
   * again after `grant`.
   */
  append(
    split: number,
    keyGroup: number,
    offset: number,
    time: number,
    timestamp: number,
    source: ValueBytes,
    start: number,
    end: number,
  ): boolean {
    if (this.#closed) return true;
    // The one reserved buffer is in use: nothing more until the receiver has caught up.
    if (this.#credit < 0) return false;
    const builder = this.#builder;
    if (builder.append(split, keyGroup, offset, time, timestamp, source, start, end)) return true;
    if (this.#credit === 0) return false;
    this.flush();
    return builder.append(split, keyGroup, offset, time, timestamp, source, start, end);
  }

  /** Sends a partly filled buffer if there is credit for it. */
  flush(): void {
    if (this.#credit > 0) this.#flushAnyway();
  }

  /** In-line: after everything appended before it. */
  control(frame: Unnumbered<Exclude<Frame, { kind: 'data' }>>): void {
    if (this.#closed) return;
    this.#flushAnyway();
    this.#send({ ...frame, seq: this.#seq++ } as Frame);
  }

  /** The receiver has done with one frame and gives its buffer back. */
  grant(bytes: Uint8Array | null): void {
    this.#credit++;
    if (bytes !== null) this.#builder.recycle(bytes);
  }

  #flushAnyway(): void {
    const filled = this.#builder.take();
    if (filled === null) return;
    this.#credit--;
    this.#send({ kind: 'data', seq: this.#seq++, ...filled });
  }
}
