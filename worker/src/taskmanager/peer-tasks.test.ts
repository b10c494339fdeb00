import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PeerTasks } from './peer-tasks.ts';

const clock = (seq: number) => ({ kind: 'clock', seq, time: 0 }) as const;

test('of a lost task nothing is taken, and its successor is one of a newer attempt', () => {
  const peers = new PeerTasks([3, 3, 3]);
  assert.equal(peers.admits(1, 3), true);
  peers.detach([1]);
  assert.equal(peers.admits(1, 3), false);
  // Late frames of the lost one are dropped, early ones of its successor are kept.
  peers.takes(1, 3, clock(8));
  peers.takes(1, 5, clock(0));
  peers.takes(2, 2, clock(0));
  assert.deepEqual(peers.replace([3, 5, 3]), [{ channel: 1, attempt: 5, frame: clock(0) }]);
  assert.deepEqual(
    [peers.admits(1, 5), peers.admits(1, 3), peers.admits(0, 3)],
    [true, false, true],
  );
  assert.equal(peers.attemptOf(1), 5);
  assert.deepEqual(peers.replace([3, 5, 3]), []);
});
