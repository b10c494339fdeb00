/**
 * JobManagers in memory for tests: what they do in their pods with a store that outlives these. A
 * state is one number, how much of the stream it holds; so a run that begins with less than was
 * stored has lost some. The pods may be a model's (model-stateful-sets.ts) or an API server's.
 */
import { parse } from 'yaml';
import { scriptVersion } from '../../../worker/src/plan/script-version.ts';
import { fieldAt } from '../decide/spec.ts';
import type { ConfigMap, Pod } from '../kube/objects.ts';
import type { KubeObject } from '../kube/port.ts';
import {
  type JobManagerApi,
  JobManagerError,
  type JobManagerStatus,
  type JobRef,
  type TriggerKind,
  type TriggerProgress,
} from '../observe/jobmanager-api.ts';
import { isEnding } from './model-stateful-sets.ts';

/** The cluster that the JobManagers are in. */
export interface Cluster {
  find<T extends KubeObject>(kind: string, namespace: string, name: string): T | undefined;
  all(kind: string): KubeObject[];
  /** Called after a request of the operator that changed something. */
  count(): void;
}

/** What lies in S3. */
interface Store {
  /** The newest checkpoint; null: nothing was ever stored. */
  newest: { id: number; holds: number; at: number } | null;
  savepoints: Map<string, number>;
  used: Set<string>;
  run: number;
  ended: { run: number; state: string } | null;
  disposed: boolean;
}

interface Process {
  run: number;
  state: string;
  since: number;
  holds: number;
  parallelism: number;
  desired: number;
  script: string;
}

/** How each run began, for the judge. */
export interface RunStart {
  run: number;
  from: 'fresh' | 'savepoint' | 'last-state' | 'stateless';
  holds: number;
  /** The most that any checkpoint or savepoint of the job held by then. */
  stored: number;
  spec: string;
}

const SLOTS = 4;

export class ModelJobs implements JobManagerApi {
  readonly #kube: Cluster;
  readonly #now: () => number;
  readonly #stores = new Map<string, Store>();
  readonly #processes = new Map<string, Process>();
  readonly #triggers = new Map<string, { kind: TriggerKind; progress: TriggerProgress }>();
  #parsed: { content: string; document: unknown } = { content: '', document: null };
  readonly starts: RunStart[] = [];
  /** Savepoints that were begun, stops among them. */
  readonly savepoints: string[] = [];
  readonly faults: string[] = [];
  /** Nobody answers, though pods run. */
  mute = false;

  constructor(kube: Cluster, now: () => number) {
    this.#kube = kube;
    this.#now = now;
  }

  holdsNow({ namespace, name }: { namespace: string; name: string }): number {
    return this.#processes.get(`${namespace}/${name}`)?.holds ?? 0;
  }

  /** Whether all that the job had stored was deleted, and nothing has been since. */
  disposed({ namespace, name }: { namespace: string; name: string }): boolean {
    return this.#storeOf(`${namespace}/${name}`).disposed;
  }

  /** One second of every JobManager. */
  tick(): void {
    for (const [key, process] of this.#processes) {
      if (this.#leader(key) === undefined) this.#processes.delete(key);
      else this.#work(key, process);
    }
    for (const set of this.#kube.all('StatefulSet')) {
      const { namespace = '', name } = set.metadata;
      if (!name.endsWith('-jobmanager')) continue;
      const key = `${namespace}/${name.slice(0, -'-jobmanager'.length)}`;
      const pod = this.#leader(key);
      if (pod !== undefined) this.#startProcess(key, pod);
    }
  }

  #leader(key: string): Pod | undefined {
    const [namespace = '', name = ''] = key.split('/');
    const pods = [0, 1, 2].map((ordinal) =>
      this.#kube.find<Pod>('Pod', namespace, `${name}-jobmanager-${ordinal}`),
    );
    const present = pods.filter((pod) => pod !== undefined);
    return present.find((pod) => !broken(pod) && isRunning(pod));
  }

  // The JobManager.

  #storeOf(key: string): Store {
    const known = this.#stores.get(key);
    if (known !== undefined) return known;
    const store = {
      newest: null,
      savepoints: new Map(),
      used: new Set<string>(),
      run: 0,
      ended: null,
      disposed: false,
    };
    this.#stores.set(key, store);
    return store;
  }

  #startProcess(key: string, pod: Pod): void {
    const run = runOf(pod);
    if (this.#processes.get(key)?.run === run) return;
    const store = this.#storeOf(key);
    if (run < store.run) this.faults.push(`run ${run} after run ${store.run}`);
    const spec = this.#specOf(key);
    const base = { run, since: this.#now(), script: text(spec, 'filter.script') };
    const desired = parallelismOf(spec);
    if (store.ended !== null && run <= store.ended.run) {
      const { state } = store.ended;
      this.#processes.set(key, { ...base, state, holds: 0, parallelism: 0, desired });
      return;
    }
    const holds = run > store.run ? this.#claim(store, run, pod, spec) : (store.newest?.holds ?? 0);
    this.#processes.set(key, { ...base, state: 'CREATED', holds, parallelism: 0, desired });
  }

  #claim(store: Store, run: number, pod: Pod, spec: unknown): number {
    const stored = Math.max(store.newest?.holds ?? 0, 0);
    const savepoint = text(spec, 'restore.savepoint');
    store.run = run;
    const begin = (from: RunStart['from'], holds: number): number => {
      this.starts.push({ run, from, holds, stored, spec: JSON.stringify(spec) });
      if (from !== 'last-state') store.newest = { id: run * 1000, holds, at: 0 };
      return holds;
    };
    if (pod.spec?.containers[0]?.args?.includes('stateless')) return begin('stateless', 0);
    if (savepoint !== '' && !store.used.has(savepoint)) {
      store.used.add(savepoint);
      const holds = store.savepoints.get(savepoint);
      if (holds === undefined) this.faults.push(`run ${run}: there is no savepoint ${savepoint}`);
      return begin('savepoint', holds ?? 0);
    }
    if (store.newest !== null) return begin('last-state', stored);
    const first = pod.spec?.containers[0]?.args?.includes('first') ?? false;
    if (run > 1 && !first) this.faults.push(`run ${run} refuses an empty store`);
    return begin('fresh', 0);
  }

  #work(key: string, process: Process): void {
    const [namespace = '', name = ''] = key.split('/');
    for (const [id, trigger] of this.#triggers) {
      if (id.startsWith(`${key} `)) this.#dispose(key, process, trigger);
    }
    if (['FINISHED', 'CANCELED', 'FAILED'].includes(process.state)) return;
    const workers = (this.#kube.all('Pod') as Pod[]).filter(
      (pod) =>
        pod.metadata.namespace === namespace &&
        pod.metadata.name.startsWith(`${name}-taskmanager-`) &&
        isRunning(pod),
    ).length;
    const spec = this.#specOf(key);
    // The mark of a spec that starts and never gets well.
    const bad = text(spec, 'state.ttl') === '13m';
    const state = workers > 0 && !bad ? 'RUNNING' : 'RESTARTING';
    if (state !== process.state) process.since = this.#now();
    process.state = state;
    process.parallelism = Math.min(process.desired, workers * SLOTS);
    // The script of the mounted file, which the kubelet brings after a while.
    process.script = text(spec, 'filter.script');
    if (state === 'RUNNING') process.holds += 10;
    for (const [id, trigger] of this.#triggers) {
      if (id.startsWith(`${key} `) && trigger.progress.phase === 'InProgress') {
        this.#complete(key, process, id, trigger);
      }
    }
  }

  #complete(
    key: string,
    process: Process,
    id: string,
    trigger: { kind: TriggerKind; progress: TriggerProgress },
  ): void {
    if (process.state !== 'RUNNING' || trigger.kind === 'disposal') return;
    const store = this.#storeOf(key);
    const { holds, run } = process;
    store.newest = { id: (store.newest?.id ?? 0) + 1, holds, at: this.#now() };
    const location = trigger.kind === 'checkpoint' ? null : `s3://sp/${id.split(' ')[1]}`;
    if (location !== null) store.savepoints.set(location, holds);
    trigger.progress = { phase: 'Completed', location, bytes: 100 };
    if (trigger.kind !== 'stop') return;
    store.ended = { run, state: 'FINISHED' };
    process.state = 'FINISHED';
    process.since = this.#now();
  }

  #dispose(
    key: string,
    process: Process,
    trigger: { kind: TriggerKind; progress: TriggerProgress },
  ): void {
    if (trigger.kind !== 'disposal' || trigger.progress.phase !== 'InProgress') return;
    const store = this.#storeOf(key);
    store.newest = null;
    store.savepoints.clear();
    store.ended = { run: process.run, state: 'CANCELED' };
    store.disposed = true;
    process.state = 'CANCELED';
    trigger.progress = { phase: 'Completed', location: null, bytes: null };
  }

  #specOf(key: string): unknown {
    const [namespace = '', name = ''] = key.split('/');
    const map = this.#kube.find<ConfigMap>('ConfigMap', namespace, `${name}-config`);
    const content = map?.data?.['triggerjob.yaml'] ?? '{}';
    if (this.#parsed.content !== content) this.#parsed = { content, document: parse(content) };
    return fieldAt(this.#parsed.document, 'spec');
  }

  // Its REST API.

  #answering({ namespace, name }: JobRef): [string, Process] {
    const key = `${namespace}/${name}`;
    const process = this.#processes.get(key);
    if (process !== undefined && !this.mute) return [key, process];
    throw new JobManagerError('JOBMANAGER_UNREACHABLE', 'nobody answers');
  }

  async status(job: JobRef): Promise<JobManagerStatus> {
    const [key, process] = this.#answering(job);
    const { run, state, since, parallelism, desired, script } = process;
    const { newest } = this.#storeOf(key);
    return {
      run,
      state,
      since,
      parallelism,
      desiredParallelism: desired,
      taskManagers: { registered: 1, slotsTotal: SLOTS, slotsFree: 0 },
      numRestarts: 0,
      lastCheckpoint:
        newest === null || newest.at === 0
          ? null
          : { id: newest.id, completedAt: newest.at, durationMs: 5, bytes: 9, location: 's3://c' },
      failedCheckpoints: 0,
      lastSavepoint: null,
      scriptVersion: scriptVersion('aviator', script),
      refusedScript: null,
      lag: 0,
      error: null,
    };
  }

  async progress(job: JobRef, kind: TriggerKind, triggerId: string) {
    const [key] = this.#answering(job);
    const found = this.#triggers.get(`${key} ${triggerId}`);
    return found === undefined || found.kind !== kind ? null : found.progress;
  }

  async trigger(job: JobRef, kind: TriggerKind, triggerId: string): Promise<void> {
    const [key, { state }] = this.#answering(job);
    const id = `${key} ${triggerId}`;
    if (!this.#triggers.has(id)) {
      if (state !== 'RUNNING' && kind !== 'disposal')
        throw new JobManagerError('JOBMANAGER_REFUSED', `it is ${state}`);
      this.#triggers.set(id, { kind, progress: { phase: 'InProgress' } });
      if (kind === 'savepoint' || kind === 'stop') this.savepoints.push(triggerId);
    }
    this.#kube.count();
  }

  async rescale(job: JobRef, parallelism: number): Promise<void> {
    this.#answering(job)[1].desired = parallelism;
    this.#kube.count();
  }
}

function runOf(pod: Pod): number {
  const args = pod.spec?.containers[0]?.args ?? [];
  return Number(args[args.indexOf('--run') + 1]);
}

const isRunning = (pod: Pod): boolean => pod.status?.phase === 'Running' && !isEnding(pod);

const broken = (pod: Pod): boolean => pod.spec?.containers[0]?.image === 'no-such-image';

function text(spec: unknown, path: string): string {
  const value = fieldAt(spec, path);
  return typeof value === 'string' ? value : '';
}

function parallelismOf(spec: unknown): number {
  const replicas = fieldAt(spec, 'taskManager.replicas');
  const given = fieldAt(spec, 'parallelism');
  if (typeof given === 'number') return given;
  return (typeof replicas === 'number' ? replicas : 1) * SLOTS;
}
