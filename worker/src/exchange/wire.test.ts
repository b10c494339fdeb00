import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Frame } from './frame.ts';
import {
  encodeCredit,
  encodeFrame,
  encodeHello,
  encodePing,
  HEADER_BYTES,
  type Hello,
  MAX_HELLO_BYTES,
  type WireMessage,
} from './wire.ts';
import { HelloDecoder, WireDecoder } from './wire-decoder.ts';

const HELLO: Hello = {
  jobId: 'j',
  from: 'tm-1',
  to: 'tm-2',
  attempt: 7,
  secret: 's'.repeat(32),
  refused: null,
};

const plain = { noNullPrototype: true };
const count = fc.nat();
const seq = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const script = fc.record(
  { version: fc.string(), text: fc.string({ unit: 'binary' }), language: fc.constant('aviator') },
  plain,
);
const split = fc.record({ index: count, id: fc.string(), sourceId: fc.string(), partition: count });
const frame = fc.oneof(
  fc.record({ kind: fc.constant('data'), seq, bytes: fc.uint8Array({ maxLength: 300 }) }, plain),
  fc.record({ kind: fc.constant('clock'), seq, time: fc.double({ noNaN: true }) }, plain),
  fc.record(
    { kind: fc.constant('barrier'), seq, checkpointId: count, triggeredAt: count, script },
    plain,
  ),
  fc.record(
    { kind: fc.constant('splits'), seq, splits: fc.array(split), replayUntil: count },
    plain,
  ),
) as fc.Arbitrary<Frame>;
const subtask = fc.nat({ max: 65_535 });
const attempt = fc.nat({ max: 0xffffffff });
const place = {
  channel: fc.record({ from: subtask, to: subtask }, plain),
  attempts: fc.record({ sender: attempt, receiver: attempt }, plain),
};
const message = fc.oneof(
  fc.record({ kind: fc.constant('frame'), ...place, frame }, plain),
  fc.record({ kind: fc.constant('credit'), ...place, credits: fc.integer({ min: 1, max: 64 }) }),
  fc.record({ kind: fc.constant('ping') }, plain),
) as fc.Arbitrary<WireMessage>;

/** Completes what the generator leaves out: the filled part of the buffer is all of it. */
function completed(one: WireMessage): WireMessage {
  if (one.kind !== 'frame' || one.frame.kind !== 'data') return one;
  const { bytes } = one.frame;
  return { ...one, frame: { ...one.frame, length: bytes.length, records: bytes.length % 7 } };
}

function encoded(one: WireMessage): Buffer {
  switch (one.kind) {
    case 'frame':
      return Buffer.concat(encodeFrame(one.channel, one.attempts, one.frame));
    case 'credit':
      return encodeCredit(one.channel, one.attempts, one.credits);
    case 'ping':
      return encodePing();
  }
}

/** All messages of a stream that is cut at `cuts`. */
function decoded(decoder: WireDecoder, stream: Buffer, cuts: readonly number[]): WireMessage[] {
  const seen: WireMessage[] = [];
  let rest = stream;
  for (const cut of [...cuts, rest.length]) {
    seen.push(...decoder.push(rest.subarray(0, cut)));
    rest = rest.subarray(cut);
  }
  return seen;
}

const CODES = new Set(['WIRE_FORMAT', 'WIRE_CHECKSUM']);
const isTyped = (fault: unknown) => CODES.has((fault as { code?: string }).code ?? '');

test('every message comes back whole, however the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 12 }),
      fc.array(fc.integer({ min: 0, max: 90 }), { maxLength: 40 }),
      (some, cuts) => {
        const messages = some.map(completed);
        const stream = Buffer.concat(messages.map(encoded));
        const seen = decoded(new WireDecoder(), stream, cuts);
        // A transfer to a slot takes the whole ArrayBuffer: it must hold nothing else.
        for (const one of seen) {
          if (one.kind !== 'frame' || one.frame.kind !== 'data') continue;
          assert.equal(one.frame.bytes.buffer.byteLength, one.frame.length);
        }
        assert.deepEqual(structuredClone(seen), structuredClone(messages));
      },
    ),
    { seed: 11, numRuns: 400 },
  );
});

test('one flipped bit anywhere is a typed fault, or leaves the message incomplete', () => {
  fc.assert(
    fc.property(message, fc.nat(), (some, at) => {
      const stream = encoded(completed(some));
      const bit = at % (stream.length * 8);
      stream[bit >> 3]! ^= 1 << (bit & 7);
      try {
        assert.deepEqual(new WireDecoder().push(stream), []);
      } catch (fault) {
        assert.ok(isTyped(fault), String(fault));
      }
    }),
    { seed: 13, numRuns: 2_000 },
  );
});

test('random bytes, alone or after a good message, are a typed fault and take no memory', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (bytes, after) => {
      const good = after ? encoded({ kind: 'ping' }) : Buffer.alloc(0);
      const stream = Buffer.concat([good, bytes]);
      const decoder = new WireDecoder();
      try {
        const seen = decoder.push(stream);
        assert.ok(seen.length <= 1, 'a checksum was right by chance');
      } catch (fault) {
        assert.ok(isTyped(fault), String(fault));
      }
      assert.ok(decoder.heldBytes <= HEADER_BYTES + 64 * 1024);
    }),
    { seed: 17, numRuns: 2_000 },
  );
});

test('a header that promises much takes memory only for what arrives (I7)', () => {
  const data = encoded({
    kind: 'frame',
    channel: { from: 1, to: 2 },
    attempts: { sender: 1, receiver: 1 },
    frame: { kind: 'data', seq: 0, bytes: new Uint8Array(10), length: 10, records: 1 },
  });
  data.writeUInt32LE(200 * 1024 * 1024, 0);
  const decoder = new WireDecoder();
  assert.deepEqual(decoder.push(data), []);
  assert.deepEqual(decoder.push(Buffer.alloc(100_000)), []);
  assert.ok(decoder.heldBytes < 300_000, `${decoder.heldBytes} bytes for 100 KB received`);
});

test('what is larger than its kind may be is refused before its first byte', () => {
  const limited = new WireDecoder(1000);
  const header = encodePing();
  header.writeUInt8(1, 4);
  header.writeUInt32LE(1001, 0);
  assert.throws(() => limited.push(header), { code: 'WIRE_FORMAT', message: /1001 bytes/ });
  for (const kind of [2, 3, 4, 5, 6]) {
    header.writeUInt8(kind, 4);
    header.writeUInt32LE(1024 * 1024 + 1, 0);
    assert.throws(() => new WireDecoder().push(header), { code: 'WIRE_FORMAT' });
  }
});

test('a hello in any pieces, and what follows it', () => {
  const stream = Buffer.concat([encodeHello(HELLO), Buffer.from('rest')]);
  for (const cut of [0, 1, 11, 12, 13, 60, stream.length]) {
    const decoder = new HelloDecoder();
    const first = decoder.push(stream.subarray(0, cut));
    const found = first ?? decoder.push(stream.subarray(cut));
    assert.deepEqual(found?.hello, HELLO);
    assert.equal(String(found?.rest), 'rest');
  }
});

test('a stranger is refused by name, whatever it says', () => {
  const other = (change: (bytes: Buffer) => void): Buffer => {
    const bytes = encodeHello(HELLO);
    change(bytes);
    return bytes;
  };
  const refused = (bytes: Buffer, code: string, message: RegExp) =>
    assert.throws(() => new HelloDecoder().push(bytes), { code, message });
  refused(Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'WIRE_FORMAT', /no TaskManager/);
  refused(
    other((bytes) => bytes.writeUInt16LE(9, 4)),
    'WIRE_FORMAT',
    /version 9/,
  );
  refused(
    other((bytes) => bytes.writeUInt16LE(MAX_HELLO_BYTES + 1, 6)),
    'WIRE_FORMAT',
    /1025 bytes/,
  );
  refused(
    other((bytes) => bytes.writeUInt8(0x20, 20)),
    'WIRE_CHECKSUM',
    /hello/,
  );
  const lacking = encodeHello({ jobId: 'j' } as Hello);
  refused(lacking, 'WIRE_FORMAT', /lacks a field/);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const decoder = new HelloDecoder();
      try {
        assert.equal(decoder.push(Buffer.from(bytes)), null);
      } catch (fault) {
        assert.ok(isTyped(fault), String(fault));
      }
    }),
    { seed: 19, numRuns: 1_000 },
  );
});
