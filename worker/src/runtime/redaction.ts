/** Takes credentials out of what is shown or logged: by the name of a field, and out of URLs. */
import { isJsonObject, type JsonObject, type JsonValue } from './json.ts';

export const REDACTED = '***';

const CREDENTIAL_NAMES = [
  ...['authorization', 'cookie', 'passwd', '(api|access|secret|private)[-_]?key'],
  '(token|secret|password|credential)s?',
];
const CREDENTIAL = new RegExp(`(${CREDENTIAL_NAMES.join('|')})$`, 'i');
const USER_IN_URL = /\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi;
const BEARER = /\b(bearer|basic) +[\w.~+/=-]+/gi;

/** A field of this name holds a credential. `credentialsRef`, `tokenFile` and the like do not. */
export function isCredential(name: string): boolean {
  return CREDENTIAL.test(name);
}

/** A text without what follows `Bearer` and without the user of a URL. */
export function redactedText(text: string): string {
  return text.replace(USER_IN_URL, `$1${REDACTED}@`).replace(BEARER, `$1 ${REDACTED}`);
}

/** A copy. Only scalars are replaced: an object of that name holds named fields of its own. */
export function redacted<T extends JsonValue>(value: T): T {
  return copy(value) as T;
}

function copy(value: JsonValue): JsonValue {
  if (typeof value === 'string') return redactedText(value);
  if (Array.isArray(value)) return value.map(copy);
  if (!isJsonObject(value)) return value;
  const result: JsonObject = {};
  for (const [name, one] of Object.entries(value)) {
    const hides = isCredential(name) && (typeof one === 'string' || typeof one === 'number');
    result[name] = hides ? REDACTED : copy(one);
  }
  return result;
}
