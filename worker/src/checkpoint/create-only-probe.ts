/** Asks a store at start whether `create` creates once (P44): all authority rests on it (P39). */
import { isRetryable, messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { ObjectStore } from './object-store.ts';

/**
 * `nonce` makes the probe's name unique. Throws STORE_NOT_CREATE_ONLY with what the store
 * answered.
 */
export async function probeCreateOnly(store: ObjectStore, nonce: string): Promise<void> {
  const name = `probe/${nonce}`;
  const answers: string[] = [];
  let cause: unknown;
  try {
    answers.push(await store.create(name, Buffer.from('first')));
    answers.push(await store.create(name, Buffer.from('second')));
    answers.push(String(await store.get(name)));
  } catch (fault) {
    cause = fault;
    answers.push(messageOf(fault));
  } finally {
    await store.delete([name]).catch(() => {}); // what is left of a probe does no harm
  }
  // The first 'exists' is our own object, created by a try whose reply was lost (P41).
  if (/^(created|exists),exists,first$/.test(answers.join())) return;
  throw new TriggerJobError(
    'STORE_NOT_CREATE_ONLY',
    `${store.url} can't create an object exactly once (two creates of one name and a read ` +
      `answered: ${answers.join(', ')}). A directory needs hard links on its file system, S3 ` +
      'needs conditional writes (If-None-Match: *); choose another.',
    { cause, retryable: isRetryable(cause) },
  );
}
