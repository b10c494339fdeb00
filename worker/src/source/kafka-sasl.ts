/** SASL with Kafka: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802), by SaslAuthenticate v1. */
import { createHash, createHmac, pbkdf2, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { KafkaRequest } from './kafka-connection.ts';

export interface SaslCredentials {
  mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512';
  /** Asked for at each authentication: a file may have another one by then. */
  username(): Promise<string>;
  password(): Promise<string>;
}

type Ask = <T>(request: KafkaRequest<T>) => Promise<T>;

interface Answer {
  bytes: Buffer;
  /** 0 = no end. */
  sessionMs: number;
}

export const AUTHENTICATION_FAILED = 'KAFKA_AUTHENTICATION_FAILED';

const HANDSHAKE = { name: 'SaslHandshake', api: 17, version: 1, flexible: false } as const;
const AUTHENTICATE = { name: 'SaslAuthenticate', api: 36, version: 1, flexible: false } as const;

/** RFC 5802, 5.1: less is too cheap to guess from. */
const LEAST_ITERATIONS = 4_096;
/** A broker that asks for more keeps a thread busy for seconds. */
const MOST_ITERATIONS = 1_000_000;
/** "n,,": no channel binding, in base64. */
const NO_BINDING = 'biws';

const derive = promisify(pbkdf2);

/** How long the broker takes it, ms; 0 = for good. Rejects with KAFKA_AUTHENTICATION_FAILED. */
export async function authenticate(env: Env, ask: Ask, sasl: SaslCredentials): Promise<number> {
  const { mechanism } = sasl;
  const { error, offered } = await ask({
    ...HANDSHAKE,
    write: (body) => body.string(mechanism),
    read: (answer) => ({
      error: answer.int16(),
      offered: answer.array(() => answer.string() ?? ''),
    }),
  });
  if (error !== 0) throw failed(`the broker takes ${offered.join(', ')}, not ${mechanism}`);
  const [username, password] = await credentials(sasl);
  if (mechanism === 'PLAIN') {
    return (await send(ask, ['', username, password].join('\0'))).sessionMs;
  }
  const digest = mechanism === 'SCRAM-SHA-256' ? 'sha256' : 'sha512';
  return scram(ask, digest, username, password, env.id());
}

async function credentials(sasl: SaslCredentials): Promise<[string, string]> {
  try {
    return await Promise.all([sasl.username(), sasl.password()]);
  } catch (cause) {
    throw failed('the credentials are not known', cause);
  }
}

async function send(ask: Ask, text: string): Promise<Answer> {
  const { error, reason, ...answer } = await ask({
    ...AUTHENTICATE,
    write: (body) => body.bytes(Buffer.from(text)),
    read: (read) => ({
      error: read.int16(),
      reason: read.string(),
      bytes: read.bytes(),
      sessionMs: read.int64(),
    }),
  });
  if (error !== 0) throw failed(`SASL authentication failed: ${reason ?? `error ${error}`}`);
  return answer;
}

async function scram(
  ask: Ask,
  digest: 'sha256' | 'sha512',
  username: string,
  password: string,
  nonce: string,
): Promise<number> {
  const name = username.replaceAll('=', '=3D').replaceAll(',', '=2C');
  const first = `n=${name},r=${nonce}`;
  const challenge = (await send(ask, `n,,${first}`)).bytes.toString();
  const { r: both = '', s: salt = '', i = '' } = fieldsOf(challenge);
  const iterations = Number(i);
  if (!both.startsWith(nonce)) throw failed("SCRAM: the broker's nonce is none of ours");
  if (!(iterations >= LEAST_ITERATIONS && iterations <= MOST_ITERATIONS)) {
    const range = `${LEAST_ITERATIONS} to ${MOST_ITERATIONS}`;
    throw failed(`SCRAM: the broker asks for ${i} iterations, allowed are ${range}`);
  }
  const bytes = digest === 'sha256' ? 32 : 64;
  const salted = await derive(password, Buffer.from(salt, 'base64'), iterations, bytes, digest);
  const hmac = (key: Buffer, text: string) => createHmac(digest, key).update(text).digest();
  const clientKey = hmac(salted, 'Client Key');
  const storedKey = createHash(digest).update(clientKey).digest();
  const last = `c=${NO_BINDING},r=${both}`;
  const signed = `${first},${challenge},${last}`;
  const signature = hmac(storedKey, signed);
  const proof = Buffer.from(clientKey.map((byte, at) => byte ^ signature[at]!));
  const answer = await send(ask, `${last},p=${proof.toString('base64')}`);
  const { v = '', e } = fieldsOf(answer.bytes.toString());
  if (e !== undefined) throw failed(`SCRAM: ${e}`);
  const told = Buffer.from(v, 'base64');
  const expected = hmac(hmac(salted, 'Server Key'), signed);
  if (told.length !== expected.length || !timingSafeEqual(told, expected)) {
    throw failed('SCRAM: the broker does not know the password');
  }
  return answer.sessionMs;
}

/** `r=...,s=...,i=...`; a value may hold further `=`. */
function fieldsOf(text: string): Record<string, string> {
  const pairs = text.split(',').map((part): [string, string] => [part.slice(0, 1), part.slice(2)]);
  return Object.fromEntries(pairs);
}

function failed(text: string, cause?: unknown): TriggerJobError {
  return new TriggerJobError(AUTHENTICATION_FAILED, text, { retryable: true, cause });
}
