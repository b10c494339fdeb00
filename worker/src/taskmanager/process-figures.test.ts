import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { realEnv } from '../runtime/env.ts';
import { diskTraffic, memoryLimit, networkTraffic, ProcessWatch } from './process-figures.ts';

test('/proc is read as it is written', () => {
  const io = 'rchar: 12\nwchar: 9\nsyscr: 1\nread_bytes: 4096\nwrite_bytes: 8192\n';
  assert.deepEqual(diskTraffic(io), { readBytes: 4096, writtenBytes: 8192 });
  const dev = `Inter-|   Receive                       |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets
    lo:  100 2 0 0 0 0 0 0  200 2 0 0 0 0 0 0
  eth0: 300 4 0 0 0 0 0 0 400 5 0 0 0 0 0 0
`;
  assert.deepEqual(networkTraffic(dev), [
    { device: 'lo', receivedBytes: 100, sentBytes: 200 },
    { device: 'eth0', receivedBytes: 300, sentBytes: 400 },
  ]);
});

test('the memory limit is the container’s, else the machine’s', () => {
  assert.equal(memoryLimit(2 ** 30, 2 ** 34), 2 ** 30);
  assert.equal(memoryLimit(0, 2 ** 34), 2 ** 34);
  assert.equal(memoryLimit(2 ** 62, 2 ** 34), 2 ** 34);
});

test('a blocked event loop shows, and what the system says follows a reading', async () => {
  const watch = new ProcessWatch(realEnv, tmpdir());
  try {
    watch.figures();
    await wait(60);
    for (const end = performance.now() + 300; performance.now() < end; );
    await wait(50);
    while (watch.figures().system === null) await wait(10);
    const { eventLoopLagP99Ms, system, cpuSeconds } = watch.figures();
    assert.ok(eventLoopLagP99Ms > 100, `${eventLoopLagP99Ms} ms`);
    assert.ok(system !== null && system.diskBytes > system.diskFreeBytes);
    assert.ok(cpuSeconds > 0.1);
  } finally {
    watch.close();
  }
});
