import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import type { Frame } from '../exchange/frame.ts';
import type { Channel } from '../exchange/wire.ts';
import { SlotWiring } from './slot-wiring.ts';

function wired(t: TestContext) {
  const out: (Channel & { what: string })[] = [];
  const told = Promise.withResolvers<void>();
  const note = (what: string, channel: Channel) => {
    if (out.push({ what, ...channel }) === 2) told.resolve();
  };
  // Subtasks 0 and 2 of four are here.
  const wiring = new SlotWiring([0, 2], 4, {
    send: (channel, frame) => note(frame.kind, channel),
    credit: (channel) => note('credit', channel),
  });
  t.after(() => {
    wiring.close();
    for (const port of [...wiring.portsOf(0), ...wiring.portsOf(2)]) port?.close();
  });
  return { wiring, out, told: told.promise };
}

const BOTH = { sender: 1, receiver: 1 };
const data = (): Frame => {
  const bytes = new Uint8Array([1, 2, 3]);
  return { kind: 'data', seq: 0, bytes, length: 3, records: 1 };
};

test('two slots of one process are joined directly', async (t) => {
  const { wiring } = wired(t);
  const here = wiring.portsOf(0)[2]!;
  const there = wiring.portsOf(2)[0]!;
  here.postMessage({ type: 'credit', bytes: null, attempts: BOTH });
  assert.deepEqual(await once(there, 'message'), [{ type: 'credit', bytes: null, attempts: BOTH }]);
  assert.equal(wiring.portsOf(0)[0], null);
});

test('what a slot sends to a subtask elsewhere leaves with its channel', async (t) => {
  const { wiring, out, told } = wired(t);
  const clock = { kind: 'clock', seq: 0, time: 1 };
  wiring.portsOf(2)[1]!.postMessage({ type: 'frame', frame: clock, attempts: BOTH });
  wiring.portsOf(0)[3]!.postMessage({ type: 'credit', bytes: new Uint8Array(4), attempts: BOTH });
  await told;
  assert.deepEqual(
    out.toSorted((a, b) => a.what.localeCompare(b.what)),
    [
      { what: 'clock', from: 2, to: 1 },
      // Credit goes against the channel on which the frame came.
      { what: 'credit', from: 3, to: 0 },
    ],
  );
});

test('what comes from elsewhere reaches the slot at its end of the channel', async (t) => {
  const { wiring } = wired(t);
  wiring.deliver({ from: 1, to: 2 }, data(), BOTH);
  const [message] = (await once(wiring.portsOf(2)[1]!, 'message')) as [{ frame: Frame }];
  assert.deepEqual(message.frame, data());
  wiring.granted({ from: 2, to: 3 }, new Uint8Array(8), BOTH);
  const [credit] = (await once(wiring.portsOf(2)[3]!, 'message')) as [{ bytes: Uint8Array }];
  assert.equal(credit.bytes.length, 8);
  wiring.close();
  wiring.deliver({ from: 1, to: 2 }, data(), BOTH);
});

test('a slot that comes later speaks with all others through the main thread', async (t) => {
  const { wiring, out } = wired(t);
  wiring.add(3);
  const own = wiring.portsOf(3);
  t.after(() => {
    for (const port of own) port?.close();
  });
  assert.equal(own[3], null);
  own[0]!.postMessage({ type: 'frame', frame: data(), attempts: BOTH });
  const [message] = (await once(wiring.portsOf(0)[3]!, 'message')) as [{ frame: Frame }];
  assert.deepEqual(message.frame, data());
  // Credit goes back the same way, with its buffer.
  const back = { type: 'credit', bytes: new Uint8Array(5), attempts: BOTH };
  wiring.portsOf(0)[3]!.postMessage(back);
  const [credit] = (await once(own[0]!, 'message')) as [{ bytes: Uint8Array }];
  assert.equal(credit.bytes.length, 5);
  assert.deepEqual(out, []);
});
