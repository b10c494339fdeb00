/**
 * What promtool says: the alert rules parse, each fires when it should and only then, and a running
 * job's metrics keep the rules of naming and types.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { stringify } from 'yaml';
import { metricsOfARunningJob } from '../../worker/src/cli/test-running-job.ts';
import type { Alert } from './monitoring/alert.ts';
import { ALERT_CASES, type AlertCase } from './monitoring/alert-cases.ts';
import { ALERTS, rulesYaml } from './monitoring/files.ts';

let folder: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'triggerjob-alerts-'));
  writeFileSync(join(folder, 'rules.yaml'), rulesYaml());
});
after(() => rmSync(folder, { recursive: true }));

function promtool(args: readonly string[], input = ''): { code: number | null; said: string } {
  const { status, stdout, stderr, error } = spawnSync('promtool', args, {
    encoding: 'utf8',
    input,
  });
  assert.equal(error, undefined, 'apt-get install prometheus');
  return { code: status, said: `${stdout}${stderr}` };
}

const inputs = (series: AlertCase['fires']): object[] =>
  Object.entries(series).map(([name, values]) => ({ series: name, values }));

/** Two tests of one alert, in promtool's format. */
function testsOf(name: string, severity: string, one: AlertCase): object[] {
  const job = one.ofJob === false ? {} : { namespace: 'shop', job_name: 'clicks' };
  const exp_labels = { severity, ...job, ...one.labels };
  const test = (series: AlertCase['fires'], exp_alerts: object[]) => ({
    interval: '1m',
    input_series: inputs(series),
    alert_rule_test: [{ eval_time: one.at, alertname: name, exp_alerts }],
  });
  return [test(one.fires, [{ exp_labels }]), test(one.quiet, [])];
}

/** Each alert in a file with its rule alone: every rule of a file is evaluated at every step. */
function verdict(cases: readonly (readonly [Alert, AlertCase])[]) {
  const files = cases.map(([alert, one], at) => {
    const { name, expr, severity, for: during } = alert;
    // promtool compares texts, too, which say the same as the labels here.
    const rule = { alert: name, expr, for: during, labels: { severity } };
    const rules = `${at}-rules.yaml`;
    writeFileSync(join(folder, rules), stringify({ groups: [{ name: 'one', rules: [rule] }] }));
    const tests = testsOf(name, severity, one);
    const path = join(folder, `${at}-tests.yaml`);
    writeFileSync(path, stringify({ rule_files: [rules], evaluation_interval: '1m', tests }));
    return path;
  });
  return promtool(['test', 'rules', ...files]);
}

const alertOf = (name: string): Alert => {
  const found = ALERTS.find((alert) => alert.name === name);
  assert.ok(found !== undefined);
  return found;
};

describe('the alerts', () => {
  it('parse, texts included', () => {
    const { code, said } = promtool(['check', 'rules', join(folder, 'rules.yaml')]);
    assert.equal(code, 0, said);
    assert.match(said, new RegExp(`${ALERTS.length} rules found`));
  });

  it('all have a case, and a name of their own', () => {
    const names = ALERTS.map(({ name }) => name);
    assert.deepEqual(Object.keys(ALERT_CASES).toSorted(), names.toSorted());
    assert.equal(new Set(names).size, names.length);
    assert.ok(names.length >= 20);
  });

  it('fire on what they are for, and not on what is like it', () => {
    const cases = Object.entries(ALERT_CASES).map(([name, one]) => [alertOf(name), one] as const);
    const { code, said } = verdict(cases);
    assert.equal(code, 0, said);
  });

  it('would be found out if one never fired, or always', () => {
    const one = ALERT_CASES['TriggerJobFailed'];
    assert.ok(one !== undefined);
    const { fires, quiet } = one;
    for (const [wrong, said] of [
      [{ ...one, fires: quiet }, /got:\[\s*\]/],
      [{ ...one, quiet: fires }, /exp:\[\s*\]/],
    ] as const) {
      const found = verdict([[alertOf('TriggerJobFailed'), wrong]]);
      assert.equal(found.code, 1);
      assert.match(found.said, said);
    }
  });
});

describe('the metrics of a running job', () => {
  it('have names, units and types as they should', async () => {
    const ends: (() => unknown)[] = [];
    const all = await metricsOfARunningJob({ after: (end) => ends.push(end) });
    for (const end of ends) await end();
    // Flink's names and those of Node.js are what they are.
    const own = all.split('\n').filter((line) => /^(# (HELP|TYPE) )?triggerjob_/.test(line));
    const { said } = promtool(['check', 'metrics'], `${own.join('\n')}\n`);
    // Older than this check, and in use.
    const faults = said
      .split('\n')
      .filter((line) => !/^$|^triggerjob_checkpoint_summary_/.test(line));
    assert.deepEqual(faults, []);
    const wrong = promtool(['check', 'metrics'], '# TYPE job_Restarts counter\njob_Restarts 1\n');
    assert.match(wrong.said, /counter metrics should have "_total" suffix/);
  });
});
