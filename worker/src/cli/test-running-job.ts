/**
 * A job that runs for real, for tests of what it tells: the JobManager, a TaskManager with its slot
 * thread and RocksDB, Profile API and webhook of the demo.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { openStore } from '../checkpoint/open-store.ts';
import { compileFilter } from '../filter/compile.ts';
import { startJobManager } from '../jobmanager/jobmanager.ts';
import { until } from '../jobmanager/test-cluster.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { resolveJob } from '../plan/resolve.ts';
import { startRest } from '../rest/rest-server.ts';
import { realEnv } from '../runtime/env.ts';
import { createSplitEnumerator } from '../source/open.ts';
import { runTaskManager } from '../taskmanager/main.ts';
import { startDemoServices } from './demo-services.ts';

/** Of 5 ms at least: ten times what a start takes. */
const LOOKS = 10_000;

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
export async function metricsOfARunningJob(t: {
  after(end: () => unknown): void;
}): Promise<string> {
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
  const localStateDir = join(folder, 'local');
  const taskManager = runTaskManager({
    jobManagers: async () => [`127.0.0.1:${manager.rpcPort}`],
    slots: 1,
    localStateDir,
    logLevel: 'silent',
  });
  const bind = { port: 0, bindAddress: '127.0.0.1' };
  const leader = () => null;
  const rest = await startRest({ jobManager: () => manager, leader, ...bind, env: realEnv });
  try {
    await until(
      'a delivery and a checkpoint',
      () => {
        const { counters, checkpoints } = manager.view();
        return counters.delivered > 0 && checkpoints.counts.completed > 0;
      },
      LOOKS,
    );
    return await (await fetch(`http://127.0.0.1:${rest.port}/metrics`)).text();
  } finally {
    await rest.close();
    await manager.stop({ finalCheckpoint: false });
    await manager.close();
    await taskManager;
  }
}
