import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  checkAsked,
  decideDeployment,
  decideRescale,
  type RunningFacts,
  type WaitingFacts,
  wantedParallelism,
} from './scaling-decision.ts';

const PLAN = { resourceWaitMs: 10_000, stabilizationMs: 1_000, minIntervalMs: 30_000 };

describe('with how many subtasks the job is deployed', () => {
  const cases: [what: string, facts: Partial<WaitingFacts>, now: number, answer: object][] = [
    ['all slots are there', { slots: 4 }, 0, { parallelism: 4 }],
    ['more than are wanted', { slots: 9 }, 0, { parallelism: 4 }],
    ['none is there, however long', { slots: 0, since: null }, 99_999, { waitMs: null }],
    ['some are there, for a moment', { slots: 1, since: 500 }, 4_500, { waitMs: 6_000 }],
    ['some are there, long enough', { slots: 3, since: 500 }, 10_500, { parallelism: 3 }],
    ['one is there, long enough', { slots: 1, since: 0 }, 10_000, { parallelism: 1 }],
    ['as many as before', { slots: 2, before: 2 }, 0, { parallelism: 2 }],
    ['more than before, fewer than wanted', { slots: 3, before: 2 }, 0, { parallelism: 3 }],
    ['fewer than before', { slots: 2, before: 3 }, 0, { waitMs: 10_000 }],
    ['fewer are wanted than before', { slots: 4, wanted: 2, before: 4 }, 0, { parallelism: 2 }],
  ];
  for (const [what, changed, now, answer] of cases) {
    it(what, () => {
      const facts = { wanted: 4, slots: 4, since: 0, before: null, ...changed };
      assert.deepEqual(decideDeployment(PLAN, facts, now), answer);
    });
  }
});

describe('when a running job is rescaled', () => {
  const cases: [what: string, facts: Partial<RunningFacts>, now: number, answer: object][] = [
    ['it runs as wanted', { running: 4 }, 99_999, { waitMs: null }],
    ['no slot has come', { slots: 2 }, 99_999, { waitMs: null }],
    ['all came just now', {}, 100_000, { waitMs: 1_000 }],
    ['all came and stayed', {}, 101_000, { parallelism: 4 }],
    ['one of two missing came', { slots: 3 }, 101_000, { waitMs: 9_000 }],
    ['one of two missing came, the other never', { slots: 3 }, 110_000, { parallelism: 3 }],
    ['soon after the last rescale', { rescaledAt: 90_000 }, 101_000, { waitMs: 19_000 }],
    ['long after the last rescale', { rescaledAt: 71_000 }, 101_000, { parallelism: 4 }],
    ['fewer are asked for', { wanted: 1, askedAt: 5 }, 99_999, { parallelism: 1 }],
    [
      'asked again after a rescale: no thrashing',
      { wanted: 1, askedAt: 99_998, rescaledAt: 99_990 },
      99_999,
      { parallelism: 1 },
    ],
    [
      'asked before the last rescale',
      { askedAt: 89_000, rescaledAt: 90_000 },
      110_000,
      { waitMs: 10_000 },
    ],
    [
      'more are asked for than there are slots: the rest may come',
      { wanted: 8, slots: 4, slotsChangedAt: 0, askedAt: 99_000 },
      100_000,
      { waitMs: 9_000 },
    ],
    // The loss ends the attempt; a rescale would only be in its way.
    ['slots are lost', { running: 4, slots: 2 }, 999_999, { waitMs: null }],
    ['slots are lost, and fewer wanted', { running: 4, slots: 2, wanted: 1 }, 9, { waitMs: null }],
  ];
  for (const [what, changed, now, answer] of cases) {
    it(what, () => {
      const facts: RunningFacts = {
        running: 2,
        wanted: 4,
        slots: 4,
        slotsChangedAt: 100_000,
        askedAt: null,
        rescaledAt: null,
        ...changed,
      };
      assert.deepEqual(decideRescale(PLAN, facts, now), answer);
    });
  }
});

it('the later wish wins: what was asked for, or a spec that was changed since', () => {
  assert.equal(wantedParallelism(null, 4), 4);
  assert.equal(wantedParallelism({ asked: 2, planned: 4 }, 4), 2);
  assert.equal(wantedParallelism({ asked: 2, planned: 4 }, 6), 6);
});

it('refuses by name what can not be', () => {
  const limits = { max: 8, buffers: 6 };
  for (const fits of [1, 6]) checkAsked(fits, limits);
  const red: [number, RegExp][] = [
    [0, /parallelism 0 .* from 1 to spec\.maxParallelism \(8\)/],
    [9, /parallelism 9 .*maxParallelism \(8\)/],
    [1.5, /from 1 to/],
    [Number.NaN, /from 1 to/],
    [7, /network memory has room for the exchange buffers of 6 subtasks/],
  ];
  for (const [asked, message] of red) {
    assert.throws(() => checkAsked(asked, limits), { code: 'PARALLELISM', message });
  }
});
