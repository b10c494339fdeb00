import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BarrierAligner } from './aligner.ts';
import type { DataFrame, Frame } from './frame.ts';
import { InputGate } from './input-gate.ts';

const SCRIPT = { version: 'v', text: 't', language: 'aviator' } as const;
type Kind = 'data' | 'clock' | number;

/** A gate fed by senders that number their frames; a number is a barrier. */
function gateOf(channels: number) {
  const aligner = new BarrierAligner(channels);
  const gate = new InputGate(channels, aligner);
  const seqs = new Array<number>(channels).fill(0);
  const offer = (channel: number, ...kinds: Kind[]) => {
    for (const kind of kinds) gate.offer(channel, frameOf(kind, seqs[channel]!++));
  };
  return { gate, aligner, offer };
}

function frameOf(kind: Kind, seq: number): Frame {
  if (kind === 'data') return { kind, seq, bytes: new Uint8Array(0), length: 0, records: 0 };
  if (kind === 'clock') return { kind, seq, time: seq };
  return { kind: 'barrier', seq, checkpointId: kind, triggeredAt: 0, script: SCRIPT };
}

/** `channel:seq` of what came out, barriers handed to the aligner as the task does. */
function drain(gate: InputGate, aligner: BarrierAligner): string[] {
  const out: string[] = [];
  for (let item = gate.next(); item !== null; item = gate.next()) {
    out.push(`${item.channel}:${item.frame.seq}`);
    if (item.frame.kind === 'barrier') aligner.onBarrier(item.channel, item.frame.checkpointId);
  }
  return out;
}

test('channels are read in turn, each in its order', () => {
  const { gate, aligner, offer } = gateOf(3);
  offer(0, 'data', 'data', 'data');
  offer(2, 'data', 'clock');
  assert.equal(gate.queued, 5);
  assert.deepEqual(drain(gate, aligner), ['0:0', '2:0', '0:1', '2:1', '0:2']);
  assert.equal(gate.queued, 0);
  assert.equal(gate.next(), null);
});

test('a micro-batch takes data in turn, up to its size, controls and blocked channels', () => {
  const { gate, aligner } = gateOf(3);
  const taken = (maxRecords: number) =>
    gate.nextData(maxRecords).map(({ channel, frame }) => `${channel}:${frame.seq}`);
  const data = (channel: number, seq: number, records: number) =>
    gate.offer(channel, { ...(frameOf('data', seq) as DataFrame), records });
  for (let seq = 0; seq < 4; seq++) data(0, seq, 10);
  data(1, 0, 10);
  gate.offer(1, frameOf(7, 1));
  data(1, 2, 10);
  data(2, 0, 10);
  assert.deepEqual(taken(0), []);
  assert.deepEqual(taken(25), ['0:0', '1:0', '2:0']);
  assert.deepEqual(taken(100), ['0:1', '0:2', '0:3'], 'what stands behind the barrier stays');
  assert.equal(gate.queued, 2);
  assert.deepEqual(drain(gate, aligner), ['1:1'], 'the barrier, which blocks its channel');
  assert.deepEqual(taken(100), []);
  aligner.cancel(7);
  assert.deepEqual(taken(100), ['1:2']);
});

test('a lost, repeated or early frame fails the task', () => {
  for (const seq of [0, 2, 7]) {
    const { gate, offer } = gateOf(2);
    offer(1, 'data');
    assert.throws(
      () => gate.offer(1, frameOf('data', seq)),
      (fault: Error) => {
        assert.equal((fault as Error & { code: string }).code, 'CHANNEL_GAP');
        assert.match(fault.message, new RegExp(`channel 1 delivered frame ${seq} instead of 1`));
        return true;
      },
    );
    assert.equal(gate.queued, 1, 'the stray frame was taken in');
    gate.offer(0, frameOf('data', 0));
  }
});

test('a channel waits behind its barrier until the last one came', () => {
  const { gate, aligner, offer } = gateOf(2);
  offer(0, 'data', 5, 'data');
  offer(1, 'data');
  assert.deepEqual(drain(gate, aligner), ['0:0', '1:0', '0:1']);
  assert.equal(gate.queued, 1, 'what follows the barrier is held');
  offer(1, 'data', 5);
  assert.deepEqual(drain(gate, aligner), ['1:1', '1:2', '0:2']);
});

test('without a barrier in a queue a stalled task takes nothing', () => {
  const { gate, offer } = gateOf(2);
  offer(0, 'data', 'data');
  offer(1, 'clock', 'data');
  assert.deepEqual(gate.takeBeforeBarriers(), []);
  assert.equal(gate.queued, 4);
});

/** What a stalled task does in one pump (slot-task.ts). */
function stalledDrain(gate: InputGate, aligner: BarrierAligner): string[] {
  const out: string[] = [];
  for (;;) {
    for (const { channel, frame } of gate.takeBeforeBarriers()) out.push(`${channel}:${frame.seq}`);
    const item = gate.nextControl();
    if (item === null) return out;
    out.push(`${item.channel}:${item.frame.seq}`);
    if (item.frame.kind === 'barrier') aligner.onBarrier(item.channel, item.frame.checkpointId);
  }
}

test('only data that stands before a barrier is taken, per channel in order', () => {
  const { gate, aligner, offer } = gateOf(3);
  offer(0, 'data', 'clock', 'data', 5, 'data');
  offer(1, 'data', 'data');
  offer(2, 5, 'data');
  const out = stalledDrain(gate, aligner);
  assert.deepEqual(out, ['0:0', '0:1', '0:2', '0:3', '2:0']);
  assert.equal(gate.queued, 4, 'channel 1 owes its barrier; its data waits, as it may stay');
  offer(1, 5);
  assert.deepEqual(stalledDrain(gate, aligner), ['1:0', '1:1', '1:2']);
  assert.equal(aligner.pending, null, 'the checkpoint aligned while the task was stalled');
  assert.deepEqual(stalledDrain(gate, aligner), [], 'of the next interval nothing is taken');
});

test('a channel that is blocked gives neither data nor control frames', () => {
  const { gate, aligner, offer } = gateOf(2);
  offer(0, 5, 'clock', 'data', 8);
  assert.deepEqual(stalledDrain(gate, aligner), ['0:0']);
  assert.deepEqual(gate.takeBeforeBarriers(), []);
  assert.equal(gate.nextControl(), null);
});

const kind = fc.oneof(
  { weight: 5, arbitrary: fc.constant('data' as const) },
  { weight: 1, arbitrary: fc.constant('clock' as const) },
  { weight: 1, arbitrary: fc.constant('barrier' as const) },
);
const feed = fc.record({ channel: fc.nat(2), kind, stalled: fc.boolean() });

test('stalled or not, every channel comes out whole and in order, intervals apart', () => {
  fc.assert(
    fc.property(fc.array(feed, { size: 'max', maxLength: 120 }), (feeds) => {
      const { gate, aligner, offer } = gateOf(3);
      const barriers = [0, 0, 0];
      const next = [0, 0, 0];
      const interval = [0, 0, 0];
      const check = (out: readonly string[]) => {
        for (const one of out) {
          const [channel, seq] = one.split(':').map(Number) as [number, number];
          assert.equal(seq, next[channel]!, `channel ${channel} out of order`);
          next[channel]!++;
        }
      };
      for (const { channel, kind: what, stalled } of feeds) {
        // One checkpoint at a time (P7): no barrier two ahead of the slowest channel.
        if (what === 'barrier') {
          if (barriers[channel]! > Math.min(...barriers)) continue;
          offer(channel, ++barriers[channel]!);
        } else offer(channel, what);
        check(stalled ? stalledDrain(gate, aligner) : drain(gate, aligner));
        interval[channel] = barriers[channel]!;
        assert.ok(Math.max(...interval) - Math.min(...interval) <= 1);
      }
      for (let n = 0; n < 3; n++) {
        while (barriers[n]! < Math.max(...barriers)) offer(n, ++barriers[n]!);
      }
      check(drain(gate, aligner));
      assert.equal(gate.queued, 0);
    }),
    { seed: 10, numRuns: 300 },
  );
});

test('a lost sender: its frames are gone, those of its successor are numbered from 0', () => {
  const { gate, aligner, offer } = gateOf(2);
  offer(0, 'data', 3, 'data');
  offer(1, 'data');
  gate.reset(0);
  assert.equal(gate.queued, 1);
  assert.deepEqual(gate.takeBeforeBarriers(), [], 'its barrier is gone, too');
  gate.offer(0, frameOf('clock', 0));
  assert.deepEqual(drain(gate, aligner).sort(), ['0:0', '1:0']);
});
