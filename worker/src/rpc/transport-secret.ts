/**
 * The secret of a job's connections, from a file: who knows it may connect, nobody else. A line is
 * one secret, of at least 32 characters (`openssl rand -hex 32`). The first line is used to call,
 * every line is accepted from a caller: so a secret is replaced while the job runs, by adding the
 * new one below on every process, then putting it first, then dropping the old one. The file is
 * looked at again when a connection is made, never for one that is established.
 *
 * From each secret come two keys (HKDF-SHA256), one per purpose, so that what is meant for the RPC
 * port can't be led to a shuffle port.
 */
import { hkdfSync } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { FileReading } from '../runtime/file-reading.ts';

/** Which connection a key is for. */
export type Purpose = 'rpc' | 'shuffle';

export interface TransportKey {
  /** Tells the called side which of its keys is meant; says nothing of the secret. */
  identity: string;
  /** 32 bytes. */
  key: Buffer;
}

/** Keys of the two ends of a connection. */
export interface TransportKeys {
  /** For a call of ours. */
  own(purpose: Purpose): TransportKey;
  /** What a caller with this identity must know; null: nobody is called so. */
  find(purpose: Purpose, identity: string): Buffer | null;
}

const MIN_SECRET_CHARACTERS = 32;
const KEY_BYTES = 32;
const FINGERPRINT_BYTES = 8;
/** The old one, the new one, and a margin. */
const MAX_SECRETS = 4;
const MAX_FILE_BYTES = 4_096;
const OTHERS = 0o007;
const SETTING = 'spec.security.internal.enabled';

type KeyRing = Readonly<Record<Purpose, readonly TransportKey[]>>;

export class SecretFile implements TransportKeys {
  readonly #ring: FileReading<KeyRing>;

  /**
   * Throws SECRET_FILE, naming the file and what to do. `onFault`: it can't be read any more, told
   * once per reason.
   */
  constructor(path: string, env: Env, onFault: (reason: string) => void = () => undefined) {
    this.#ring = new FileReading(() => ringOf(readSecrets(path)), env, onFault);
  }

  own(purpose: Purpose): TransportKey {
    return this.#ring.value[purpose][0]!;
  }

  find(purpose: Purpose, identity: string): Buffer | null {
    return this.#ring.value[purpose].find((key) => key.identity === identity)?.key ?? null;
  }
}

/**
 * The keys of a process whose job has `enabled` as it is; null = plain TCP. Throws SECRET_FILE:
 * what is asked for is never replaced by something weaker.
 */
export function keysFor(
  enabled: boolean,
  path: string | null,
  env: Env,
  onFault?: (reason: string) => void,
): SecretFile | null {
  if (enabled && path === null) {
    throw new TriggerJobError('SECRET_FILE', `no --secret-file, but ${SETTING} is true: give it`);
  }
  if (!enabled && path !== null) {
    throw new TriggerJobError('SECRET_FILE', `--secret-file, but ${SETTING} is false: choose one`);
  }
  return path === null ? null : new SecretFile(path, env, onFault);
}

/** Makes the file with a new secret, readable by this user only, unless it is there. */
export function ensureSecretFile(path: string, env: Env): void {
  try {
    // Twice 122 bits of chance.
    writeFileSync(path, `${env.id()}${env.id()}\n`, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
}

function readSecrets(path: string): string[] {
  let text: string;
  try {
    // Of what a link leads to, as in a mounted Secret of Kubernetes.
    const { mode, size } = statSync(path);
    if (size > MAX_FILE_BYTES) throw fault(path, `has ${size} bytes, at most ${MAX_FILE_BYTES}`);
    if ((mode & OTHERS) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, '0');
      const fix = 'chmod 600, or defaultMode: 0440 of the mounted Secret';
      throw fault(path, `is open to every user of the machine (mode ${octal}): ${fix}`);
    }
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof TriggerJobError) throw error;
    const fix = 'the same file, made with openssl rand -hex 32, belongs on every process of a job';
    throw fault(path, `can't be read: ${messageOf(error)}; ${fix}`, error);
  }
  const secrets = text.split('\n').flatMap((line) => line.trim() || []);
  if (secrets.length === 0) throw fault(path, 'is empty: openssl rand -hex 32 makes a secret');
  if (secrets.length > MAX_SECRETS) {
    throw fault(path, `has ${secrets.length} secrets, one a line, at most ${MAX_SECRETS}`);
  }
  const short = secrets.findIndex((secret) => secret.length < MIN_SECRET_CHARACTERS);
  if (short >= 0) {
    const least = `at least ${MIN_SECRET_CHARACTERS} characters from a random source`;
    throw fault(path, `has a secret of ${secrets[short]!.length} characters, needs ${least}`);
  }
  return secrets;
}

function fault(path: string, text: string, cause?: unknown): TriggerJobError {
  return new TriggerJobError('SECRET_FILE', `--secret-file ${path} ${text}`, { cause });
}

function ringOf(secrets: readonly string[]): KeyRing {
  return {
    rpc: secrets.map((secret) => keyOf(secret, 'rpc')),
    shuffle: secrets.map((secret) => keyOf(secret, 'shuffle')),
  };
}

function keyOf(secret: string, purpose: Purpose): TransportKey {
  const part = (name: string, bytes: number) =>
    Buffer.from(hkdfSync('sha256', secret, '', `triggerjob 1 ${purpose} ${name}`, bytes));
  const fingerprint = part('fingerprint', FINGERPRINT_BYTES).toString('hex');
  return { identity: `triggerjob-1-${purpose}-${fingerprint}`, key: part('key', KEY_BYTES) };
}
