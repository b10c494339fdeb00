/**
 * The table "Limits" in ARCHITECTURE.md against /metrics of a job that runs. A row whose metric is
 * gone, and a bounded place without a row, are faults.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { metricsOfARunningJob } from '../cli/test-running-job.ts';

const ARCHITECTURE = new URL('../../../ARCHITECTURE.md', import.meta.url);
/** The metrics in the table's last column, without prefix. */
function rowsOf(markdown: string): string[] {
  const section = /^## Limits$(.*?)^## /ms.exec(markdown)?.[1] ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| Place'))
    .flatMap((line) => [...(line.split('|').at(-2) ?? '').matchAll(/`([a-z_]+)`/g)])
    .map((match) => match[1]!);
}

/** What the table lacks of `metrics`, and what it names that is not there. */
function faultsOf(rows: readonly string[], metrics: string): string[] {
  const gauges = new Set([...metrics.matchAll(/^triggerjob_(\w+)\{/gm)].map((match) => match[1]!));
  const bounded = [...gauges].filter((name) => gauges.has(`${name}_limit`));
  return [
    ...rows
      .filter((name) => !gauges.has(name) || !gauges.has(`${name}_limit`))
      .map((name) => `${name} is in the table, not in /metrics with its limit`),
    ...bounded
      .filter((name) => !rows.includes(name))
      .map((name) => `${name} has a limit in /metrics, and no row`),
  ];
}

test('each limit in ARCHITECTURE.md is a metric of a running job, and the reverse', async (t) => {
  const rows = rowsOf(readFileSync(ARCHITECTURE, 'utf8'));
  const metrics = await metricsOfARunningJob(t);
  assert.deepEqual(faultsOf(rows, metrics), []);
  assert.ok(rows.length > 20, `${rows.length} rows were read`);
  // A table that lacks a row, and one that has a row too many, are both found.
  assert.equal(faultsOf(rows.slice(1), metrics).length, 1);
  assert.equal(faultsOf([...rows, 'water_level'], metrics).length, 1);
  assert.match(metrics, /^triggerjob_bound_fill_ratio\{name="parked_bytes",.*\} /m);
});
