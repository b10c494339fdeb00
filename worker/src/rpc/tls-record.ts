/** What the first bytes of a connection betray, for a better message than "wrong length". */

/** The fix of every disagreement about how to connect. */
export const SAME_FILE =
  'give all processes of the job the same --secret-file, ' +
  'or none and turn spec.security.internal.enabled off';

const ALERT = 21;
const HANDSHAKE = 22;

/** Bytes that begin a TLS record (RFC 8446, 5.1) where none is expected; null: they do not. */
export function tlsAtFirst(bytes: Uint8Array): string | null {
  const record = (bytes[0] === HANDSHAKE || bytes[0] === ALERT) && bytes[1] === 3;
  return record ? `the peer speaks TLS, this process does not: ${SAME_FILE}` : null;
}
