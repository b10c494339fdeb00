import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { StageCosts, stagesTable } from './stage-costs.ts';

/** Each round takes the next of these, us, of a made-up CPU. */
function costsOf(rounds: readonly number[]): { costs: StageCosts; run: () => number } {
  const left = [...rounds];
  let cpu = 0;
  const costs = new StageCosts('filter', 'event', () => cpu);
  const run = () => {
    cpu += left.shift() ?? Number.NaN;
    return 1_000;
  };
  return { costs, run };
}

describe('cost of a stage', () => {
  it('is that of an item, warm-up left out', async () => {
    const { costs, run } = costsOf([900, 800, 700, 300, 100, 200, 500, 400]);
    for (let i = 0; i < 8; i++) await costs.time(1_000, run);
    assert.deepEqual([costs.bestNs, costs.medianNs], [100, 300]);
  });

  it('is measured until there are rounds and seconds enough', async () => {
    let prepared = 0;
    const { costs, run } = costsOf([1, 1, 1, ...new Array(20).fill(100_000)]);
    await costs.repeat(0.55, 1_000, run, () => prepared++);
    assert.equal(prepared, 3 + 6);
    const few = costsOf([1, 1, 1, ...new Array(20).fill(100_000)]);
    await few.costs.repeat(0.1, 1_000, few.run);
    assert.ok(few.costs.isDone(0.5) && !few.costs.isDone(0.6));
  });

  it('is refused if not all items were handled', async () => {
    const { costs, run } = costsOf([1]);
    await assert.rejects(costs.time(999, run), /filter: handled 1000 of 999/);
  });

  it('adds up to that of an event, by how often each stage is gone through', () => {
    const costs = (name: string, ns: number) => ({ name, per: 'x', bestNs: ns, medianNs: ns });
    const table = stagesTable([
      { costs: costs('filter', 50), perEvent: 1 },
      { costs: costs('body', 10_000), perEvent: 0.04 },
    ]);
    assert.deepEqual(table.at(-1), ['all', '', '', '', '', '450']);
    assert.deepEqual(table[2], ['body', 'x', '10000', '10000', '0.040', '400']);
  });
});
