/** What holds for the objects of every job, and what a change of the job changes in them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { V1PodSpec, V1StatefulSet } from '@kubernetes/client-node';
import fc from 'fast-check';
import { parse } from 'yaml';
import type { KubeObject } from '../kube/port.ts';
import type { DeployedJob } from './deployed-job.ts';
import { type Deployment, desiredObjects, isCreateOnly } from './desired.ts';
import { type Fields, jobOf, MINIMAL_SPEC, SETTINGS } from './job-for-tests.ts';
import type { Role, Typed } from './names.ts';
import { restrictedFaults } from './restricted-pods.ts';

type StatefulSet = Typed<V1StatefulSet>;

const render = (job: DeployedJob, deployment: Partial<Deployment> = {}): KubeObject[] =>
  desiredObjects(job, { run: 1, ...deployment }, SETTINGS);

function find<T extends KubeObject>(objects: KubeObject[], kind: string, name: string): T {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  assert.ok(found, `${kind} ${name}`);
  return found as T;
}

const setOf = (objects: KubeObject[], role: Role): StatefulSet =>
  find<StatefulSet>(objects, 'StatefulSet', `user-events-${role}`);

function podOf(objects: KubeObject[], role: Role): V1PodSpec {
  const pod = setOf(objects, role).spec?.template.spec;
  assert.ok(pod);
  return pod;
}

const templates = (objects: KubeObject[]): string =>
  JSON.stringify([
    setOf(objects, 'jobmanager').spec?.template,
    setOf(objects, 'taskmanager').spec?.template,
  ]);

const argsOf = (objects: KubeObject[], role: Role): string =>
  (podOf(objects, role).containers[0]?.args ?? []).join(' ');

const word = fc.stringMatching(/^[a-z]([-a-z0-9]{0,10}[a-z0-9])?$/);
const labels = fc.dictionary(word, word, { maxKeys: 3 });
const podTemplates = fc.record(
  {
    labels,
    annotations: fc.oneof(labels, fc.constant({ 'triggerjob.io/run': '99' })),
    nodeSelector: labels,
    tolerations: fc.array(fc.record({ key: word, operator: fc.constant('Exists') })),
    priorityClassName: word,
    env: fc.uniqueArray(
      fc.record({ name: fc.constantFrom('A', 'B', 'NODE_OPTIONS'), value: word }),
      {
        selector: ({ name }) => name,
      },
    ),
  },
  { requiredKeys: [] },
);
const volume = fc.record(
  { storageClassName: word, size: fc.constantFrom('1Gi', '50Gi', 5_000_000) },
  { requiredKeys: ['size'] },
);
/** Jobs that use what a cluster offers, in any combination. */
const jobs: fc.Arbitrary<DeployedJob> = fc
  .record({
    name: fc.stringMatching(/^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$/),
    replicas: fc.integer({ min: 1, max: 100 }),
    jobManagers: fc.integer({ min: 1, max: 9 }),
    slots: fc.integer({ min: 1, max: 4 }),
    tmp: fc.option(volume, { nil: undefined }),
    logs: fc.option(volume, { nil: undefined }),
    credentials: fc.option(word, { nil: undefined }),
    tls: fc.boolean(),
    templates: fc.tuple(podTemplates, podTemplates, podTemplates),
    fenced: fc.boolean(),
    account: fc.option(word, { nil: undefined }),
  })
  .map((drawn) => {
    const { name, credentials, templates: drawnTemplates } = drawn;
    const [common, jobManager, taskManager] = drawnTemplates;
    const s3 = credentials === undefined ? {} : { credentialsRef: { name: credentials } };
    const spec = {
      ...MINIMAL_SPEC,
      checkpointing: { directory: 's3://bucket/checkpoints', s3 },
      exchange: { bufferSize: 1024 },
      security: { internal: { enabled: drawn.tls } },
      podTemplate: common,
      networkPolicy: { enabled: drawn.fenced },
      ...(drawn.account === undefined ? {} : { serviceAccount: { name: drawn.account } }),
      jobManager: { replicas: drawn.jobManagers, podTemplate: jobManager },
      taskManager: {
        podTemplate: taskManager,
        replicas: drawn.replicas,
        slots: drawn.slots,
        ...(drawn.tmp === undefined ? {} : { tmp: drawn.tmp }),
        ...(drawn.logs === undefined ? {} : { logs: drawn.logs }),
      },
    };
    return jobOf(spec, { name });
  });

describe('the objects of every job', () => {
  const eachObject = (check: (object: KubeObject, job: DeployedJob) => void): void =>
    fc.assert(
      fc.property(jobs, fc.nat({ max: 1_000_000 }), (job, run) => {
        for (const object of desiredObjects(job, { run }, SETTINGS)) check(object, job);
      }),
    );

  it('belong to their TriggerJob', () =>
    eachObject(({ metadata }, { name, namespace, uid }) => {
      assert.equal(metadata.namespace, namespace);
      const [owner, ...others] = metadata.ownerReferences ?? [];
      assert.deepEqual(others, []);
      assert.deepEqual(owner, {
        apiVersion: 'triggerjob.io/v1alpha1',
        kind: 'TriggerJob',
        name,
        uid,
        controller: true,
        blockOwnerDeletion: true,
      });
    }));

  it('bear the labels and the hash by which they are found', () =>
    eachObject(({ metadata }, { name }) => {
      const { labels: found = {}, annotations = {} } = metadata;
      assert.equal(found['app.kubernetes.io/name'], 'triggerjob');
      assert.equal(found['app.kubernetes.io/instance'], name);
      assert.equal(found['app.kubernetes.io/managed-by'], 'triggerjob-operator');
      assert.equal(found['triggerjob.io/job'], name);
      assert.match(annotations['triggerjob.io/desired-hash'] ?? '', /^[0-9a-f]{16}$/);
    }));

  it('have names that fit into labels, also with what Kubernetes adds', () =>
    eachObject(({ kind, metadata }, { name }) => {
      // controller-revision-hash of a pod: the StatefulSet's name, a dash and ten characters.
      const longest = kind === 'StatefulSet' ? 63 - 11 : 63;
      assert.ok(metadata.name.length <= longest, metadata.name);
      assert.ok(metadata.name.startsWith(`${name}-`), metadata.name);
    }));

  it('are each there once', () =>
    fc.assert(
      fc.property(jobs, (job) => {
        const names = render(job).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
        assert.equal(new Set(names).size, names.length);
      }),
    ));

  it('have pods that the restricted Pod Security Standard lets in, with a read-only root', () =>
    eachObject((object) => {
      if (object.kind !== 'StatefulSet') return;
      const pod = (object as StatefulSet).spec?.template.spec;
      assert.ok(pod);
      assert.deepEqual(restrictedFaults(pod), []);
    }));

  it('have pods that their selectors find, whatever labels the user adds', () =>
    eachObject((object) => {
      if (object.kind !== 'StatefulSet') return;
      const { selector, template } = (object as StatefulSet).spec ?? {};
      const found = Object.entries(selector?.matchLabels ?? {});
      assert.ok(found.length > 0);
      for (const [key, value] of found) assert.equal(template?.metadata?.labels?.[key], value);
    }));

  it('mount each volume that they have, each path once, and claim no other', () =>
    eachObject((object) => {
      if (object.kind !== 'StatefulSet') return;
      const { template, volumeClaimTemplates = [] } = (object as StatefulSet).spec ?? {};
      const mounts = template?.spec?.containers[0]?.volumeMounts ?? [];
      const volumes = (template?.spec?.volumes ?? []).map(({ name }) => name);
      const claims = volumeClaimTemplates.map(({ metadata }) => metadata?.name ?? '');
      const names = [...volumes, ...claims];
      assert.deepEqual(names.toSorted(), mounts.map(({ name }) => name).toSorted());
      assert.equal(new Set(mounts.map(({ mountPath }) => mountPath)).size, mounts.length);
    }));
});

describe('a pod that is not restricted', () => {
  const broken: [string, (pod: V1PodSpec) => void][] = [
    ['hostNetwork', (pod) => Object.assign(pod, { hostNetwork: true })],
    ['volume v: hostPath', (pod) => pod.volumes?.push({ name: 'v', hostPath: { path: '/' } })],
    [
      'jobmanager: runAsNonRoot',
      (pod) => {
        delete pod.securityContext?.runAsNonRoot;
        delete pod.containers[0]?.securityContext?.runAsNonRoot;
      },
    ],
    ['jobmanager: seccompProfile', (pod) => delete pod.securityContext?.seccompProfile],
    [
      'jobmanager: capabilities.drop',
      (pod) => delete pod.containers[0]?.securityContext?.capabilities,
    ],
  ];
  for (const [fault, breakIt] of broken) {
    it(`is found: ${fault}`, () => {
      const pod = structuredClone(podOf(render(jobOf()), 'jobmanager'));
      breakIt(pod);
      assert.deepEqual(restrictedFaults(pod), [fault]);
    });
  }
});

describe('a change of the job', () => {
  const spec = (patch: Fields): Fields => ({ ...MINIMAL_SPEC, ...patch });

  it('of the script alone leaves the pods as they are, byte for byte', () => {
    const [before, after] = ['event.a', 'event.b'].map((script) =>
      render(jobOf(spec({ filter: { script } }))),
    );
    assert.ok(before && after);
    assert.equal(templates(after), templates(before));
    const differing = after.filter((object, index) => {
      return JSON.stringify(object) !== JSON.stringify(before[index]);
    });
    assert.deepEqual(
      differing.map(({ kind }) => kind),
      ['ConfigMap'],
    );
  });

  it('of the number of TaskManagers changes that number and the ConfigMap', () => {
    const scaled = (replicas: number) => render(jobOf(spec({ taskManager: { replicas } })));
    const [two, five] = [scaled(2), scaled(5)];
    assert.equal(templates(five), templates(two));
    assert.equal(setOf(two, 'taskmanager').spec?.replicas, 2);
    assert.equal(setOf(five, 'taskmanager').spec?.replicas, 5);
  });

  it('of the number of JobManagers changes that number and the ConfigMap', () => {
    const scaled = (replicas: number) => render(jobOf(spec({ jobManager: { replicas } })));
    const [one, three] = [scaled(1), scaled(3)];
    assert.equal(templates(three), templates(one));
    assert.deepEqual(
      [setOf(one, 'jobmanager').spec?.replicas, setOf(three, 'jobmanager').spec?.replicas],
      [1, 3],
    );
  });

  it('to a new run restarts JobManagers alone', () => {
    const [first, second] = [render(jobOf()), render(jobOf(), { run: 2 })];
    assert.match(argsOf(second, 'jobmanager'), /--run 2( |$)/);
    assert.equal(
      setOf(second, 'jobmanager').spec?.template.metadata?.annotations?.['triggerjob.io/run'],
      '2',
    );
    assert.deepEqual(setOf(second, 'taskmanager').spec, setOf(first, 'taskmanager').spec);
  });

  it('to no pods keeps everything else', () => {
    const [up, down] = [
      render(jobOf()),
      render(jobOf(), { replicas: { jobManagers: 0, taskManagers: 0 } }),
    ];
    const rest = (objects: KubeObject[]) => objects.filter(({ kind }) => kind !== 'StatefulSet');
    assert.deepEqual(rest(down), rest(up));
    assert.equal(templates(down), templates(up));
    assert.deepEqual(
      [setOf(down, 'jobmanager').spec?.replicas, setOf(down, 'taskmanager').spec?.replicas],
      [0, 0],
    );
  });

  it('of the disk, and only that, shows in the hash of what cannot be changed in place', () => {
    const hashOf = (patch: Fields) =>
      setOf(render(jobOf(spec(patch))), 'taskmanager').metadata.annotations?.[
        'triggerjob.io/immutable-hash'
      ];
    const plain = hashOf({});
    assert.equal(hashOf({ taskManager: { replicas: 3, slots: 2 } }), plain);
    assert.notEqual(hashOf({ taskManager: { localState: { size: '7Gi' } } }), plain);
    assert.notEqual(hashOf({ taskManager: { localState: { storageClassName: 'nvme' } } }), plain);
  });

  it('is without effect on the hash when only the order of its keys differs', () => {
    const image = 'a:1';
    const hash = (patch: Fields) =>
      render(jobOf(spec(patch)))
        // It holds the job as its user wrote it, the order included.
        .filter(({ kind }) => kind !== 'ConfigMap')
        .map(({ metadata }) => metadata.annotations?.['triggerjob.io/desired-hash']);
    const one = { image, podTemplate: { nodeSelector: { a: '1', b: '2' } } };
    const other = { podTemplate: { nodeSelector: { b: '2', a: '1' } }, image };
    assert.deepEqual(hash(one), hash(other));
    assert.notDeepEqual(hash(one), hash({ ...one, image: 'a:2' }));
  });
});

describe('a deployment', () => {
  const documentOf = (objects: KubeObject[]): { spec: Fields; metadata: Fields } => {
    const map = find<KubeObject & { data: Record<string, string> }>(
      objects,
      'ConfigMap',
      'user-events-config',
    );
    return parse(map.data['triggerjob.yaml'] ?? '');
  };

  it('starts without state only when told so', () => {
    assert.doesNotMatch(argsOf(render(jobOf()), 'jobmanager'), /--start/);
    assert.match(argsOf(render(jobOf(), { stateless: true }), 'jobmanager'), /--start stateless$/);
  });

  it('gives the job as its user wrote it, and the savepoint it begins with', () => {
    const written = { ...MINIMAL_SPEC, restore: { savepoint: 's3://bucket/old/' } };
    assert.deepEqual(documentOf(render(jobOf(written))).spec, written);
    const { spec, metadata } = documentOf(
      render(jobOf(written), { savepoint: 's3://bucket/new/' }),
    );
    assert.deepEqual(spec, { ...written, restore: { savepoint: 's3://bucket/new/' } });
    assert.deepEqual(metadata, { name: 'user-events', namespace: 'triggers' });
  });

  it('has slots x replicas subtasks, and tells TaskManagers of any number of JobManagers', () => {
    const job = jobOf({
      ...MINIMAL_SPEC,
      jobManager: { replicas: 3 },
      taskManager: { replicas: 5, slots: 2 },
    });
    assert.equal(job.plan.parallelism, 10);
    const args = argsOf(render(job), 'taskmanager');
    const leaders = ['user-events-jobmanager-0.', 'user-events-jobmanager-1.', ''].map(
      (pod) => `${pod}user-events-jobmanager.triggers.svc:6123`,
    );
    assert.ok(args.includes(`--jobmanager ${leaders.join(',')} --slots 2 `), args);
    const settings = { ...SETTINGS, clusterDomain: 'cluster.local' };
    const named = desiredObjects(job, { run: 1 }, settings);
    assert.match(
      argsOf(named, 'taskmanager'),
      /-1\.user-events-jobmanager\.triggers\.svc\.cluster\.local:6123/,
    );
    assert.match(
      argsOf(named, 'jobmanager'),
      /--advertise-host \$\(POD_NAME\)\.\S+\.svc\.cluster\.local /,
    );
  });

  it('understands Flink keys as the worker does', () => {
    const flinkConfiguration = {
      'taskmanager.numberOfTaskSlots': 3,
      'taskmanager.memory.process.size': '3g',
    };
    const objects = render(jobOf({ ...MINIMAL_SPEC, flinkConfiguration }));
    assert.match(argsOf(objects, 'taskmanager'), /--slots 3 /);
    const { limits, requests } = podOf(objects, 'taskmanager').containers[0]?.resources ?? {};
    assert.equal(limits?.memory, String(3 * 1024 ** 3));
    assert.equal(requests?.cpu, '3');
  });

  it('speaks plain TCP, without a secret, where TLS is switched off', () => {
    const objects = render(jobOf({ ...MINIMAL_SPEC, security: { internal: { enabled: false } } }));
    for (const role of ['jobmanager', 'taskmanager'] as const) {
      assert.doesNotMatch(argsOf(objects, role), /--secret-file/);
    }
    assert.match(argsOf(objects, 'jobmanager'), /--rest-token-file/);
  });

  it('creates its Secret and applies everything else', () => {
    const created = render(jobOf()).filter(isCreateOnly);
    assert.deepEqual(
      created.map(({ kind }) => kind),
      ['Secret'],
    );
  });
});
