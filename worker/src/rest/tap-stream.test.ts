import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import type { TapSink } from '../jobmanager/tap-session.ts';
import type { TappedRecord } from '../rpc/inspection.ts';
import { realEnv } from '../runtime/env.ts';
import type { StreamResponse } from './event-stream.ts';
import { streamTap } from './tap-stream.ts';

const RECORD: TappedRecord = {
  ...{ at: 1, stage: 'keyed', userId: 'ann', topic: 't', partition: 0, offset: 1, subtask: 0 },
  ...{ event: `{"pad":"${'x'.repeat(1_000)}"}`, verdict: null, reason: null },
};

/** A client that takes nothing until it is told to. */
class Client extends EventEmitter {
  written: string[] = [];
  writableLength = 0;
  ended = false;
  destroyed = false;
  writeHead(): this {
    return this;
  }
  write(text: string): boolean {
    this.written.push(text);
    this.writableLength += text.length;
    return true;
  }
  end(): this {
    this.ended = true;
    this.emit('close');
    return this;
  }
  /** As one without a socket: nothing is emitted. */
  destroy(): this {
    this.destroyed = true;
    return this;
  }
}

function tapOf() {
  const client = new Client();
  const timers: (() => void)[] = [];
  const env = {
    ...realEnv,
    timer: (_: number, fn: () => void) => {
      timers.push(fn);
      return { cancel: () => void timers.splice(timers.indexOf(fn), 1) };
    },
  };
  const closed = { taps: 0 };
  let sink: TapSink | null = null;
  streamTap(client as unknown as StreamResponse, env, (given) => {
    sink = given;
    return { close: () => void closed.taps++ };
  });
  const beat = () => timers.shift()?.();
  const names = () =>
    client.written.map((text) => /^event: (\w+)|^: (\w+)/.exec(text)?.slice(1).join('') ?? '?');
  return { client, sink: sink! as TapSink, closed, beat, names, timers };
}

test('a client that does not read is told how much it missed, and holds a bounded queue', () => {
  const { client, sink, beat, names, closed, timers } = tapOf();
  for (let n = 0; n < 1_000; n++) sink.record(RECORD);
  const taken = names().filter((name) => name === 'record').length;
  assert.ok(taken > 100 && taken < 300, `${taken}`);
  client.writableLength = 0;
  client.written = [];
  sink.record(RECORD);
  assert.deepEqual(names(), ['skipped', 'record']);
  assert.match(client.written[0]!, new RegExp(`"count":${1_000 - taken}}`));
  client.writableLength = 0;
  beat();
  assert.equal(names().at(-1), 'alive');
  sink.end('limit');
  assert.equal(names().at(-1), 'end');
  assert.deepEqual([client.ended, closed.taps, timers.length], [true, 1, 0]);
});

test('a record is one line of JSON, whatever is in it', () => {
  const { client, sink } = tapOf();
  const deep = '['.repeat(9_000) + ']'.repeat(9_000);
  sink.record({ ...RECORD, event: deep, user: '{"a":1}', visit: 'null', reason: 'no\nway' });
  const [, data] = /^event: record\ndata: (.*)\n\n$/.exec(client.written.at(-1)!)!;
  const { event, ...rest } = JSON.parse(data!) as Record<string, unknown>;
  assert.ok(Array.isArray(event));
  const { event: _, ...place } = RECORD;
  assert.deepEqual(rest, { ...place, user: { a: 1 }, visit: null, reason: 'no\nway' });
});

test('a client that is gone without a word is let go after some heartbeats', () => {
  const { client, sink, beat, closed, timers } = tapOf();
  for (let n = 0; n < 1_000; n++) sink.record(RECORD);
  for (let n = 0; n < 10 && !client.destroyed; n++) beat();
  assert.deepEqual([client.destroyed, closed.taps, timers.length], [true, 1, 0]);
});

test('a tap that is refused has written nothing, and one without a stream is closed', () => {
  const client = new Client();
  const refused = () => {
    throw new Error('too many');
  };
  const response = client as unknown as StreamResponse;
  assert.throws(() => streamTap(response, realEnv, refused), /too many/);
  assert.deepEqual([client.written, client.eventNames()], [[], []]);
  let closed = 0;
  client.writeHead = () => {
    throw new Error('sent already');
  };
  const open = () => ({ close: () => void closed++ });
  assert.throws(() => streamTap(response, realEnv, open), /sent already/);
  assert.equal(closed, 1);
});
