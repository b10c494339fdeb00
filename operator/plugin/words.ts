/** What the plugin says of a TriggerJob: pure, from what `kubectl get -o json` answers. */
import { formatDuration } from '../../worker/src/plan/duration.ts';
import { formatSize } from '../../worker/src/plan/size.ts';
import type { TriggerJobStatus } from '../../worker/src/plan/status-schema.ts';

/** A bare number of a few bytes would be read as anything. */
const amountOf = (bytes = 0): string => (bytes < 1024 ? `${bytes} bytes` : formatSize(bytes));

export interface JobObject {
  metadata: { name: string; namespace?: string; generation?: number };
  spec?: { suspend?: boolean };
  status?: TriggerJobStatus;
}

export interface PodObject {
  metadata: { name: string };
  spec?: { nodeName?: string };
  status?: {
    phase?: string;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
    containerStatuses?: {
      ready: boolean;
      restartCount: number;
      state?: { waiting?: { reason?: string; message?: string } };
      lastState?: { terminated?: { reason?: string; exitCode: number } };
    }[];
  };
}

export interface EventObject {
  type?: string;
  reason?: string;
  message?: string;
  lastTimestamp?: string | null;
  eventTime?: string | null;
  series?: { lastObservedTime?: string };
}

/** Whole units, the two largest at most. */
function ago(time: string | undefined, nowMs: number): string {
  if (time === undefined) return 'never';
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(time)) / 1000));
  if (seconds < 120) return `${seconds}s ago`;
  return `${formatDuration(Math.round(seconds / 60) * 60_000)} ago`;
}

const row = (name: string, value: string | number | undefined): string[] =>
  value === undefined || value === '' ? [] : [`${`${name}:`.padEnd(17)}${value}`];

/** `status`: a line per fact. */
export function statusLines({ metadata, status = {} }: JobObject, nowMs: number): string[] {
  const { lastCheckpoint: checkpoint, savepoint, operation, lastUpgrade, conditions = [] } = status;
  const stale = (status.observedGeneration ?? 0) < (metadata.generation ?? 0);
  return [
    ...row('Name', `${metadata.namespace ?? 'default'}/${metadata.name}`),
    ...row('State', `${status.state ?? 'Pending'}${stale ? ' (of an older spec)' : ''}`),
    ...row('Summary', status.summary),
    ...row('Task managers', status.ready),
    ...row('Parallelism', status.parallelism),
    ...row('Lag', status.lag),
    ...row('Restarts', status.restarts),
    ...row('Run', status.run),
    ...row(
      'Last checkpoint',
      checkpoint &&
        `${checkpoint.id}, ${ago(checkpoint.completedAt, nowMs)}, ` +
          `${amountOf(checkpoint.bytes)}, ${checkpoint.durationMs ?? 0} ms`,
    ),
    ...row('Savepoint', savepoint && savepointWords(savepoint)),
    ...row(
      'Under way',
      operation && `${operation.kind}, ${operation.step}: ${operation.reason ?? ''}`,
    ),
    ...row(
      'Last change',
      lastUpgrade &&
        `${lastUpgrade.kind ?? ''} to generation ${lastUpgrade.generation}` +
          `${lastUpgrade.rolledBack ? `, taken back: ${lastUpgrade.error}` : ''}`,
    ),
    ...row('Error', status.error),
    ...conditions.map(
      ({ type, status: value, reason, message }) =>
        `  ${type}=${value} ${reason}${message ? `: ${message}` : ''}`,
    ),
  ];
}

export function savepointWords(savepoint: NonNullable<TriggerJobStatus['savepoint']>): string {
  const { phase = 'Pending', location, bytes, duration, error } = savepoint;
  if (phase === 'Failed') return `failed: ${error ?? 'no reason given'}`;
  if (phase !== 'Completed') return phase;
  return `${location} (${amountOf(bytes)}${duration ? `, ${duration}` : ''})`;
}

/** What a condition says when all is well; anything else is a reason. */
const WELL: Record<string, string[]> = {
  Ready: ['True'],
  CheckpointHealthy: ['True', 'Unknown'],
  SavepointInProgress: ['True', 'False'],
};

/** `why`: the reasons for which it is not as it should be, then what happened. */
export function whyLines(job: JobObject, pods: PodObject[], events: EventObject[]): string[] {
  const { status = {} } = job;
  const conditions = (status.conditions ?? []).filter(
    ({ type, status: value }) => !(WELL[type] ?? ['False']).includes(value),
  );
  const reasons = [
    ...(status.error ? [status.error] : []),
    ...conditions.map(({ type, reason, message }) => `${type}: ${reason}: ${message ?? ''}`),
    ...pods.flatMap(podTrouble),
  ];
  const past = events.toSorted((a, b) => timeOf(a) - timeOf(b)).slice(-SHOWN_EVENTS);
  return [
    `${job.metadata.name} is ${status.state ?? 'Pending'}. ${status.summary ?? ''}`.trim(),
    ...(reasons.length === 0 ? ['Nothing is wrong with it.'] : reasons.map((one) => `- ${one}`)),
    ...(past.length === 0 ? [] : ['Events:']),
    ...past.map(({ type, reason, message }) => `  ${type} ${reason}: ${message}`),
  ];
}

const SHOWN_EVENTS = 10;

const timeOf = ({ series, lastTimestamp, eventTime }: EventObject): number =>
  Date.parse(series?.lastObservedTime ?? lastTimestamp ?? eventTime ?? '') || 0;

function podTrouble({ metadata, status = {} }: PodObject): string[] {
  const { containerStatuses = [], conditions = [] } = status;
  const unscheduled = conditions.find(
    ({ type, status: value }) => type === 'PodScheduled' && value === 'False',
  );
  const words = containerStatuses.flatMap(({ ready, restartCount, state, lastState }) => {
    if (ready) return [];
    const { reason, message } = state?.waiting ?? {};
    const { terminated } = lastState ?? {};
    const ended = terminated && `last ended ${terminated.reason} (${terminated.exitCode})`;
    const parts = [reason ?? 'not ready', message, ended, `${restartCount} restarts`];
    return parts.filter((part) => part !== undefined).join(', ');
  });
  if (unscheduled) words.unshift(`${unscheduled.reason}: ${unscheduled.message}`);
  return words.map((word) => `pod ${metadata.name}: ${word}`);
}
