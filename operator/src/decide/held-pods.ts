/**
 * Another release of the operator, or other settings of it, may make other pods of the same spec.
 * Taken over at once, an upgrade of the operator would restart the tasks of every job in the
 * cluster, and mix two releases of the worker in one run. So a template changes only with what it
 * is made for: another run, a change of the spec that replaces pods, another secret. Until then the
 * one that is there is wanted; annotation triggerjob.io/restart takes the new one.
 */
import { ANNOTATIONS } from '../desired/names.ts';
import type { StatefulSet } from '../kube/objects.ts';
import type { KubeObject } from '../kube/port.ts';

/** What is wanted of the StatefulSet just now: `wanted`, or with the template that is there. */
export function withHeldPods(wanted: KubeObject, live: KubeObject): KubeObject {
  if (!isHeld(wanted, live)) return wanted;
  const { annotations: there = {} } = live.metadata;
  const annotations = { ...wanted.metadata.annotations };
  for (const key of [ANNOTATIONS.templateHash, ANNOTATIONS.desiredHash]) {
    const hash = there[key];
    if (hash !== undefined) annotations[key] = hash;
  }
  const { spec } = wanted as StatefulSet;
  const template = (live as StatefulSet).spec?.template;
  const held = { ...wanted, metadata: { ...wanted.metadata, annotations } };
  return { ...held, spec: { ...spec, template } } as KubeObject;
}

/** Of what was changed by hand the hash is the same: it is put right. */
function isHeld(wanted: KubeObject, live: KubeObject): boolean {
  const [now, then] = [wanted.metadata.annotations ?? {}, live.metadata.annotations ?? {}];
  const { podsOf, templateHash } = ANNOTATIONS;
  if (now[podsOf] === undefined || now[podsOf] !== then[podsOf]) return false;
  return then[templateHash] !== undefined && now[templateHash] !== then[templateHash];
}
