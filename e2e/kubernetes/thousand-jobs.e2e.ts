/**
 * Promise: one operator carries a thousand jobs: every one is reconciled, none fails again and
 * again, none has two sets of pods. What it costs is printed beside its goal. The API server and
 * etcd are real ones, the operator is a process; pods and JobManagers are stand-ins.
 *
 * TRIGGERJOB_JOBS: how many; `npm run e2e:thousand` has 1,000, `npm test` 60.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { fieldAt } from '../../operator/src/decide/spec.ts';
import { realEnv, sleep } from '../../operator/src/env.ts';
import { KubeClient } from '../../operator/src/kube/client.ts';
import { kubeconfigSource } from '../../operator/src/kube/connection.ts';
import { Informer } from '../../operator/src/kube/informer.ts';
import { KINDS, type Kind, type Lease } from '../../operator/src/kube/objects.ts';
import type { KubeObject, ObjectRef } from '../../operator/src/kube/port.ts';
import type { TriggerJobObject } from '../../operator/src/watched-kinds.ts';
import { freePort } from '../testbed/command.ts';
import { endProcess } from '../testbed/end-process.ts';
import { type ControlPlane, startControlPlane } from '../testbed/kubernetes/control-plane.ts';
import { installCrd } from '../testbed/kubernetes/install-crd.ts';
import { StandIn } from './stand-in.ts';

const JOBS = Number(process.env['TRIGGERJOB_JOBS'] ?? 60);
const CHANGES = 100;
const IDLE_MS = JOBS >= 1_000 ? 60_000 : 12_000;
/** Ten times what it takes. */
const WATCHDOG_MS = Math.max(300_000, JOBS * 2_000);
const OPERATOR = fileURLToPath(new URL('../../operator/src/main.ts', import.meta.url));
const REQUESTS = 'rest_client_requests_total';
const ERRORS = 'controller_runtime_reconcile_errors_total';
const OURS = 'app.kubernetes.io/name=triggerjob';
/** One every 30 ms or so. */
const FAILOVER_CHANGES = 150;
const SETTLE_MS = 5_000;
const NAMESPACE = 'default';

const print = (what: string, found: string, goal = 'none', reached?: boolean): void => {
  const verdict = reached === undefined ? '' : `: ${reached ? 'reached' : 'missed'}`;
  console.log(`${what}: ${found}; goal ${goal}${verdict}`);
};

async function until(what: string, holds: () => boolean, limitMs = WATCHDOG_MS): Promise<number> {
  const startedAt = performance.now();
  while (!holds()) {
    if (performance.now() - startedAt > limitMs)
      assert.fail(
        `waited for ${what}\n${leader?.log.slice(-3000)}\n${standIn.allFaults().join('\n')}`,
      );
    await sleep(realEnv, 5);
  }
  return performance.now() - startedAt;
}

/** `share` in [0, 1]. */
function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Those of the image's entrypoint. */
async function nodeFlags(): Promise<string[]> {
  const [line = ''] = /^ENTRYPOINT .*$/m.exec(await readFile('Dockerfile.operator', 'utf8')) ?? [];
  return [...line.matchAll(/"(--\S+?)"/g)].map(([, flag = '']) => flag);
}

class OperatorProcess {
  readonly child: ChildProcess;
  readonly #metricsPort: number;
  log = '';

  private constructor(child: ChildProcess, metricsPort: number) {
    this.child = child;
    this.#metricsPort = metricsPort;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.log += text;
      });
    }
  }

  static async start(name: string): Promise<OperatorProcess> {
    const port = await freePort();
    const args = [
      ...(await nodeFlags()),
      OPERATOR,
      `--kubeconfig=${plane.kubeconfig}`,
      `--jobmanager-url=${standIn.jobManagerUrl}`,
      `--key-file=${join(folder, 'hmac')}`,
      `--identity=${name}`,
      `--metrics-address=127.0.0.1:${port}`,
      '--health-address=0',
      '--api-qps=1000',
      '--api-burst=1000',
    ];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    return new OperatorProcess(child, port);
  }

  async rssMb(): Promise<{ now: number; peak: number }> {
    const text = await readFile(`/proc/${this.child.pid}/status`, 'utf8');
    const mb = (field: string) =>
      Number(new RegExp(`${field}:\\s+(\\d+)`).exec(text)?.[1] ?? Number.NaN) / 1024;
    return { now: mb('VmRSS'), peak: mb('VmHWM') };
  }

  /** JavaScript objects, those that nobody needs any more among them. */
  async heapMb(): Promise<string> {
    return ((await this.count('nodejs_heap_size_used_bytes')) / 2 ** 20).toFixed(0);
  }

  /** Sums of the counters of a metric, by its labels as text. */
  async counters(metric: string): Promise<Map<string, number>> {
    const text = await (await fetch(`http://127.0.0.1:${this.#metricsPort}/metrics`)).text();
    const lines = text.matchAll(new RegExp(`^${metric}(?:\\{(.*)\\})? (\\S+)$`, 'gm'));
    return new Map([...lines].map(([, labels = '', value]) => [labels, Number(value)]));
  }

  async count(metric: string): Promise<number> {
    return [...(await this.counters(metric)).values()].reduce((sum, value) => sum + value, 0);
  }

  /** Jobs that failed again and again. */
  loops(): string[] {
    return this.log.split('\n').filter((line) => /"failures":([5-9]|\d\d)/.test(line));
  }
}

let plane: ControlPlane;
let client: KubeClient;
let standIn: StandIn;
let folder: string;
let leader: OperatorProcess;
let holder = '';
const end = new AbortController();
const jobs = new Map<string, TriggerJobObject>();
/** Called with every version of a job that the API server tells of. */
let onJob: (job: TriggerJobObject) => void = () => {};
let mirrors: Promise<unknown> = Promise.resolve();

const nameOf = (index: number): string => `job-${String(index).padStart(4, '0')}`;
const refOf = (name: string): ObjectRef => ({
  apiVersion: 'triggerjob.io/v1alpha1',
  kind: 'TriggerJob',
  namespace: NAMESPACE,
  name,
});
const isRunning = ({ status, metadata }: TriggerJobObject): boolean =>
  status?.state === 'Running' &&
  status.operation === undefined &&
  status.observedGeneration === metadata.generation;
const running = (): number => [...jobs.values()].filter(isRunning).length;

function watch(): Promise<unknown> {
  const quiet = {
    metrics: { listed: () => {}, watchStarted: () => {}, watchFailed: () => {} },
    log: { info: () => {}, warn: () => {} },
    env: realEnv,
    api: client,
    namespaces: [],
  };
  const seen = (job: TriggerJobObject) => {
    jobs.set(job.metadata.name, job);
    onJob(job);
  };
  const led = ({ spec }: Lease) => {
    holder = spec?.holderIdentity ?? '';
  };
  return Promise.all([
    new Informer<TriggerJobObject>({
      ...quiet,
      kind: KINDS.TriggerJob,
      handlers: { added: seen, updated: seen, deleted: () => {} },
    }).run(end.signal),
    new Informer<Lease>({
      ...quiet,
      kind: KINDS.Lease,
      fieldSelector: 'metadata.name=triggerjob-operator',
      handlers: { added: led, updated: led, deleted: () => {} },
    }).run(end.signal),
  ]);
}

async function listed(kind: Kind): Promise<KubeObject[]> {
  const items: KubeObject[] = [];
  let next: string | undefined;
  do {
    const page = { limit: 500, ...(next === undefined ? {} : { continue: next }) };
    const answer = await client.list({ kind, labelSelector: OURS }, page);
    const { apiVersion } = kind;
    // A list's items do not say what they are.
    items.push(...answer.items.map((item) => ({ ...item, apiVersion, kind: kind.kind })));
    next = answer.continue;
  } while (next !== undefined);
  return items;
}

/** StatefulSets and Pods that are missing, or that no job has asked for. */
async function strangers(): Promise<string[]> {
  const expected = new Set<string>();
  for (const { metadata, spec } of jobs.values()) {
    for (const part of ['jobManager', 'taskManager']) {
      const name = `${metadata.name}-${part.toLowerCase()}`;
      expected.add(`StatefulSet ${name}`);
      const count = Number(fieldAt(spec, `${part}.replicas`));
      for (let ordinal = 0; ordinal < count; ordinal += 1) expected.add(`Pod ${name}-${ordinal}`);
    }
  }
  const found = [...(await listed(KINDS.StatefulSet)), ...(await listed(KINDS.Pod))];
  const present = new Set(found.map(({ kind, metadata }) => `${kind} ${metadata.name}`));
  const all = new Set([...expected, ...present]);
  return [...all].filter((one) => !(expected.has(one) && present.has(one)));
}

async function inParallel<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>) {
  const left = [...items];
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: width }, worker));
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'triggerjob-thousand-'));
  await writeFile(join(folder, 'hmac'), `${'ab'.repeat(32)}\n`);
  plane = await startControlPlane();
  client = KubeClient.open({
    env: realEnv,
    source: await kubeconfigSource(plane.kubeconfig),
    limit: { perSecond: 10_000, burst: 10_000 },
    metrics: { request: () => {} },
  });
  await installCrd(plane);
  standIn = await StandIn.start(plane.kubeconfig);
  mirrors = watch();
  leader = await OperatorProcess.start('first');
  await until('the leader', () => holder.startsWith('first'));
  print('RSS without jobs', `${(await leader.rssMb()).now.toFixed(0)} MB`);
});
after(async () => {
  if (leader !== undefined) await endProcess(leader.child, 10_000);
  await standIn?.stop();
  end.abort();
  await client?.close();
  await mirrors;
  await plane?.stop();
  await rm(folder, { recursive: true, force: true });
});

describe(`${JOBS} jobs`, () => {
  it('are all reconciled', async () => {
    const sample = parse(await readFile('config/samples/first.yaml', 'utf8')) as TriggerJobObject;
    const startedAt = performance.now();
    await inParallel(
      Array.from({ length: JOBS }, (_, index) => nameOf(index)),
      8,
      async (name) => {
        await client.create({ ...sample, metadata: { name, namespace: NAMESPACE } });
      },
    );
    const created = performance.now() - startedAt;
    await until('all of them to run', () => running() === JOBS);
    const seconds = (performance.now() - startedAt) / 1000;
    print(
      `${JOBS} jobs created in ${(created / 1000).toFixed(1)} s, all of them Running`,
      `${seconds.toFixed(1)} s, ${(JOBS / seconds).toFixed(1)} per second`,
    );
    const requests = await leader.count(REQUESTS);
    print('requests to the API server per job until it runs', (requests / JOBS).toFixed(1));
    const { now, peak } = await leader.rssMb();
    print('RSS after that', `${now.toFixed(0)} MB, at most ${peak.toFixed(0)} MB`);
    assert.deepEqual(standIn.allFaults(), []);
  });

  it('idle: what a job costs', async () => {
    // Whatever the last reconciles have left for later.
    await sleep(realEnv, SETTLE_MS);
    const failed = await leader.count(ERRORS);
    const before = await leader.counters(REQUESTS);
    const asked = standIn.requests;
    const startedAt = performance.now();
    await sleep(realEnv, IDLE_MS);
    const after = await leader.counters(REQUESTS);
    const hours = (performance.now() - startedAt) / 3_600_000;
    const perHour = (count: number) => (count / JOBS / hours).toFixed(1);
    const made = [...after].map(
      ([labels, count]) => [labels, count - (before.get(labels) ?? 0)] as const,
    );
    const total = made.reduce((sum, [, count]) => sum + count, 0);
    print('requests to the API server per idle job and hour', perHour(total));
    for (const [labels, count] of made) if (count !== 0) console.log(`  ${count} of ${labels}`);
    print('requests to a JobManager per idle job and hour', perHour(standIn.requests - asked));
    assert.equal(running(), JOBS);
    assert.equal(await leader.count(ERRORS), failed, 'no job fails while nothing happens');
  });

  it('a changed spec is observed', async () => {
    const observed = new Map<string, { generation: number; at: number; ms: number }>();
    onJob = ({ metadata, status }) => {
      const change = observed.get(metadata.name);
      if (change === undefined || change.ms > 0) return;
      const done = (status?.observedGeneration ?? 0) >= change.generation;
      if (done) change.ms = performance.now() - change.at;
    };
    const changes = [...jobs.keys()]
      .map((name) => ({ name, order: Math.random() }))
      .toSorted((a, b) => a.order - b.order)
      .slice(0, CHANGES);
    await inParallel([...changes.entries()], 2, async ([index, { name }]) => {
      const generation = (jobs.get(name)?.metadata.generation ?? 0) + 1;
      observed.set(name, { generation, at: performance.now(), ms: 0 });
      if (index % 2 === 0) {
        const script = `return event.n > ${index};`;
        await client.patch(refOf(name), { spec: { filter: { script } } });
      } else await client.patch(refOf(name), { spec: { replicas: 2 } }, 'scale');
      await sleep(realEnv, 50);
    });
    await until('all changes to be observed', () =>
      [...observed.values()].every((one) => one.ms > 0),
    );
    const times = [...observed.values()].map(({ ms }) => ms);
    const [p50, p99] = [quantile(times, 0.5), quantile(times, 0.99)];
    print(`spec to observed of ${times.length} changes, p50`, `${p50.toFixed(0)} ms`);
    print('p99', `${p99.toFixed(0)} ms`);
    const settled = await until('all of them to run again', () => running() === JOBS);
    print('until the last of them runs as it says', `${(settled / 1000).toFixed(1)} s`);
    assert.deepEqual(standIn.allFaults(), []);
  });

  it('a planned failover', async () => {
    const standby = await OperatorProcess.start('second');
    const former = leader;
    await until('the warm standby', () => standby.log.includes('caches are filled'));
    leader = standby;
    const { now, peak } = await former.rssMb();
    const heap = `${await former.heapMb()} MB of it JavaScript`;
    const most = `${now.toFixed(0)} MB, at most ${peak.toFixed(0)} MB, ${heap}`;
    print('RSS of the leader at its end', most, '250 MB', now <= 250);
    assert.ok(now > 0);
    assert.deepEqual(former.loops(), []);
    const seen: number[] = [];
    onJob = ({ metadata, status }) => {
      const last = observedBefore.get(metadata.name) ?? 0;
      const observed = status?.observedGeneration ?? 0;
      if (observed > last) seen.push(performance.now());
      observedBefore.set(metadata.name, observed);
    };
    const observedBefore = new Map(
      [...jobs.values()].map(({ metadata, status }) => [
        metadata.name,
        status?.observedGeneration ?? 0,
      ]),
    );
    const exited = once(former.child, 'exit');
    const changes = Math.min(JOBS, FAILOVER_CHANGES);
    for (let index = 0; index < changes; index += 1) {
      if (index === Math.floor(changes / 3)) former.child.kill('SIGTERM');
      const script = `return event.failover > ${index};`;
      await client.patch(refOf(nameOf(index)), { spec: { filter: { script } } });
      await sleep(realEnv, 30);
    }
    await until('the new leader', () => holder.startsWith('second'));
    await until('all changes to be observed', () => running() === JOBS && seen.length >= changes);
    const [code] = await exited;
    assert.equal(code, 0);
    const gap = Math.max(...seen.slice(1).map((at, index) => at - (seen[index] ?? at)));
    const text = `${gap.toFixed(0)} ms`;
    print(
      'planned failover, longest time without an observed change',
      text,
      '2000 ms',
      gap <= 2_000,
    );
    assert.deepEqual(standIn.allFaults(), []);
    assert.deepEqual(standby.loops(), []);
  });

  it('each job has its two StatefulSets and their pods, and there are no others', async () => {
    assert.deepEqual(await strangers(), []);
  });

  it('another set would be found (the check can fail)', async () => {
    const [set] = await listed(KINDS.StatefulSet);
    assert.ok(set !== undefined);
    const { labels = {}, ownerReferences = [] } = set.metadata;
    const metadata = { name: 'twin', namespace: NAMESPACE, labels, ownerReferences };
    await client.create({ ...set, metadata, status: {} } as KubeObject);
    assert.deepEqual(await strangers(), ['StatefulSet twin']);
  });
});
