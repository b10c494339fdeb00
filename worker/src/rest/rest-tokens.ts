/**
 * Who may change something over REST: whoever bears one of the tokens of a file, one a line. Read
 * again as it is replaced, so a new token is added below, used by the clients, and then the old
 * line is dropped.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { FileReading } from '../runtime/file-reading.ts';

const MIN_CHARACTERS = 16;
const MAX_TOKENS = 4;

export class RestTokens {
  /** Of equal length, so that a comparison tells nothing. */
  readonly #digests: FileReading<readonly Buffer[]>;

  /** Throws REST_TOKEN_FILE. `onFault`: it can't be read any more, told once per reason. */
  constructor(path: string, env: Env, onFault: (reason: string) => void) {
    this.#digests = new FileReading(() => readTokens(path), env, onFault);
  }

  /** `authorization`: the header, if there is one. */
  admits(authorization: string | undefined): boolean {
    const given = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    if (given === undefined) return false;
    const asked = digestOf(given);
    // All of them, so that the time does not tell which.
    return this.#digests.value.filter((known) => timingSafeEqual(known, asked)).length > 0;
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
