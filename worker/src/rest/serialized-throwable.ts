/**
 * Flink's serialized throwable: what its clients make the failure of an operation of. They read a
 * Java object from `serialized-throwable`, and without one they tell of an answer that they can't
 * read instead of why a savepoint failed.
 */
import type { JsonObject } from '../runtime/json.ts';

/**
 * A Java stream of one org.apache.flink.util.SerializedThrowable without cause, stack and inner
 * exception; its three texts are replaced. It is of Flink 1.20 and of any with that class's
 * serialVersionUID.
 */
const TEMPLATE = Buffer.from(
  'rO0ABXNyAClvcmcuYXBhY2hlLmZsaW5rLnV0aWwuU2VyaWFsaXplZFRocm93YWJsZWUWnfUfpxPzAgADTAAZ' +
    'ZnVsbFN0cmluZ2lmaWVkU3RhY2tUcmFjZXQAEkxqYXZhL2xhbmcvU3RyaW5nO0wAFm9yaWdpbmFsRXJyb3JD' +
    'bGFzc05hbWVxAH4AAVsAE3NlcmlhbGl6ZWRFeGNlcHRpb250AAJbQnhyABNqYXZhLmxhbmcuRXhjZXB0aW9u' +
    '0P0fPho7HMQCAAB4cgATamF2YS5sYW5nLlRocm93YWJsZdXGNSc5d7jLAwAETAAFY2F1c2V0ABVMamF2YS9s' +
    'YW5nL1Rocm93YWJsZTtMAA1kZXRhaWxNZXNzYWdlcQB+AAFbAApzdGFja1RyYWNldAAeW0xqYXZhL2xhbmcv' +
    'U3RhY2tUcmFjZUVsZW1lbnQ7TAAUc3VwcHJlc3NlZEV4Y2VwdGlvbnN0ABBMamF2YS91dGlsL0xpc3Q7eHBw' +
    'dAAJQE1FU1NBR0VAdXIAHltMamF2YS5sYW5nLlN0YWNrVHJhY2VFbGVtZW50OwJGKjw8/SI5AgAAeHAAAAAA' +
    'c3IAH2phdmEudXRpbC5Db2xsZWN0aW9ucyRFbXB0eUxpc3R6uBe0PKee3gIAAHhweHQAB0BUUkFDRUB0AAdA' +
    'Q0xBU1NAdXIAAltCrPMX+AYIVOACAAB4cAAAAAA=',
  'base64',
);
const CLASS_NAME = 'io.triggerjob.TriggerJobError';
/** Java's mark of a text with a length of two bytes. */
const TC_STRING = 0x74;
const MAX_TEXT_BYTES = 16 * 1024;

export function serializedThrowable(failure: string): JsonObject {
  const texts = { '@MESSAGE@': failure, '@TRACE@': failure, '@CLASS@': CLASS_NAME };
  let stream: Buffer = TEMPLATE;
  for (const [mark, text] of Object.entries(texts)) stream = replaced(stream, mark, text);
  return {
    class: CLASS_NAME,
    'stack-trace': failure,
    'serialized-throwable': stream.toString('base64'),
  };
}

function replaced(stream: Buffer, mark: string, text: string): Buffer {
  const old = javaText(mark);
  const at = stream.indexOf(old);
  return Buffer.concat([stream.subarray(0, at), javaText(text), stream.subarray(at + old.length)]);
}

/** Java's own UTF-8 has other zeros and surrogates; nobody needs them in a message. */
function javaText(text: string): Buffer {
  const bytes = Buffer.from(text.slice(0, MAX_TEXT_BYTES).replaceAll(/[^\n\t -~]/g, '?'), 'latin1');
  const head = Buffer.from([TC_STRING, bytes.length >> 8, bytes.length & 0xff]);
  return Buffer.concat([head, bytes]);
}
