/** What decide/ takes and gives, and the draft that its parts fill in turn. */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { JobOperation, TriggerJobStatus } from '../../../worker/src/plan/status-schema.ts';
import type { Deployment } from '../desired/desired.ts';
import type { StatefulSet } from '../kube/objects.ts';
import type { KubeObject, ObjectRef } from '../kube/port.ts';
import type { Facts } from '../observe/facts.ts';
import type { JobManagerStatus, TriggerKind } from '../observe/jobmanager-api.ts';
import type { TriggerJobObject } from '../watched-kinds.ts';
import { type CheckedSpec, parseSpec, type SpecVerdict } from './spec.ts';

export interface Settings {
  /** The objects of a deployment of the job with this spec; what is create-only among them. */
  desired(spec: CheckedSpec, deployment: Deployment): KubeObject[];
  check(job: TriggerJobObject, written: Readonly<Record<string, unknown>>): SpecVerdict;
}

/** One API call each; every one may be repeated at no harm. */
export type Action =
  /** `fresh`: no cache has it, so it may be somebody's whose labels are not ours. */
  | { do: 'apply'; object: KubeObject; fresh: boolean }
  /** For what the operator may make and not read. */
  | { do: 'create'; object: KubeObject }
  | { do: 'scale'; ref: ObjectRef; replicas: number }
  | { do: 'delete'; ref: ObjectRef; uid: string }
  | { do: 'annotate'; ref: ObjectRef; annotations: Readonly<Record<string, string>> }
  | { do: 'finalizers'; finalizers: readonly string[] }
  | { do: 'trigger'; kind: TriggerKind; triggerId: string }
  | { do: 'rescale'; parallelism: number }
  /** Asks the API server about the objects of a spec, and changes nothing. */
  | { do: 'rehearse'; digest: string; objects: readonly KubeObject[] };

export interface Note {
  type: 'Normal' | 'Warning';
  reason: string;
  action: string;
  note: string;
}

export interface Decision {
  status: TriggerJobStatus;
  actions: Action[];
  events: Note[];
  requeueAfterMs: number;
}

export const POLL = {
  /** While something is under way that ends soon. */
  soonMs: 1_000,
  /** While an operation is under way. */
  busyMs: 5_000,
  /** Otherwise; spread by half of it. */
  idleMs: 20_000,
} as const;

const APPS = 'apps/v1';
export type Role = 'jobmanager' | 'taskmanager';

export class Draft {
  readonly facts: Facts;
  readonly settings: Settings;
  readonly status: TriggerJobStatus;
  readonly actions: Action[] = [];
  readonly events: Note[] = [];
  /** The user's spec, if nothing is wrong with it. */
  readonly wanted: CheckedSpec | null;
  /** What is wrong with it. */
  readonly fault: string | null;
  /** What stops the change that the user wants, though its spec is valid by itself. */
  blocked: { reason: string; message: string } | null = null;
  /** A pod that does not go by itself. */
  stuck: { reason: string; message: string } | null = null;
  /** The pods are as another operator made them (held-pods.ts). */
  heldPods = false;
  requeueMs: number;
  readonly #kept = new Map<string, CheckedSpec | null>();

  constructor(facts: Facts, settings: Settings) {
    this.facts = facts;
    this.settings = settings;
    this.status = structuredClone(facts.job.status ?? {});
    const verdict = this.check(facts.job.spec ?? {});
    this.wanted = 'spec' in verdict ? verdict.spec : null;
    this.fault = 'fault' in verdict ? verdict.fault : null;
    this.requeueMs = Math.round(POLL.idleMs * (0.75 + facts.chance / 2));
  }

  check(written: Readonly<Record<string, unknown>>): SpecVerdict {
    return this.settings.check(this.facts.job, written);
  }

  /** The spec that the status keeps as text, read as any other; null: none, or none that holds. */
  kept(text: string | undefined): CheckedSpec | null {
    if (text === undefined) return null;
    const known = this.#kept.get(text);
    if (known !== undefined) return known;
    const verdict = this.check(parseSpec(text));
    const spec = 'spec' in verdict ? verdict.spec : null;
    this.#kept.set(text, spec);
    return spec;
  }

  get deployed(): CheckedSpec | null {
    return this.kept(this.status.deployedSpec);
  }

  get operation(): JobOperation | null {
    return this.status.operation ?? null;
  }

  get generation(): number {
    return this.facts.job.metadata.generation ?? 0;
  }

  /** Of the newest run alone: an older one that still answers is no witness. */
  get jobManager(): JobManagerStatus | null {
    const { jobManager } = this.facts;
    if (jobManager === null || !('status' in jobManager)) return null;
    return jobManager.status.run === this.status.run ? jobManager.status : null;
  }

  get running(): boolean {
    return this.jobManager?.state === 'RUNNING';
  }

  annotation(name: string): string | null {
    const value = this.facts.job.metadata.annotations?.[`triggerjob.io/${name}`];
    return value === undefined || value === '' ? null : value;
  }

  statefulSet(role: Role): StatefulSet | null {
    const name = `${this.facts.job.metadata.name}-${role}`;
    return this.find('StatefulSet', name) as StatefulSet | null;
  }

  /** null: there is none of this job. */
  find(kind: string, name: string): KubeObject | null {
    const found = this.facts.find(kind, name);
    return found !== undefined && isControlledBy(found, this.facts.job) ? found : null;
  }

  refOf(role: Role): ObjectRef {
    const { name, namespace = '' } = this.facts.job.metadata;
    return { apiVersion: APPS, kind: 'StatefulSet', namespace, name: `${name}-${role}` };
  }

  /** A step that is looked at twice in one turn does the same once. */
  act(action: Action): void {
    if (!this.actions.some((known) => isDeepStrictEqual(known, action))) this.actions.push(action);
  }

  tell(type: Note['type'], reason: string, action: string, note: string): void {
    this.events.push({ type, reason, action, note });
  }

  /** Looks again after this at the latest. */
  within(ms: number): void {
    this.requeueMs = Math.min(this.requeueMs, ms);
  }

  get now(): string {
    return timeText(this.facts.now);
  }
}

export const isControlledBy = (object: KubeObject, { metadata }: TriggerJobObject): boolean =>
  object.metadata.ownerReferences?.some(
    ({ controller, uid }) => controller === true && uid === metadata.uid,
  ) ?? false;

export const timeText = (ms: number): string => new Date(ms).toISOString();

export const timeOf = (text: string | undefined): number =>
  text === undefined ? 0 : Date.parse(text) || 0;

/** Short and stable: names what it is made of. */
export const digestOf = (...parts: readonly unknown[]): string =>
  createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12);

/** Of one request or stop: the same over retries and successors, another for another object. */
export function triggerIdOf(job: TriggerJobObject, kind: string, token: string | number): string {
  return `${kind}-${digestOf(job.metadata.uid, kind, token)}`;
}
