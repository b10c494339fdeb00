import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HandEnv, turns } from '../action/test-loopback.ts';
import { Permits } from './permits.ts';

const never = new AbortController().signal;

test('at most the limit holds; the others follow in order of arrival', async () => {
  const permits = new Permits(new HandEnv(), 2);
  const order: number[] = [];
  for (const n of [1, 2, 3, 4]) void permits.acquire(never).then(() => order.push(n));
  await turns();
  assert.deepEqual(order, [1, 2]);
  assert.equal(permits.waiting, 2);
  permits.release();
  await turns();
  assert.deepEqual(order, [1, 2, 3]);
  permits.release();
  permits.release();
  permits.release();
  await turns();
  assert.deepEqual(order, [1, 2, 3, 4]);
  assert.equal(permits.held, 0);
  assert.throws(() => permits.release(), { code: 'INVARIANT' });
});

test('a waiter leaves on timeout and on abort, and takes no permit with it', async () => {
  const env = new HandEnv();
  const permits = new Permits(env, 1);
  const abort = new AbortController();
  await permits.acquire(never);
  const late = permits.acquire(never, 50);
  const aborted = permits.acquire(abort.signal);
  const patient = permits.acquire(never, 500);
  abort.abort(new Error('stop'));
  await assert.rejects(aborted, /stop/);
  await env.advance(50);
  assert.equal(await late, false);
  permits.release();
  assert.equal(await patient, true);
  assert.equal(env.timers, 0);
  assert.equal(permits.held, 1);
  await assert.rejects(permits.acquire(abort.signal), /stop/);
});

test('several at once: nobody is overtaken; one that goes lets the next in', async () => {
  const env = new HandEnv();
  const permits = new Permits(env, 10);
  const order: string[] = [];
  const take = (name: string, count: number, maxWaitMs?: number) =>
    void permits.acquire(never, maxWaitMs, count).then((had) => order.push(`${name} ${had}`));
  take('a', 6);
  take('many', 8, 50);
  take('few', 4);
  take('last', 7);
  assert.equal(permits.tryAcquire(1), false);
  await turns();
  assert.deepEqual(order, ['a true']);
  await env.advance(50);
  assert.deepEqual(order, ['a true', 'many false', 'few true']);
  permits.release(6);
  assert.equal(permits.held, 4);
  permits.release(4);
  await turns();
  assert.deepEqual(order.slice(3), ['last true']);
  assert.equal(permits.tryAcquire(4), false);
  assert.equal(permits.tryAcquire(3), true);
  permits.release(10);
  assert.equal(permits.held, 0);
});
