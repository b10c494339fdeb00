/** Which charts a job has, and what each of them says in words. Pure. */
import type { Series } from './api-types.ts';
import { bytes, compact, duration, type Known, percent } from './format.ts';

export interface Line {
  label: string;
  values: (number | null)[];
}

export interface ChartData {
  title: string;
  format: (value: Known) => string;
  at: number[];
  /** Of what happens now and then: the values are joined over the steps without one. */
  sparse: boolean;
  lines: Line[];
}

interface ChartKind {
  title: string;
  format: (value: Known) => string;
  sparse?: boolean;
  lines: readonly (readonly [series: string, label: string])[];
}

const seconds = (value: Known) => duration(typeof value === 'number' ? value * 1000 : value);

const KINDS: readonly ChartKind[] = [
  {
    title: 'Events per second',
    format: compact,
    lines: [
      ['eventsPerSecond', 'processed'],
      ['matchedPerSecond', 'matched'],
      ['deliveredPerSecond', 'delivered'],
    ],
  },
  {
    title: 'Latency, Kafka append to 2xx',
    format: seconds,
    lines: [
      ['latencyP50Seconds', 'p50'],
      ['latencyP99Seconds', 'p99'],
    ],
  },
  { title: 'Records behind', format: compact, lines: [['lagRecords', 'lag']] },
  {
    title: 'Where time goes',
    format: percent,
    lines: [
      ['busyRatio', 'busy'],
      ['backPressuredRatio', 'back-pressured'],
    ],
  },
  {
    title: 'Checkpoint duration',
    format: seconds,
    sparse: true,
    lines: [['checkpointSeconds', 'duration']],
  },
  { title: 'State', format: bytes, lines: [['stateBytes', 'all users']] },
  { title: 'Memory of TaskManagers', format: bytes, lines: [['rssBytes', 'resident']] },
  { title: 'Users found in the cache', format: percent, lines: [['cacheHitRatio', 'hits']] },
];

/** Only those of which there are figures. */
export function chartsOf({ at, series }: Series): ChartData[] {
  return KINDS.flatMap(({ title, format, sparse = false, lines }) => {
    const known = lines.flatMap(([name, label]) => {
      const values = series[name];
      return values?.some((value) => value !== null) ? [{ label, values }] : [];
    });
    return known.length === 0 ? [] : [{ title, format, sparse, at, lines: known }];
  });
}

export function lastKnown(values: readonly (number | null)[]): number | null {
  return values.findLast((value) => value !== null) ?? null;
}

/** The newest value of one series; null where it is not told. */
export function latestOf(series: Series | null, name: string): number | null {
  return lastKnown(series?.series[name] ?? []);
}

/** For who does not see the picture. */
export function chartInWords({ title, format, lines }: ChartData): string {
  const parts = lines.map(({ label, values }) => {
    const known = values.filter((value) => value !== null);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    return `${label} now ${format(lastKnown(values))}, from ${format(low)} to ${format(high)}`;
  });
  return `${title}: ${parts.join('; ')}`;
}
