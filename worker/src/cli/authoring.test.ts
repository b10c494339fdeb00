/** eval, echo, explain, completion and the help, as a user's shell meets them. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { loadPlanFile } from '../plan/plan-file.ts';
import { completionScript } from './completion.ts';
import { buildProgram } from './program.ts';
import { runHere } from './run-for-tests.ts';
import { Terminal } from './terminal.ts';

const SAMPLES = fileURLToPath(new URL('../../../config/samples', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'triggerjob-authoring-'));
after(() => rmSync(dir, { recursive: true }));

describe('triggerjob eval', () => {
  it('says what a filter gave, which clause decided, and what each part gave', async () => {
    const profile = join(dir, 'profile.json');
    writeFileSync(profile, '{"country":"DE"}');
    const script = 'event.triggerable && user.country == "US"';
    const event = ['--event', '{"triggerable":true}', '--profile', `@${profile}`];
    const { code, out } = await runHere('eval', script, ...event, '--trace');
    assert.equal(code, 0);
    assert.equal(
      out,
      `no-match: the filter gave false
decided by user.country == "US" (line 1, column 22), which gave false

event.triggerable && user.country == "US"  = false
├─ event.triggerable  = true
└─ user.country == "US"  = false  <- decided
   └─ user.country  = "DE"
`,
    );
    const json = await runHere('eval', script, ...event, '-o', 'json');
    assert.deepEqual(JSON.parse(json.out).deciding.value, false);
  });

  it('takes the filter of a file or a job, and fails where the filter does', async () => {
    const file = join(dir, 'filter.av');
    writeFileSync(file, 'event.n + 1 > "x"');
    const failed = await runHere('eval', '--file', file, '--event', '{"n":1}');
    assert.equal(failed.code, 1);
    assert.match(failed.out, /^error: cannot compare .*\ndecided by .*, which failed here\n$/);
    const job = ['--job', join(SAMPLES, 'demo.yaml'), '--event', '{"triggerable":true}'];
    const matched = await runHere('eval', ...job, '--profile', '{"country":"US"}');
    assert.match(matched.out, /^match: the filter gave true\n/);
    const filtrex = await runHere(
      'eval',
      'event_n > 1',
      '-l',
      'filtrex',
      '--event',
      '{}',
      '--trace',
    );
    assert.match(filtrex.out, /event_n > 1 {2}= /);
  });

  it('refuses what is no JSON, and more than one filter, by name', async () => {
    const event = await runHere('eval', 'true', '--event', '{a}');
    assert.match(event.err, /--event: .*; a file is written @FILE/);
    const list = await runHere('eval', 'true', '--event', '{}', '--history', '{}');
    assert.match(list.err, /--history: must be a list/);
    const both = await runHere('eval', 'true', '--file', 'x', '--event', '{}');
    assert.match(both.err, /one of SCRIPT, --file and --job/);
  });
});

describe('triggerjob echo', () => {
  for (const name of readdirSync(SAMPLES).filter((file) => /(?<!\.tests)\.yaml$/.test(file))) {
    it(`prints ${name} whole, and what it prints is the same job`, async () => {
      const { code, out } = await runHere('echo', join(SAMPLES, name));
      assert.equal(code, 0);
      const echoed = join(dir, name);
      writeFileSync(echoed, out);
      const site = { stateDir: '/state' };
      const [before, after] = await Promise.all([
        loadPlanFile(join(SAMPLES, name), site),
        loadPlanFile(echoed, site),
      ]);
      assert.deepEqual(after.faults, []);
      assert.deepEqual(after.plan, before.plan);
    });
  }

  it('leaves credentials out', async () => {
    const job = join(dir, 'secret.yaml');
    writeFileSync(
      job,
      `apiVersion: triggerjob.io/v1alpha1
kind: TriggerJob
metadata: { name: secret }
spec:
  source: { kafka: { bootstrapServers: "k:9092", topic: t } }
  filter: { script: "true" }
  action: { webhook: { url: "https://h/x", headers: { X-Api-Key: hunter2, X-Team: blue } } }
`,
    );
    const { out } = await runHere('echo', job, '-o', 'json');
    assert.doesNotMatch(out, /hunter2/);
    const { spec } = JSON.parse(out);
    assert.deepEqual(spec.action.webhook.headers, { 'X-Api-Key': '***', 'X-Team': 'blue' });
  });
});

describe('triggerjob explain', () => {
  it('tells type, default and limits of a field, and the fields of an object', async () => {
    const { out } = await runHere('explain', 'checkpointing.interval');
    assert.match(
      out,
      /^spec\.checkpointing\.interval {2}duration\n {2}Time between two triggers\./,
    );
    assert.match(out, /\n {2}default +60s\n/);
    const block = await runHere('explain', 'spec.source.kafka');
    assert.match(block.out, /\n {2}topic +string, required +/);
    const all = JSON.parse((await runHere('explain', 'spec', '-r', '-o', 'json')).out);
    assert.ok(all.fields.length > 150);
    for (const { path, description } of all.fields) assert.notEqual(description, '', path);
  });

  it('suggests what was meant', async () => {
    const near = await runHere('explain', 'spec.checkpointing.intervall');
    assert.equal(near.code, 1);
    assert.match(near.err, /did you mean spec\.checkpointing\.interval\?/);
    const elsewhere = await runHere('explain', 'profileApi');
    assert.match(elsewhere.err, /did you mean spec\.state\.profileApi\?/);
    assert.match(
      (await runHere('explain', 'spec.keyBy.x')).err,
      /spec\.keyBy is a string, no object/,
    );
  });
});

/** What bash offers for the words; the last one is being typed. */
function completed(...words: string[]): Promise<string[]> {
  const program = buildProgram(new Terminal(process.stdout, process.stderr, {}), { code: 0 });
  const script = join(dir, 'completion.bash');
  writeFileSync(script, completionScript(program, 'bash'));
  const list = words.map((word) => `'${word}'`).join(' ');
  const ask = `source ${script}; COMP_WORDS=(triggerjob ${list}); COMP_CWORD=${words.length}
_triggerjob; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return new Promise((resolve, reject) => {
    execFile('bash', ['-uc', ask], (error, out) => {
      if (error) reject(error);
      else resolve(out.trim().split('\n'));
    });
  });
}

describe('completion', () => {
  it('offers commands, options and values in a real bash', async () => {
    assert.deepEqual(await completed('va'), ['validate']);
    assert.deepEqual(await completed('savepoint', 'st'), ['stop']);
    assert.deepEqual(await completed('savepoint', 'stop', '--dr'), ['--drain']);
    assert.deepEqual(await completed('echo', 'job.yaml', '-o', ''), ['yaml', 'json']);
    assert.deepEqual(await completed('run', '--parallel'), ['']);
    const all = await completed('');
    for (const name of ['run', 'test', 'eval', 'completion']) assert.ok(all.includes(name), name);
  });

  it('escapes what a description may hold', () => {
    const program = new Command('p').description('x');
    program.command('a').description("the job's $HOME `x`");
    assert.match(completionScript(program, 'fish'), /-d 'the job'\\''s \$HOME `x`'/);
    assert.match(completionScript(program, 'zsh'), /'a:the job'\\''s \$HOME `x`'/);
  });
});

describe('the help', () => {
  const commands = (command: Command): Command[] =>
    command.commands.flatMap((child) => [child, ...commands(child)]);

  it('describes every command and every option, with examples', () => {
    const program = buildProgram(new Terminal(process.stdout, process.stderr, {}), { code: 0 });
    for (const command of commands(program)) {
      const name = `${command.parent?.name()} ${command.name()}`;
      assert.notEqual(command.description(), '', name);
      for (const option of command.options) assert.notEqual(option.description, '', option.flags);
      let help = '';
      command.configureOutput({ writeOut: (text) => (help += text) });
      command.outputHelp();
      assert.match(help, /\nExamples?:\n {2}.*triggerjob /, name);
    }
  });

  it('suggests the command or option that was meant, and exits with 2', async () => {
    const command = await runHere('savepont');
    assert.equal(command.code, 2);
    assert.match(command.err, /Did you mean savepoint\?/);
    const option = await runHere('validate', 'x.yaml', '--outptu', 'json');
    assert.equal(option.code, 2);
    assert.match(option.err, /Did you mean --output\?/);
  });
});
