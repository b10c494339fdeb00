/**
 * The table "Limits" in ARCHITECTURE.md against /metrics of a job that runs: the real JobManager, a
 * real TaskManager with its slot thread and RocksDB, Profile API and webhook of the demo. A row
 * whose metric is gone, and a bounded place without a row, are faults.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { openStore } from '../checkpoint/open-store.ts';
import { startDemoServices } from '../cli/demo-services.ts';
import { compileFilter } from '../filter/compile.ts';
import { startJobManager } from '../jobmanager/jobmanager.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { resolveJob } from '../plan/resolve.ts';
import { realEnv } from '../runtime/env.ts';
import { createSplitEnumerator } from '../source/open.ts';
import { runTaskManager } from '../taskmanager/main.ts';
import { startRest } from './rest-server.ts';

const ARCHITECTURE = new URL('../../../ARCHITECTURE.md', import.meta.url);
/** Ten times what a start takes. */
const RUN_LIMIT_MS = 60_000;

/** The metrics in the table's last column, without prefix. */
function rowsOf(markdown: string): string[] {
  const section = /^## Limits$(.*?)^## /ms.exec(markdown)?.[1] ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| Place'))
    .flatMap((line) => [...(line.split('|').at(-2) ?? '').matchAll(/`([a-z_]+)`/g)])
    .map((match) => match[1]!);
}

/** What the table lacks of `metrics`, and what it names that is not there. */
function faultsOf(rows: readonly string[], metrics: string): string[] {
  const gauges = new Set([...metrics.matchAll(/^triggerjob_(\w+)\{/gm)].map((match) => match[1]!));
  const bounded = [...gauges].filter((name) => gauges.has(`${name}_limit`));
  return [
    ...rows
      .filter((name) => !gauges.has(name) || !gauges.has(`${name}_limit`))
      .map((name) => `${name} is in the table, not in /metrics with its limit`),
    ...bounded
      .filter((name) => !rows.includes(name))
      .map((name) => `${name} has a limit in /metrics, and no row`),
  ];
}

function planOf(folder: string, [profilePort, hookPort]: readonly [number, number]): JobPlan {
  const resolution = resolveJob({
    apiVersion: 'triggerjob.io/v1alpha1',
    kind: 'TriggerJob',
    metadata: { name: 'limits' },
    spec: {
      parallelism: 1,
      source: { datagen: { eventsPerSecond: 500, users: 50 } },
      state: { profileApi: { url: `http://127.0.0.1:${profilePort}` } },
      filter: { script: 'event.triggerable' },
      action: { webhook: { url: `http://127.0.0.1:${hookPort}`, allowPrivateAddresses: true } },
      checkpointing: { interval: '1s', minPause: '0s', directory: `file://${folder}/checkpoints` },
      heartbeat: { interval: '100ms' },
      taskManager: { slots: 1 },
    },
  });
  if ('faults' in resolution) throw new Error(JSON.stringify(resolution.faults));
  return resolution.plan;
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** /metrics of a job that has processed records and completed a checkpoint. */
async function metricsOfARunningJob(t: TestContext): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'triggerjob-limits-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const ports = [await freePort(), await freePort()] as const;
  const services = await startDemoServices(...ports);
  t.after(() => services.close());
  const plan = planOf(folder, ports);
  const { version, language, script } = compileFilter(plan.filter);
  const manager = await startJobManager({
    plan: { ...plan, rpc: { port: 0, bindAddress: '127.0.0.1' } },
    watchFiles: [],
    loadScript: () => Promise.resolve(null),
    script: { version, language, text: script },
    env: realEnv,
    log: pino({ level: 'silent' }),
    store: await openStore(plan.checkpointing.directory, realEnv),
    openStore: (url) => openStore(url, realEnv),
    openEnumerator: (source, known) => createSplitEnumerator(source, realEnv, { known }),
    writer: 'limits.test',
  });
  const jobmanager = `127.0.0.1:${manager.rpcPort}`;
  const localStateDir = join(folder, 'local');
  const taskManager = runTaskManager({ jobmanager, slots: 1, localStateDir, logLevel: 'silent' });
  const bind = { port: 0, bindAddress: '127.0.0.1' };
  const rest = await startRest({ plan, jobManager: manager, ...bind, env: realEnv });
  try {
    const deadline = Date.now() + RUN_LIMIT_MS;
    for (;;) {
      const view = manager.view();
      if (view.counters.delivered > 0 && view.checkpoints.counts.completed > 0) break;
      assert.ok(Date.now() < deadline, `waits for a delivery and a checkpoint: ${view.status}`);
      await delay(20);
    }
    return await (await fetch(`http://127.0.0.1:${rest.port}/metrics`)).text();
  } finally {
    await rest.close();
    await manager.stop({ finalCheckpoint: false });
    await manager.close();
    await taskManager;
  }
}

test('each limit in ARCHITECTURE.md is a metric of a running job, and the reverse', async (t) => {
  const rows = rowsOf(readFileSync(ARCHITECTURE, 'utf8'));
  const metrics = await metricsOfARunningJob(t);
  assert.deepEqual(faultsOf(rows, metrics), []);
  assert.ok(rows.length > 20, `${rows.length} rows were read`);
  // A table that lacks a row, and one that has a row too many, are both found.
  assert.equal(faultsOf(rows.slice(1), metrics).length, 1);
  assert.equal(faultsOf([...rows, 'water_level'], metrics).length, 1);
  assert.match(metrics, /^triggerjob_bound_fill_ratio\{name="parked_bytes",.*\} /m);
});
