/**
 * One request to S3, as often as it takes: a deadline for each try and one for all of them, because
 * the SDK has none, and waits in between, because S3 answers 503 to whoever asks too fast. The
 * SDK's own retries are off: they know neither an Env nor an end.
 *
 * A try that got no answer is simply made again: what must not happen twice is made harmless by who
 * asks (create-only, names of their own). What the SDK throws is taken apart here and goes no
 * further: it carries the signed request, which has no place in a log.
 */
import { faultText } from '../http/http-exchange.ts';
import { backoffMs } from '../http/http-retry.ts';
import { Permits } from '../http/permits.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';

export interface S3Limits {
  /** One try and all tries of a request, without what its bytes take. */
  attemptMs: number;
  totalMs: number;
  /** A transfer that is slower than this hangs. */
  leastBytesPerSecond: number;
  firstPauseMs: number;
  longestPauseMs: number;
  /** Requests under way; others wait. Below the SDK's 50 sockets, where a wait would be a try. */
  requests: number;
}

export const S3_LIMITS: S3Limits = {
  attemptMs: 15_000,
  totalMs: 60_000,
  leastBytesPerSecond: 512 * 1024,
  firstPauseMs: 50,
  longestPauseMs: 5_000,
  requests: 32,
};

/** One try: `signal` ends it; `expect` gives it the time for an answer of so many bytes. */
export interface Attempt {
  signal: AbortSignal;
  expect(bytes: number): void;
}

interface Request {
  startedAt: number;
  /** Of the longer of question and answer, as far as known. */
  bytes: number;
}

export class S3Requests {
  readonly #env: Env;
  readonly #limits: S3Limits;
  readonly #url: string;
  readonly #permits: Permits;

  /** `url` names the store in messages. */
  constructor(env: Env, limits: S3Limits, url: string) {
    this.#env = env;
    this.#limits = limits;
    this.#url = url;
    this.#permits = new Permits(env, limits.requests);
  }

  /**
   * Does `work` until it succeeds, until trying again can't help, or until its time is over; then
   * throws STORE_REQUEST. `what` begins its message; `bytes` are sent by each try. Rejects with
   * the reason of `signal` as soon as that is aborted.
   */
  async run<T>(
    what: string,
    bytes: number,
    work: (attempt: Attempt) => Promise<T>,
    // One of its own: listeners of all requests on a shared one would look like a leak to Node.
    signal: AbortSignal = new AbortController().signal,
  ): Promise<T> {
    const { attemptMs, firstPauseMs, longestPauseMs } = this.#limits;
    const request = { startedAt: this.#env.monotonic(), bytes };
    for (let tries = 1; ; tries++) {
      try {
        const waitMs = this.#leftMs(request);
        return await this.#permitted(waitMs, signal, () => this.#try(request, work, signal));
      } catch (thrown) {
        signal.throwIfAborted();
        const failure = failureOf(thrown);
        const pauseMs = backoffMs(this.#env, tries, firstPauseMs, longestPauseMs);
        // A last try of a few ms would only put its own end in place of what S3 has answered.
        if (failure.isTransient && pauseMs + attemptMs / 2 < this.#leftMs(request)) {
          await sleep(this.#env, pauseMs, signal);
          continue;
        }
        const seconds = ((this.#env.monotonic() - request.startedAt) / 1000).toFixed(1);
        const often = tries === 1 ? '' : `; tried ${tries} times in ${seconds} s`;
        throw new TriggerJobError(
          'STORE_REQUEST',
          `${what} in ${this.#url}: ${failure.text}${often}`,
          { retryable: failure.isTransient },
        );
      }
    }
  }

  async #permitted<T>(waitMs: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (!(await this.#permits.acquire(signal, waitMs))) {
      throw transient(`no turn within ${Math.round(waitMs)} ms: too many requests are under way`);
    }
    try {
      return await work();
    } finally {
      this.#permits.release();
    }
  }

  async #try<T>(
    request: Request,
    work: (attempt: Attempt) => Promise<T>,
    outer: AbortSignal,
  ): Promise<T> {
    const env = this.#env;
    const cut = new AbortController();
    // Beside the signal: a chain of credentials that hangs, for example, never looks at it.
    const over = Promise.withResolvers<never>();
    const end = (reason: unknown) => {
      over.reject(reason);
      cut.abort(reason);
    };
    const startedAt = env.monotonic();
    const arm = () => {
      const ownMs = this.#limits.attemptMs + this.#transferMs(request);
      const pastMs = env.monotonic() - startedAt;
      const limitMs = Math.min(ownMs, pastMs + this.#leftMs(request));
      return env.timer(limitMs - pastMs, () =>
        end(transient(`no complete answer within ${Math.round(limitMs)} ms`)),
      );
    };
    let timer = arm();
    const onAbort = () => end(outer.reason);
    outer.addEventListener('abort', onAbort, { once: true });
    const expect = (bytes: number) => {
      if (bytes <= request.bytes) return;
      request.bytes = bytes;
      timer.cancel();
      timer = arm();
    };
    try {
      return await Promise.race([work({ signal: cut.signal, expect }), over.promise]);
    } finally {
      timer.cancel();
      outer.removeEventListener('abort', onAbort);
    }
  }

  /** Of all tries together. */
  #leftMs(request: Request): number {
    const endsAt = request.startedAt + this.#limits.totalMs + this.#transferMs(request);
    return endsAt - this.#env.monotonic();
  }

  #transferMs({ bytes }: Request): number {
    return (bytes / this.#limits.leastBytesPerSecond) * 1000;
  }
}

/** A fault that another try may not meet again. */
export function transient(message: string): TriggerJobError {
  return new TriggerJobError('STORE_REQUEST', message, { retryable: true });
}

/** Whether S3 answered with this status and, where given, this code. */
export function isAnswer(thrown: unknown, status: number, code?: string): boolean {
  const answer = answerOf(thrown);
  return answer.status === status && (code === undefined || answer.code === code);
}

/** Answers that another try may change, whatever their status. */
const TRANSIENT_CODES: ReadonlySet<string> = new Set([
  // Damaged on the way.
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'IncompleteBody',
  'RequestTimeout',
  // The SDK has learned the store's clock from this very answer.
  'RequestTimeTooSkewed',
  // The chain of credentials or the files are asked again.
  'ExpiredToken',
  'ExpiredTokenException',
  'InternalError',
  'OperationAborted',
  'ServiceUnavailable',
  'SlowDown',
  'ThrottlingException',
]);
const TRANSIENT_STATUS: ReadonlySet<number> = new Set([408, 409, 425, 429]);
const NETWORK_CODES =
  /^(ECONN(REFUSED|RESET|ABORTED)|EPIPE|ETIMEDOUT|E(HOST|NET)UNREACH|ENOTFOUND|EAI_AGAIN|HPE_\w+)$/;
const NETWORK_NAMES = /^(TimeoutError|AbortError)$/;

/** Whether the code of one object's fault in a batch says that another try can help. */
export function isTransientCode(code: string): boolean {
  return TRANSIENT_CODES.has(code);
}

interface Answer {
  /** null: no answer came. */
  status: number | null;
  /** S3's code, e.g. NoSuchKey; for what is no answer, the error's name. */
  code: string;
  requestId: string;
}

function answerOf(thrown: unknown): Answer {
  const { name, $metadata } = (thrown instanceof Error ? thrown : new Error()) as Error & {
    $metadata?: { httpStatusCode?: number; requestId?: string };
  };
  const status = $metadata?.httpStatusCode ?? null;
  return { status, code: name, requestId: $metadata?.requestId ?? '' };
}

/** What was thrown, as a text without secrets, and whether another try can help. Total. */
function failureOf(thrown: unknown): { text: string; isTransient: boolean } {
  if (thrown instanceof TriggerJobError) {
    return { text: messageOf(thrown), isTransient: thrown.retryable };
  }
  const { status, code, requestId } = answerOf(thrown);
  const message = faultText(thrown);
  if (status === null) {
    const system = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
    const isTransient = NETWORK_CODES.test(system) || NETWORK_NAMES.test(code);
    return { text: message, isTransient };
  }
  // A 2xx that was thrown is an answer that could not be read to its end.
  const isTransient =
    (status >= 200 && status < 300) ||
    (status >= 500 && status !== 501) ||
    TRANSIENT_STATUS.has(status) ||
    TRANSIENT_CODES.has(code);
  const request = requestId === '' ? '' : `, request ${requestId}`;
  return { text: `${code}: ${message} (${status}${request})`, isTransient };
}
