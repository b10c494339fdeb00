/** The scan never disagrees with JSON.parse (P24), and what cannot be routed is named. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ValueBytes } from '../exchange/frame.ts';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import { KeyRouter } from './key-router.ts';
import { KeyScan, MAX_KEY_BYTES, routingKey } from './key-scan.ts';

const FIELD = 'user_id';
const SEED = 20_240_801;

const space = fc.stringMatching(/^[ \t\n\r]{0,2}$/);
/**
 * Names around the wanted one: equal, escaped to equal, prefixes, suffixes, with look-alike text.
 */
const nameText = fc.constantFrom(
  '"user_id"',
  '"user_id"',
  '"user\\u005fid"',
  '"\\u0075ser_id"',
  '"user_id\\""',
  '"user_i"',
  '"user_idd"',
  '"user_id "',
  '"USER_ID"',
  '"a"',
  '""',
  '"é"',
  '"__proto__"',
  '"{\\"user_id\\":"',
  '"\\\\"',
);
const stringText = fc.oneof(
  fc.constantFrom(
    '"u0000000042"',
    '""',
    '"a\\"b"',
    '"\\\\"',
    '"\\u0075"',
    '"ü"',
    '"\\ud800"',
    '"user_id"',
    '",\\"user_id\\":\\"x\\""',
    '"}"',
    '"{"',
    '"]["',
    '"\\\\\\""',
  ),
  fc.string().map((text) => JSON.stringify(text)),
  fc.string({ unit: 'binary' }).map((text) => JSON.stringify(text)),
);
const scalarText = fc.oneof(
  stringText,
  fc.constantFrom('0', '-1.5e3', 'true', 'false', 'null', '12345678901234567890'),
);
const { tree } = fc.letrec((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    scalarText,
    tie('object'),
    tie('array'),
  ),
  array: fc
    .tuple(space, fc.array(tie('tree') as fc.Arbitrary<string>, { maxLength: 3 }))
    .map(([gap, items]) => `[${gap}${items.join(`${gap},`)}${gap}]`),
  object: fc
    .tuple(
      space,
      space,
      fc.array(fc.tuple(nameText, tie('tree') as fc.Arbitrary<string>), { maxLength: 5 }),
    )
    .map(
      ([a, b, pairs]) =>
        `{${a}${pairs.map(([name, text]) => `${name}${b}:${a}${text}`).join(`${b},${a}`)}${b}}`,
    ),
})) as { tree: fc.Arbitrary<string> };
const objectText = fc
  .tuple(space, fc.array(fc.tuple(nameText, tree), { maxLength: 6 }), space, fc.nat(500))
  .map(([a, pairs, b, padding]) => {
    // Long texts take the native search: pad the end so that both ways are generated.
    const body = pairs.map(([name, text]) => `${a}${name}${b}:${text}`);
    if (padding > 250) body.push(`"pad":"${'x'.repeat(padding * 2)}"`);
    return `${a}{${body.join(`${b},`)}${b}}${a}`;
  });

const scanner = new KeyScan(FIELD);

function sourceOf(bytes: Buffer): ValueBytes {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
}

/**
 * The key's text; null: absent; undefined: unknown. The event stands between others in one buffer,
 * as in a fetch: what is next to it must not count.
 */
function scan(event: Buffer | string, field = FIELD, around = ''): string | null | undefined {
  const text = Buffer.from(event);
  const before = Buffer.from(around);
  const bytes = Buffer.concat([before, text, before]);
  const one = field === FIELD ? scanner : new KeyScan(field);
  const answer = one.find(sourceOf(bytes), before.length, before.length + text.length);
  if (answer === 'unknown') return undefined;
  return answer === 'absent' ? null : bytes.toString('utf8', one.keyStart, one.keyEnd);
}

function parse(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}

test('P24: whatever the scan answers for JSON equals the parsed field', () => {
  let answered = 0;
  fc.assert(
    fc.property(objectText, (text) => {
      const event = parse(text);
      assert.ok(isJsonObject(event), `the generator makes JSON: ${text}`);
      const scanned = scan(text);
      for (const around of ['"', '\\', '","user_id":"b"}', '{"user_id":"b"}']) {
        assert.equal(scan(text, FIELD, around), scanned, `beside ${around}: ${text}`);
      }
      if (scanned === undefined) return;
      answered++;
      if (scanned === null) assert.equal(Object.hasOwn(event, FIELD), false, text);
      else assert.equal(scanned, event[FIELD], text);
    }),
    { seed: SEED, numRuns: 20_000 },
  );
  assert.ok(answered > 4_000, `the property is not empty: ${answered} answers`);
});

test('P24: text damaged at one byte gives no key unless a parse of it fails or agrees', () => {
  fc.assert(
    fc.property(objectText, fc.nat(), fc.constantFrom(...'"\\{}[],: x'), (text, at, byte) => {
      const bytes = Buffer.from(text);
      bytes[at % bytes.length] = byte.charCodeAt(0);
      const scanned = scan(bytes);
      const event = parse(bytes.toString('utf8'));
      if (scanned === undefined || event === undefined) return;
      assert.ok(isJsonObject(event), text);
      assert.equal(scanned, Object.hasOwn(event, FIELD) ? event[FIELD] : null);
    }),
    { seed: SEED, numRuns: 20_000 },
  );
});

test('P24: any bytes: routingKey never throws, and a key is what a parse gives', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), objectText, fc.nat(), (noise, text, cut) => {
      for (const bytes of [noise, Buffer.from(text).subarray(0, cut % (text.length + 1))]) {
        const routed = routingKey(Buffer.from(bytes), FIELD);
        const event = parse(Buffer.from(bytes).toString('utf8'));
        if ('key' in routed && isJsonObject(event)) assert.equal(routed.key, event[FIELD]);
      }
    }),
    { seed: SEED, numRuns: 5_000 },
  );
});

test('the scan answers for the shapes of real events, wherever the field stands', () => {
  const padding = `"page":"/p/${'x'.repeat(600)}"`;
  for (const text of [
    '{"user_id":"u1"}',
    ' {\n "event_id" : 7 , "user_id" : "u1" , "triggerable":true}\r\n',
    '{"props":{"user_id":"no","list":["user_id",{"user_id":"no"}]},"user_id":"u1"}',
    `{"user_id":"u1",${padding}}`,
    `{${padding},"user_id":"u1"}`,
    '{"title":"a \\"quoted\\" \\\\","user_id":"u1"}',
    '{"città":1}'.replace('città":1', 'title":"città","user_id":"u1"'),
  ]) {
    assert.equal(scan(text), 'u1', text);
  }
});

test('the scan leaves doubtful shapes to the parse', () => {
  for (const text of [
    '{"user_id":"a","user_id":"b"}',
    '{"user_id":"a","user\\u005fid":"b"}',
    `{"user_id":"a","pad":"${'x'.repeat(600)}","user_id":"b"}`,
    `{"user_id":"a","pad":"${'x'.repeat(600)}","user\\u005fid":"b"}`,
    '{"user_id":"a\\n"}',
    '{"n":[],"user_id":"ü"}',
    '{"user_id":1}',
    '{"user_id":"a',
    '{"x":"\\n","user_id":"a"} x',
    '["user_id","a"]',
    '\u{feff}{"user_id":"a"}',
  ]) {
    assert.equal(scan(text), undefined, text);
  }
});

/** The proof for texts without a backslash rests on what such a field cannot be. */
test('P24: a field that could be read across two strings is not searched for', () => {
  // Here `":1,"` ends one string and begins the next, which goes on like a key's value.
  assert.equal(scan('{"a":1,": ":"y"}', ':1,'), null);
  assert.equal(scan('{"a":1,": ":"y",":1,":"right"}', ':1,'), 'right');
});

test('P24: one scan for many events of a buffer, in any order, answers as one for each', () => {
  let escaped = 0;
  fc.assert(
    fc.property(
      fc.array(objectText, { maxLength: 8 }),
      fc.infiniteStream(fc.nat()),
      (texts, at) => {
        const events = texts.map((text) => Buffer.from(text));
        const bytes = Buffer.concat(events);
        const starts = events.map((_, i) => Buffer.concat(events.slice(0, i)).length);
        const source = sourceOf(bytes);
        const one = new KeyScan(FIELD);
        const order = [...events.keys(), ...at.take(events.length).map((n) => n % events.length)];
        for (const i of order) {
          const [start, end] = [starts[i]!, starts[i]! + events[i]!.length];
          const answer = one.find(source, start, end);
          const key = answer === 'found' ? bytes.toString('utf8', one.keyStart, one.keyEnd) : null;
          assert.equal(answer === 'unknown' ? undefined : key, scan(events[i]!), texts[i]);
          if (texts[i]!.includes('\\')) escaped++;
        }
      },
    ),
    { seed: SEED, numRuns: 1_000 },
  );
  assert.ok(escaped > 500);
});

test('KeyRouter: the group is that of the parsed key, -1 where routingKey finds poison', () => {
  const users = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.constant(LONG_KEY));
  const simple = users.map((id) => JSON.stringify({ n: 1, [FIELD]: id, pad: 'x' }));
  const router = new KeyRouter(FIELD, 1_024);
  let routed = 0;
  fc.assert(
    fc.property(fc.oneof(objectText, simple, fc.string()), fc.nat(9), (text, before) => {
      const event = Buffer.from(text);
      const bytes = Buffer.concat([Buffer.alloc(before, '"'), event, Buffer.from('"}')]);
      const group = router.keyGroup(sourceOf(bytes), before, before + event.length);
      const route = routingKey(event, FIELD);
      if ('key' in route) routed++;
      // Of a text that is no JSON the state task has the last word.
      if (parse(text) === undefined) return;
      assert.equal(group, 'key' in route ? keyGroupOf(route.key, 1_024) : -1, text);
    }),
    { seed: SEED, numRuns: 10_000 },
  );
  assert.ok(routed > 2_000, `${routed} routed`);
});
const LONG_KEY = 'k'.repeat(MAX_KEY_BYTES + 1);

test('routingKey: the last duplicate wins, as in JSON.parse; escapes are decoded', () => {
  const key = (text: string) => routingKey(Buffer.from(text), FIELD);
  assert.deepEqual(key('{"user_id":"a","user_id":"b"}'), { key: 'b' });
  assert.deepEqual(key('{"user\\u005fid":"a\\u00fc"}'), { key: 'aü' });
  assert.deepEqual(key('{"user_id":"ü"}'), { key: 'ü' });
});

test('routingKey names why a record cannot be routed', () => {
  const poison = (value: Buffer | string) => routingKey(Buffer.from(value), FIELD);
  const long = 'ü'.repeat(MAX_KEY_BYTES / 2);
  assert.deepEqual(poison(Buffer.from([0x7b, 0xff, 0x7d])), { poison: 'not valid UTF-8' });
  assert.deepEqual(poison(''), { poison: 'not valid JSON' });
  assert.deepEqual(poison('{"user_id":'), { poison: 'not valid JSON' });
  assert.deepEqual(poison('[]'), { poison: 'not a JSON object' });
  assert.deepEqual(poison('null'), { poison: 'not a JSON object' });
  assert.deepEqual(poison('{}'), { poison: 'user_id is missing' });
  assert.deepEqual(poison('{"a":{"user_id":"x"}}'), { poison: 'user_id is missing' });
  assert.deepEqual(poison('{"user_id":null}'), { poison: 'user_id is not a string' });
  assert.deepEqual(poison('{"user_id":""}'), { poison: 'user_id is empty' });
  assert.deepEqual(poison('{"user_id":"\\ud800"}'), {
    poison: 'user_id is not well-formed Unicode',
  });
  assert.deepEqual(poison(JSON.stringify({ user_id: long })), { key: long });
  assert.deepEqual(poison(JSON.stringify({ user_id: `${long}x` })), {
    poison: 'user_id is longer than 1024 bytes',
  });
  assert.deepEqual(routingKey(Buffer.from('{}'), 'toString'), { poison: 'toString is missing' });
});
