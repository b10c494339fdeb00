import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { overdue, readSign, type SignOfLife, type Watched, watch } from './lease.ts';

const LEASE_MS = 10_000;
const ADDRESS = { rpc: 'a:1', rest: 'http://a:2' };

function sign(change: Partial<SignOfLife> = {}): string {
  const base = { leaderEpoch: 3, counter: 0, ...ADDRESS, released: false, end: null };
  return JSON.stringify({ ...base, ...change });
}

/** Looks in turn, each answered at once; the last one's turn. */
function looks(all: { at: number; content: string | null; leaderEpoch?: number }[]) {
  let watched: Watched | null = null;
  let turn = null;
  for (const { at, content, leaderEpoch = 3 } of all) {
    const look = { leaderEpoch, content, askedAt: at, answeredAt: at };
    ({ watched, turn } = watch(watched, look, LEASE_MS));
  }
  return turn;
}

test('a standby claims after a whole lease without a change, by its own clock', () => {
  const content = sign();
  assert.equal(looks([{ at: 5, content }]), null);
  assert.equal(
    looks([
      { at: 5, content },
      { at: 10_004, content },
    ]),
    null,
  );
  assert.deepEqual(
    looks([
      { at: 5, content },
      { at: 10_005, content },
    ]),
    { kind: 'claim', after: 3, followed: false },
  );
  const alive = looks([
    { at: 5, content },
    { at: 9_000, content: sign({ counter: 1 }) },
    { at: 10_005, content: sign({ counter: 1 }) },
  ]);
  assert.equal(alive, null);
});

test('a leader that never showed itself has a lease, too; a new one begins a new lease', () => {
  const silent = [
    { at: 0, content: null },
    { at: 10_000, content: null },
  ];
  assert.deepEqual(looks(silent), { kind: 'claim', after: 3, followed: false });
  const other = { at: 9_999, content: null, leaderEpoch: 4 };
  assert.equal(looks([silent[0]!, other, { ...silent[1]!, leaderEpoch: 4 }]), null);
  assert.deepEqual(looks([silent[0]!, other, { ...other, at: 19_999 }]), {
    kind: 'claim',
    after: 4,
    followed: true,
  });
});

test('what is released, and an empty log, is claimed at once', () => {
  const claim = { kind: 'claim', after: 3, followed: false };
  assert.deepEqual(looks([{ at: 1, content: sign({ released: true }) }]), claim);
  assert.deepEqual(looks([{ at: 1, content: null, leaderEpoch: 0 }]), { ...claim, after: 0 });
});

test('a job that ended while a standby followed it ends the standby; an older end is none', () => {
  const end = { kind: 'finished' } as const;
  const ended = sign({ counter: 1, released: true, end });
  assert.deepEqual(looks([{ at: 1, content: ended }]), {
    kind: 'claim',
    after: 3,
    followed: false,
  });
  const followed = looks([
    { at: 1, content: sign() },
    { at: 2, content: ended },
  ]);
  assert.deepEqual(followed, { kind: 'ended', end });
});

test('a sign is read as a whole or not at all', () => {
  assert.deepEqual(readSign(sign({ end: { kind: 'failed', code: 'C', message: 'm' } })), {
    ...JSON.parse(sign()),
    end: { kind: 'failed', code: 'C', message: 'm' },
  });
  for (const broken of [null, '', '{', '[]', '{"leaderEpoch":3}']) {
    assert.equal(readSign(broken), null);
  }
});

test('nobody succeeds a leader that acts: whatever is slow, it has found itself overdue', () => {
  const renewDeadlineMs = 7_000;
  fc.assert(
    fc.property(
      fc.array(fc.record({ pause: fc.nat(9_000), write: fc.nat(3_000), look: fc.nat(4_000) }), {
        minLength: 1,
        maxLength: 20,
      }),
      (steps) => {
        // Renewals: started, and seen from then on. The leader ends when it finds itself overdue.
        const renewals: { startedAt: number; content: string }[] = [];
        let now = 0;
        let renewedAt = 0;
        let endedAt = Number.POSITIVE_INFINITY;
        for (const [counter, { pause, write }] of steps.entries()) {
          now += pause;
          if (overdue(renewedAt, now, renewDeadlineMs)) {
            endedAt = renewedAt + renewDeadlineMs;
            break;
          }
          renewals.push({ startedAt: now + write, content: sign({ counter }) });
          renewedAt = now;
          now += write;
        }
        if (endedAt === Number.POSITIVE_INFINITY) endedAt = renewedAt + renewDeadlineMs;
        let watched: Watched | null = null;
        let at = 0;
        for (let i = 0; i < 400; i++) {
          const content = renewals.findLast(({ startedAt }) => startedAt <= at)?.content ?? null;
          const answeredAt = at + (steps[i % steps.length]?.look ?? 0);
          const look = { leaderEpoch: 3, content, askedAt: at, answeredAt };
          const seen = watch(watched, look, LEASE_MS);
          watched = seen.watched;
          if (seen.turn !== null) {
            assert.ok(at >= endedAt, `claimed at ${at}, the leader acted until ${endedAt}`);
            return;
          }
          at = answeredAt + 250;
        }
      },
    ),
    { seed: 11, numRuns: 500 },
  );
});
