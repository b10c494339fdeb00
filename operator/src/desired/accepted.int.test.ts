/**
 * A real API server takes the objects as they are rendered: no field is unknown, applying them
 * again changes nothing, what others add stays, and the pods pass `enforce=restricted`.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { V1StatefulSet } from '@kubernetes/client-node';
import {
  type ControlPlane,
  startControlPlane,
} from '../../../e2e/testbed/kubernetes/control-plane.ts';
import type { KubeObject } from '../kube/port.ts';
import type { DeployedJob } from './deployed-job.ts';
import { desiredObjects } from './desired.ts';
import { jobOf, MINIMAL_SPEC, SETTINGS, sampleJob } from './job-for-tests.ts';
import type { Typed } from './names.ts';

const NAMESPACE = 'triggers';
const APPLY = ['apply', '--server-side', '--field-manager=triggerjob-operator'];

let plane: ControlPlane;

before(async () => {
  plane = await startControlPlane();
  await plane.kubectl(['create', 'namespace', NAMESPACE]);
  const label = 'pod-security.kubernetes.io/enforce=restricted';
  await plane.kubectl(['label', 'namespace', NAMESPACE, label]);
});

after(async () => {
  await plane?.stop();
});

/** Uses everything that a spec can say of pods. */
const demanding = (): DeployedJob =>
  jobOf(
    {
      ...MINIMAL_SPEC,
      image: 'registry.example/worker:2',
      imagePullPolicy: 'Always',
      imagePullSecrets: [{ name: 'registry' }],
      serviceAccount: { annotations: { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::1:role/j' } },
      podTemplate: {
        labels: { team: 'growth' },
        nodeSelector: { disk: 'nvme' },
        tolerations: [{ key: 'dedicated', operator: 'Exists' }],
        env: [{ name: 'HTTPS_PROXY', value: 'http://proxy:3128' }],
        topologySpreadConstraints: [
          { maxSkew: 1, topologyKey: 'rack', whenUnsatisfiable: 'ScheduleAnyway' },
        ],
      },
      taskManager: {
        tmp: { size: '5Gi', storageClassName: 'standard' },
        logs: { size: 1_000_000_000 },
        resources: { limits: { cpu: 2, memory: '4Gi', 'ephemeral-storage': '10Gi' } },
      },
    },
    { name: 'demanding' },
  );

async function apply(objects: KubeObject[]): Promise<KubeObject[]> {
  const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
  const answer = JSON.parse(await plane.kubectl([...APPLY, '-o', 'json', '-f', '-'], list));
  return answer.items;
}

/** As the StatefulSet controller makes them, its claims among the volumes. */
function podsOf(job: DeployedJob) {
  const sets = desiredObjects(job, { run: 1 }, SETTINGS).filter(
    ({ kind }) => kind === 'StatefulSet',
  );
  return (sets as Typed<V1StatefulSet>[]).map(({ spec }) => {
    const { template, volumeClaimTemplates = [] } = structuredClone(spec!);
    const claims = volumeClaimTemplates.map(({ metadata }) => ({
      name: metadata?.name ?? '',
      persistentVolumeClaim: { claimName: 'claim' },
    }));
    const { containers, volumes = [] } = template.spec!;
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { ...template.metadata, name: 'pod-0', namespace: NAMESPACE },
      spec: { ...template.spec, containers, volumes: [...volumes, ...claims] },
    };
  });
}

/** As it would be; nothing is stored. */
const create = (pod: object): Promise<string> =>
  plane.kubectl(['create', '--dry-run=server', '-o', 'name', '-f', '-'], JSON.stringify(pod));

const JOBS: Record<string, () => DeployedJob> = {
  // Two samples have one name.
  first: () => sampleJob('first', 'first'),
  triggerjob: () => sampleJob('triggerjob'),
  small: () => sampleJob('small'),
  medium: () => sampleJob('medium'),
  large: () => sampleJob('large'),
  demanding,
};

describe('a real API server', () => {
  for (const [name, job] of Object.entries(JOBS)) {
    it(`takes the objects of ${name}, and finds nothing to change the second time`, async () => {
      const objects = desiredObjects(job(), { run: 1 }, SETTINGS);
      const first = await apply(objects);
      assert.equal(first.length, objects.length);
      const second = await apply(objects);
      const versions = (applied: KubeObject[]) =>
        applied.map(({ kind, metadata }) => [kind, metadata.name, metadata.resourceVersion]);
      assert.deepEqual(versions(second), versions(first));
    });

    it(`lets the pods of ${name} into a restricted namespace`, async () => {
      for (const pod of podsOf(job())) assert.match(await create(pod), /pod\/pod-0/);
    });
  }

  it('would not let them in as root', async () => {
    const [pod] = podsOf(sampleJob('small'));
    assert.ok(pod?.spec.securityContext);
    pod.spec.securityContext.runAsUser = 0;
    await assert.rejects(create(pod), /violates PodSecurity "restricted:latest": runAsUser=0/);
  });

  it('keeps what others add, and takes back what they change of ours', async () => {
    const objects = desiredObjects(sampleJob('small'), { run: 1 }, SETTINGS);
    await apply(objects);
    const set = 'statefulset/user-events-small-taskmanager';
    const inNamespace = (...args: string[]) => plane.kubectl(['-n', NAMESPACE, ...args]);
    await inNamespace('annotate', set, 'example.com/owner=growth');
    await inNamespace('scale', set, '--replicas=9');
    await assert.rejects(apply(objects), /conflict/);
    const forced = [...APPLY, '--force-conflicts', '-f', '-'];
    await plane.kubectl(forced, JSON.stringify({ kind: 'List', apiVersion: 'v1', items: objects }));
    const live = JSON.parse(await inNamespace('get', set, '-o', 'json'));
    assert.equal(live.spec.replicas, 2);
    assert.equal(live.metadata.annotations['example.com/owner'], 'growth');
  });

  it('refuses another disk in place, which the immutable hash tells beforehand', async () => {
    const withSize = (size: string) =>
      desiredObjects(
        jobOf({ ...MINIMAL_SPEC, taskManager: { localState: { size } } }, { name: 'disk' }),
        { run: 1 },
        SETTINGS,
      );
    await apply(withSize('1Gi'));
    await assert.rejects(apply(withSize('2Gi')), /updates to statefulset spec .* are forbidden/);
  });
});
