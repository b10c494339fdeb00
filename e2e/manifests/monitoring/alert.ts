/** What an alert is: the rule, and what who is woken by it needs to know. */

export interface Alert {
  name: string;
  /** critical: wakes somebody. warning: is looked at in the morning. */
  severity: 'critical' | 'warning';
  /** How long it must hold, as Prometheus writes durations. */
  for: string;
  expr: string;
  /** One line, with the labels of the job. */
  summary: string;
  /** With `{{ $value }}` where it says something. */
  description: string;
  /** The runbook: what it means. */
  meaning: string;
  /** Is data lost, or only late? */
  data: string;
  /** What to press. */
  steps: readonly string[];
}

const JOB = 'namespace, job_name';

/** Over everything of one job; a leader that is gone leaves series of its own behind. */
export const sum = (expr: string): string => `sum by (${JOB}) (${expr})`;
export const max = (expr: string): string => `max by (${JOB}) (${expr})`;
export const rate = (name: string, window: string): string => sum(`rate(${name}[${window}])`);
export const grown = (name: string, window: string): string => sum(`increase(${name}[${window}])`);

/** For summaries. */
export const NAME = '{{ $labels.namespace }}/{{ $labels.job_name }}';

export const LATE = 'Nothing is lost, it is late: Kafka holds what is not read yet.';

/** Events per second. */
export const processed = (window: string): string =>
  rate('triggerjob_records_processed_total', window);

/** Neither finished nor failed for good. */
export const ACTIVE = `${max('triggerjob_jobs_active')} == 1`;

/** Of each TaskManager of a job. */
export const OF_TASK_MANAGER = 'by (namespace, job_name, tm_id)';
