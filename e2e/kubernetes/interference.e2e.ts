/**
 * Promise: what others delete of a running job comes back, and nothing restarts that need not; of
 * two operators one acts. On a real kube-apiserver, StatefulSet controller and garbage collector.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { realEnv } from '../../operator/src/env.ts';
import { kubeconfigSource } from '../../operator/src/kube/connection.ts';
import { KINDS, type Lease, type Pod, refOf } from '../../operator/src/kube/objects.ts';
import type { DeleteOptions, KubeApi } from '../../operator/src/kube/port.ts';
import { SETTINGS } from '../../operator/src/model/model-world.ts';
import { Operator } from '../../operator/src/operator.ts';
import { parseOptions } from '../../operator/src/options.ts';
import { reconcile } from '../../operator/src/reconcile.ts';
import type { MortalOperator } from './mortal-operator.ts';
import { OperatedCluster, type OperatedJob } from './operated-cluster.ts';

const LEASE = {
  apiVersion: KINDS.Lease.apiVersion,
  kind: KINDS.Lease.kind,
  namespace: 'default',
  name: 'triggerjob-operator',
};

let cluster: OperatedCluster;
before(async () => {
  cluster = await OperatedCluster.start();
  await cluster.namespaces(['deleted', 'two']);
});
after(async () => {
  await cluster?.stop();
});

type Kind = 'StatefulSet' | 'Service' | 'ConfigMap' | 'Secret';

describe('objects of a running job are deleted under the operator', () => {
  let job: OperatedJob;
  let operator: MortalOperator;
  before(async () => {
    job = cluster.job('deleted');
    operator = job.operator(() => false);
    operator.start();
    await job.create();
    await job.runs(1);
  });
  after(async () => {
    await operator?.stop();
  });

  const uidsOf = (kind: Kind): Map<string, string> =>
    new Map(
      cluster.standIn
        .in(job.namespace, kind)
        .map(({ metadata }) => [metadata.name, metadata.uid ?? '']),
    );
  const isReady = ({ status, metadata }: Pod): boolean =>
    metadata.deletionTimestamp === undefined &&
    status?.conditions?.some(({ type }) => type === 'Ready') === true;
  const podUids = () =>
    new Map(job.pods.map(({ metadata }) => [metadata.name, metadata.uid ?? '']));

  /** All of a kind whose name ends so, and back. */
  async function deleted(kind: Kind, suffix: string, options?: DeleteOptions): Promise<void> {
    const old = uidsOf(kind);
    const gone = cluster.standIn
      .in(job.namespace, kind)
      .filter(({ metadata }) => metadata.name.includes(suffix));
    assert.ok(gone.length > 0);
    for (const object of gone) await cluster.user.delete(refOf(object), options);
    for (const { metadata } of gone) {
      await job.until(`another ${kind} ${metadata.name}`, () => {
        const uid = uidsOf(kind).get(metadata.name);
        return uid !== undefined && uid !== old.get(metadata.name);
      });
    }
  }

  /** The same run, with all of its pods ready; those named are other ones than before. */
  async function stillRuns(before: Map<string, string>, restarted: RegExp | null): Promise<void> {
    await job.until('three pods that are ready', () => job.pods.filter(isReady).length === 3);
    await job.runs(1);
    assert.deepEqual([...job.faults, ...job.jobs.faults], []);
    assert.deepEqual(
      job.jobs.starts.map(({ run }) => run),
      [1],
    );
    const now = podUids();
    for (const [name, uid] of before) {
      const same = now.get(name) === uid;
      assert.equal(same, restarted === null || !restarted.test(name), `${name} restarted`);
    }
  }

  it('Services and the ConfigMap come back, no pod restarts', async () => {
    const pods = podUids();
    await deleted('Service', 'user-events');
    await deleted('ConfigMap', 'user-events');
    await stillRuns(pods, null);
  });

  it('StatefulSets without their pods are adopted, no pod restarts', async () => {
    const pods = podUids();
    await deleted('StatefulSet', 'user-events', { propagation: 'Orphan' });
    const sets = [...uidsOf('StatefulSet').values()];
    await job.until('the adoption of the pods', () =>
      job.pods.every(({ metadata }) =>
        metadata.ownerReferences?.some(({ uid }) => sets.includes(uid)),
      ),
    );
    await stillRuns(pods, null);
  });

  it('a StatefulSet with its pods comes back, the other one stays', async () => {
    const pods = podUids();
    await deleted('StatefulSet', 'taskmanager', { propagation: 'Background' });
    await stillRuns(pods, /taskmanager/);
    const next = podUids();
    await deleted('StatefulSet', 'jobmanager', { propagation: 'Background' });
    await stillRuns(next, /jobmanager/);
  });

  it('a Secret comes back for the pod that waits for it', async () => {
    const pods = podUids();
    const [secret] = cluster.standIn.in(job.namespace, 'Secret');
    assert.ok(secret);
    await cluster.user.delete(refOf(secret));
    const [waiting] = job.pods.filter(({ metadata }) => metadata.name.endsWith('taskmanager-1'));
    assert.ok(waiting);
    await cluster.user.delete(refOf(waiting));
    const gone = waiting.metadata.uid;
    await job.until('the end of the pod', () => ![...podUids().values()].includes(gone ?? ''));
    await job.until('the Secret', () => uidsOf('Secret').has(secret.metadata.name));
    await stillRuns(pods, /taskmanager-1/);
  });
});

describe('two operators at once', () => {
  /** Which of them wrote, in order. */
  const writers: string[] = [];

  function recorded(identity: string, kube: KubeApi): KubeApi {
    const wrote = <T>(answer: Promise<T>): Promise<T> => {
      writers.push(identity);
      return answer;
    };
    return {
      get: (ref) => kube.get(ref),
      apply: (object, options) => wrote(kube.apply(object, options)),
      create: (object) => wrote(kube.create(object)),
      patch: (ref, patch, subresource) => wrote(kube.patch(ref, patch, subresource)),
      delete: (ref, options) => wrote(kube.delete(ref, options)),
      event: (note) => kube.event(note),
    };
  }

  async function started(identity: string, job: OperatedJob) {
    const stop = new AbortController();
    const operator = new Operator({
      env: realEnv,
      log: cluster.log,
      source: await kubeconfigSource(cluster.plane.kubeconfig),
      options: parseOptions([
        ...['--namespaces', job.namespace, '--identity', identity],
        ...['--lease-namespace', LEASE.namespace, '--lease-name', LEASE.name],
        ...['--metrics-address', '0', '--health-address', '0', '--lease-duration', '15s'],
        ...['--renew-deadline', '10s', '--retry-period', '500ms'],
      ]),
      reconcile: ({ kube, caches, env }) => {
        const deps = {
          env,
          kube: recorded(identity, kube),
          caches,
          jobManager: job.jobs,
          settings: SETTINGS,
          memories: new Map(),
        };
        return (key) => {
          const [namespace = '', name = ''] = key.split('/');
          return reconcile(deps, { namespace, name });
        };
      },
    });
    const ended = operator.run(stop.signal);
    return {
      async stop(): Promise<number> {
        stop.abort();
        return await ended;
      },
    };
  }

  it('one acts, its Lease is deleted under it, and the other goes on after it', async () => {
    const job = cluster.job('two');
    const both = await Promise.all([started('a', job), started('b', job)]);
    try {
      await job.create();
      await job.runs(1);
      const [leader = ''] = writers;
      await cluster.user.delete(LEASE);
      await job.edit({ state: { ttl: '20m' } });
      await job.runs(2);
      const lease = await cluster.user.get<Lease>(LEASE);
      assert.match(lease?.spec?.holderIdentity ?? '', new RegExp(`^${leader}_`));
      assert.deepEqual([...new Set(writers)], [leader]);

      const handedOver = writers.length;
      const [first, other] = leader === 'a' ? [both[0], 'b'] : [both[1], 'a'];
      assert.equal(await first.stop(), 0);
      await job.edit({ suspend: true });
      await job.until('the suspension', () => job.seen?.status?.state === 'Suspended');
      assert.deepEqual([...new Set(writers.slice(handedOver))].slice(-1), [other]);
      const order = writers.map((writer, index) => writer !== writers[index - 1]);
      assert.equal(order.filter(Boolean).length, 2, 'they took turns more than once');
      assert.deepEqual([...job.faults, ...job.jobs.faults], []);
    } finally {
      await Promise.all(both.map((one) => one.stop()));
    }
  });
});
