import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ChannelSender } from './channel-sender.ts';
import { type DataFrame, type Frame, readRecords, type ValueBytes } from './frame.ts';

const SCRIPT = { version: 'v', text: 't', language: 'aviator' } as const;
const barrier = (checkpointId: number) =>
  ({ kind: 'barrier', checkpointId, triggeredAt: 0, script: SCRIPT }) as const;
const clock = { kind: 'clock', time: 1 } as const;
const splitOf = (index: number) => ({ index, id: 's', sourceId: 's', partition: index });

type Appended = Parameters<ChannelSender['append']>;

const memory = new ArrayBuffer(5000);
const VALUES: ValueBytes = { bytes: Buffer.from(memory), view: new DataView(memory) };

/** Its value is of no concern but for its size. */
function record(offset: number, bytes = 60): Appended {
  return [0, 0, offset, -1, -1, VALUES, 0, bytes];
}

function channel(credit: number, bufferBytes = 200) {
  const frames: Frame[] = [];
  const sender = new ChannelSender({ bufferBytes, credit, send: (frame) => frames.push(frame) });
  const offsets = () =>
    frames.flatMap((frame) =>
      frame.kind === 'data' ? readRecords(frame, splitOf).map(({ offset }) => offset) : [],
    );
  return { sender, frames, offsets };
}

test('a full buffer goes out with the next record, and data waits for credit', () => {
  const { sender, frames, offsets } = channel(1);
  assert.ok(sender.append(...record(0)));
  assert.ok(sender.append(...record(1)));
  assert.deepEqual(frames, [], 'two of 92 bytes fit in 200');
  assert.ok(sender.append(...record(2)));
  assert.equal(sender.credit, 0);
  assert.ok(sender.append(...record(3)));
  assert.equal(sender.append(...record(4)), false);
  assert.equal(sender.append(...record(4)), false, 'asking again changes nothing');
  sender.flush();
  assert.deepEqual(offsets(), [0, 1]);
  sender.grant(null);
  assert.ok(sender.append(...record(4)));
  assert.deepEqual(offsets(), [0, 1, 2, 3]);
});

test('a flush sends a part of a buffer, and nothing when there is nothing', () => {
  const { sender, frames, offsets } = channel(2);
  sender.flush();
  assert.deepEqual(frames, []);
  assert.equal(sender.credit, 2);
  sender.append(...record(0));
  sender.flush();
  assert.deepEqual(offsets(), [0]);
  assert.equal(sender.buffered, 0);
});

test('a barrier goes at once, after all that was appended before it, credit or not', () => {
  const { sender, frames } = channel(0);
  sender.append(...record(0));
  sender.control(barrier(7));
  assert.deepEqual(
    frames.map(({ kind, seq }) => [kind, seq]),
    [
      ['data', 0],
      ['barrier', 1],
    ],
  );
  assert.equal(sender.credit, -1, 'one buffer of overdraft');
  sender.grant(null);
  sender.append(...record(1));
  sender.flush();
  assert.equal(frames.length, 2, 'the grant only paid the overdraft');
});

test('a record larger than a buffer gets one of its own', () => {
  const { sender, frames, offsets } = channel(3);
  sender.append(...record(0));
  assert.ok(sender.append(...record(1, 5000)));
  assert.ok(sender.append(...record(2)));
  sender.flush();
  assert.deepEqual(offsets(), [0, 1, 2]);
  const lengths = frames.map((frame) => (frame as DataFrame).length);
  assert.deepEqual(lengths, [92, 5032, 92]);
});

test('a buffer that came back is filled again; one of another size is not', () => {
  const { sender, frames } = channel(5);
  sender.append(...record(0));
  sender.flush();
  const { bytes } = frames[0] as DataFrame;
  sender.grant(new Uint8Array(77));
  sender.grant(bytes);
  sender.append(...record(1));
  sender.flush();
  assert.equal((frames[1] as DataFrame).bytes, bytes);
});

const step = fc.oneof(
  { weight: 8, arbitrary: fc.constant('append' as const) },
  { weight: 2, arbitrary: fc.constant('flush' as const) },
  { weight: 3, arbitrary: fc.constant('grant' as const) },
  { weight: 1, arbitrary: fc.constant('control' as const) },
);

test('numbers are dense, order is kept, nothing is lost, credit counts frames', () => {
  fc.assert(
    fc.property(fc.array(step, { size: 'max', maxLength: 150 }), (steps) => {
      const { sender, frames, offsets } = channel(2);
      let next = 0;
      let granted = 2;
      for (const one of steps) {
        if (one === 'append') {
          if (sender.append(...record(next))) next++;
        } else if (one === 'flush') sender.flush();
        else if (one === 'control') {
          sender.control(clock);
          assert.equal(sender.buffered, 0);
        } else {
          sender.grant(null);
          granted++;
        }
        const data = frames.filter(({ kind }) => kind === 'data').length;
        assert.equal(sender.credit, granted - data);
      }
      sender.control(barrier(1));
      assert.deepEqual(
        offsets(),
        Array.from({ length: next }, (_, n) => n),
      );
      assert.deepEqual(
        frames.map(({ seq }) => seq),
        frames.map((_, n) => n),
      );
    }),
    { seed: 9, numRuns: 200 },
  );
});

/**
 * P17: the receiver reserves one buffer of overdraft per channel. A source whose other channels run
 * goes on appending here; every clock (each second), barrier and splits frame would push one more
 * buffer into a receiver that is stalled for hours (I7).
 */
test('a channel is overdrawn by one buffer at most, however many control frames pass', () => {
  const { sender, frames } = channel(0);
  let offset = 0;
  for (let second = 0; second < 60; second++) {
    if (sender.append(...record(offset))) offset++;
    sender.control(clock);
  }
  const data = frames.filter(({ kind }) => kind === 'data').length;
  assert.ok(data <= 1, `${data} buffers beyond the credit`);
  assert.ok(sender.credit >= -1);
});

test('P51: what is for a lost receiver goes nowhere, and its successor begins anew', () => {
  const { sender, frames, offsets } = channel(1);
  sender.append(...record(0));
  sender.append(...record(1));
  sender.append(...record(2));
  sender.append(...record(3));
  assert.equal(sender.append(...record(4)), false);
  sender.close();
  frames.length = 0;
  for (let n = 4; n < 50; n++) assert.ok(sender.append(...record(n)), 'no credit is waited for');
  sender.control(barrier(7));
  sender.flush();
  assert.equal(frames.length, 0);
  sender.reopen();
  assert.equal(sender.credit, 1);
  sender.append(...record(50));
  sender.flush();
  assert.deepEqual(offsets(), [50], 'nothing of what was buffered before');
  assert.equal(frames[0]?.seq, 0);
});
