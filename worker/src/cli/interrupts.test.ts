import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, it } from 'node:test';
import { realEnv } from '../runtime/env.ts';
import { watchInterrupts } from './interrupts.ts';

describe('Ctrl-C', () => {
  const watched = () => {
    const clock = { now: 0 };
    const signals = new EventEmitter();
    const interrupts = watchInterrupts({ ...realEnv, monotonic: () => clock.now }, signals);
    const seen: string[] = [];
    void interrupts.first.then(() => seen.push('first'));
    void interrupts.second.then(() => seen.push('second'));
    const press = async (at: number, signal = 'SIGINT') => {
      clock.now = at;
      signals.emit(signal);
      await new Promise((done) => setImmediate(done));
      return seen.join(' ');
    };
    return { press, interrupts, signals };
  };

  it('asks first and insists second', async () => {
    const { press } = watched();
    assert.equal(await press(5_000), 'first');
    assert.equal(await press(9_000), 'first second');
  });

  it('takes the copy that npm forwards for the same key press', async () => {
    const { press } = watched();
    await press(5_000);
    assert.equal(await press(5_003), 'first');
    assert.equal(await press(6_500), 'first second');
  });

  it('leaves no listener behind', () => {
    const { interrupts, signals } = watched();
    interrupts.release();
    assert.equal(signals.listenerCount('SIGINT') + signals.listenerCount('SIGTERM'), 0);
  });
});
