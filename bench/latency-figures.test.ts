import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { byCheckpoint, heavyFigures, latencyFigures, type Post } from './latency-figures.ts';

/** One each 10 ms from 1 s on, the first `late` of them 200 ms late, the others 5 ms. */
function posts(count: number, late = 0): Post[] {
  return Array.from({ length: count }, (_, i) => {
    const appendedAt = 1_000 + i * 10;
    return { appendedAt, answeredAt: appendedAt + (i < late ? 200 : 5), eventId: i };
  });
}

const checkpoint = (triggeredAt: number, durationMs: number) => {
  return { triggeredAt, durationMs, uploadedBytes: 0 };
};
const figures = (found: readonly { name: string; value: number }[]) =>
  Object.fromEntries(found.map(({ name, value }) => [name.trim(), value]));

describe('latency', () => {
  it('is told by quantiles, with a checkpoint under way and without', () => {
    const found = figures(
      latencyFigures(
        {
          posts: posts(1_000, 20),
          window: { from: 1_000, to: 11_000 },
          events: 25_000,
          checkpoints: [checkpoint(900, 1_100), checkpoint(20_000, 10)],
          cpuSeconds: 5,
          benchSeconds: 3,
          busySeconds: 15,
        },
        2_500,
      ),
    );
    assert.equal(found['latency p50'], 5);
    assert.equal(found['latency p99'], 200);
    assert.equal(found['p99 while a checkpoint was under way'], 200);
    assert.equal(found['p99 while none was'], 5);
    assert.deepEqual([found['checkpoints'], found['events']], [1, 2_500]);
    assert.equal(found['CPU of JobManager and TaskManager'], 0.5);
    assert.equal(found['CPU of all else'], 0.7);
  });

  it('belongs to a checkpoint that any part of it fell into', () => {
    const [early, within, late] = [
      { appendedAt: 0, answeredAt: 100, eventId: 1 },
      { appendedAt: 90, answeredAt: 101, eventId: 2 },
      { appendedAt: 150, answeredAt: 160, eventId: 3 },
    ];
    const { during, calm } = byCheckpoint([early, within, late], [checkpoint(100, 50)]);
    assert.deepEqual([during, calm], [[within], [early, late]]);
  });

  it('has no p99 of a handful', () => {
    const window = { from: 0, to: 1_000 };
    const none = { events: 0, checkpoints: [], cpuSeconds: 0, benchSeconds: 0, busySeconds: 0 };
    const found = figures(latencyFigures({ posts: posts(99), window, ...none }, 1));
    assert.ok(Number.isNaN(found['latency p99']));
  });
});

describe('latency beside heavy users', () => {
  it('is that of the others, over theirs without heavy ones', () => {
    const isHeavy = (id: number) => id < 10;
    const without = [{ posts: posts(1_000), isHeavy }];
    const among = [{ posts: posts(1_000, 30), isHeavy }];
    const found = figures(heavyFigures(without, among));
    assert.equal(found["others' p99 with 16 MB users / without"], 40);
    assert.equal(found['posts of 16 MB users'], 10);
    // Only the heavy ones are late.
    const own = [{ posts: posts(1_000, 10), isHeavy }];
    assert.equal(figures(heavyFigures(without, own))["others' p99 with 16 MB users / without"], 1);
  });

  it('takes the median over the rounds', () => {
    const isHeavy = () => false;
    const round = (late: number) => ({ posts: posts(1_000, late), isHeavy });
    const found = figures(heavyFigures([round(0)], [round(0), round(100), round(0)]));
    assert.equal(found["others' p99 with 16 MB users / without"], 1);
  });
});
