import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Delivery } from './action.ts';
import { openDebug } from './debug.ts';
import { turns } from './test-loopback.ts';

function delivery(body: string): Delivery {
  const at = { topic: 'events', partition: 0, offset: 1, timestamp: -1 };
  return { id: 'id-1', userId: 'u1', ...at, body: Buffer.from(body) };
}

class FullSink {
  lines: string[] = [];
  room: number;
  #onDrain: (() => void)[] = [];

  constructor(room: number) {
    this.room = room;
  }

  write(chunk: Buffer): boolean {
    this.lines.push(chunk.toString());
    this.room -= 1;
    return this.room > 0;
  }

  once(_event: 'drain', listener: () => void): void {
    this.#onDrain.push(listener);
  }

  drain(room: number): void {
    this.room = room;
    for (const listener of this.#onDrain.splice(0)) listener();
  }
}

test('prints one line per event, also when the JSON has line ends between its tokens', async () => {
  const sink = new FullSink(10);
  const debug = openDebug(sink);
  assert.deepEqual(await debug.deliver(delivery('{"event":{"a":"x\\ny"}}')), {
    kind: 'delivered',
    attempts: 1,
  });
  await debug.deliver(delivery('{\r\n"event":{}\n}'));
  assert.deepEqual(sink.lines, [
    'DEBUG EVENT {"event":{"a":"x\\ny"}}\n',
    'DEBUG EVENT {  "event":{} }\n',
  ]);
  await debug.close();
});

test('waits for a slow sink, in order, and writes nothing into a full one', async () => {
  const sink = new FullSink(2);
  const debug = openDebug(sink);
  const all = [1, 2, 3, 4, 5].map((n) => debug.deliver(delivery(String(n))));
  await turns();
  assert.equal(sink.lines.length, 2);
  assert.equal(debug.stats()['inFlight'], 3);
  sink.drain(2);
  await turns();
  assert.equal(sink.lines.length, 4);
  sink.drain(9);
  await Promise.all(all);
  assert.deepEqual(
    sink.lines.map((line) => line.trim().slice(-1)),
    ['1', '2', '3', '4', '5'],
  );
});

test('close ends those who wait for a reader that is gone', async () => {
  const sink = new FullSink(1);
  const debug = openDebug(sink);
  await debug.deliver(delivery('1'));
  const stuck = debug.deliver(delivery('2'));
  await turns();
  await debug.close();
  await assert.rejects(stuck, { code: 'ACTION_CLOSED' });
  await assert.rejects(debug.deliver(delivery('3')), { code: 'ACTION_CLOSED' });
  assert.equal(sink.lines.length, 1);
});
