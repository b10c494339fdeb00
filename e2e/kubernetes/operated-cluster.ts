/**
 * A real API server, etcd and controller manager, with pods and JobManagers stood in for, and what
 * a user does to the one job of a namespace. Many namespaces go their ways side by side.
 */
import assert from 'node:assert/strict';
import { pino } from 'pino';
import { realEnv, sleep } from '../../operator/src/env.ts';
import { KubeClient } from '../../operator/src/kube/client.ts';
import { kubeconfigSource } from '../../operator/src/kube/connection.ts';
import { KINDS, type Pod, type StatefulSet } from '../../operator/src/kube/objects.ts';
import type { KubeObject } from '../../operator/src/kube/port.ts';
import { Metrics } from '../../operator/src/metrics.ts';
import type { ModelJobs } from '../../operator/src/model/model-jobmanager.ts';
import { SPEC } from '../../operator/src/model/model-world.ts';
import type { TriggerJobObject } from '../../operator/src/watched-kinds.ts';
import { type ControlPlane, startControlPlane } from '../testbed/kubernetes/control-plane.ts';
import { installCrd } from '../testbed/kubernetes/install-crd.ts';
import { MortalOperator, type MortalOperatorParts } from './mortal-operator.ts';
import { PodsStandIn } from './pods-stand-in.ts';
import { RunRules } from './run-rules.ts';

const NAME = 'user-events';
/** More than ten times what any step takes with a hundred jobs at once on two cores. */
const STEP_WATCHDOG_MS = 150_000;
const LIMIT = { perSecond: 10_000, burst: 10_000 };
/** What deletion may leave nothing of. */
const KINDS_OF_A_JOB =
  'triggerjobs,statefulsets,controllerrevisions,pods,persistentvolumeclaims,services,configmaps,' +
  'secrets,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies,leases';
/** Kubernetes' own in every namespace. */
const OF_A_NAMESPACE = /(configmap\/kube-root-ca\.crt|serviceaccount\/default)$/;

export class OperatedCluster {
  readonly plane: ControlPlane;
  readonly user: KubeClient;
  readonly standIn: PodsStandIn;
  readonly open: () => KubeClient;
  readonly metrics = new Metrics(1, 'crash-points');
  readonly log = pino({ level: 'silent' });

  private constructor(plane: ControlPlane, open: () => KubeClient) {
    this.plane = plane;
    this.open = open;
    this.user = open();
    this.standIn = new PodsStandIn(this.user);
  }

  static async start(): Promise<OperatedCluster> {
    const plane = await startControlPlane({ controllerManager: true });
    try {
      const source = await kubeconfigSource(plane.kubeconfig);
      const metrics = { request: () => {} };
      const open = () => KubeClient.open({ env: realEnv, source, limit: LIMIT, metrics });
      await installCrd(plane);
      const cluster = new OperatedCluster(plane, open);
      await cluster.standIn.start();
      return cluster;
    } catch (error) {
      await plane.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.standIn.stop();
    await this.user.close();
    await this.plane.stop();
  }

  async namespaces(names: readonly string[]): Promise<void> {
    const items = names.map((name) => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name },
    }));
    const list = { apiVersion: 'v1', kind: 'List', items };
    await this.plane.kubectl(['create', '-f', '-'], JSON.stringify(list));
  }

  /** The one job of a namespace that is there. */
  job(namespace: string): OperatedJob {
    return new OperatedJob(this, namespace);
  }

  /** What stays of jobs in namespaces that begin so, `namespace kind/name` each. */
  async remains(prefixes: readonly string[]): Promise<string[]> {
    const columns = '{.metadata.namespace}{" "}{.kind}{"/"}{.metadata.name}{"\\n"}';
    const output = `jsonpath={range .items[*]}${columns}{end}`;
    const until = realEnv.monotonic() + STEP_WATCHDOG_MS;
    for (;;) {
      const text = await this.plane.kubectl(['get', KINDS_OF_A_JOB, '-A', '-o', output]);
      const left = text
        .split('\n')
        .filter((line) => prefixes.some((prefix) => line.startsWith(prefix)))
        .filter((line) => !OF_A_NAMESPACE.test(line.toLowerCase()));
      if (left.length === 0 || realEnv.monotonic() > until) return left;
      await sleep(realEnv, 500);
    }
  }
}

export class OperatedJob {
  readonly #cluster: OperatedCluster;
  readonly namespace: string;
  readonly jobs: ModelJobs;
  readonly faults: string[] = [];
  readonly #rules: RunRules;

  constructor(cluster: OperatedCluster, namespace: string) {
    this.#cluster = cluster;
    this.namespace = namespace;
    this.jobs = cluster.standIn.jobsIn(namespace);
    this.#rules = new RunRules(cluster.user, this.ref, this.faults);
  }

  /** An operator that looks at this namespace alone. */
  operator(
    endsAfter: MortalOperatorParts['endsAfter'],
    reconcile?: MortalOperatorParts['reconcile'],
  ): MortalOperator {
    const { open, metrics, log } = this.#cluster;
    return new MortalOperator({
      namespace: this.namespace,
      open,
      metrics,
      log,
      jobManager: this.jobs,
      endsAfter,
      judge: (object) => this.#rules.judge(object),
      ...(reconcile === undefined ? {} : { reconcile }),
    });
  }

  get ref() {
    const { apiVersion, kind } = KINDS.TriggerJob;
    return { apiVersion, kind, namespace: this.namespace, name: NAME };
  }

  get seen(): TriggerJobObject | undefined {
    return this.#cluster.standIn.job(this.namespace, NAME);
  }

  get pods(): Pod[] {
    return this.#cluster.standIn.in<Pod>(this.namespace, 'Pod');
  }

  async create(): Promise<void> {
    const { apiVersion, kind, ...metadata } = this.ref;
    const spec = { ...SPEC, upgrade: { healthTimeout: '10m' } };
    await this.#cluster.user.create({ apiVersion, kind, metadata, spec } as KubeObject);
  }

  async edit(spec: object): Promise<void> {
    await this.#cluster.user.patch(this.ref, { spec });
  }

  async annotate(name: string, token: string): Promise<void> {
    const annotations = { [`triggerjob.io/${name}`]: token };
    await this.#cluster.user.patch(this.ref, { metadata: { annotations } });
  }

  async delete(): Promise<void> {
    await this.#cluster.user.delete(this.ref);
  }

  /** Rejects when it is not so in time, with what the job's status is then. */
  async until(goal: string, reached: () => boolean): Promise<void> {
    const startedAt = realEnv.monotonic();
    while (!reached()) {
      if (realEnv.monotonic() - startedAt > STEP_WATCHDOG_MS) {
        const status = JSON.stringify(this.seen?.status);
        assert.fail(`waited for ${goal}; the status is ${status}\n${await this.#lookAround()}`);
      }
      await sleep(realEnv, 50);
    }
  }

  /** What the server says, and where the stand-in's mirror says another thing. */
  async #lookAround(): Promise<string> {
    const { plane, standIn } = this.#cluster;
    const kinds = 'statefulsets,pods,persistentvolumeclaims,secrets,configmaps,events';
    const asked = ['get', kinds, '-n', this.namespace, '-o', 'wide'];
    const told = await plane.kubectl(asked).catch(String);
    const mirrored = [
      ...standIn.in<StatefulSet>(this.namespace, 'StatefulSet'),
      ...standIn.in<Pod>(this.namespace, 'Pod'),
    ].map((object) => JSON.stringify({ ...object, spec: undefined }));
    return [told, 'the mirror:', ...mirrored].join('\n');
  }

  /** The run is there with both StatefulSets and all of their pods, and nothing else. */
  async runs(run: number): Promise<void> {
    await this.until(`run ${run}`, () => {
      const { state, run: known, operation } = this.seen?.status ?? {};
      return state === 'Running' && known === run && operation === undefined;
    });
    const sets = this.#cluster.standIn.in<StatefulSet>(this.namespace, 'StatefulSet');
    const found = sets.map(({ metadata, spec }) => `${metadata.name} ${spec?.replicas}`);
    const pair = [`${NAME}-jobmanager 1`, `${NAME}-taskmanager 2`];
    if (`${found.sort()}` !== `${pair}`) this.faults.push(`run ${run} has ${found}`);
    const pods = this.pods.map(({ metadata }) => metadata.name).sort();
    const wanted = [`${NAME}-jobmanager-0`, `${NAME}-taskmanager-0`, `${NAME}-taskmanager-1`];
    if (`${pods}` !== `${wanted}`) this.faults.push(`run ${run} has pods ${pods}`);
  }
}
