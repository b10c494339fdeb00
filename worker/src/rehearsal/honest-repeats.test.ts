import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Manifest } from '../checkpoint/snapshot.ts';
import { checkRepeats, type Receipt, type StartedAttempt } from './honest-repeats.ts';

const receipt = (offset: number, attempt: number, more: Partial<Receipt> = {}): Receipt => ({
  to: 'webhook',
  id: `id-${offset}`,
  userId: 'u',
  partition: 0,
  offset,
  body: '{}',
  attempt,
  call: `${attempt}/${offset}`,
  stage: null,
  ...more,
});

/** Attempt 1 begins at 0, attempt 2 at `position` with what is named held. */
function attempts(position: number, outbox: string[] = [], parked: string[] = []) {
  const at = (offset: number): Manifest => {
    const split = { index: 0, id: 't-0', sourceId: 't', partition: 0 };
    return { splits: [{ split, offset, clock: -1 }] } as unknown as Manifest;
  };
  return new Map<number, StartedAttempt>([
    [1, { manifest: at(0), parked: new Set(), outbox: new Set() }],
    [2, { manifest: at(position), parked: new Set(parked), outbox: new Set(outbox) }],
  ]);
}

function repeatsOf(receipts: Receipt[], started: Map<number, StartedAttempt>): string[] {
  const found: string[] = [];
  checkRepeats(receipts, started, (kind) => found.push(kind));
  return found;
}

describe('honest repeats (I3)', () => {
  it('are replayed, or held by the checkpoint, or retries of one call', () => {
    const replayed = [receipt(5, 1), receipt(5, 2)];
    assert.deepEqual(repeatsOf(replayed, attempts(5)), ['replayed']);
    const held = [receipt(1, 1), receipt(1, 2), receipt(2, 2)];
    assert.deepEqual(repeatsOf(held, attempts(5, ['0/1'], ['0/2'])), ['from a checkpoint']);
    assert.deepEqual(repeatsOf([receipt(1, 1), receipt(1, 1)], attempts(5)), ['replayed']);
    // A refused record and a match have ids of their own.
    const refused = receipt(1, 1, { to: 'deadLetter', stage: 'state', id: 'other' });
    assert.deepEqual(repeatsOf([receipt(1, 1), refused], attempts(5)), []);
  });

  it('are no others', () => {
    const behind = () => repeatsOf([receipt(1, 1), receipt(1, 2)], attempts(5));
    assert.throws(behind, /attempt 2 sent 0\/1, which is behind its checkpoint/);
    const ids = [receipt(5, 1), receipt(5, 2, { id: 'new' })];
    assert.throws(() => repeatsOf(ids, attempts(5)), /arrived under two ids/);
    const twice = [receipt(5, 1), receipt(5, 1, { call: 'another' })];
    assert.throws(() => repeatsOf(twice, attempts(5)), /was sent twice by one attempt/);
    const shared = [receipt(5, 1), receipt(6, 1, { id: 'id-5', call: '1/5' })];
    assert.throws(() => repeatsOf(shared, attempts(5)), /two records have one id/);
  });
});
