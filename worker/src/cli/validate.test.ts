import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Terminal } from './terminal.ts';
import { validateFile } from './validate.ts';

const VALID = `apiVersion: triggerjob.io/v1alpha1
kind: TriggerJob
metadata: { name: user-events }
spec:
  parallelism: 2
  source:
    datagen: { eventsPerSecond: 100, users: 10 }
  filter:
    script: |
      if (event.triggerable && user.country == "US") { return true; }
      return false;
  action: { debug: {} }
`;

describe('triggerjob validate', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'validate-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const validate = async (text: string, output: 'text' | 'json' = 'text') => {
    const file = join(folder, 'job.yaml');
    writeFileSync(file, text);
    const out: string[] = [];
    const err: string[] = [];
    const stream = (lines: string[]) => ({
      write: (line: string | Uint8Array) => lines.push(String(line).replace(`${folder}/`, '')) > 0,
    });
    const code = await validateFile(new Terminal(stream(out), stream(err), {}), file, output);
    return { code, out: out.join(''), err: err.join('') };
  };

  it('prints what would run', async () => {
    const { code, out, err } = await validate(VALID);
    assert.equal(err, '');
    assert.equal(code, 0);
    assert.match(out, /job {10}\S+\/user-events\n/);
    assert.match(out, /source {7}datagen 100 events\/s, keyed by user_id\n/);
    assert.match(out, /parallelism {2}2 on/);
  });

  it('reports every fault at once, the script with a caret at its place in the file', async () => {
    const faulty = VALID.replace('parallelism: 2', 'parallelism: 0')
      .replace('users: 10', 'usres: 10')
      .replace('return false;', '  return false and;');
    const { code, out, err } = await validate(faulty);
    assert.equal(code, 1);
    assert.equal(out, '');
    const places = err.match(/^job\.yaml:\d+:\d+: spec\.[\w.]+/gm) ?? [];
    assert.deepEqual(places.slice(0, 2), [
      'job.yaml:5:3: spec.parallelism',
      'job.yaml:7:38: spec.source.datagen.usres',
    ]);
    assert.match(places[2] ?? '', /^job\.yaml:11:\d+: spec\.filter\.script$/);
    const [, source = '', caret = ''] = err.split('\n').slice(err.split('\n').findIndex(inScript));
    assert.equal(source.trim(), 'return false and;');
    const column = Number(/^job\.yaml:11:(\d+)/.exec(places[2] ?? '')?.[1]);
    // Two blanks stand before a shown line, six of the file's are the block's indentation.
    assert.equal(caret.indexOf('^') - 2, column - 1 - 6);
    assert.match(err, /\n3 faults\n$/);
  });

  it('speaks JSON', async () => {
    const good = JSON.parse((await validate(VALID, 'json')).out);
    assert.equal(good.valid, true);
    assert.equal(good.plan.name, 'user-events');
    const bad = await validate(VALID.replace('parallelism: 2', 'parallelism: x'), 'json');
    assert.equal(bad.code, 1);
    const [fault] = JSON.parse(bad.out).faults;
    assert.equal(fault.field, 'spec.parallelism');
    assert.equal(fault.line, 5);
  });

  it('reports a file that is not there', async () => {
    const lines: string[] = [];
    const stream = { write: (line: string | Uint8Array) => lines.push(String(line)) > 0 };
    const file = join(folder, 'absent.yaml');
    assert.equal(await validateFile(new Terminal(stream, stream, {}), file, 'text'), 1);
    assert.match(lines.join(''), /absent\.yaml:1:1: .*can't be read/);
  });
});

const inScript = (line: string): boolean => line.includes(': spec.filter.script: ');
