/**
 * Another release of the operator, or other settings of it, may make other pods of the same spec.
 * Taken over at once, an upgrade of the operator would restart the tasks of every job in the
 * cluster, and mix two releases of the worker in one run. So a template changes only with what it
 * is made for: another run, a change of the spec that replaces pods, another secret. Until then the
 * one that is there is wanted; annotation triggerjob.io/restart takes the new one.
 */
import { ANNOTATIONS, JOB_SECRET } from '../desired/names.ts';
import type { StatefulSet } from '../kube/objects.ts';
import type { KubeObject } from '../kube/port.ts';
import type { Draft } from './decision.ts';

/** Of a template whose operator did not write down what it was: not that of any other. */
const UNKNOWN = 'unknown';

/** What is wanted of the StatefulSet just now: `wanted`, or with the template that is there. */
export function withHeldPods(draft: Draft, wanted: KubeObject, live: KubeObject): KubeObject {
  if (!isHeld(draft, wanted, live)) return wanted;
  const { annotations: there = {} } = live.metadata;
  const annotations = { ...wanted.metadata.annotations };
  const { desiredHash, templateHash } = ANNOTATIONS;
  annotations[templateHash] = there[templateHash] ?? UNKNOWN;
  const hash = there[desiredHash];
  if (hash !== undefined) annotations[desiredHash] = hash;
  const { spec } = wanted as StatefulSet;
  const template = templateOf(live);
  const held = { ...wanted, metadata: { ...wanted.metadata, annotations } };
  return { ...held, spec: { ...spec, template } } as KubeObject;
}

/** Of what was changed by hand the hash is the same: it is put right. */
function isHeld(draft: Draft, wanted: KubeObject, live: KubeObject): boolean {
  const [now, then] = [wanted.metadata.annotations ?? {}, live.metadata.annotations ?? {}];
  const { podsOf, templateHash } = ANNOTATIONS;
  if (now[podsOf] === undefined) return false;
  if (then[podsOf] === undefined) return isOfThisRun(draft, wanted, live);
  if (now[podsOf] !== then[podsOf]) return false;
  return then[templateHash] !== undefined && now[templateHash] !== then[templateHash];
}

/**
 * Whether pods of an operator that did not write down what for are those of this run: none other is
 * being deployed, and their secret is known.
 */
function isOfThisRun({ operation }: Draft, wanted: KubeObject, live: KubeObject): boolean {
  if (operation !== null && operation.kind !== 'Scale') return false;
  const secretOf = (object: KubeObject) =>
    templateOf(object)?.spec?.volumes?.find(({ name }) => name === JOB_SECRET)?.secret?.secretName;
  return secretOf(wanted) === secretOf(live);
}

const templateOf = (object: KubeObject) => (object as StatefulSet).spec?.template;
