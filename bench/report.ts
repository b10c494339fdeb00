/** The one form in which every benchmark prints what it found. Prints, never asserts. */
import { cpus, loadavg, totalmem } from 'node:os';

export interface Figure {
  name: string;
  value: number;
  unit: string;
  /** Left out: a figure for orientation. */
  goal?: { atLeast: number } | { atMost: number };
}

export function printMachine(benchmark: string): void {
  const cores = cpus();
  const memory = `${Math.round(totalmem() / 1024 ** 3)} GiB`;
  print(
    `benchmark ${benchmark}, ${new Date().toISOString().slice(0, 16)}Z, Node ${process.version}`,
  );
  print(`machine: ${cores.length} x ${cores[0]?.model ?? '?'}, ${memory}, ${process.platform}`);
  print(
    `load average before: ${loadavg()
      .map((load) => load.toFixed(2))
      .join(' ')}`,
  );
}

export function printStep(text: string): void {
  print(`  ${text}`);
}

export function printFigures(figures: readonly Figure[]): void {
  const widest = Math.max(...figures.map(({ name }) => name.length));
  for (const figure of figures) {
    const { name, value, unit, goal } = figure;
    const amount = `${rounded(value)} ${unit}`.padEnd(24);
    print(`${name.padEnd(widest)}  ${amount}${goal === undefined ? '' : verdict(value, goal)}`);
  }
}

function verdict(value: number, goal: NonNullable<Figure['goal']>): string {
  const least = 'atLeast' in goal;
  const limit = least ? goal.atLeast : goal.atMost;
  const reached = least ? value >= limit : value <= limit;
  return `goal ${least ? '>=' : '<='} ${rounded(limit)}: ${reached ? 'reached' : 'missed'}`;
}

function rounded(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : 2;
  return value.toLocaleString('en-US', { maximumFractionDigits: digits });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
