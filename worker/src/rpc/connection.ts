/**
 * One RPC connection, used by both sides: frames in, frames out, one close with one reason. It owns
 * the socket. Messages that arrive before a listener is set are kept by the paused socket, not
 * here.
 */
import type { Socket } from 'node:net';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { encodeFrame, FrameDecoder, MAX_FRAME_BYTES } from './frame.ts';

/**
 * Bytes that may wait for a peer that does not read. Two of the largest frames: a peer further
 * behind than that is as good as dead, and is treated so.
 */
export const MAX_QUEUED_BYTES = 2 * MAX_FRAME_BYTES;
/**
 * How long an idle connection waits before the kernel probes a peer that vanished without a FIN.
 */
const KEEP_ALIVE_MS = 5_000;

export class RpcConnection<Out extends object, In> {
  readonly remote: string;
  /** The address of this machine that the peer sees. */
  readonly localAddress: string;
  readonly #socket: Socket;
  readonly #decoder: FrameDecoder;
  readonly #read: (value: unknown) => In | string;
  readonly #maxQueuedBytes: number;
  #onMessage: ((message: In) => void) | null = null;
  #onClose: ((error: Error | null) => void) | null = null;
  #error: Error | null = null;
  #closed = false;

  /** `read` answers the message, or a text that says what is wrong with it. */
  constructor(
    socket: Socket,
    read: (value: unknown) => In | string,
    options: { maxQueuedBytes?: number; firstMaxBytes?: number } = {},
  ) {
    this.#socket = socket;
    this.#decoder = new FrameDecoder(MAX_FRAME_BYTES, options.firstMaxBytes);
    this.#read = read;
    this.#maxQueuedBytes = options.maxQueuedBytes ?? MAX_QUEUED_BYTES;
    this.remote = `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`;
    this.localAddress = socket.localAddress ?? '';
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.pause();
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (error) => this.close(error));
    socket.on('close', () => this.#finish());
    // 'data' listeners resume the socket; hold it until someone listens, or early messages are
    // lost.
    socket.pause();
  }

  /** Of messages that the peer has not taken yet. */
  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  get closed(): boolean {
    return this.#closed || this.#socket.destroyed;
  }

  /**
   * Queues one message. false: the connection is closed, or was closed by this call because the
   * peer does not read (RPC_QUEUE_FULL) or the message is too large; `onClose` bears the reason.
   */
  send(message: Out): boolean {
    if (this.closed) return false;
    let frame: Buffer;
    try {
      frame = encodeFrame(message);
    } catch (error) {
      this.close(error instanceof Error ? error : new Error(messageOf(error)));
      return false;
    }
    const queued = this.#socket.writableLength + frame.length;
    if (queued > this.#maxQueuedBytes) {
      this.close(
        new TriggerJobError(
          'RPC_QUEUE_FULL',
          `${queued} bytes wait for ${this.remote}, over the limit of ${this.#maxQueuedBytes}`,
          { retryable: true },
        ),
      );
      return false;
    }
    this.#socket.write(frame);
    return true;
  }

  onMessage(listener: (message: In) => void): void {
    this.#onMessage = listener;
    this.#socket.resume();
  }

  /** Called once; at once when the connection is closed already. null = closed in order. */
  onClose(listener: (error: Error | null) => void): void {
    this.#onClose = listener;
    if (this.#closed) queueMicrotask(() => listener(this.#error));
  }

  /**
   * Without an error: sends what is queued, then ends. With one: drops the connection. Idempotent.
   */
  close(error: Error | null = null): void {
    if (this.#socket.destroyed) return;
    if (error === null) {
      this.#socket.end();
      // A peer that never answers the FIN must not hold the process: nothing more is read.
      this.#socket.unref();
      this.#socket.resume();
      return;
    }
    this.#error ??= error;
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    let messages: unknown[];
    try {
      messages = this.#decoder.push(chunk);
    } catch (error) {
      this.close(error instanceof Error ? error : new Error(messageOf(error)));
      return;
    }
    for (const raw of messages) {
      if (this.#socket.destroyed) return;
      const message = this.#read(raw);
      if (typeof message === 'string') {
        this.close(new TriggerJobError('RPC_BAD_MESSAGE', `from ${this.remote}: ${message}`));
        return;
      }
      this.#onMessage?.(message);
    }
  }

  #finish(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose?.(this.#error);
  }
}
