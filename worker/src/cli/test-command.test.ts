import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
const SAMPLES = fileURLToPath(new URL('../../../config/samples', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'triggerjob-test-'));
after(() => rmSync(dir, { recursive: true }));

function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, 'test', ...args], { cwd: dir }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

describe('triggerjob test', () => {
  it("passes the sample's tests", async () => {
    const { code, out, err } = await run(join(SAMPLES, 'demo.yaml'));
    assert.equal(err, '');
    assert.match(out, /^pass only triggerable events of users in the US fire/);
    assert.match(out, /\n6 passed, 0 failed\n$/);
    assert.equal(code, 0);
  });

  it('exits with 1 and shows the difference when a test fails', async () => {
    const tests = join(dir, 'red.tests.yaml');
    writeFileSync(
      tests,
      `job: ${join(SAMPLES, 'demo.yaml')}
tests:
  - name: nobody fires
    events: [{ user_id: u, event_name: click, triggerable: true }]
    expect:
      deliveries: [{ userId: u }]
      state: { u: { visit: { event_count: 2 } } }
`,
    );
    const text = await run(tests);
    assert.equal(text.code, 1);
    assert.match(text.out, /^FAIL nobody fires .*\n {2}.*red\.tests\.yaml:6:\n/);
    assert.match(text.out, /deliveries\[0\]: is missing\n {6}- \{"userId":"u"\}\n/);
    assert.match(text.out, /state\.u\.visit\.event_count\n {6}- 2\n {6}\+ 1\n/);
    const json = await run(tests, '-o', 'json');
    assert.equal(json.code, 1);
    const { ok, failed, files } = JSON.parse(json.out);
    assert.deepEqual([ok, failed, files[0].tests[0].passed], [false, 1, false]);
  });

  it('tells of missing tests, of bad ones, and of a name that selects none', async () => {
    const missing = await run('absent.yaml');
    assert.equal(missing.code, 1);
    assert.match(missing.err, /absent\.tests\.yaml: can't be read: .*; the tests of absent\.yaml/);
    writeFileSync(join(dir, 'bad.tests.yaml'), 'tests:\n  - nme: x\n');
    const bad = await run('bad.tests.yaml');
    assert.equal(bad.code, 1);
    assert.match(bad.err, /^bad\.tests\.yaml:2:10: nme is not known here: did you mean name\?/m);
    const none = await run(join(SAMPLES, 'demo.yaml'), '--name', 'no such test');
    assert.deepEqual([none.code, none.err], [1, '']);
    assert.match(none.out, /no test has such a name/);
  });
});

describe("README's test", () => {
  it('is one of those that the sample has, word for word', () => {
    const root = new URL('../../../', import.meta.url);
    const read = (name: string) => readFileSync(new URL(name, root), 'utf8');
    const shown = /\n {4}profiles: #[\s\S]*?(?=\n\n {4}\$ npx triggerjob test)/.exec(
      read('README.md'),
    );
    assert.ok(shown, 'README shows a test');
    const sample = read('config/samples/demo.tests.yaml');
    for (const line of shown[0].trim().split('\n')) assert.ok(sample.includes(line.trim()), line);
  });
});
