/**
 * Who may change something over REST: whoever bears one of the tokens of a file, one a line. Read
 * again as it is replaced, so a new token is added below, used by the clients, and then the old
 * line is dropped.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';

const MIN_CHARACTERS = 16;
const MAX_TOKENS = 4;
/** Clients must not make us read files as fast as they can ask. */
const READ_AGAIN_MS = 1_000;

export class RestTokens {
  readonly #path: string;
  readonly #env: Env;
  readonly #onFault: (reason: string) => void;
  /** Of equal length, so that a comparison tells nothing. */
  #digests: readonly Buffer[];
  #readAt: number;
  #fault: string | null = null;

  /** Throws REST_TOKEN_FILE. `onFault`: it can't be read any more, told once per reason. */
  constructor(path: string, env: Env, onFault: (reason: string) => void) {
    this.#path = path;
    this.#env = env;
    this.#onFault = onFault;
    this.#digests = readTokens(path);
    this.#readAt = env.monotonic();
  }

  /** `authorization`: the header, if there is one. */
  admits(authorization: string | undefined): boolean {
    const given = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    if (given === undefined) return false;
    const asked = digestOf(given);
    // All of them, so that the time does not tell which.
    return this.#tokens().filter((known) => timingSafeEqual(known, asked)).length > 0;
  }

  #tokens(): readonly Buffer[] {
    const now = this.#env.monotonic();
    if (now - this.#readAt < READ_AGAIN_MS) return this.#digests;
    this.#readAt = now;
    try {
      this.#digests = readTokens(this.#path);
      this.#fault = null;
    } catch (error) {
      const reason = messageOf(error);
      if (reason !== this.#fault) this.#onFault(reason);
      this.#fault = reason;
    }
    return this.#digests;
  }
}

function readTokens(path: string): Buffer[] {
  const fault = (text: string, cause?: unknown) =>
    new TriggerJobError('REST_TOKEN_FILE', `--rest-token-file ${path} ${text}`, { cause });
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw fault(`can't be read: ${messageOf(error)}`, error);
  }
  const tokens = text.split('\n').flatMap((line) => line.trim() || []);
  if (tokens.length === 0) throw fault('is empty: openssl rand -hex 32 makes a token');
  if (tokens.length > MAX_TOKENS) throw fault(`has ${tokens.length} tokens, at most ${MAX_TOKENS}`);
  if (tokens.some((token) => token.length < MIN_CHARACTERS)) {
    throw fault(`has a token of less than ${MIN_CHARACTERS} characters`);
  }
  return tokens.map(digestOf);
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
