/**
 * What is generated for Prometheus and Grafana, for config/ and for the chart: dashboards, rules
 * and the runbooks that the rules link to. Pure; render.ts writes it, tests compare.
 */
import { stringify } from 'yaml';
import type { Alert } from './alert.ts';
import { FLEET_DASHBOARD } from './fleet-dashboard.ts';
import { JOB_ALERTS } from './job-alerts.ts';
import { JOB_DASHBOARD } from './job-dashboard.ts';
import { OPERATOR_ALERTS } from './operator-alerts.ts';
import { OPERATOR_DASHBOARD } from './operator-dashboard.ts';
import { type Dashboard, grafanaJson } from './panel.ts';
import { STAGE_ALERTS } from './stage-alerts.ts';

export const DASHBOARDS: Readonly<Record<string, Dashboard>> = {
  job: JOB_DASHBOARD,
  fleet: FLEET_DASHBOARD,
  operator: OPERATOR_DASHBOARD,
};

const GROUPS: readonly [string, readonly Alert[]][] = [
  ['triggerjob-jobs', JOB_ALERTS],
  ['triggerjob-stages', STAGE_ALERTS],
  ['triggerjob-operator', OPERATOR_ALERTS],
];

export const ALERTS: readonly Alert[] = GROUPS.flatMap(([, alerts]) => alerts);

const RUNBOOKS = 'https://github.com/triggerjob/triggerjob/blob/main/config/prometheus/runbooks.md';
const HEADER = '# Generated from e2e/manifests/monitoring: npm run manifests\n';

/** `groups:`, as Prometheus loads it. */
export function rulesYaml(): string {
  return HEADER + stringify({ groups: groups() }, { lineWidth: 0 });
}

function groups(): object[] {
  return GROUPS.map(([name, alerts]) => ({ name, rules: alerts.map(ruleOf) }));
}

function ruleOf({ name, severity, for: during, expr, summary, description }: Alert): object {
  return {
    alert: name,
    expr,
    for: during,
    labels: { severity },
    annotations: { summary, description, runbook_url: `${RUNBOOKS}#${name.toLowerCase()}` },
  };
}

function prometheusRule(): string {
  const rule = {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: 'triggerjob' },
    spec: { groups: groups() },
  };
  return HEADER + stringify(rule, { lineWidth: 0 });
}

function runbooks(): string {
  const parts = ALERTS.map(
    ({ name, severity, summary, meaning, data, steps }) => `## ${name}

${severity === 'critical' ? 'Critical' : 'Warning'}: ${summary.replaceAll('{{ $labels.', '{{')}.

- What it means: ${meaning}
- Data: ${data}
- What to do:
${steps.map((step, at) => `  ${at + 1}. ${step}`).join('\n')}
`,
  );
  return `# Runbooks

Each alert of config/prometheus/rules.yaml: what it means, whether data is lost or only late, what
to press. Generated from e2e/manifests/monitoring: \`npm run manifests\`.

${parts.join('\n')}`;
}

/** Path in the repository -> text. */
export function monitoringFiles(): Map<string, string> {
  const chart = 'charts/triggerjob-operator/files';
  const files = new Map([
    ['config/prometheus/rules.yaml', rulesYaml()],
    ['config/prometheus/prometheusrule.yaml', prometheusRule()],
    ['config/prometheus/runbooks.md', runbooks()],
    [`${chart}/rules.yaml`, rulesYaml()],
  ]);
  for (const [name, dashboard] of Object.entries(DASHBOARDS)) {
    const text = `${JSON.stringify(grafanaJson(dashboard), null, 2)}\n`;
    files.set(`config/grafana/${name}.json`, text);
    files.set(`${chart}/dashboards/${name}.json`, text);
  }
  return files;
}
