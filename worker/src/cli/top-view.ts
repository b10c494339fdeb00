/** What `triggerjob top` shows, from two answers of /api/v1/details. Pure. */
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';
import { formatAge, formatBytes, formatCount } from './amounts.ts';
import { tableLines } from './table.ts';

export interface Sample {
  /** Monotonic, ms. */
  at: number;
  details: JsonObject;
}

/** Of one TaskManager, or of one subtask. Rates are per second, shares from 0 to 1. */
export interface TopRow {
  name: string;
  subtasks: number;
  eventsPerSecond: number;
  matchedPerSecond: number;
  busy: number;
  backPressured: number;
  /** Records to read; -1 unknown. */
  lag: number;
  users: number;
  stateBytes: number;
  /** null: no lookup since the last look. */
  cacheHits: number | null;
  parked: number;
  outbox: number;
  /** Of the process; null for a subtask. */
  rssBytes: number | null;
  /** Cores. */
  cpu: number;
}

export interface TopView {
  state: string;
  parallelism: number;
  wantedParallelism: number;
  restarts: number;
  lag: number;
  deadLettered: number;
  lastCheckpoint: JsonObject | null;
  failure: string | null;
  total: TopRow;
  rows: TopRow[];
}

export function topView(before: Sample, now: Sample, by: 'taskManager' | 'subtask'): TopView {
  const seconds = Math.max(0.001, (now.at - before.at) / 1_000);
  const known = new Map(listOf(before.details, 'subtasks').map((one) => [one['subtask'], one]));
  const changes = listOf(now.details, 'subtasks').map((one) => {
    const old = known.get(one['subtask']);
    // A new attempt counts from 0 again.
    const same = old !== undefined && old['attempt'] === one['attempt'];
    return { now: one, before: same ? old : {} };
  });
  const { details } = now;
  const rows =
    by === 'subtask'
      ? changes.map((one) => rowOf(String(one.now['subtask']), [one], seconds))
      : perTaskManager(before, now, changes, seconds);
  const number = (name: string) => numberIn(details, name);
  const checkpoint = details['lastCheckpoint'];
  const { failure, state } = details;
  return {
    state: String(state ?? 'UNKNOWN'),
    parallelism: number('parallelism'),
    wantedParallelism: number('wantedParallelism'),
    restarts: number('restarts'),
    lag: number('lag'),
    deadLettered: number('deadLettered'),
    lastCheckpoint: isJsonObject(checkpoint) ? checkpoint : null,
    failure: typeof failure === 'string' ? failure : null,
    total: rowOf('all', changes, seconds),
    rows,
  };
}

interface Change {
  now: JsonObject;
  /** Empty: it was not there before. */
  before: JsonObject;
}

function perTaskManager(
  before: Sample,
  { details }: Sample,
  changes: readonly Change[],
  seconds: number,
): TopRow[] {
  const owners = new Map(
    listOf(details, 'tasks').map(({ subtask, taskManagerId }) => [subtask, taskManagerId]),
  );
  const old = new Map(listOf(before.details, 'taskManagers').map((one) => [one['id'], one]));
  return listOf(details, 'taskManagers').map((one) => {
    const { id } = one;
    const own = changes.filter((change) => owners.get(change.now['subtask']) === id);
    const was = old.get(id);
    const cpu =
      was === undefined || was['pid'] !== one['pid']
        ? 0
        : (numberIn(one, 'cpuSeconds') - numberIn(was, 'cpuSeconds')) / seconds;
    return { ...rowOf(String(id), own, seconds), rssBytes: numberIn(one, 'rssBytes'), cpu };
  });
}

function rowOf(name: string, changes: readonly Change[], seconds: number): TopRow {
  const sum = (field: string) =>
    changes.reduce((total, change) => total + numberIn(change.now, field), 0);
  // What was not there before would count from its start, in one look.
  const known = changes.filter(({ before }) => before['subtask'] !== undefined);
  const grown = (field: string) =>
    known.reduce(
      (total, change) => total + numberIn(change.now, field) - numberIn(change.before, field),
      0,
    );
  const share = (field: string) =>
    known.length === 0
      ? 0
      : Math.min(1, Math.max(0, grown(field) / (known.length * seconds * 1e3)));
  const lookups = grown('cacheHits') + grown('cacheMisses');
  const unknown = changes.some((change) => numberIn(change.now, 'pendingRecords') < 0);
  return {
    name,
    subtasks: changes.length,
    eventsPerSecond: grown('recordsProcessed') / seconds,
    matchedPerSecond: grown('matched') / seconds,
    busy: share('busyMs'),
    backPressured: share('backPressuredMs'),
    lag: unknown ? -1 : sum('pendingRecords'),
    users: sum('users'),
    stateBytes: sum('stateBytes'),
    cacheHits: lookups > 0 ? grown('cacheHits') / lookups : null,
    parked: sum('parked'),
    outbox: sum('outbox'),
    rssBytes: null,
    cpu: grown('cpuSeconds') / seconds,
  };
}

function listOf(details: JsonObject, name: string): JsonObject[] {
  const list = details[name];
  return Array.isArray(list) ? list.filter(isJsonObject) : [];
}

function numberIn(object: JsonObject, name: string): number {
  const value: JsonValue | undefined = object[name];
  return typeof value === 'number' ? value : 0;
}

const HEAD = [
  ...['SUBTASKS', 'EVENTS/S', 'MATCHED/S', 'BUSY', 'BACKPRESSURE', 'LAG', 'USERS', 'STATE'],
  ...['CACHE', 'PARKED', 'OUTBOX', 'CPU', 'RSS'],
];
/** More would not fit on a screen, and a redraw of more than that erases too little. */
const MAX_ROWS = 24;

/** `now`: wall time, ms. The busiest rows come first. */
export function topLines(view: TopView, first: string, now: number): string[] {
  const { total, rows, lastCheckpoint, failure } = view;
  const sorted = rows.toSorted((a, b) => b.busy - a.busy || a.name.localeCompare(b.name));
  const shown = sorted.slice(0, MAX_ROWS);
  const table = [[first, ...HEAD], ...shown.map(cellsOf)];
  if (rows.length > 1) table.push(cellsOf(total));
  const degraded = view.parallelism === view.wantedParallelism ? '' : `/${view.wantedParallelism}`;
  return [
    [
      view.state,
      `${view.parallelism}${degraded} subtasks`,
      `${formatCount(total.eventsPerSecond)} events/s`,
      `${formatCount(total.matchedPerSecond)} matched/s`,
      `lag ${view.lag < 0 ? 'unknown' : formatCount(view.lag)}`,
      `restarts ${view.restarts}`,
      `dead-lettered ${formatCount(view.deadLettered)}`,
    ].join(' | '),
    checkpointLine(lastCheckpoint, now),
    ...(failure === null ? [] : [`last failure: ${failure}`]),
    '',
    ...tableLines(table),
    ...(rows.length > shown.length ? [`... and ${rows.length - shown.length} more`] : []),
  ];
}

function checkpointLine(last: JsonObject | null, now: number): string {
  if (last === null) return 'no checkpoint yet';
  const { id } = last;
  const number = (name: string) => numberIn(last, name);
  return (
    `checkpoint ${String(id)}: ${formatAge(now - number('at'))} ago, ` +
    `${formatBytes(number('bytes'))}, ${formatAge(number('durationMs'))}`
  );
}

function cellsOf(row: TopRow): string[] {
  const percent = (share: number) => `${Math.round(share * 100)}%`;
  return [
    row.name,
    String(row.subtasks),
    formatCount(row.eventsPerSecond),
    formatCount(row.matchedPerSecond),
    percent(row.busy),
    percent(row.backPressured),
    row.lag < 0 ? '-' : formatCount(row.lag),
    formatCount(row.users),
    formatBytes(row.stateBytes),
    row.cacheHits === null ? '-' : percent(row.cacheHits),
    formatCount(row.parked),
    formatCount(row.outbox),
    row.cpu.toFixed(2),
    row.rssBytes === null ? '' : formatBytes(row.rssBytes),
  ];
}
