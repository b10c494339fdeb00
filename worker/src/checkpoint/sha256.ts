/** sha256 that gives way: a slot thread hashes 64 MiB beside the events it processes. */
import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { TURN_BYTES } from './segment-format.ts';

/** sha256 in hex, in turns of at most 256 KiB. */
export async function sha256Of(content: Buffer): Promise<string> {
  const sha = createHash('sha256');
  for (let at = 0; at < content.length; at += TURN_BYTES) {
    if (at > 0) await turn();
    sha.update(content.subarray(at, at + TURN_BYTES));
  }
  return sha.digest('hex');
}
