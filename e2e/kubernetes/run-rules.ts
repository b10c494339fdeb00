/** What holds of a job's runs at any time, judged by the API server itself. */
import type { KubeClient } from '../../operator/src/kube/client.ts';
import { KINDS } from '../../operator/src/kube/objects.ts';
import type { KubeObject, ObjectRef } from '../../operator/src/kube/port.ts';
import type { TriggerJobObject } from '../../operator/src/watched-kinds.ts';

export class RunRules {
  readonly #client: KubeClient;
  readonly #job: ObjectRef;
  readonly #faults: string[];
  #lastRun = 0;

  /** What is broken is added to `faults`. */
  constructor(client: KubeClient, job: ObjectRef, faults: string[]) {
    this.#client = client;
    this.#job = job;
    this.#faults = faults;
  }

  /**
   * Looks at an object just before it is applied: none speaks of a run that the status does not
   * know (L1), and none of a run while pods of an earlier one are there (L2).
   */
  async judge(object: KubeObject): Promise<void> {
    if (object.kind !== 'StatefulSet' || !object.metadata.name.endsWith('-jobmanager')) return;
    const run = Number(/"--run","(\d+)"/.exec(JSON.stringify(object))?.[1] ?? 0);
    const known = (await this.#client.get<TriggerJobObject>(this.#job))?.status?.run ?? 0;
    if (run > known) this.#faults.push(`objects of run ${run} while the status says ${known}`);
    if (run < this.#lastRun) this.#faults.push(`run ${run} again after run ${this.#lastRun}`);
    if (run <= this.#lastRun) return;
    this.#lastRun = run;
    const { namespace = '', name } = this.#job;
    const labelSelector = `triggerjob.io/job=${name}`;
    const selection = { kind: KINDS.Pod, namespace, labelSelector };
    const { items } = await this.#client.list(selection, { limit: 100 });
    const names = items.map(({ metadata }) => metadata.name);
    if (names.length > 0) this.#faults.push(`run ${run} beside pods ${names}`);
  }
}
