/** The tables of the settings: medians, spread, ratios, verdicts; their place in a file. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { faultsOf, figuresTable, goalsTable, type Row } from './comparison.ts';
import { NO_FIGURES, type RunFigures } from './engine-run.ts';
import { markdownTable, withSection } from './markdown.ts';

function row(role: Row['role'], runs: Partial<RunFigures>[], key = 'a'): Row {
  const engine = { triggerjob: 'TriggerJob', tuned: 'Flink tuned', 'one-value': 'Flink one-value' };
  const all = runs.map((figures) => ({ ...NO_FIGURES, ...figures }));
  return { key, title: 'cached', engine: engine[role], role, runs: all };
}

const perCpu = (...values: number[]) =>
  values.map((eventsPerCpuSecond) => ({ eventsPerCpuSecond }));

describe('table of settings', () => {
  it('shows the median with the least and the most, and what nobody measured not at all', () => {
    const table = figuresTable([
      row('triggerjob', perCpu(90_000, 110_000, 100_000)),
      row('tuned', perCpu(50_000)),
      row('one-value', []),
    ]);
    assert.deepEqual(table, [
      ['setting', 'engine', 'events/CPU-s', 'results'],
      ['a: cached', 'TriggerJob', '100,000 (90,000-110,000)', 'right, 3 of 3'],
      ['a: cached', 'Flink tuned', '50,000', 'right, 1 of 1'],
      ['a: cached', 'Flink one-value', '-', 'right, 0 of 0'],
    ]);
  });

  it('takes no figure from a run with wrong results, and says what was wrong', () => {
    const wrong = { eventsPerCpuSecond: 1_000_000, wrong: 'an event fired twice' };
    const rows = [row('triggerjob', [wrong, ...perCpu(100_000)])];
    assert.deepEqual(figuresTable(rows)[1]?.slice(2), ['100,000', 'WRONG, 1 of 2']);
    assert.deepEqual(faultsOf(rows), ['a, TriggerJob: an event fired twice']);
  });

  it('compares medians of one setting and says which goals are reached', () => {
    const rows = [
      row('triggerjob', [
        {
          eventsPerCpuSecond: 150_000,
          rssMebibytes: 1_000,
          startUpSeconds: 1,
          pauseP99Ms: 12,
          dipPercent: -1,
        },
      ]),
      row('tuned', [{ eventsPerCpuSecond: 60_000, rssMebibytes: 2_000, startUpSeconds: 9 }]),
      row('one-value', perCpu(15_000)),
      row('triggerjob', [{ firstRecordSeconds: 2, caughtUpSeconds: 2 }], 'r'),
      row('tuned', [{ firstRecordSeconds: 6, caughtUpSeconds: 5 }], 'r'),
    ];
    assert.deepEqual(goalsTable(rows).slice(1), [
      ['a', 'events per CPU-second / Flink tuned', '2.50', '>= 2', 'reached'],
      ['a', 'RSS / its', '0.50', '<= 0.6', 'reached'],
      ['a', 'its start-up / ours', '9.00', '', ''],
      ['a', 'events per CPU-second / Flink one-value', '10.00', '>= 20', 'missed'],
      ['a', 'pause p99, ms', '12.00', '<= 10', 'missed'],
      ['a', 'dip while a checkpoint runs, %', '-1.00', '<= 10', 'reached'],
      ['a', 'start-up, s', '1.00', '<= 2', 'reached'],
      ['r', 'its first record after SIGKILL / ours', '3.00', '>= 3', 'reached'],
      ['r', 'its catch-up after SIGKILL / ours', '2.50', '>= 3', 'missed'],
    ]);
  });

  it('has no ratio where Flink did not run', () => {
    const rows = [row('triggerjob', [{ eventsPerCpuSecond: 1, startUpSeconds: 3 }])];
    assert.deepEqual(goalsTable(rows).slice(1), [['a', 'start-up, s', '3.00', '<= 2', 'missed']]);
  });
});

describe('section of a file', () => {
  it('is appended, then replaced, and leaves all else as it is', () => {
    const once = withSection('# Figures\n\ntext\n', 'bench', 'first');
    assert.equal(once, '# Figures\n\ntext\n\n<!-- bench -->\n\nfirst\n\n<!-- /bench -->\n');
    const twice = withSection(`${once}\nmore\n`, 'bench', 'second $& $1');
    const block = '<!-- bench -->\n\nsecond $& $1\n\n<!-- /bench -->';
    assert.equal(twice, `# Figures\n\ntext\n\n${block}\n\nmore\n`);
    assert.equal(withSection(twice, 'bench:flink', 'x').split('<!-- bench -->').length, 2);
  });

  it('refuses a file with one marker alone', () => {
    assert.throws(() => withSection('<!-- /bench --> <!-- bench -->', 'bench', 'x'), /in order/);
    assert.throws(() => withSection('<!-- bench -->', 'bench', 'x'), /in order/);
  });

  it('shows a table with columns as wide as their widest cell', () => {
    const text = markdownTable([
      ['a', 'figure'],
      ['long', '1'],
    ]);
    assert.equal(text, '| a    | figure |\n| ---- | ------ |\n| long | 1      |');
  });
});
