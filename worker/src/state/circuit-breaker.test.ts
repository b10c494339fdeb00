import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HandEnv, turns } from '../action/test-loopback.ts';
import { type BreakerPass, CircuitBreaker } from './circuit-breaker.ts';

const LIMITS = { failuresToOpen: 3, openMs: 100, maxOpenMs: 300 };
const never = new AbortController().signal;

function collecting(breaker: CircuitBreaker, count: number): BreakerPass[] {
  const passes: BreakerPass[] = [];
  for (let n = 0; n < count; n++) void breaker.enter(never).then((pass) => passes.push(pass));
  return passes;
}

async function opened(env: HandEnv, changes: boolean[] = []): Promise<CircuitBreaker> {
  const breaker = new CircuitBreaker(env, LIMITS, (open) => changes.push(open));
  for (let n = 0; n < 3; n++) (await breaker.enter(never)).failed();
  assert.equal(breaker.isOpen, true);
  return breaker;
}

test('opens after failures in a row; a success starts anew, an abandoned one is none', async () => {
  const breaker = new CircuitBreaker(new HandEnv(), LIMITS);
  const enter = () => breaker.enter(never);
  (await enter()).failed();
  (await enter()).failed();
  (await enter()).succeeded();
  (await enter()).failed();
  (await enter()).abandoned();
  (await enter()).failed();
  assert.equal(breaker.isOpen, false);
  (await enter()).failed();
  assert.equal(breaker.isOpen, true);
});

test('while open everyone waits; one probe decides', async () => {
  const env = new HandEnv();
  const changes: boolean[] = [];
  const breaker = await opened(env, changes);
  const passes = collecting(breaker, 4);
  await env.advance(99);
  assert.equal(passes.length, 0);
  await env.advance(1);
  assert.equal(passes.length, 1);
  await env.advance(10_000);
  assert.equal(passes.length, 1);
  passes[0]!.succeeded();
  await turns();
  assert.equal(passes.length, 4);
  assert.deepEqual(changes, [true, false]);
});

test('a failed probe opens it again for twice as long, up to the maximum', async () => {
  const env = new HandEnv();
  const breaker = await opened(env);
  const passes = collecting(breaker, 5);
  for (const [probe, delay] of [100, 200, 300, 300].entries()) {
    await env.advance(delay - 1);
    assert.equal(passes.length, probe);
    await env.advance(1);
    assert.equal(passes.length, probe + 1);
    passes[probe]!.failed();
  }
  breaker.close();
  assert.equal(env.timers, 0);
});

test('an abandoned probe lets the next one probe at once', async () => {
  const env = new HandEnv();
  const breaker = await opened(env);
  const passes = collecting(breaker, 2);
  await env.advance(100);
  passes[0]!.abandoned();
  await turns();
  assert.equal(passes.length, 2);
  passes[1]!.succeeded();
  assert.equal(breaker.isOpen, false);
});

test('an attempt from before the opening changes nothing after it', async () => {
  const env = new HandEnv();
  const breaker = new CircuitBreaker(env, LIMITS);
  const [old, ...rest] = await Promise.all([0, 1, 2, 3].map(() => breaker.enter(never)));
  for (const pass of rest) pass.failed();
  old!.succeeded();
  assert.equal(breaker.isOpen, true);
  await env.advance(100);
  old!.failed();
  (await breaker.enter(never)).succeeded();
  assert.equal(breaker.isOpen, false);
});

test('a waiter leaves when its signal is aborted', async () => {
  const breaker = await opened(new HandEnv());
  const abort = new AbortController();
  const stuck = breaker.enter(abort.signal);
  abort.abort(new Error('closed'));
  await assert.rejects(stuck, /closed/);
});
