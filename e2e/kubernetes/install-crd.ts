/** Teaches an API server TriggerJobs. */
import { realEnv, sleep } from '../../operator/src/env.ts';
import type { ControlPlane } from '../testbed/kubernetes/control-plane.ts';

const TRIES = 100;

/** Resolves when they are served: `kubectl wait` fails at once on a CRD without conditions. */
export async function installCrd(plane: Pick<ControlPlane, 'kubectl'>): Promise<void> {
  await plane.kubectl(['apply', '--server-side', '-f', 'crds/triggerjobs.yaml']);
  for (let tried = 1; ; tried += 1) {
    try {
      await plane.kubectl(['get', 'triggerjobs', '--all-namespaces']);
      return;
    } catch (error) {
      if (tried === TRIES) throw error;
      await sleep(realEnv, 100);
    }
  }
}
