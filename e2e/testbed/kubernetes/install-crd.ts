/** Teaches an API server TriggerJobs. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ControlPlane } from './control-plane.ts';

type Plane = Pick<ControlPlane, 'kubectl'>;

const CRD = fileURLToPath(new URL('../../../crds/triggerjobs.yaml', import.meta.url));
const TRIES = 100;

export async function installCrd(plane: Plane): Promise<void> {
  await plane.kubectl(['apply', '--server-side', '-f', CRD]);
  await untilServed(plane, 'triggerjobs');
}

/** `kubectl wait` fails at once on a CRD that has no conditions yet. */
export async function untilServed(plane: Plane, resource: string): Promise<void> {
  for (let tried = 1; ; tried += 1) {
    try {
      await plane.kubectl(['get', resource, '--all-namespaces']);
      return;
    } catch (error) {
      if (tried === TRIES) throw error;
      await delay(100);
    }
  }
}
