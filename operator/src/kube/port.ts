/**
 * What the operator needs of a Kubernetes API server. The real one is client.ts; tests put a
 * recording or failing one in its place, which is how every crash point is enumerated.
 */
import type { ObjectMeta } from './objects.ts';

/** Any object; the kinds by name are in objects.ts. Times are text, as JSON carries them. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta & { name: string };
}

/** Names one object. `namespace` is left out for kinds that have none. */
export interface ObjectRef {
  apiVersion: string;
  kind: string;
  namespace?: string;
  name: string;
}

export interface ApplyOptions {
  fieldManager: string;
  /** Takes fields over from another manager; the operator always does, drift is repaired. */
  force: boolean;
  /** Asks the server what it would say, admission included, and changes nothing. */
  dryRun?: boolean;
}

export interface DeleteOptions {
  propagation?: 'Foreground' | 'Background' | 'Orphan';
  /** Only the object that was seen: a recreated one of the same name stays. */
  uid?: string;
  resourceVersion?: string;
}

/** For an Event (events.k8s.io/v1) on an object. */
export interface EventNote {
  about: ObjectRef & { uid: string; resourceVersion?: string };
  type: 'Normal' | 'Warning';
  /** Stable, UpperCamelCase. */
  reason: string;
  action: string;
  note: string;
}

/**
 * Every call has a deadline and rejects with KubeError (kube-error.ts): `code` KUBE_CONFLICT (409),
 * KUBE_NOT_FOUND (404), KUBE_INVALID (422, 400), KUBE_FORBIDDEN (401, 403), KUBE_UNAVAILABLE (429,
 * 5xx, no answer: retry), KUBE_FENCED (not sent, this process leads no more).
 */
export interface KubeApi {
  /** null: there is none. From the server, never from a cache; an unknown kind rejects. */
  get<T extends KubeObject>(ref: ObjectRef): Promise<T | null>;
  /** Server-side apply. */
  apply<T extends KubeObject>(object: T, options: ApplyOptions): Promise<T>;
  create<T extends KubeObject>(object: T): Promise<T>;
  /** JSON merge patch; with a resourceVersion in `patch.metadata` it is refused when stale. */
  patch<T extends KubeObject>(
    ref: ObjectRef,
    patch: object,
    subresource?: 'status' | 'scale',
  ): Promise<T>;
  /** Resolves also when there is none. */
  delete(ref: ObjectRef, options?: DeleteOptions): Promise<void>;
  /** Best effort: never rejects, repeats are counted up instead of written anew. */
  event(note: EventNote): void;
}

/** The cache of one kind, kept by list and watch (reflector.ts). Objects are not to be changed. */
export interface ObjectCache<T extends KubeObject> {
  get(namespace: string, name: string): T | undefined;
  list(): Iterable<T>;
  /** Those whose controller is this uid. */
  ownedBy(uid: string): readonly T[];
  /** Whether the first list is in. */
  readonly synced: boolean;
}
