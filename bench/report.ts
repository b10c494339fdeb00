/** The one form in which every benchmark prints what it found. Prints, never asserts. */
import { cpus, loadavg, totalmem } from 'node:os';

export interface Figure {
  name: string;
  value: number;
  unit: string;
  /** Left out: a figure for orientation. */
  goal?: { atLeast: number } | { atMost: number };
}

/** What ran, when, on what. */
export function machineLines(benchmark: string): string[] {
  const cores = cpus();
  const memory = `${Math.round(totalmem() / 1024 ** 3)} GiB`;
  const load = loadavg().map((average) => average.toFixed(2));
  return [
    `benchmark ${benchmark}, ${new Date().toISOString().slice(0, 16)}Z, Node ${process.version}`,
    `machine: ${cores.length} x ${cores[0]?.model ?? '?'}, ${memory}, ${process.platform}`,
    `load average before: ${load.join(' ')}`,
  ];
}

export function printMachine(benchmark: string): void {
  for (const line of machineLines(benchmark)) print(line);
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
