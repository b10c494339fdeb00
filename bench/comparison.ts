/** From the runs of all settings to the tables that are printed and written. Pure. */
import type { RunFigures } from './engine-run.ts';
import { quantile } from './quantile.ts';

/** All runs of one engine in one setting. */
export interface Row {
  key: string;
  title: string;
  engine: string;
  role: 'triggerjob' | 'tuned' | 'one-value';
  runs: RunFigures[];
}

export type Table = readonly (readonly string[])[];

type Name = Exclude<keyof RunFigures, 'wrong' | 'checkpoints'>;

interface Column {
  name: Name;
  title: string;
  digits: number;
}

const COLUMNS: readonly Column[] = [
  { name: 'eventsPerSecond', title: 'events/s', digits: 0 },
  { name: 'eventsPerCpuSecond', title: 'events/CPU-s', digits: 0 },
  { name: 'rssMebibytes', title: 'RSS MiB', digits: 0 },
  { name: 'checkpointP50Ms', title: 'checkpoint p50 ms', digits: 0 },
  { name: 'checkpointP99Ms', title: 'p99 ms', digits: 0 },
  { name: 'checkpointMebibytes', title: 'MiB each', digits: 1 },
  { name: 'pauseP99Ms', title: 'pause p99 ms', digits: 1 },
  { name: 'dipPercent', title: 'dip %', digits: 1 },
  { name: 'startUpSeconds', title: 'start-up s', digits: 1 },
  { name: 'fillSeconds', title: 'fill s', digits: 1 },
  { name: 'firstRecordSeconds', title: 'killed: first record s', digits: 1 },
  { name: 'caughtUpSeconds', title: 'caught up s', digits: 1 },
];

function format(value: number, digits: number): string {
  return value.toLocaleString('en-US', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** Of the runs in which it was measured and nothing was wrong. */
function values(row: Row, name: Name): number[] {
  const right = row.runs.filter(({ wrong }) => wrong === null);
  return right.map((run) => run[name]).filter((value) => !Number.isNaN(value));
}

function median(row: Row, name: Name): number {
  return quantile(values(row, name), 0.5);
}

/** Median and, of several runs, the least and the most. */
function cell(row: Row, { name, digits }: Column): string {
  const all = values(row, name);
  if (all.length === 0) return '-';
  const middle = format(quantile(all, 0.5), digits);
  if (all.length === 1) return middle;
  return `${middle} (${format(Math.min(...all), digits)}-${format(Math.max(...all), digits)})`;
}

function results({ runs }: Row): string {
  const wrong = runs.filter((run) => run.wrong !== null).length;
  if (wrong === 0) return `right, ${runs.length} of ${runs.length}`;
  return `WRONG, ${wrong} of ${runs.length}`;
}

export function figuresTable(rows: readonly Row[]): Table {
  const shown = COLUMNS.filter(({ name }) => rows.some((row) => values(row, name).length > 0));
  const head = ['setting', 'engine', ...shown.map(({ title }) => title), 'results'];
  const body = rows.map((row) => [
    `${row.key}: ${row.title}`,
    row.engine,
    ...shown.map((column) => cell(row, column)),
    results(row),
  ]);
  return [head, ...body];
}

/** What went wrong, a line each. */
export function faultsOf(rows: readonly Row[]): string[] {
  return rows.flatMap(({ key, engine, runs }) =>
    runs.flatMap(({ wrong }) => (wrong === null ? [] : [`${key}, ${engine}: ${wrong}`])),
  );
}

type Goal = { atLeast: number } | { atMost: number };

/** Of the events per CPU-second over those of Flink tuned. */
const CPU_GOALS: Readonly<Record<string, number>> = { a: 2, b: 1.5, c: 1.5, g: 5, i: 5 };
const ONE_VALUE_GOAL = 20;
const RSS_GOAL = 0.6;
const PAUSE_GOAL_MS = 10;
const DIP_GOAL_PERCENT = 10;
const START_UP_GOAL_SECONDS = 2;
const RECOVERY_GOAL = 3;

/** A line per goal and ratio; only those that the rows give. */
export function goalsTable(rows: readonly Row[]): Table {
  const lines = [...new Set(rows.map(({ key }) => key))].flatMap((key) => {
    const ofRole = (role: Row['role']) => rows.find((row) => row.key === key && row.role === role);
    const [ours, tuned, oneValue] = [ofRole('triggerjob'), ofRole('tuned'), ofRole('one-value')];
    if (ours === undefined) return [];
    return [
      ...ratios(key, ours, tuned, oneValue),
      line(key, 'pause p99, ms', median(ours, 'pauseP99Ms'), { atMost: PAUSE_GOAL_MS }),
      line(key, 'dip while a checkpoint runs, %', median(ours, 'dipPercent'), {
        atMost: DIP_GOAL_PERCENT,
      }),
      line(key, 'start-up, s', median(ours, 'startUpSeconds'), { atMost: START_UP_GOAL_SECONDS }),
    ].filter((one) => one !== null);
  });
  return [['setting', 'figure', 'value', 'goal', 'result'], ...lines];
}

function ratios(
  key: string,
  ours: Row,
  tuned: Row | undefined,
  oneValue: Row | undefined,
): (string[] | null)[] {
  const cpu: Name = 'eventsPerCpuSecond';
  const lines: (string[] | null)[] = [];
  const over = (what: string, dividend: Row, divisor: Row, name: Name, goal: Goal | null) =>
    lines.push(line(key, what, median(dividend, name) / median(divisor, name), goal));
  if (tuned !== undefined) {
    const goal = CPU_GOALS[key];
    const recovery: Goal = { atLeast: RECOVERY_GOAL };
    const atLeast = goal === undefined ? null : { atLeast: goal };
    over(`events per CPU-second / ${tuned.engine}`, ours, tuned, cpu, atLeast);
    over(`events/s / ${tuned.engine}`, ours, tuned, 'eventsPerSecond', null);
    over('RSS / its', ours, tuned, 'rssMebibytes', { atMost: RSS_GOAL });
    over('bytes of a checkpoint / its', ours, tuned, 'checkpointMebibytes', { atMost: 1 });
    over('its first record after SIGKILL / ours', tuned, ours, 'firstRecordSeconds', recovery);
    over('its catch-up after SIGKILL / ours', tuned, ours, 'caughtUpSeconds', recovery);
    over('its start-up / ours', tuned, ours, 'startUpSeconds', null);
  }
  if (oneValue !== undefined) {
    const goal = { atLeast: ONE_VALUE_GOAL };
    over(`events per CPU-second / ${oneValue.engine}`, ours, oneValue, cpu, goal);
  }
  return lines;
}

/** null: it was not measured. */
function line(key: string, figure: string, value: number, goal: Goal | null): string[] | null {
  if (Number.isNaN(value)) return null;
  const shown = format(value, 2);
  if (goal === null) return [key, figure, shown, '', ''];
  const least = 'atLeast' in goal;
  const reached = least ? value >= goal.atLeast : value <= goal.atMost;
  const wanted = least ? `>= ${goal.atLeast}` : `<= ${goal.atMost}`;
  return [key, figure, shown, wanted, reached ? 'reached' : 'missed'];
}
