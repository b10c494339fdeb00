import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { storedFields } from './profile-fields.ts';
import * as rows from './rows.ts';

/** Any well-formed text, astral characters, U+FFFD, NUL and BOM included. */
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.constantFrom('', '\u0000', '\ufeff', '\ufffd', ',', '😀'.repeat(40), '"\\,\n'),
);
const u32 = fc.nat(0xffffffff);

test('a head gives back every field, with any text and number of chunks', () => {
  const head = fc.record(
    {
      lastAccess: fc.oneof(fc.constant(-1), fc.nat(Number.MAX_SAFE_INTEGER)),
      eventCount: fc.nat(Number.MAX_SAFE_INTEGER),
      lastEventName: fc.option(text),
      lastEventAt: fc.option(text),
      firstSeq: u32,
      nextSeq: u32,
      tailSeq: u32,
      truncated: u32,
      fetchedBy: u32,
      profileBytes: u32,
      fields: fc.option(
        fc
          .tuple(
            fc.uint8Array({ minLength: 8, maxLength: 8 }),
            fc.json({ maxDepth: 1 }).filter((text) => Buffer.byteLength(text) < 256),
          )
          .map(([digest, text]) =>
            storedFields(Buffer.concat([digest, Buffer.from(text)]).toString('latin1')),
          ),
      ),
      chunks: fc.array(fc.record({ seq: u32, bytes: u32 }, { noNullPrototype: true })),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(head, (given) => {
      const row = rows.encodeHead(given);
      const { tailAt, ...decoded } = rows.decodeHead(row);
      assert.deepEqual(decoded, given);
      assert.equal(rows.eventCount(row, tailAt), 0);
      assert.equal(row.length, tailAt + rows.eventsHeaderBytes(0));
      assert.equal(rows.headLastAccess(row), given.lastAccess);
    }),
    { seed: 1, numRuns: 300 },
  );
});

test('a head has room for the chunks of the largest user the spec allows', () => {
  // 256 Mi of 4 KiB chunks less the profile; the count is a u16.
  const chunks = Array.from({ length: 65_535 }, (_, seq) => ({ seq, bytes: 4096 }));
  const head = { ...rows.decodeHead(rows.encodeHead(EMPTY)), chunks };
  assert.deepEqual(rows.decodeHead(rows.encodeHead(head)).chunks.at(-1), chunks.at(-1));
});
const EMPTY: rows.Head = {
  lastAccess: -1,
  eventCount: 0,
  lastEventName: null,
  lastEventAt: null,
  firstSeq: 0,
  nextSeq: 0,
  tailSeq: 0,
  truncated: 0,
  fetchedBy: 0,
  profileBytes: 0,
  fields: null,
  chunks: [],
};

test('an empty text and null stay two things', () => {
  const row = rows.encodeHead({ ...EMPTY, lastEventName: '', lastEventAt: null });
  const head = rows.decodeHead(row);
  assert.equal(head.lastEventName, '');
  assert.equal(head.lastEventAt, null);
});

test('a head of another version is refused, never guessed at', () => {
  const row = rows.encodeHead(EMPTY);
  row[0] = 1;
  assert.throws(() => rows.decodeHead(row), /version 1/);
});

function encoded(events: readonly string[]): Buffer {
  const joined = Buffer.from(`?${events.join(',')}`);
  const lengths = events.map((event) => Buffer.byteLength(event));
  return rows.encodeEvents(joined, 1, joined.length - 1, lengths);
}

test('profile and visit come back whatever they hold', () => {
  fc.assert(
    fc.property(text, text, (profile, visit) => {
      const source = Buffer.from(`?${profile}${visit}?`);
      const profileBytes = Buffer.byteLength(profile);
      const row = rows.encodeProfile(source, 1, profileBytes, source.length - 2 - profileBytes);
      const end = 4 + rows.profileBytesOf(row);
      assert.deepEqual([row.toString('utf8', 4, end), row.toString('utf8', end)], [profile, visit]);
    }),
    { seed: 2, numRuns: 300 },
  );
});

test('a run gives back its events: empty ones, commas, any number of bytes per character', () => {
  fc.assert(
    fc.property(fc.array(text, { maxLength: 12 }), fc.nat(20), (events, skip) => {
      const row = encoded(events);
      assert.equal(rows.eventCount(row), events.length);
      assert.deepEqual(rows.splitEvents(row), events);
      // In a slab a row begins anywhere.
      const slab = Buffer.concat([Buffer.alloc(7, '?'), row]);
      assert.deepEqual(rows.splitEvents(slab, 7), events);
      if (skip < events.length) {
        const from = 7 + rows.joinedOffset(slab, skip, 7);
        assert.equal(slab.toString('utf8', from), events.slice(skip).join(','));
      }
    }),
    { seed: 3, numRuns: 500 },
  );
});

test('an event of 5 MB of three-byte characters comes back', () => {
  const events = ['{"a":1}', `"${'€'.repeat(1_700_000)}"`];
  const row = encoded(events);
  assert.ok(row.length > 5_000_000);
  assert.deepEqual(rows.splitEvents(row), events);
});

const keyParts = fc.record(
  {
    keyGroup: fc.nat(32_767),
    userId: fc.oneof(text, fc.constant('u'.repeat(1024))),
    row: fc.constantFrom(rows.HEAD, rows.PROFILE, rows.CHUNK),
    chunk: u32,
  },
  { noNullPrototype: true },
);

test('a key tells its parts', () => {
  fc.assert(
    fc.property(keyParts, (parts) => {
      const { keyGroup, userId, row, chunk } = parts;
      const key = rows.rowKey(rows.userPrefix(keyGroup, userId), row, chunk);
      assert.deepEqual(rows.parseKey(key), parts);
      assert.equal(rows.isHeadKey(key), row === rows.HEAD);
    }),
    { seed: 4, numRuns: 500 },
  );
});

test('no chunk of a user falls among those of another, whatever their ids', () => {
  const ids = fc.uniqueArray(fc.oneof(text, fc.string({ unit: fc.constantFrom('\0', '\u0001') })), {
    minLength: 2,
    maxLength: 12,
  });
  fc.assert(
    fc.property(ids, (userIds) => {
      const all = userIds.flatMap((userId) => {
        const prefix = rows.userPrefix(7, userId);
        const keys = [0, 0xffffffff].map((seq) => rows.rowKey(prefix, rows.CHUNK, seq));
        return keys.map((key) => ({ userId, key }));
      });
      all.sort((a, b) => a.key.compare(b.key));
      for (let i = 0; i < all.length; i += 2) assert.equal(all[i]!.userId, all[i + 1]!.userId);
    }),
    { seed: 5, numRuns: 300 },
  );
});

test('heads before other rows, chunks by their numbers, a group before the next', () => {
  const prefix = rows.userPrefix(1, 'u');
  const keys = [
    rows.rowKey(prefix, rows.HEAD),
    rows.rowKey(rows.userPrefix(1, 'v'), rows.HEAD),
    rows.rowKey(prefix, rows.PROFILE),
    ...[0, 8, 255, 256, 65_536, 0xffffffff].map((seq) => rows.rowKey(prefix, rows.CHUNK, seq)),
  ];
  keys.push(rows.rowKey(rows.userPrefix(2, ''), rows.HEAD));
  assert.deepEqual([...keys].sort(Buffer.compare), keys);
});
