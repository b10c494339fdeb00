/**
 * `npm run bench -- --smoke`: every setting of the benchmark with tiny numbers, so that a change of
 * the product that breaks the harness, or of which the results are wrong, is seen before someone
 * needs a figure. The figures mean nothing here, and nothing is asserted of them.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';

const BENCH = fileURLToPath(new URL('../bench/run.ts', import.meta.url));
const SETTINGS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'r'];

it('fills the table of all settings, and what each has fired is right', async () => {
  const bench = spawn(process.execPath, [BENCH, '--smoke'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, errors, [code]] = await Promise.all([
    text(bench.stdout),
    text(bench.stderr),
    once(bench, 'close'),
  ]);
  const rows = output
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map((cells) => cells.slice(1, -1));
  const [head = [], , ...body] = rows;
  const shown = body.map((cells) => [cells[0]?.split(':')[0], cells[1], cells.at(-1)]);
  const right = SETTINGS.map((key) => [key, 'TriggerJob', 'right, 1 of 1']);
  assert.deepEqual(shown, right, output + errors);
  const column = (title: string) => body.map((cells) => cells[head.indexOf(title)] ?? '');
  const figure = /^[\d,.]+$/;
  for (const title of ['start-up s', 'fill s', 'RSS MiB']) {
    for (const cell of column(title)) assert.match(cell, figure, title);
  }
  assert.match(column('killed: first record s').at(-1) ?? '', figure);
  assert.equal(code, 0);
});
