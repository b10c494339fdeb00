import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Reader, Writer } from '@platformatic/kafka';
import fc from 'fast-check';
import { WireReader, WireWriter } from './kafka-wire.ts';

const bodyOf = (writer: WireWriter): Buffer => writer.framed().subarray(4);

test('what is written is what another encoder writes, at any length', () => {
  const texts = fc.array(fc.string({ maxLength: 300 }), { maxLength: 200 });
  fc.assert(
    fc.property(texts, fc.uuid(), fc.maxSafeInteger(), fc.boolean(), (names, id, long, flag) => {
      const ours = new WireWriter().int8(-1).int16(-2).int32(-3).int64(long).boolean(flag);
      ours.uuid(id).string(id).compactString(id).compactString(null).uuid(null);
      ours.compactArray(names, (name) => ours.compactString(name).noTags()).noTags();
      const theirs = Writer.create().appendInt8(-1).appendInt16(-2).appendInt32(-3);
      theirs.appendInt64(BigInt(long)).appendBoolean(flag);
      theirs.appendUUID(id).appendString(id, false).appendString(id).appendString(null);
      theirs.appendUUID(null).appendArray(names, (w, name) => w.appendString(name));
      theirs.appendTaggedFields();
      assert.deepEqual(bodyOf(ours), theirs.buffer);
      assert.equal(ours.framed().readInt32BE(0), theirs.buffer.length);
    }),
  );
});

test('what is read is what another decoder reads', () => {
  const numbers = fc.tuple(fc.integer({ min: -128, max: 127 }), fc.integer(), fc.maxSafeInteger());
  const texts = fc.array(fc.option(fc.string({ maxLength: 300 })), { maxLength: 200 });
  fc.assert(
    fc.property(numbers, fc.uuid(), texts, ([small, int, long], id, names) => {
      const writer = new WireWriter().int8(small).int32(int).int64(long).int64(long).uuid(id);
      const bytes = bodyOf(writer.compactArray(names, (name) => writer.compactString(name)));
      const ours = new WireReader(bytes);
      const theirs = Reader.from(bytes);
      assert.equal(ours.int8(), theirs.readInt8());
      assert.equal(ours.int32(), theirs.readInt32());
      assert.equal(BigInt(ours.int64()), theirs.readInt64());
      assert.equal(ours.bigint(), theirs.readInt64());
      assert.equal(ours.uuid(), theirs.readUUID());
      assert.deepEqual(
        ours.compactArray(() => ours.compactString()),
        theirs.readArray((r) => r.readNullableString(), true, false),
      );
    }),
  );
});

test('absent arrays and bytes are empty, tagged fields are passed over', () => {
  const absent = new WireReader(Buffer.from([0, 0, 0xff, 0xff, 0xff, 0xff, 9]));
  assert.deepEqual(
    absent.compactArray(() => absent.int8()),
    [],
  );
  assert.equal(absent.compactBytes().length, 0);
  assert.equal(absent.bytes().length, 0);
  assert.equal(absent.int8(), 9);
  const tagged = new WireReader(Buffer.from([2, 0, 1, 7, 5, 2, 7, 7, 9]));
  tagged.skipTags();
  assert.equal(tagged.int8(), 9);
});

test('an answer that ends too early, or whose lengths lead nowhere, is refused', () => {
  const cut = (bytes: number[], read: (reader: WireReader) => unknown) => {
    assert.throws(() => read(new WireReader(Buffer.from(bytes))), RangeError);
  };
  cut([0, 0, 0], (reader) => reader.int32());
  cut([9, 1, 2], (reader) => reader.compactBytes());
  cut([0, 9, 65], (reader) => reader.string());
  cut([0x80, 0x80], (reader) => reader.compactString());
  cut([0xff, 0xff, 0xff, 0xff, 0xff, 1], (reader) => reader.skipTags());
  cut([3, 1], (reader) => reader.compactArray(() => reader.int8()));
});
