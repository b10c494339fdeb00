/**
 * `npm run bench -- NAME [--users N] [--events N] [--seconds S] [--action blackhole|webhook|debug]
 * [--profile FOLDER]`: one figure of BENCHMARKS.md. Prints what it finds and never fails for it.
 * Without a NAME: all settings of side-by-side.ts, whose options then follow.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { ActionName } from './job-file.ts';
import { printFigures, printMachine } from './report.ts';
import { SCENARIOS } from './scenarios.ts';

/** Programs of their own: they measure one function, or read what a run left. */
const PROGRAMS: Readonly<Record<string, string>> = {
  filter: program('./filter.ts'),
  'key-scan': program('./key-scan.ts'),
  'source-path': program('./source-path.ts'),
  'slot-path': program('./slot-path.ts'),
  'profile-api': program('./profile-api.ts'),
  'control-plane': program('./control-plane.ts'),
  rocksdb: program('./rocksdb.ts'),
  exchange: program('./exchange.ts'),
  restore: program('./restore.ts'),
  latency: program('./latency.ts'),
  'heavy-latency': program('./heavy-latency.ts'),
  growth: program('./growth.ts'),
  stages: program('./stages.ts'),
  'recovery-1g': program('./recovery.ts'),
  'profile-top': program('./profile-top.ts'),
};

function program(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}

const ACTIONS: readonly ActionName[] = ['blackhole', 'webhook', 'debug'];

async function runProgram(name: string, path: string, args: readonly string[]): Promise<number> {
  printMachine(name);
  return await start(path, args);
}

async function start(path: string, args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [path, ...args], { stdio: 'inherit' });
  const [code] = await once(child, 'exit');
  return Number(code ?? 1);
}

async function main(): Promise<number> {
  const first = process.argv[2];
  if (first === undefined || first.startsWith('--')) {
    return await start(program('./side-by-side.ts'), process.argv.slice(2));
  }
  const own = PROGRAMS[process.argv[2] ?? ''];
  if (own !== undefined) return await runProgram(process.argv[2]!, own, process.argv.slice(3));
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      users: { type: 'string', default: '100000' },
      events: { type: 'string' },
      seconds: { type: 'string' },
      action: { type: 'string', default: 'blackhole' },
      profile: { type: 'string' },
    },
  });
  const [name = ''] = positionals;
  const scenario = SCENARIOS[name];
  const action = ACTIONS.find((known) => known === values.action);
  if (scenario === undefined || action === undefined) {
    const names = [...Object.keys(SCENARIOS), ...Object.keys(PROGRAMS)].join(', ');
    console.error(`NAME is one of ${names}; --action one of ${ACTIONS.join(', ')}`);
    return 2;
  }
  printMachine(name);
  const figures = await scenario({
    users: Number(values.users),
    events: values.events === undefined ? null : Number(values.events),
    seconds: values.seconds === undefined ? null : Number(values.seconds),
    action,
    profileFolder: values.profile,
  });
  printFigures(figures);
  return 0;
}

// What was started ends on 'exit', which a signal alone does not cause.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
process.exit(await main());
