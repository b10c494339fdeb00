/**
 * `npm run bench` without a name: TriggerJob in all settings, one table; `npm run bench:flink`: the
 * same side by side with Apache Flink, alternating runs, medians, ratios. README.md says how it is
 * measured and lists the options.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { faultsOf, figuresTable, goalsTable } from './comparison.ts';
import { flinkVersions, missingForFlink } from './flink-build.ts';
import { TUNED_VARIANTS } from './flink-variants.ts';
import { markdownTable, withSection } from './markdown.ts';
import { wholeNumber } from './options.ts';
import { machineLines, printStep } from './report.ts';
import { chosenSettings, type Setting, smokeSettings } from './settings.ts';
import { runSettings, type SettingsRun } from './settings-run.ts';

const BENCHMARKS = fileURLToPath(new URL('../BENCHMARKS.md', import.meta.url));
const SMOKE_INTERVAL_MS = 500;
/** A start takes longer than a run, and most of it is no work for both cores. */
const SMOKE_AT_ONCE = 3;

const { values } = parseArgs({
  options: {
    flink: { type: 'boolean', default: false },
    settings: { type: 'string' },
    runs: { type: 'string' },
    users: { type: 'string' },
    events: { type: 'string' },
    full: { type: 'boolean', default: false },
    variants: { type: 'string' },
    'interval-seconds': { type: 'string', default: '10' },
    smoke: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});

/** null: left out. Throws for anything but a whole number of 1 or more. */
function whole(name: 'runs' | 'users' | 'events' | 'interval-seconds'): number | null {
  const text = values[name];
  return text === undefined ? null : wholeNumber(`--${name}`, text);
}

function settings(): Setting[] {
  if (values.smoke) return smokeSettings();
  const sizes = { users: whole('users'), events: whole('events'), full: values.full };
  return chosenSettings(values.settings ?? null, sizes);
}

function variants() {
  const keys = values.variants?.split(',') ?? TUNED_VARIANTS.map(({ key }) => key);
  return keys.map((key) => {
    const found = TUNED_VARIANTS.find((variant) => variant.key === key);
    if (found !== undefined) return found;
    const known = TUNED_VARIANTS.map((variant) => variant.key).join(',');
    throw new Error(`--variants has "${key}": there are ${known}`);
  });
}

/** Throws, for what can't be meant, an Error that says what to write. */
function runOptions(): SettingsRun {
  if (values.smoke && values.write) throw new Error('--smoke measures nothing to --write');
  return {
    settings: settings(),
    runs: whole('runs') ?? (values.flink ? 3 : 1),
    checkpointIntervalMs: values.smoke ? SMOKE_INTERVAL_MS : whole('interval-seconds')! * 1_000,
    variants: values.flink ? variants() : [],
    atOnce: values.smoke ? SMOKE_AT_ONCE : 1,
  };
}

/** What keeps the run from its beginning, a line each. */
async function problems(): Promise<string[]> {
  try {
    runOptions();
  } catch (error) {
    return [(error as Error).message];
  }
  return values.flink ? await missingForFlink() : [];
}

async function main(): Promise<number> {
  const lines = await problems();
  for (const line of lines) console.error(line);
  if (lines.length > 0) return 2;
  const name = values.flink ? 'bench:flink' : 'bench';
  const args = process.argv.slice(2).filter((arg) => arg !== '--flink' && arg !== '--write');
  const command = `npm run ${name}${args.length > 0 ? ` -- ${args.join(' ')}` : ''}`;
  const head = machineLines(`\`${command}\``);
  if (values.flink) head.push(await flinkVersions());
  for (const line of head) printStep(line);
  const rows = await runSettings(runOptions());
  const tables = [figuresTable(rows), ...(values.smoke ? [] : [goalsTable(rows)])];
  const text = tables.map(markdownTable).join('\n\n');
  console.log(`\n${text}`);
  const faults = faultsOf(rows);
  for (const fault of faults) console.error(fault);
  if (values.write) {
    const section = `${head.map((line) => `- ${line}`).join('\n')}\n\n${text}`;
    writeFileSync(BENCHMARKS, withSection(readFileSync(BENCHMARKS, 'utf8'), name, section));
  }
  return faults.length === 0 ? 0 : 1;
}

// What was started ends on 'exit', which a signal alone does not cause.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
process.exit(await main());
