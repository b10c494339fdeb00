import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { routingKey } from '../source/key-scan.ts';
import { decodeUserEvent, type UserEvent } from './user-event.ts';

const MAX_BYTES = 10_000;
/** In the middle of a frame, as values come. */
function decode(value: string | Buffer | null, keyBy = 'user_id') {
  const source = Buffer.concat([Buffer.from('{"'), Buffer.from(value ?? ''), Buffer.from('"}')]);
  return decodeUserEvent(source, 2, value === null ? -1 : source.length - 2, keyBy, MAX_BYTES);
}

function poisonOf(value: string | Buffer | null, keyBy?: string): string | null {
  const decoded = decode(value, keyBy);
  return 'poison' in decoded ? decoded.poison : null;
}

test('each kind of poison says what is wrong', () => {
  const id = '"user_id":"u"';
  const kinds: [string | Buffer | null, RegExp][] = [
    [null, /tombstone/],
    [Buffer.alloc(0), /not JSON/],
    ['x'.repeat(MAX_BYTES + 1), /10001 bytes, source.maxRecordBytes is 10000/],
    [Buffer.from([0x7b, 0xff, 0x7d]), /not valid UTF-8/],
    [Buffer.from('{"user_id":"\xe4"}', 'latin1'), /not valid UTF-8/],
    ['{"user_id":"u"', /not JSON/],
    ['\ufeff{"user_id":"u"}', /not JSON/],
    ['[{"user_id":"u"}]', /not a JSON object/],
    ['null', /not a JSON object/],
    ['"u"', /not a JSON object/],
    ['{}', /user_id is not a non-empty string/],
    ['{"user_id":""}', /user_id is not a non-empty string/],
    ['{"user_id":7}', /user_id is not a non-empty string/],
    ['{"user_id":null}', /user_id is not a non-empty string/],
    [`{"user_id":"${'u'.repeat(1025)}"}`, /longer than 1024 bytes/],
    [`{"user_id":"${'€'.repeat(342)}"}`, /longer than 1024 bytes/],
    [`{${id},"event_name":7}`, /event_name is not a string/],
    [`{${id},"triggerable":"true"}`, /triggerable is not a boolean/],
    [`{${id},"timestamp":true}`, /timestamp is neither/],
    [`{${id},"timestamp":{}}`, /timestamp is neither/],
  ];
  for (const [value, wanted] of kinds) {
    assert.match(poisonOf(value) ?? 'accepted', wanted, String(value).slice(0, 60));
  }
});

test('what is only unusual is accepted', () => {
  const id = '"user_id":"u"';
  for (const text of [
    `{${id}}`,
    ` {${id} , "event_name":null,"triggerable":null,"timestamp":null}\n`,
    `{${id},"timestamp":"yesterday"}`,
    `{${id},"timestamp":-1.5e300}`,
    `{"user_id":"first",${id}}`,
    `{"\\u0075ser_id":"u"}`,
    `{${id},"__proto__":{"x":1}}`,
    `{${id},"n":123456789012345678901234567890}`,
    `{${id},"deep":${'['.repeat(3000)}${']'.repeat(3000)}}`,
    `{"user_id":"${'€'.repeat(341)}"}`,
    `{"user_id":"${'u'.repeat(1024)}"}`,
  ]) {
    assert.equal(poisonOf(text), null, text.slice(0, 60));
    const { parsed } = decode(text) as UserEvent;
    assert.equal(JSON.stringify(parsed), JSON.stringify(JSON.parse(text)));
  }
  assert.equal((decode(`{"user_id":"first",${id}}`) as UserEvent).userId, 'u', 'as JSON.parse');
});

test('a key field of another name, and names every object inherits', () => {
  assert.equal((decode('{"device":"d"}', 'device') as UserEvent).userId, 'd');
  for (const name of ['constructor', 'toString', '__proto__']) {
    assert.match(poisonOf('{"user_id":"u"}', name)!, /not a non-empty string/);
  }
});

test('an event keeps no reference to the buffer; U+FFFD itself is no broken UTF-8', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 60 }), (userId) => {
      const event = { user_id: userId, pad: `${userId}\ufffd` };
      const bytes = Buffer.from(JSON.stringify(event));
      const decoded = decodeUserEvent(bytes, 0, bytes.length, 'user_id', MAX_BYTES) as UserEvent;
      bytes.fill(0);
      assert.equal(decoded.userId, userId);
      assert.deepEqual(decoded.parsed, event);
    }),
    { seed: 11, numRuns: 300 },
  );
});

/**
 * P24: a lone surrogate has no UTF-8 form. The source refuses it as a key and routes the record by
 * its place; where that happens to be the group of U+FFFD, the state task must not take it for a
 * user and write over the rows of the user U+FFFD.
 */
test('source and state task agree on what has a key', () => {
  for (const id of ['"\\ud800"', '"a\\udc00b"', '"\\ude00\\ud83d"']) {
    const value = Buffer.from(`{"user_id":${id}}`);
    assert.ok('poison' in routingKey(value, 'user_id'));
    assert.match(poisonOf(value) ?? 'accepted', /user_id/);
  }
});

test('a key that the source routes by is the key that is decoded, for any object', () => {
  const value = fc.oneof(fc.string({ unit: 'binary', maxLength: 20 }), fc.jsonValue());
  const object = fc.dictionary(fc.constantFrom('user_id', 'a', 'user\u005fid', 'x'), value);
  let keys = 0;
  fc.assert(
    fc.property(object, (given) => {
      const bytes = Buffer.from(JSON.stringify(given));
      const route = routingKey(bytes, 'user_id');
      const decoded = decode(bytes);
      if ('key' in route) {
        keys++;
        assert.equal((decoded as UserEvent).userId, route.key);
      } else assert.ok('poison' in decoded);
    }),
    { seed: 12, numRuns: 500 },
  );
  assert.ok(keys > 50);
});
