/**
 * The Secret of a job: what its processes know each other by, and the token for writes to its REST
 * API. Both are derived from a key that only the operator has and from the job's uid, so that the
 * operator never reads a Secret: it creates this one, and calculates the token again when it calls.
 *
 * A rotated key gives the Secret another name, and so the pods another template: they are rolled.
 * While both keys are given, new one first, either kind of pod accepts the other (the worker's
 * rpc/transport-secret.ts reads one secret a line, and calls with the first).
 */
import { createHmac } from 'node:crypto';
import type { V1Secret } from '@kubernetes/client-node';
import { type JobIdentity, metadataOf, type Typed } from './names.ts';

/** The operator's keys: the first one is in use, the others are on their way in or out. */
export type HmacKeys = readonly [string, ...string[]];

/** As many as a worker reads: the old one, the new one, and a margin. */
const MAX_KEYS = 4;
const MIN_KEY_CHARACTERS = 32;

/** The keys of a mounted file, one a line. Throws with what is wrong, never with a key. */
export function parseHmacKeys(text: string): HmacKeys {
  const [first, ...others] = text.split('\n').flatMap((line) => line.trim() || []);
  if (first === undefined) throw new Error('the HMAC key file is empty: openssl rand -hex 32');
  if (others.length >= MAX_KEYS) throw new Error(`more than ${MAX_KEYS} HMAC keys: drop old ones`);
  if ([first, ...others].some((key) => key.length < MIN_KEY_CHARACTERS)) {
    throw new Error(`an HMAC key has less than ${MIN_KEY_CHARACTERS} characters`);
  }
  return [first, ...others];
}

type Purpose = 'transport' | 'rest-token';

const KEY_ID_CHARACTERS = 8;

const derive = (key: string, text: string): string =>
  createHmac('sha256', key).update(text).digest('hex');

const secretsFor = (keys: HmacKeys, uid: string, purpose: Purpose): string[] =>
  keys.map((key) => derive(key, `${uid}\n${purpose}`));

/** Bearer tokens of the job's REST API; during a rotation a pod may know only a later one. */
export function restTokens(keys: HmacKeys, uid: string): string[] {
  return secretsFor(keys, uid, 'rest-token');
}

/** Says which keys, and nothing of them. */
function keyId(keys: HmacKeys): string {
  return derive(keys[0], `key-id\n${keys.length}\n${keys.slice(1).join('\n')}`).slice(
    0,
    KEY_ID_CHARACTERS,
  );
}

export function secretName(job: { name: string }, keys: HmacKeys): string {
  return `${job.name}-secret-${keyId(keys)}`;
}

/** To be created, never applied: the operator may do nothing else to a Secret. */
export function jobSecret(job: JobIdentity, keys: HmacKeys): Typed<V1Secret> {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: metadataOf(job, secretName(job, keys)),
    type: 'Opaque',
    immutable: true,
    stringData: {
      transport: secretsFor(keys, job.uid, 'transport').join('\n'),
      'rest-token': restTokens(keys, job.uid).join('\n'),
    },
  };
}
