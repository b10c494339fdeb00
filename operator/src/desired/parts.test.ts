/** The single objects and parts of a pod, where they depend on what the spec says. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type {
  V1NetworkPolicyPeer,
  V1PodSpec,
  V1Role,
  V1StatefulSet,
} from '@kubernetes/client-node';
import type { KubeObject } from '../kube/port.ts';
import type { DeployedJob } from './deployed-job.ts';
import { deployedJob } from './deployed-job.ts';
import { desiredObjects, type OperatorSettings } from './desired.ts';
import { type Fields, jobOf, MINIMAL_SPEC, SETTINGS, sampleJob } from './job-for-tests.ts';
import type { Role, Typed } from './names.ts';
import { parseRestClients } from './network-policy.ts';
import { parseHmacKeys, restTokens } from './secret.ts';

interface Rule {
  from?: V1NetworkPolicyPeer[];
  ports: { port: number }[];
}

const render = (job: DeployedJob, settings: Partial<OperatorSettings> = {}): KubeObject[] =>
  desiredObjects(job, { run: 1 }, { ...SETTINGS, ...settings });

const ofKind = <T extends KubeObject>(objects: KubeObject[], kind: string): T[] =>
  objects.filter((object) => object.kind === kind) as T[];

const withSpec = (patch: Fields): DeployedJob => jobOf({ ...MINIMAL_SPEC, ...patch });

function setOf(job: DeployedJob, role: Role, settings: Partial<OperatorSettings> = {}) {
  const sets = ofKind<Typed<V1StatefulSet>>(render(job, settings), 'StatefulSet');
  const found = sets.find(({ metadata }) => metadata.name.endsWith(role));
  assert.ok(found?.spec);
  return found.spec;
}

function podOf(job: DeployedJob, role: Role): V1PodSpec {
  const pod = setOf(job, role).template.spec;
  assert.ok(pod);
  return pod;
}

function containerOf(job: DeployedJob, role: Role) {
  const [container] = podOf(job, role).containers;
  assert.ok(container);
  return container;
}

describe('volumes', () => {
  const volume = (job: DeployedJob, name: string) =>
    podOf(job, 'taskmanager').volumes?.find((found) => found.name === name);

  it('put RocksDB on a claim of the class and size of the spec, that goes with the job', () => {
    const localState = { storageClassName: 'local-nvme', size: '200Gi', directory: '/mnt/state' };
    const job = withSpec({ taskManager: { localState } });
    const { volumeClaimTemplates: [claim] = [], ...set } = setOf(job, 'taskmanager');
    assert.equal(claim?.spec?.storageClassName, 'local-nvme');
    assert.equal(claim?.spec?.resources?.requests?.storage, '200Gi');
    assert.deepEqual(set.persistentVolumeClaimRetentionPolicy, {
      whenDeleted: 'Delete',
      whenScaled: 'Retain',
    });
    const mount = containerOf(job, 'taskmanager').volumeMounts?.find(
      ({ name }) => name === 'local',
    );
    assert.equal(mount?.mountPath, '/mnt/state');
    assert.match(
      containerOf(job, 'taskmanager').args?.join(' ') ?? '',
      /--local-state-dir \/mnt\/s/,
    );
  });

  it('leave the class to the cluster where the spec names none', () => {
    const [claim] = setOf(jobOf(), 'taskmanager').volumeClaimTemplates ?? [];
    assert.equal(claim?.spec && 'storageClassName' in claim.spec, false);
    assert.equal(claim?.spec?.resources?.requests?.storage, '100Gi');
  });

  it('take /tmp and logs from the node, bounded, or from a class for the life of the pod', () => {
    const tmp = { size: '50Gi' };
    const logs = { size: '100Gi', storageClassName: 'standard' };
    const job = withSpec({ taskManager: { tmp, logs } });
    assert.deepEqual(volume(job, 'tmp')?.emptyDir, { sizeLimit: '50Gi' });
    const claim = volume(job, 'logs')?.ephemeral?.volumeClaimTemplate?.spec;
    assert.equal(claim?.storageClassName, 'standard');
    assert.equal(claim?.resources?.requests?.storage, '100Gi');
    assert.deepEqual(volume(jobOf(), 'tmp')?.emptyDir, { sizeLimit: '1Gi' });
  });

  it('hold the Secrets that the spec names, where the worker looks for them, each once', () => {
    const kafka = {
      bootstrapServers: 'kafka:9092',
      topic: 'events',
      securityRef: { name: 'kafka-credentials' },
      tls: {},
    };
    const job = withSpec({
      source: { kafka },
      deadLetter: { kafka: { ...kafka, topic: 'letters' } },
      action: {
        webhook: { url: 'https://a.example/', signingSecretRef: { name: 'hook', key: 'k' } },
      },
      filter: { scriptFrom: { configMapKeyRef: { name: 'filters', key: 'us.av' } } },
      checkpointing: { directory: 's3://bucket/c', s3: { credentialsRef: { name: 's3' } } },
    });
    const mounts = (role: Role) =>
      (containerOf(job, role).volumeMounts ?? [])
        .map(({ mountPath }) => mountPath)
        .filter((path) => /triggerjob\/(secrets|config)\//.test(path));
    assert.deepEqual(mounts('jobmanager'), [
      '/etc/triggerjob/secrets/kafka-credentials',
      '/etc/triggerjob/secrets/s3',
      '/etc/triggerjob/config/filters',
    ]);
    assert.deepEqual(mounts('taskmanager'), [
      '/etc/triggerjob/secrets/hook',
      '/etc/triggerjob/secrets/kafka-credentials',
      '/etc/triggerjob/secrets/s3',
    ]);
    assert.ok(
      job.plan.checkpointing.s3.credentials?.accessKey.path.startsWith(
        mounts('jobmanager')[1] ?? '-',
      ),
    );
    const secrets = (podOf(job, 'taskmanager').volumes ?? []).flatMap(({ secret }) => secret ?? []);
    assert.ok(secrets.every(({ defaultMode }) => defaultMode === 0o440));
  });
});

describe('podTemplate', () => {
  const toleration = (key: string) => ({ key, operator: 'Exists' });

  it("of the role goes over the common one, and over neither goes the operator's own", () => {
    const job = withSpec({
      podTemplate: {
        labels: { team: 'growth' },
        annotations: { a: 'common', b: 'common', 'triggerjob.io/run': '7' },
        nodeSelector: { disk: 'nvme' },
        tolerations: [toleration('one')],
        priorityClassName: 'low',
        env: [{ name: 'HTTPS_PROXY', value: 'common' }],
      },
      taskManager: {
        podTemplate: {
          annotations: { b: 'own' },
          nodeSelector: { zone: 'a' },
          tolerations: [toleration('two')],
          priorityClassName: 'high',
          env: [{ name: 'HTTPS_PROXY', value: 'own' }],
        },
      },
    });
    const { template } = setOf(job, 'taskmanager');
    assert.equal(template.metadata?.labels?.team, 'growth');
    assert.equal(template.metadata?.labels?.['app.kubernetes.io/component'], 'taskmanager');
    assert.equal(template.metadata?.annotations?.a, 'common');
    assert.equal(template.metadata?.annotations?.b, 'own');
    const pod = podOf(job, 'taskmanager');
    assert.deepEqual(pod.nodeSelector, { disk: 'nvme', zone: 'a' });
    assert.deepEqual(pod.tolerations, [toleration('two')]);
    assert.equal(pod.priorityClassName, 'high');
    const env = new Map(pod.containers[0]?.env?.map((variable) => [variable.name, variable.value]));
    assert.equal(env.get('HTTPS_PROXY'), 'own');
    assert.equal(podOf(job, 'jobmanager').priorityClassName, 'low');
    const annotations = setOf(job, 'jobmanager').template.metadata?.annotations;
    assert.equal(annotations?.['triggerjob.io/run'], '1');
  });

  it('keeps pods of a role apart where there are nodes, and requires it nowhere', () => {
    for (const role of ['jobmanager', 'taskmanager'] as const) {
      const { affinity, topologySpreadConstraints = [] } = podOf(jobOf(), role);
      const { podAntiAffinity } = affinity ?? {};
      assert.equal(podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution, undefined);
      const [preferred] = podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
      assert.equal(preferred?.podAffinityTerm.topologyKey, 'kubernetes.io/hostname');
      const selected = preferred?.podAffinityTerm.labelSelector?.matchLabels;
      assert.equal(selected?.['app.kubernetes.io/component'], role);
      assert.deepEqual(
        topologySpreadConstraints.map(({ topologyKey, whenUnsatisfiable }) => [
          topologyKey,
          whenUnsatisfiable,
        ]),
        [['topology.kubernetes.io/zone', 'ScheduleAnyway']],
      );
    }
  });

  it('may put another rule in the place of these, and add one of another kind', () => {
    const nodeAffinity = {
      requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{}] },
    };
    const spread = { maxSkew: 2, topologyKey: 'rack', whenUnsatisfiable: 'DoNotSchedule' };
    const job = withSpec({
      podTemplate: { affinity: { nodeAffinity }, topologySpreadConstraints: [spread] },
    });
    const pod = podOf(job, 'taskmanager');
    const [found] = pod.topologySpreadConstraints ?? [];
    assert.deepEqual(
      { ...found, labelSelector: undefined },
      { ...spread, labelSelector: undefined },
    );
    assert.equal(found?.labelSelector?.matchLabels?.['app.kubernetes.io/component'], 'taskmanager');
    assert.deepEqual(pod.affinity?.nodeAffinity, nodeAffinity);
    assert.ok(pod.affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution);
    const none = withSpec({ podTemplate: { affinity: { podAntiAffinity: {} } } });
    assert.deepEqual(podOf(none, 'taskmanager').affinity, { podAntiAffinity: {} });
  });

  it('takes image, pull policy and secrets from the spec, the image else from the operator', () => {
    const imagePullSecrets = [{ name: 'registry' }];
    const job = withSpec({ image: 'own:2', imagePullPolicy: 'Never', imagePullSecrets });
    assert.equal(containerOf(job, 'taskmanager').image, 'own:2');
    assert.equal(containerOf(job, 'jobmanager').imagePullPolicy, 'Never');
    assert.deepEqual(podOf(job, 'jobmanager').imagePullSecrets, imagePullSecrets);
    assert.equal(containerOf(jobOf(), 'jobmanager').image, SETTINGS.workerImage);
  });
});

describe('resources', () => {
  const resourcesOf = (
    role: 'jobManager' | 'taskManager',
    resources: Fields,
    more: Fields = {},
  ) => {
    const job = withSpec({ [role]: { ...more, resources } });
    return containerOf(job, role === 'jobManager' ? 'jobmanager' : 'taskmanager').resources;
  };

  it('are those of Flink where the spec is silent', () => {
    assert.deepEqual(containerOf(jobOf(), 'jobmanager').resources, {
      requests: { cpu: '1', memory: '1600Mi' },
      limits: { memory: '1600Mi' },
    });
    assert.deepEqual(resourcesOf('taskManager', {}, { slots: 2 }), {
      requests: { cpu: '2', memory: '4096Mi' },
      limits: { memory: '4096Mi' },
    });
  });

  it('limit memory to what the process divides, and request it', () => {
    assert.deepEqual(resourcesOf('taskManager', { requests: { memory: '6Gi' } }), {
      requests: { cpu: '4', memory: '6Gi' },
      limits: { memory: '6Gi' },
    });
    const limits = { memory: '6Gi', cpu: 3, 'ephemeral-storage': '10Gi' };
    assert.deepEqual(resourcesOf('taskManager', { limits }), {
      requests: { cpu: '3', memory: '6Gi', 'ephemeral-storage': '10Gi' },
      limits: { cpu: '3', memory: '6Gi', 'ephemeral-storage': '10Gi' },
    });
  });

  it("give three quarters of a JobManager's memory to V8, unless the user says otherwise", () => {
    const heap = (job: DeployedJob) =>
      containerOf(job, 'jobmanager').env?.find(({ name }) => name === 'NODE_OPTIONS')?.value;
    assert.equal(heap(jobOf()), '--max-old-space-size=1200');
    const resources = { limits: { memory: '4Gi' } };
    assert.equal(heap(withSpec({ jobManager: { resources } })), '--max-old-space-size=3072');
    const env = [{ name: 'NODE_OPTIONS', value: '--trace-warnings' }];
    assert.equal(heap(withSpec({ podTemplate: { env } })), '--trace-warnings');
  });

  for (const [name, expected] of [
    ['small', { jobManagers: 2, taskManagers: 2, cpu: '4', memory: '8Gi', local: '50Gi' }],
    ['medium', { jobManagers: 2, taskManagers: 8, cpu: '8', memory: '32Gi', local: '100Gi' }],
    ['large', { jobManagers: 3, taskManagers: 32, cpu: '16', memory: '64Gi', local: '200Gi' }],
  ] as const) {
    it(`of the ${name} sample are those of the architecture's tables`, () => {
      const job = sampleJob(name);
      const set = setOf(job, 'taskmanager');
      const { requests, limits } = containerOf(job, 'taskmanager').resources ?? {};
      assert.deepEqual(requests, { cpu: expected.cpu, memory: expected.memory });
      assert.deepEqual(limits, requests);
      const [claim] = set.volumeClaimTemplates ?? [];
      assert.equal(claim?.spec?.resources?.requests?.storage, expected.local);
      assert.equal(claim?.spec?.storageClassName, 'local-nvme');
      assert.deepEqual(
        [setOf(job, 'jobmanager').replicas, set.replicas],
        [expected.jobManagers, expected.taskManagers],
      );
      const sizes = (podOf(job, 'taskmanager').volumes ?? []).flatMap(
        ({ name: volume, emptyDir }) => (emptyDir ? [[volume, emptyDir.sizeLimit]] : []),
      );
      assert.deepEqual(sizes, [
        ['tmp', '50Gi'],
        ['logs', '100Gi'],
      ]);
    });
  }
});

describe('access', () => {
  it('of a JobManager is its own Lease; RBAC has no names for create', () => {
    const [role, ...others] = ofKind<Typed<V1Role>>(render(jobOf()), 'Role');
    assert.deepEqual(others, []);
    assert.deepEqual(
      role?.rules?.map(({ resources, resourceNames, verbs }) => [resources, resourceNames, verbs]),
      [
        [['leases'], undefined, ['create']],
        [['leases'], ['user-events-leader'], ['get', 'update']],
      ],
    );
    assert.equal(podOf(jobOf(), 'jobmanager').automountServiceAccountToken, true);
  });

  it('of a TaskManager is none', () => {
    const pod = podOf(jobOf(), 'taskmanager');
    assert.equal(pod.automountServiceAccountToken, false);
    assert.equal(pod.serviceAccountName, 'user-events-taskmanager');
    const subjects = ofKind<KubeObject & { subjects: { name: string }[] }>(
      render(jobOf()),
      'RoleBinding',
    ).flatMap((binding) => binding.subjects);
    assert.deepEqual(
      subjects.map(({ name }) => name),
      ['user-events-jobmanager'],
    );
  });

  it("goes by the user's ServiceAccount where the spec names one, which stays theirs", () => {
    const job = withSpec({ serviceAccount: { name: 'with-s3-role' } });
    assert.deepEqual(ofKind(render(job), 'ServiceAccount'), []);
    assert.equal(podOf(job, 'taskmanager').serviceAccountName, 'with-s3-role');
    const annotations = { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::1:role/jobs' };
    const annotated = ofKind(
      render(withSpec({ serviceAccount: { annotations } })),
      'ServiceAccount',
    );
    assert.equal(annotated.length, 2);
    for (const { metadata } of annotated) {
      assert.equal(
        metadata.annotations?.['eks.amazonaws.com/role-arn'],
        'arn:aws:iam::1:role/jobs',
      );
    }
  });
});

describe('NetworkPolicies', () => {
  const rulesOf = (role: Role, settings: Partial<OperatorSettings> = {}): Rule[] => {
    const policies = ofKind<KubeObject & { spec: { ingress: Rule[]; policyTypes: string[] } }>(
      render(jobOf(), settings),
      'NetworkPolicy',
    );
    const policy = policies.find(({ metadata }) => metadata.name === `user-events-${role}`);
    assert.deepEqual(policy?.spec.policyTypes, ['Ingress']);
    return policy?.spec.ingress ?? [];
  };
  const roles = (rule: Rule | undefined) =>
    rule?.from?.map(
      ({ podSelector }) => podSelector?.matchLabels?.['app.kubernetes.io/component'] ?? 'operator',
    );
  const ports = (rules: Rule[]) => rules.map(({ ports: open }) => open.map(({ port }) => port));

  it('let TaskManagers call JobManagers and each other, and nobody else on these ports', () => {
    const [rpc, rest] = rulesOf('jobmanager');
    assert.deepEqual(ports(rulesOf('jobmanager')), [[6123], [8081]]);
    assert.deepEqual(roles(rpc), ['taskmanager']);
    assert.deepEqual(roles(rest), ['jobmanager', 'operator']);
    assert.deepEqual(ports(rulesOf('taskmanager')), [[6122]]);
    assert.deepEqual(roles(rulesOf('taskmanager')[0]), ['taskmanager']);
  });

  it('open REST to the operator in its own namespace, and to whom the installation names', () => {
    const prometheus = {
      namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } },
    };
    const from = rulesOf('jobmanager', { restClients: [prometheus] })[1]?.from ?? [];
    const [, operator, other] = from;
    assert.equal(
      operator?.namespaceSelector?.matchLabels?.['kubernetes.io/metadata.name'],
      'triggerjob-system',
    );
    assert.deepEqual(other, prometheus);
    const open = rulesOf('jobmanager', { restClients: 'anywhere' });
    assert.equal(open[1]?.from, undefined);
    assert.deepEqual(roles(open[0]), ['taskmanager']);
  });

  it('take whom the installation names as JSON', () => {
    assert.equal(parseRestClients('"anywhere"'), 'anywhere');
    assert.deepEqual(parseRestClients('[{"podSelector":{}}]'), [{ podSelector: {} }]);
    assert.deepEqual(parseRestClients(''), []);
    assert.throws(() => parseRestClients('{}'), /neither "anywhere" nor a list/);
  });

  it('are not there where the spec says so', () => {
    const job = withSpec({ networkPolicy: { enabled: false } });
    assert.deepEqual(ofKind(render(job), 'NetworkPolicy'), []);
  });
});

describe('the Secret of a job', () => {
  type Secret = KubeObject & { stringData: Record<string, string>; immutable: boolean };
  const [first, second] = ['a'.repeat(32), 'b'.repeat(32)];
  const secretOf = (hmacKeys: OperatorSettings['hmacKeys'], job = jobOf()): Secret => {
    const [secret] = ofKind<Secret>(render(job, { hmacKeys }), 'Secret');
    assert.ok(secret);
    return secret;
  };

  it('is the same each time, and another for another job, purpose or key', () => {
    const one = secretOf([first]);
    assert.deepEqual(secretOf([first]), one);
    const values = [
      ...Object.values(one.stringData),
      ...Object.values(secretOf([second]).stringData),
      ...Object.values(secretOf([first], jobOf(MINIMAL_SPEC, { uid: 'another' })).stringData),
    ];
    assert.equal(new Set(values).size, 6);
    for (const value of values) assert.match(value, /^[0-9a-f]{64}$/);
    assert.equal(one.immutable, true);
  });

  it('has another name, and the pods another template, when a key comes or goes', () => {
    const rotation: OperatorSettings['hmacKeys'][] = [
      [first],
      [first, second],
      [second, first],
      [second],
    ];
    const names = rotation.map((keys) => secretOf(keys).metadata.name);
    assert.equal(new Set(names).size, 4);
    for (const [index, hmacKeys] of rotation.entries()) {
      const { volumes = [] } = setOf(jobOf(), 'taskmanager', { hmacKeys }).template.spec ?? {};
      assert.ok(volumes.some(({ secret }) => secret?.secretName === names[index]));
    }
  });

  it('keeps pods of one step of a rotation and of the next one on speaking terms', () => {
    const transport = (keys: OperatorSettings['hmacKeys']) =>
      secretOf(keys).stringData.transport?.split('\n') ?? [];
    const steps = [transport([first, second]), transport([second, first])];
    const [old] = transport([first]);
    assert.ok(old && steps[0]?.[0] === old && steps[1]?.includes(old));
    assert.ok(steps[0]?.includes(transport([second])[0] ?? '-'));
    const tokens = restTokens([second, first], jobOf().uid);
    assert.deepEqual(tokens.toReversed(), restTokens([first, second], jobOf().uid));
  });

  it('comes of a file of keys that are long enough, at most four', () => {
    assert.deepEqual(parseHmacKeys(`${first}\n\n ${second} \n`), [first, second]);
    assert.throws(() => parseHmacKeys('\n'), /empty/);
    assert.throws(() => parseHmacKeys(`${first}\nshort`), /less than 32 characters/);
    assert.throws(() => parseHmacKeys(`${first}\n`.repeat(5)), /more than 4/);
  });
});

describe('a spec that is no job', () => {
  it('is refused with all of its faults', () => {
    const made = deployedJob({ name: 'a', namespace: 'b', uid: 'c' }, { keyBy: 'a.b' });
    assert.ok('faults' in made);
    assert.ok(made.faults.length >= 3);
  });
});
