/**
 * `triggerjob demo` (`npm run demo`): a sample of config/samples/ run as any TriggerJob is, plus
 * what makes it a demo and no part of the product: a Profile API, a webhook receiver, and a live
 * view.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Document, parseDocument } from 'yaml';
import type { JobPlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { DemoScreen } from './demo-screen.ts';
import { type DemoServices, startDemoServices } from './demo-services.ts';
import { freePort } from './free-port.ts';
import { runLocally, withStateDir } from './local-run.ts';
import { StateDir } from './state-dir.ts';
import type { Terminal } from './terminal.ts';
import { checkFile, faultLines } from './validate.ts';

const SAMPLES = fileURLToPath(new URL('../../../config/samples', import.meta.url));
const LOOPBACK = '127.0.0.1';
const FIRST_PORT = 8090;

export interface DemoOptions {
  env: Env;
  terminal: Terminal;
  /** host:port of a broker; null = the generated stream. */
  kafka: string | null;
  produce: boolean;
  users: number | null;
  rate: number | null;
  /** null = one below .triggerjob/ for each kind of stream. */
  stateDir: string | null;
  restPort: number | null;
  taskManagers: number;
}

/**
 * Another stream is another source identity: its checkpoints must not meet those of the default
 * one.
 */
export function demoStateDir(options: DemoOptions): string {
  if (options.stateDir !== null) return options.stateDir;
  const { kafka, users, rate } = options;
  if (kafka !== null) return `.triggerjob/demo-kafka-${kafka.replaceAll(/[^\w.-]/g, '-')}`;
  const size = [users === null ? '' : `-${users}-users`, rate === null ? '' : `-${rate}-per-s`];
  return `.triggerjob/demo${size.join('')}`;
}

interface DemoPorts {
  profile: number;
  webhook: number;
}

/** Changes the sample in memory to what the options and the free ports ask for. */
export function adaptSample(
  document: Document,
  options: Pick<DemoOptions, 'kafka' | 'users' | 'rate'>,
  ports: DemoPorts,
  sampleFolder: string,
): void {
  const { kafka, users, rate } = options;
  document.setIn(['spec', 'state', 'profileApi', 'url'], `http://${LOOPBACK}:${ports.profile}`);
  const hook = ['spec', 'action', 'webhook', 'url'];
  const path = new URL(String(document.getIn(hook))).pathname;
  document.setIn(hook, `http://${LOOPBACK}:${ports.webhook}${path}`);
  if (kafka !== null) document.setIn(['spec', 'source', 'kafka', 'bootstrapServers'], kafka);
  else {
    const datagen = ['spec', 'source', 'datagen'];
    if (users !== null) document.setIn([...datagen, 'users'], users);
    if (rate !== null) document.setIn([...datagen, 'eventsPerSecond'], rate);
  }
  // The adapted file lies elsewhere, a relative path in it would lead elsewhere too.
  const script = ['spec', 'filter', 'scriptFile'];
  const scriptFile = document.getIn(script);
  if (typeof scriptFile === 'string') document.setIn(script, resolve(sampleFolder, scriptFile));
}

async function preparePlan(
  options: DemoOptions,
  dir: StateDir,
  ports: DemoPorts,
): Promise<{ planFile: string; plan: JobPlan }> {
  const sample = join(SAMPLES, options.kafka === null ? 'demo.yaml' : 'demo-kafka.yaml');
  const document = parseDocument(readFileSync(sample, 'utf8'));
  adaptSample(document, options, ports, dirname(sample));
  const planFile = dir.file('demo.yaml');
  writeFileSync(planFile, document.toString());
  const { plan, faults } = await checkFile(planFile, dir.root);
  if (plan !== null) return { planFile, plan };
  throw new TriggerJobError('DEMO_SAMPLE', faultLines(faults).join('\n'));
}

function introduce(
  terminal: Terminal,
  options: DemoOptions,
  plan: JobPlan,
  ports: DemoPorts,
): void {
  const { source, filter } = plan;
  const stream =
    source.kind === 'datagen'
      ? `a generated stream (${source.eventsPerSecond} events/s of ${source.users} users)`
      : `topic user-tracking-events at ${options.kafka}`;
  terminal.print(
    [
      terminal.paint('bold', 'TriggerJob demo'),
      `  ${stream}`,
      `  -> state of each user in RocksDB, filled from the Profile API`,
      `  -> filter: ${filter.script.trim().split('\n').join(' ')}`,
      `  -> one webhook per match; a checkpoint every ${plan.checkpointing.intervalMs / 1_000} s`,
      `Part of the demo only: the Profile API (port ${ports.profile}) and the webhook receiver ` +
        `(port ${ports.webhook}).`,
      'Ctrl-C takes a final checkpoint; the next start resumes from it.',
      '',
    ].join('\n'),
  );
}

export async function runDemo(options: DemoOptions): Promise<number> {
  if (options.produce && options.kafka === null) {
    throw new TriggerJobError('USAGE', '--produce needs --kafka HOST:PORT');
  }
  const startedAt = options.env.monotonic();
  const dir = new StateDir(demoStateDir(options));
  return withStateDir(dir, options.env, () => runInDir(options, dir, startedAt));
}

async function runInDir(options: DemoOptions, dir: StateDir, startedAt: number): Promise<number> {
  const { env, terminal, restPort, taskManagers } = options;
  const profile = await freePort(FIRST_PORT, LOOPBACK);
  const ports = { profile, webhook: await freePort(profile + 1, LOOPBACK) };
  const { planFile, plan } = await preparePlan(options, dir, ports);
  introduce(terminal, options, plan, ports);
  const producing = new AbortController();
  const services = await startDemoServices(ports.profile, ports.webhook);
  try {
    await startStream(options, plan, producing.signal);
    const screen = new DemoScreen(env, terminal, services.receiver, startedAt);
    const storeUrl = dir.storeUrl;
    return await runLocally(
      { env, terminal, planFile, plan, dir, storeUrl, from: null, restPort, taskManagers },
      screen,
    );
  } finally {
    producing.abort();
    reportDeliveries(terminal, services);
    await services.close();
  }
}

async function startStream(
  options: DemoOptions,
  plan: JobPlan,
  signal: AbortSignal,
): Promise<void> {
  if (plan.source.kind !== 'kafka') return;
  const { checkTopic, produceEvents } = await import('./demo-kafka.ts');
  await checkTopic(options.env, plan.source);
  if (!options.produce) return;
  produceEvents(options.env, options.terminal, plan.source, options, signal).catch((error) => {
    options.terminal.error(`the demo stopped writing events: ${String(error)}`);
  });
}

function reportDeliveries(terminal: Terminal, { receiver }: DemoServices): void {
  const { received, repeated, invalid } = receiver.counts;
  if (received + invalid === 0) return;
  terminal.print(
    `the demo's receiver got ${received} webhooks: ${repeated} repeated, ${invalid} invalid`,
  );
}
