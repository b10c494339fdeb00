import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SleepWatch } from './sleep-watch.ts';

test('who slept beyond the heartbeat timeout ends, who slept less goes on (P38)', () => {
  let now = 5_000_000;
  const env = {
    now: () => 0,
    monotonic: () => now,
    random: () => 0,
    id: () => '',
    timer: () => ({ cancel: () => undefined }),
  };
  const watch = new SleepWatch(env);
  assert.equal(watch.beat(), null, 'nothing is known of the time before the first heartbeat');
  now += 600_000;
  assert.equal(watch.beat(), null, 'nobody waits for a process that was never deployed to');
  watch.limit(10_000);
  now += 10_000;
  assert.equal(watch.beat(), null);
  now += 10_001;
  assert.equal(watch.beat()?.code, 'PROCESS_FROZEN');
});
