/**
 * A new spec's objects are shown to the API server before the run that they replace is ended: what
 * it would refuse (a toleration that is none, a quota, a policy) leaves the last good one running.
 */
import { type Draft, digestOf, POLL } from './decision.ts';
import type { CheckedSpec } from './spec.ts';

/**
 * The operator may only create Secrets; and a RoleBinding is refused (404) while the Role it names
 * is not there, which on the first deployment it is not.
 */
const LEFT_OUT: ReadonlySet<string> = new Set(['Secret', 'RoleBinding']);
/** A quota may have been raised meanwhile. */
const ASK_AGAIN_MS = 60_000;

/** True: they would be accepted. Otherwise they are asked about, or the refusal is in `blocked`. */
export function rehearsed(draft: Draft, spec: CheckedSpec): boolean {
  const run = (draft.status.run ?? 0) + 1;
  const objects = draft.settings.desired(spec, { run }).filter(({ kind }) => !LEFT_OUT.has(kind));
  const digest = digestOf(objects);
  const { rehearsal } = draft.facts.memory;
  const stale = rehearsal?.error != null && draft.facts.now - rehearsal.at >= ASK_AGAIN_MS;
  if (rehearsal?.digest !== digest || stale) {
    draft.act({ do: 'rehearse', digest, objects });
    draft.within(0);
    return false;
  }
  if (rehearsal.error === null) return true;
  draft.blocked = { reason: 'RefusedByServer', message: rehearsal.error };
  draft.within(POLL.idleMs);
  return false;
}
