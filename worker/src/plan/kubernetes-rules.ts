/** Rules of the fields that only a cluster reads (schema-kubernetes.ts). */
import { type Loose, ms } from './derived.ts';
import type { Faults } from './fault.ts';
import type { RuleInput } from './rules.ts';
import type { CompleteTriggerJob } from './schema.ts';

type PodTemplate = Loose<NonNullable<CompleteTriggerJob['spec']['podTemplate']>>;

/** Labels by which the operator and its Services find pods. */
export const OWN_LABELS =
  '^(triggerjob[.]io/.*|app[.]kubernetes[.]io/(name|instance|component|managed-by))$';
/** Variables that the processes' arguments are made of. */
export const OWN_VARIABLES = '^POD_(NAME|NAMESPACE|IP)$';

export const OWNED = 'is set by the operator: remove it';

/** Where a pod template may stand in a spec. */
export const POD_TEMPLATES = [
  'spec.podTemplate',
  'spec.jobManager.podTemplate',
  'spec.taskManager.podTemplate',
] as const;

export function kubernetesRules(input: RuleInput, faults: Faults): void {
  const { spec } = input;
  const templates = [spec.podTemplate, spec.jobManager?.podTemplate, spec.taskManager?.podTemplate];
  for (const [index, path] of POD_TEMPLATES.entries()) {
    const template = templates[index];
    if (template) podTemplateRules(template, path, faults);
  }
  const { name, annotations } = spec.serviceAccount ?? {};
  if (name !== undefined && annotations !== undefined) {
    const problem = 'have no effect on an account that is there already: remove them, or the name';
    faults.add('spec.serviceAccount.annotations', problem);
  }
  healthTimeoutRule(input, faults);
}

function podTemplateRules(template: PodTemplate, path: string, faults: Faults): void {
  for (const key of Object.keys(template.labels ?? {})) {
    if (new RegExp(OWN_LABELS).test(key)) faults.add(`${path}.labels.${key}`, OWNED);
  }
  for (const [index, { name, value, valueFrom }] of (template.env ?? []).entries()) {
    const at = `${path}.env[${index}]`;
    if (new RegExp(OWN_VARIABLES).test(name)) faults.add(`${at}.name`, OWNED);
    if (value !== undefined && valueFrom !== undefined) {
      faults.add(`${at}.value`, 'stands beside valueFrom: remove one of them');
    }
  }
  for (const [index, taint] of (template.tolerations ?? []).entries()) {
    const at = `${path}.tolerations[${index}]`;
    const exists = taint.operator === 'Exists';
    if (taint.key === undefined && !exists) {
      faults.add(`${at}.key`, 'is missing: only operator Exists goes without one');
    }
    if (exists && (taint.value ?? '') !== '') {
      faults.add(`${at}.value`, 'has no effect with operator Exists: remove it');
    }
    if (taint.tolerationSeconds !== undefined && taint.effect !== 'NoExecute') {
      faults.add(`${at}.tolerationSeconds`, 'has an effect only with effect NoExecute: remove it');
    }
  }
}

/** Without a checkpoint in its time every change would be taken back. */
function healthTimeoutRule({ spec, given }: RuleInput, faults: Faults): void {
  const timeout = given.upgrade?.healthTimeout;
  const interval = spec.checkpointing?.interval;
  if (timeout === undefined || interval === undefined || ms(timeout) > ms(interval)) return;
  const name = faults.nameOf('spec.checkpointing.interval');
  faults.add(
    'spec.upgrade.healthTimeout',
    `is ${timeout}, not above ${name} (${interval}): raise it`,
  );
}
