/** What StatefulSets make of their pods, in memory for tests. */
import type { Pod, StatefulSet } from '../kube/objects.ts';
import type { ModelKube } from './model-kube.ts';

/** From the end of a pod to when it is gone. */
const POD_ENDS_MS = 3_000;

export class ModelStatefulSets {
  readonly #kube: ModelKube;
  readonly #now: () => number;
  readonly faults: string[] = [];

  constructor(kube: ModelKube, now: () => number) {
    this.#kube = kube;
    this.#now = now;
  }

  /** One second of every StatefulSet. */
  tick(): void {
    for (const set of this.#kube.all('StatefulSet') as StatefulSet[]) this.#pods(set);
    this.#judgePods();
  }

  #pods(set: StatefulSet): void {
    const { namespace = '', name, uid = '', generation = 0 } = set.metadata;
    const { replicas = 1, template } = set.spec!;
    const revision = JSON.stringify(template);
    const own = (this.#kube.all('Pod') as Pod[]).filter(
      ({ metadata }) => metadata.ownerReferences?.[0]?.uid === uid,
    );
    for (const pod of own) {
      const ordinal = Number(pod.metadata.name.slice(name.length + 1));
      const old = pod.metadata.annotations?.['model/revision'] !== revision;
      if (ordinal < replicas && !old && !isEnding(pod)) continue;
      const { name: podName, annotations } = pod.metadata;
      const ref = { apiVersion: 'v1', kind: 'Pod', namespace, name: podName };
      const endsAt = annotations?.['model/ends-at'];
      if (endsAt === undefined) {
        const metadata = { annotations: { 'model/ends-at': String(this.#now() + POD_ENDS_MS) } };
        this.#kube.change(ref, { metadata });
      } else if (this.#now() >= Number(endsAt)) this.#kube.remove(ref);
    }
    for (let ordinal = 0; ordinal < replicas; ordinal++) {
      const pod = `${name}-${ordinal}`;
      if (this.#kube.find('Pod', namespace, pod) !== undefined) continue;
      this.#kube.put(podOf(set, pod, revision, this.#runAt(namespace, set)));
    }
    const status = {
      observedGeneration: generation,
      replicas: (this.#kube.all('Pod') as Pod[]).filter(({ metadata }) =>
        metadata.ownerReferences?.some((one) => one.uid === uid),
      ).length,
      currentRevision: 'r',
      updateRevision: 'r',
    };
    if (JSON.stringify(set.status) === JSON.stringify(status)) return;
    this.#kube.change({ apiVersion: 'apps/v1', kind: 'StatefulSet', namespace, name }, { status });
  }

  /** The run that a pod is made for: TaskManagers are not told of it. */
  #runAt(namespace: string, set: StatefulSet): string {
    const job = set.metadata.labels?.['triggerjob.io/job'] ?? '';
    const leaders = this.#kube.find<StatefulSet>('StatefulSet', namespace, `${job}-jobmanager`);
    const template = leaders?.spec?.template;
    return /"--run","(\d+)"/.exec(JSON.stringify(template) ?? '')?.[1] ?? '0';
  }

  /** One worker set: a pod of an earlier run beside one of a later. */
  #judgePods(): void {
    const runs = new Map<string, Set<string>>();
    for (const { metadata } of this.#kube.all('Pod')) {
      const key = `${metadata.namespace}/${metadata.labels?.['app.kubernetes.io/instance']}`;
      const seen = runs.get(key) ?? new Set();
      runs.set(key, seen.add(metadata.annotations?.['model/run'] ?? ''));
    }
    for (const seen of runs.values()) {
      if (seen.size > 1) this.faults.push(`pods of runs ${[...seen].sort().join(' and ')} at once`);
    }
  }
}

function podOf(set: StatefulSet, name: string, revision: string, run: string): Pod {
  const { namespace = '', uid = '' } = set.metadata;
  const { template } = set.spec!;
  const owner = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: set.metadata.name, uid };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels: template.metadata?.labels ?? {},
      annotations: {
        ...template.metadata?.annotations,
        'model/revision': revision,
        'model/run': run,
      },
      ownerReferences: [{ ...owner, controller: true }],
    },
    ...(template.spec === undefined ? {} : { spec: template.spec }),
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

export const isEnding = ({ metadata }: Pod): boolean =>
  metadata.deletionTimestamp !== undefined || metadata.annotations?.['model/ends-at'] !== undefined;
