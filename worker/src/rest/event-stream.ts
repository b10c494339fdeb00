/**
 * Server-Sent Events over one response (WHATWG HTML, section 9.2). A client that reads slower than
 * events come is not waited for: `send` says so, and the caller counts what it missed. Comments
 * keep the connection alive through proxies, and find a client that is gone without a word.
 */
import type { ServerResponse } from 'node:http';
import type { Env, Timer } from '../runtime/env.ts';

/** Bytes that wait for a client. */
const MAX_WAITING_BYTES = 256 * 1024;
const HEARTBEAT_MS = 10_000;
/** Heartbeats without a byte taken, after which a client is gone. */
const MAX_UNTAKEN = 3;

export type StreamResponse = Pick<
  ServerResponse,
  'writeHead' | 'write' | 'end' | 'destroy' | 'writableLength' | 'on'
>;

export class EventStream {
  readonly #response: StreamResponse;
  readonly #env: Env;
  readonly #onClose: () => void;
  #timer: Timer | null = null;
  #waitingBefore = 0;
  #untaken = 0;
  #closed = false;

  /** `onBeat`: with each heartbeat. `onClose`: once, whoever ended it. */
  constructor(response: StreamResponse, env: Env, onBeat: () => void, onClose: () => void) {
    this.#response = response;
    this.#env = env;
    this.#onClose = onClose;
    response.on('close', () => this.#close());
    // A client that resets the connection is no fault of ours; `close` follows.
    response.on('error', () => undefined);
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=UTF-8',
      'cache-control': 'no-store',
      // nginx holds back what it can buffer.
      'x-accel-buffering': 'no',
    });
    response.write(': open\n\n');
    this.#beatLater(onBeat);
  }

  /** `json`: on one line. false: the client is too far behind, and this event is not sent. */
  send(event: string, json: string): boolean {
    if (this.#closed || this.#response.writableLength > MAX_WAITING_BYTES) return false;
    this.#response.write(`event: ${event}\ndata: ${json}\n\n`);
    return true;
  }

  end(): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#response.end();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    this.#onClose();
  }

  #beatLater(onBeat: () => void): void {
    this.#timer = this.#env.timer(HEARTBEAT_MS, () => {
      if (this.#closed) return;
      const waiting = this.#response.writableLength;
      this.#untaken = waiting > 0 && waiting >= this.#waitingBefore ? this.#untaken + 1 : 0;
      this.#waitingBefore = waiting;
      if (this.#untaken >= MAX_UNTAKEN) {
        this.#response.destroy();
        // A response without a socket emits no `close`.
        this.#close();
        return;
      }
      if (waiting <= MAX_WAITING_BYTES) this.#response.write(': alive\n\n');
      onBeat();
      this.#beatLater(onBeat);
    });
  }
}
