/** The CloudEvents 1.0 attributes of a delivery, in HTTP binary mode. */
import type { Delivery } from './action.ts';

const EVENT_TYPE = 'io.triggerjob.match';
/** RFC 3339 has four digits for the year. */
const LAST_TIME_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/**
 * Headers by lower-case name. `ce-time` is the record's own time, never the clock of this process:
 * a replayed delivery must bear the same attributes (P33).
 */
export function cloudEventHeaders(delivery: Delivery): Record<string, string> {
  const topic = encodeURIComponent(delivery.topic.toWellFormed());
  const headers: Record<string, string> = {
    'ce-specversion': '1.0',
    'ce-type': EVENT_TYPE,
    'ce-id': headerValue(delivery.id),
    'ce-source': headerValue(`/triggerjob/${topic}/${delivery.partition}`),
    'ce-subject': headerValue(delivery.userId),
  };
  if (delivery.timestamp >= 0 && delivery.timestamp <= LAST_TIME_MS) {
    headers['ce-time'] = new Date(delivery.timestamp).toISOString();
  }
  return headers;
}

/**
 * The HTTP binding's encoding of a text (its section 3.1.3.2): all but printable ASCII, and also
 * space, `"` and `%`, as percent-encoded UTF-8. A lone surrogate becomes U+FFFD. It is also what
 * keeps a user id with a line end from becoming a header of its own.
 */
export function headerValue(text: string): string {
  if (/^[!#$&-~]*$/.test(text)) return text;
  let out = '';
  for (const byte of Buffer.from(text, 'utf8')) {
    const plain = byte > 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x25;
    out += plain
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}
