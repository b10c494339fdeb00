/**
 * One GET on an undici pool, its answer collected up to a limit of bytes. Hooks into undici's
 * parser itself: the stream, async iterator, AbortController and timer that `pool.request` and a
 * total deadline need made up a third of what a user from the Profile API cost. Owns no deadline:
 * who asks several things for one purpose ends them together with `end`. Redirects are never
 * followed, and of what is not read to its end the connection is destroyed.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import { faultText, first } from './http-exchange.ts';

export interface GetLimits {
  /** A body of a 2xx beyond this is `tooLarge`. */
  maxBytes: number;
  /** Held without asking; of an answer that is no 2xx at most this much is read. */
  freeBytes: number;
  /** Leave to hold that many bytes more, beyond `freeBytes`; false ends it as `crowded`. */
  claim(bytes: number): boolean;
}

export type GetResult =
  /** `body` is empty when the status is no 2xx. */
  | { kind: 'answer'; status: number; retryAfter: string | undefined; body: Buffer }
  | { kind: 'tooLarge' }
  | { kind: 'crowded' }
  /** Nobody needs it any more. */
  | { kind: 'cut' }
  | { kind: 'fault'; error: string };

const EMPTY = Buffer.alloc(0);

export class BoundedGet implements Dispatcher.DispatchHandler {
  readonly #limits: GetLimits;
  /** null once it was called. */
  #settle: ((result: GetResult) => void) | null;
  #controller: Dispatcher.DispatchController | null = null;
  #status = 0;
  #retryAfter: string | undefined;
  #maxBytes = 0;
  /** Bytes that may be held by now. */
  #allowed = 0;
  #received = 0;
  #chunks: Buffer[] = [];

  /** `settle` is called once, in the turn of undici's parser or of `end`. */
  constructor(limits: GetLimits, settle: (result: GetResult) => void) {
    this.#limits = limits;
    this.#settle = settle;
  }

  /** Bytes of the body that came. */
  get received(): number {
    return this.#received;
  }

  send(pool: Dispatcher, path: string, headers: Record<string, string>): void {
    pool.dispatch({ method: 'GET', path, headers, headersTimeout: 0, bodyTimeout: 0 }, this);
  }

  /** Settles it at once and destroys its connection, if it has one; nothing once it is settled. */
  end(result: GetResult): void {
    if (this.#settle === null) return;
    this.#done(result);
    this.#controller?.abort(new Error(result.kind));
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // Ended while it waited for a connection.
    if (this.#settle === null) controller.abort(new Error('cut'));
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    if (status < 200) return;
    const { maxBytes, freeBytes } = this.#limits;
    this.#status = status;
    this.#retryAfter = first(headers['retry-after']);
    this.#maxBytes = isSuccess(status) ? maxBytes : freeBytes;
    this.#allowed = Math.min(this.#maxBytes, freeBytes);
    const declared = Number(headers['content-length'] ?? 0);
    if (declared > this.#allowed) this.#allow(declared);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#settle === null) return;
    this.#received += chunk.length;
    // Doubled, so that a body of unknown length asks a few times and not at every chunk.
    if (this.#received > this.#allowed) {
      const wanted = Math.min(this.#maxBytes, this.#allowed * 2);
      if (!this.#allow(Math.max(this.#received, wanted))) return;
    }
    if (isSuccess(this.#status)) this.#chunks.push(chunk);
  }

  onResponseEnd(): void {
    const [only] = this.#chunks;
    const body =
      this.#chunks.length > 1 ? Buffer.concat(this.#chunks, this.#received) : (only ?? EMPTY);
    this.#done(this.#answer(body));
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    this.#done({ kind: 'fault', error: faultText(error) });
  }

  #allow(bytes: number): boolean {
    if (bytes > this.#maxBytes) {
      // The status of a refusal has said it all; only its connection is lost.
      this.end(isSuccess(this.#status) ? { kind: 'tooLarge' } : this.#answer(EMPTY));
      return false;
    }
    if (!this.#limits.claim(bytes - this.#allowed)) {
      this.end({ kind: 'crowded' });
      return false;
    }
    this.#allowed = bytes;
    return true;
  }

  #answer(body: Buffer): GetResult {
    return { kind: 'answer', status: this.#status, retryAfter: this.#retryAfter, body };
  }

  #done(result: GetResult): void {
    const settle = this.#settle;
    this.#settle = null;
    this.#chunks = [];
    settle?.(result);
  }
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}
