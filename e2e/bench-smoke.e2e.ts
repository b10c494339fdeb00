/**
 * `npm run bench -- --smoke`: every setting of the benchmark with tiny numbers, so that a change of
 * the product that breaks the harness, or of which the results are wrong, is seen before someone
 * needs a figure. And the single figures that are built on the same harness or on the product's
 * parts. The figures mean nothing here, and nothing is asserted of them.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const BENCH = fileURLToPath(new URL('../bench/run.ts', import.meta.url));
const SETTINGS = ['a', 'b', 'c', 'd', 'm', 'e', 'f', 'g', 'h', 'i', 'r'];
const FIGURE = /^-?[\d,.]+$/;

async function bench(...args: string[]): Promise<{ code: number; output: string; errors: string }> {
  const child = spawn(process.execPath, [BENCH, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, errors, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ]);
  return { code: Number(code), output, errors };
}

/** Cells of the lines that are a table's, its rule apart. */
function tableOf(output: string): { head: string[]; body: string[][] } {
  const rows = output
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map((cells) => cells.slice(1, -1));
  const [head = [], , ...body] = rows;
  return { head, body };
}

/** Names that were printed with a figure. */
function namesOf(output: string): string[] {
  const lines = output.split('\n').map((line) => /^ *(\S.*?) {2,}-?[\d,.]+ /.exec(line)?.[1]);
  return lines.filter((name) => name !== undefined);
}

it('fills the table of all settings, and what each has fired is right', async () => {
  const { code, output, errors } = await bench('--smoke');
  const { head, body } = tableOf(output);
  const shown = body.map((cells) => [cells[0]?.split(':')[0], cells[1], cells.at(-1)]);
  const right = SETTINGS.map((key) => [key, 'TriggerJob', 'right, 1 of 1']);
  assert.deepEqual(shown, right, output + errors);
  const column = (title: string) => body.map((cells) => cells[head.indexOf(title)] ?? '');
  for (const title of ['start-up s', 'fill s', 'RSS MiB']) {
    for (const cell of column(title)) assert.match(cell, FIGURE, title);
  }
  assert.match(column('killed: first record s').at(-1) ?? '', FIGURE);
  assert.equal(code, 0);
});

// Two of them wait for processes to start most of their time.
describe('a single figure', { concurrency: 2 }, () => {
  it('tells the latency of posts, on the way to the right results', async () => {
    const sizes = ['--users', '400', '--events', '2000', '--rate', '2000'];
    const { code, output, errors } = await bench(
      ...['latency', ...sizes, '--seconds', '2', '--interval-ms', '500'],
    );
    assert.equal(code, 0, output + errors);
    const names = namesOf(output);
    for (const name of ['latency p99', 'latency p50', 'latency max', 'posts', 'events']) {
      assert.ok(names.includes(name), output);
    }
  });

  it('tells the latency beside heavy users', async () => {
    const sizes = ['--users', '400', '--heavy-every', '100', '--rate', '2000'];
    const { code, output, errors } = await bench(
      ...['heavy-latency', ...sizes, '--seconds', '2', '--interval-ms', '500'],
    );
    assert.equal(code, 0, output + errors);
    assert.ok(namesOf(output).includes("others' p99 with 16 MB users / without"), output);
  });

  it('tells the cost of an event while histories grow', async () => {
    const sizes = ['--history-users', '40', '--history-events', '4000'];
    const { code, output, errors } = await bench(
      ...['growth', '--part', 'history', ...sizes, '--event-bytes', '130,13000'],
    );
    assert.equal(code, 0, output + errors);
    const rights = output.split('\n').filter((line) => line.endsWith('results right'));
    assert.equal(rights.length, 2, output);
  });

  it('names what each stage costs', async () => {
    const { code, output, errors } = await bench(
      ...['stages', '--users', '1000', '--chunks', '1', '--seconds', '0.001'],
    );
    assert.equal(code, 0, output + errors);
    const { body } = tableOf(output);
    assert.equal(body.length, 12, output);
    for (const cells of body) assert.match(cells.at(-1) ?? '', FIGURE, output);
  });
});
