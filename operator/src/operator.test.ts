/** The operator's process around a small reconcile, against a server that speaks HTTP. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { pino } from 'pino';
import { type Env, realEnv, sleep } from './env.ts';
import { plainSource } from './kube/connection.ts';
import { FakeApiServer } from './kube/fake-api-server.ts';
import type { KubeApi, KubeObject } from './kube/port.ts';
import { Operator } from './operator.ts';
import { type OperatorOptions, parseOptions } from './options.ts';
import type { Caches } from './watched-kinds.ts';

const WATCHDOG_MS = 10_000;
const FASTER = 20;
const fastEnv: Env = {
  ...realEnv,
  monotonic: () => performance.now() * FASTER,
  timer: (delayMs, fn) => realEnv.timer(delayMs / FASTER, fn),
};

const JOBS = '/apis/triggerjob.io/v1alpha1/namespaces/ns/triggerjobs';
const SETS = '/apis/apps/v1/namespaces/ns/statefulsets';
const LEASES = '/apis/coordination.k8s.io/v1/namespaces/operators/leases';
const LABELS = {
  'app.kubernetes.io/managed-by': 'triggerjob-operator',
  'app.kubernetes.io/name': 'triggerjob',
  'app.kubernetes.io/instance': 'one',
  'triggerjob.io/job': 'one',
};

const object = (apiVersion: string, kind: string, name: string, more: object = {}): KubeObject => ({
  apiVersion,
  kind,
  metadata: { name, labels: LABELS },
  ...more,
});
const job = (name: string) => object('triggerjob.io/v1alpha1', 'TriggerJob', name);

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = performance.now() + WATCHDOG_MS;
  while (!holds()) {
    if (performance.now() > end) assert.fail(`waited for ${what}`);
    await sleep(realEnv, 2);
  }
}

class Running {
  readonly reconciled: string[] = [];
  readonly lines: string[] = [];
  readonly exit: Promise<number>;
  caches!: Caches;
  kube!: KubeApi;
  /** What a reconcile does; the test replaces it. */
  work: (key: string) => Promise<{ requeueAfterMs?: number }> = async () => ({});
  exitCode: number | null = null;
  readonly #stop = new AbortController();

  constructor(server: FakeApiServer, options: Partial<OperatorOptions> = {}) {
    const operator = new Operator({
      env: fastEnv,
      log: pino({}, { write: (line: string) => void this.lines.push(line) }),
      source: plainSource(server.url),
      options: {
        ...parseOptions([
          '--lease-namespace=operators',
          '--metrics-address=127.0.0.1:0',
          '--health-address=127.0.0.1:0',
        ]),
        ...options,
      },
      reconcile: ({ kube, caches }) => {
        this.kube = kube;
        this.caches = caches;
        return async (key) => {
          this.reconciled.push(key);
          return await this.work(key);
        };
      },
    });
    this.exit = operator.run(this.#stop.signal).then((code) => {
      this.exitCode = code;
      return code;
    });
  }

  #port(path: string): number {
    for (const line of this.lines) {
      const facts = JSON.parse(line) as { paths?: string[]; port?: number };
      if (facts.paths?.includes(path)) return facts.port ?? 0;
    }
    return 0;
  }

  async ask(path: string): Promise<{ status: number; text: string }> {
    await until(`the port of ${path}`, () => this.#port(path) > 0);
    const response = await fetch(`http://127.0.0.1:${this.#port(path)}${path}`);
    return { status: response.status, text: await response.text() };
  }

  stop(): void {
    this.#stop.abort();
  }
}

const leaseOf = (server: FakeApiServer) =>
  server.read(LEASES, 'triggerjob-operator') as
    | (KubeObject & { spec: { holderIdentity: string; leaseTransitions: number } })
    | undefined;

describe('the operator', () => {
  let server: FakeApiServer;
  const running: Running[] = [];
  const operatorOf = (options: Partial<OperatorOptions> = {}) => {
    const operator = new Running(server, options);
    running.push(operator);
    return operator;
  };
  const cacheOf = (operator: Running, kind: keyof Caches, name: string) =>
    operator.caches[kind].get('ns', name);
  beforeEach(async () => {
    server = await FakeApiServer.start();
  });
  afterEach(async () => {
    for (const operator of running) operator.stop();
    await Promise.all(running.splice(0).map((operator) => operator.exit));
    await server.stop();
  });

  it('reconciles every job, and again when anything of it changes', async () => {
    server.put(JOBS, job('one'));
    server.put(JOBS, job('two'));
    const operator = operatorOf();
    await until('both jobs', () => operator.reconciled.length === 2);
    assert.deepEqual(operator.reconciled.toSorted(), ['ns/one', 'ns/two']);
    const events: [string, string, string, string][] = [
      ['/apis/apps/v1', 'statefulsets', 'apps/v1', 'StatefulSet'],
      ['/api/v1', 'pods', 'v1', 'Pod'],
      ['/api/v1', 'services', 'v1', 'Service'],
      ['/api/v1', 'configmaps', 'v1', 'ConfigMap'],
      ['/apis/policy/v1', 'poddisruptionbudgets', 'policy/v1', 'PodDisruptionBudget'],
    ];
    for (const [base, plural, apiVersion, kind] of events) {
      const before = operator.reconciled.length;
      server.put(`${base}/namespaces/ns/${plural}`, object(apiVersion, kind, 'one-x'));
      await until(`the ${kind}`, () => operator.reconciled.length > before);
      assert.equal(operator.reconciled.at(-1), 'ns/one');
    }
    const before = operator.reconciled.length;
    server.remove(SETS, 'one-x');
    await until('its deletion', () => operator.reconciled.length > before);
    const foreign = object('apps/v1', 'StatefulSet', 'foreign');
    server.put(SETS, { ...foreign, metadata: { name: 'foreign' } });
    server.put(JOBS, job('three'));
    await until('the next job', () => operator.reconciled.at(-1) === 'ns/three');
    assert.equal(operator.caches.StatefulSet.get('ns', 'foreign'), undefined);
  });

  it('looks at the namespaces it is told, and no others', async () => {
    server.put(JOBS, job('one'));
    server.put(JOBS.replace('/ns/', '/other/'), job('two'));
    server.put(JOBS.replace('/ns/', '/third/'), job('three'));
    const operator = operatorOf({ namespaces: ['ns', 'third'] });
    await until('both', () => operator.reconciled.length === 2);
    assert.deepEqual(operator.reconciled.toSorted(), ['ns/one', 'third/three']);
    const wide = server.requests.filter((line) => /GET [^?]*\/v1alpha1\/triggerjobs/.test(line));
    assert.deepEqual(wide, [], 'a Role of two namespaces is enough');
  });

  it('a job whose node is lost is reconciled', async () => {
    const labels = LABELS;
    const volume = {
      claimRef: { namespace: 'ns', name: 'rocksdb-0' },
      nodeAffinity: {
        required: { nodeSelectorTerms: [{ matchExpressions: [{ key: 'h', values: ['n1'] }] }] },
      },
    };
    server.put(JOBS, job('one'));
    server.put('/api/v1/nodes', object('v1', 'Node', 'n1'));
    server.put(
      '/api/v1/persistentvolumes',
      object('v1', 'PersistentVolume', 'v', { spec: volume }),
    );
    const claim = object('v1', 'PersistentVolumeClaim', 'rocksdb-0');
    server.put('/api/v1/namespaces/ns/persistentvolumeclaims', {
      ...claim,
      metadata: { name: 'rocksdb-0', labels: { ...labels } },
    });
    const operator = operatorOf();
    await until('the first look', () => operator.reconciled.length >= 1 && server.watches >= 14);
    const before = operator.reconciled.length;
    server.remove('/api/v1/nodes', 'n1');
    await until('the loss', () => operator.reconciled.length > before);
    assert.equal(operator.reconciled.at(-1), 'ns/one');
  });

  it('a standby is warm, writes nothing, and goes on when the leader ends in order', async () => {
    server.put(JOBS, job('one'));
    const a = operatorOf();
    await until('the leader', () => a.reconciled.length > 0);
    const b = operatorOf();
    await until('its caches', () => cacheOf(b, 'TriggerJob', 'one') !== undefined);
    while ((await b.ask('/readyz')).status !== 200) await sleep(realEnv, 10);
    assert.deepEqual(b.reconciled, []);
    const about = { apiVersion: 'v1', kind: 'ConfigMap', namespace: 'ns', name: 'x' };
    await assert.rejects(b.kube.patch(about, {}), { code: 'KUBE_FENCED' });
    let end: () => void = () => {};
    a.work = () =>
      new Promise((resolve) => {
        end = () => resolve({});
      });
    const before = a.reconciled.length;
    server.put(JOBS, { ...job('one'), metadata: { name: 'one', labels: { x: '1' } } });
    await until('work under way', () => a.reconciled.length > before);
    a.stop();
    await sleep(realEnv, 50);
    assert.deepEqual(b.reconciled, [], 'the leader still finishes its work');
    const stoppedAt = performance.now();
    end();
    await until('the standby', () => b.reconciled.length > 0);
    console.log(`takeover after ${(performance.now() - stoppedAt).toFixed(0)} ms; goal 2000 ms`);
    assert.equal(await a.exit, 0);
    assert.equal(leaseOf(server)?.spec.leaseTransitions, 1);
  });

  it('a reconcile that does not end holds nobody up for longer than it may', async () => {
    server.put(JOBS, job('one'));
    const operator = operatorOf({ shutdownMs: 1_000 });
    operator.work = () => new Promise(() => {});
    await until('work under way', () => operator.reconciled.length === 1);
    operator.stop();
    assert.equal(await operator.exit, 0);
    assert.equal(leaseOf(server)?.spec.holderIdentity, '');
  });

  it('a leader whose lease another one took stops acting and ends with 1', async () => {
    server.put(JOBS, job('one'));
    const operator = operatorOf();
    await until('work', () => operator.reconciled.length > 0);
    const lease = leaseOf(server);
    assert.ok(lease);
    server.put(LEASES, {
      ...lease,
      spec: { ...lease.spec, holderIdentity: 'thief' },
    } as KubeObject);
    assert.equal(await operator.exit, 1);
    const about = { apiVersion: 'v1', kind: 'ConfigMap', namespace: 'ns', name: 'x' };
    await assert.rejects(operator.kube.patch(about, {}), { code: 'KUBE_FENCED' });
  });

  it('comes again after failures and when it asked to', async () => {
    server.put(JOBS, job('one'));
    const operator = operatorOf({ leaderElect: false });
    operator.work = async () => {
      if (operator.reconciled.length < 3) throw new Error('not yet');
      return { requeueAfterMs: 1_000 };
    };
    await until('five looks', () => operator.reconciled.length >= 5);
    const { text } = await operator.ask('/metrics');
    assert.match(
      text,
      /controller_runtime_reconcile_total\{controller="triggerjob",result="error"\} 2/,
    );
    assert.match(text, /workqueue_retries_total\{name="triggerjob"\} 2/);
  });

  it('shows its state: probes, and metrics by the names that dashboards know', async () => {
    server.put(JOBS, job('one'));
    const operator = operatorOf();
    await until('work', () => operator.reconciled.length > 0);
    assert.deepEqual(await operator.ask('/healthz'), { status: 200, text: 'ok\n' });
    const { text } = await operator.ask('/metrics');
    for (const name of [
      'controller_runtime_active_workers',
      'controller_runtime_max_concurrent_reconciles',
      'controller_runtime_reconcile_errors_total',
      'controller_runtime_reconcile_time_seconds_bucket',
      'controller_runtime_reconcile_total',
      'leader_election_master_status',
      'process_resident_memory_bytes',
      'rest_client_request_duration_seconds_bucket',
      'rest_client_requests_total',
      'triggerjob_operator_watch_staleness_seconds',
      'workqueue_adds_total',
      'workqueue_depth',
      'workqueue_longest_running_processor_seconds',
      'workqueue_queue_duration_seconds_bucket',
      'workqueue_unfinished_work_seconds',
      'workqueue_work_duration_seconds_bucket',
    ]) {
      assert.ok(text.includes(`\n${name}{`) || text.includes(`\n${name} `), `${name} is missing`);
    }
    assert.match(text, /leader_election_master_status\{name="triggerjob-operator"\} 1/);
  });

  it('is not ready before it knows everything, and not healthy when it hears nothing', async () => {
    server.put(JOBS, job('one'));
    server.fail(1_000_000, 500, /statefulsets/);
    const operator = operatorOf({ staleMs: 2_000 });
    const ready = await operator.ask('/readyz');
    assert.equal(ready.status, 503);
    assert.match(ready.text, /StatefulSet is not listed yet/);
    await sleep(realEnv, 3_000 / FASTER);
    const health = await operator.ask('/healthz');
    assert.equal(health.status, 503);
    assert.match(health.text, /the watch of StatefulSet has said nothing for more than 2 s/);
    assert.deepEqual(operator.reconciled, [], 'nothing is decided on half of the facts');
    operator.stop();
    assert.equal(await operator.exit, 0);
  });
});

describe('the options', () => {
  it('refuse what can not work', () => {
    assert.throws(() => parseOptions(['--lease-duration=5s']), /more than --renew-deadline/);
    assert.throws(() => parseOptions(['--retry-period=9s']), /1\.2 times/);
  });

  it('read lists, durations and addresses', () => {
    const options = parseOptions(['--namespaces=a, b,', '--resync=5m', '--metrics-address=0']);
    assert.deepEqual(options.namespaces, ['a', 'b']);
    assert.equal(options.resyncMs, 300_000);
    assert.equal(options.metricsAddress, null);
    assert.deepEqual(options.healthAddress, { host: undefined, port: 8081 });
  });
});
