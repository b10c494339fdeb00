/** Standard Webhooks signatures, and the file their secrets come from. */
import { createHmac } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';

const SECRET = /^whsec_([A-Za-z0-9+/]+={0,2})$/;
const MAX_SECRETS = 8;
/** How often the file is looked at: a rotation is seen within this time at no cost per delivery. */
const RECHECK_MS = 1_000;

const SIGNING_SECRET = 'ACTION_SIGNING_SECRET';

/** The value of `webhook-signature`: one `v1,<base64>` per key, separated by spaces. */
export function sign(keys: readonly Buffer[], id: string, unixSeconds: number, body: Buffer) {
  return keys
    .map((key) => {
      const mac = createHmac('sha256', key).update(`${id}.${unixSeconds}.`).update(body);
      return `v1,${mac.digest('base64')}`;
    })
    .join(' ');
}

/** The keys of a secret file's text. Throws without quoting it: the text is a secret. */
function parseSecrets(text: string, path: string): Buffer[] {
  const words = text.split(/\s+/).filter((word) => word !== '');
  const keys = words.map((word) => {
    const match = SECRET.exec(word);
    if (match === null) throw badSecret(path, 'holds a word that is not whsec_<base64>');
    return Buffer.from(match[1] ?? '', 'base64');
  });
  if (keys.length === 0) throw badSecret(path, 'is empty');
  if (keys.length > MAX_SECRETS) throw badSecret(path, `holds more than ${MAX_SECRETS} secrets`);
  if (keys.some((key) => key.length === 0)) throw badSecret(path, 'holds an empty secret');
  return keys;
}

function badSecret(path: string, fault: string, cause?: unknown): TriggerJobError {
  return new TriggerJobError(
    SIGNING_SECRET,
    `action.webhook signing secret: file ${path} ${fault}; ` +
      'write one or more whsec_<base64> separated by white space',
    { retryable: true, cause },
  );
}

/**
 * The current keys. While a changed file is unreadable or wrong the last good keys stay in use:
 * half of a rotation must not stop deliveries, and unsigned ones are never sent.
 */
export class SigningKeys {
  readonly #path: string;
  readonly #env: Env;
  readonly #warn: (message: string) => void;
  #keys: Buffer[] | null = null;
  #version = '';
  #checkedAt = Number.NEGATIVE_INFINITY;
  #checking: Promise<Buffer[]> | null = null;

  constructor(path: string, env: Env, warn: (message: string) => void) {
    this.#path = path;
    this.#env = env;
    this.#warn = warn;
  }

  /** Throws TriggerJobError SIGNING_SECRET (retryable) when there has never been a good file. */
  current(): Promise<Buffer[]> {
    const fresh = this.#env.monotonic() - this.#checkedAt < RECHECK_MS;
    if (this.#keys !== null && fresh) return Promise.resolve(this.#keys);
    this.#checking ??= this.#check().finally(() => {
      this.#checking = null;
    });
    return this.#checking;
  }

  async #check(): Promise<Buffer[]> {
    this.#checkedAt = this.#env.monotonic();
    try {
      // Kubernetes rotates by swapping a symbolic link: `stat` follows it to another inode.
      const { ino, size, mtimeMs } = await stat(this.#path);
      const version = `${ino}:${size}:${mtimeMs}`;
      if (this.#keys === null || version !== this.#version) {
        this.#keys = parseSecrets(await readFile(this.#path, 'utf8'), this.#path);
        this.#version = version;
      }
      return this.#keys;
    } catch (thrown) {
      const fault =
        thrown instanceof TriggerJobError
          ? thrown
          : badSecret(this.#path, 'cannot be read', thrown);
      if (this.#keys === null) throw fault;
      this.#warn(`${messageOf(fault)} (the previous secrets stay in use)`);
      return this.#keys;
    }
  }
}
