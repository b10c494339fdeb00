/** The runner must not lose a failure: each way in which a test file can go wrong is counted. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runSuite, type Suite } from './suite-runner.ts';

const HEADER = "import { describe, it } from 'node:test';\n";
const FILES: Record<string, string> = {
  'good.x.mjs': `${HEADER}describe('s', () => { it('one', () => {}); it('two', () => {}); });`,
  'bad.x.mjs': `${HEADER}describe('s', () => { it('three', () => { throw new Error('no'); }); });`,
  'parent.x.mjs': `${HEADER}it('p', async (t) => { await t.test('c', () => { throw 1; }); });`,
  'load.x.mjs': "throw new Error('cannot load');",
  'empty.x.mjs': '',
  'exits.x.mjs': `${HEADER}it('four', () => process.exit(3));`,
  'skips.x.mjs': `${HEADER}it('five', { skip: 'no broker' }, () => {}); it.skip('six', () => {});`,
  'hangs.y.mjs': `${HEADER}it('seven', () => new Promise((r) => setTimeout(r, 1e6)));`,
};

describe('suite runner', () => {
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'suite-'));
    for (const [name, text] of Object.entries(FILES)) writeFileSync(join(folder, name), text);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  // Inside of a test run, node:test's own run() does nothing unless this is hidden from it.
  const running = async (suite: Partial<Suite>) => {
    const context = process.env['NODE_TEST_CONTEXT'];
    delete process.env['NODE_TEST_CONTEXT'];
    const lines: string[] = [];
    const whole = { name: 'sample', globs: [], concurrency: 2, usualSeconds: 30, ...suite };
    try {
      return { result: await runSuite(whole, folder, (line) => lines.push(line)), lines };
    } finally {
      if (context !== undefined) process.env['NODE_TEST_CONTEXT'] = context;
    }
  };

  it('counts every kind of failure once, and names what is skipped', async () => {
    const { result } = await running({ globs: ['*.x.mjs'] });
    assert.equal(result.passed, 2);
    const failed = result.failed.map((text) => text.split(': ').slice(0, 2).join(': ')).toSorted();
    assert.deepEqual(failed, [
      'bad.x.mjs: three',
      'empty.x.mjs: holds no test',
      'exits.x.mjs: the file itself',
      'load.x.mjs: the file itself',
      'parent.x.mjs: c',
    ]);
    assert.deepEqual(result.skipped, [
      'skips.x.mjs: five: no broker',
      'skips.x.mjs: six: no reason given',
    ]);
  });

  it('ends a suite that is stuck and says what it waited for', async () => {
    const { result, lines } = await running({ globs: ['*.y.mjs'], usualSeconds: 0.2 });
    assert.match(result.failed[0] ?? '', /^sample: stuck, ended by the watchdog after 2 s/);
    assert.ok(lines.includes('  waits for hangs.y.mjs: "seven"'), lines.join('\n'));
  });

  it('fails where a glob matches nothing', async () => {
    const { result } = await running({ globs: ['*.z.mjs'] });
    assert.deepEqual(result.failed, ['sample: no file matches *.z.mjs']);
  });
});
