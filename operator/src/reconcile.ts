/**
 * The page to begin with: one look at one job, and what follows from it.
 *
 *     observe -> decide (pure) -> write the status -> apply
 *
 * The status says what is about to be done before it is done (decide/operation.ts), and every call
 * may be repeated. So a process may end after any of them: the next look, by whomever, goes on. A
 * status is written only over the one that was looked at; where there is none to write, the job is
 * read once more before anything is done, since a cache may be behind.
 */
import { apply } from './apply/apply.ts';
import { writeStatus } from './apply/status.ts';
import { decide } from './decide/decide.ts';
import type { Decision, Settings } from './decide/decision.ts';
import { worthWriting } from './decide/view.ts';
import type { KubeApi } from './kube/port.ts';
import { type Facts, type JobMemory, NO_MEMORY } from './observe/facts.ts';
import type { JobManagerApi } from './observe/jobmanager-api.ts';
import { type JobKey, type ObserveDeps, observe } from './observe/observe.ts';

export interface ReconcileDeps extends ObserveDeps {
  kube: KubeApi;
  jobManager: JobManagerApi;
  settings: Settings;
  /** By namespace/name; one entry per job that is there. */
  memories: Map<string, JobMemory>;
}

export async function reconcile(
  deps: ReconcileDeps,
  key: JobKey,
): Promise<{ requeueAfterMs?: number }> {
  const id = `${key.namespace}/${key.name}`;
  const memory = deps.memories.get(id) ?? NO_MEMORY;
  let facts = await observe(deps, key, memory, false);
  let decision = facts && decide(facts, deps.settings);
  if (facts !== null && decision !== null && !facts.live && isBlind(facts, decision)) {
    facts = await observe(deps, key, memory, true);
    decision = facts && decide(facts, deps.settings);
  }
  if (facts === null || decision === null) {
    deps.memories.delete(id);
    return {};
  }
  deps.memories.set(id, await carryOut(deps, facts, decision));
  for (const note of decision.events) deps.kube.event({ about: aboutOf(facts), ...note });
  return { requeueAfterMs: decision.requeueAfterMs };
}

const isWritten = ({ job, now, memory }: Facts, { status }: Decision): boolean =>
  worthWriting(job.status, status, now - memory.statusWrittenAt);

/** Something is to be done, and no write of the status would notice that the cache was behind. */
const isBlind = (facts: Facts, decision: Decision): boolean =>
  decision.actions.length > 0 && !isWritten(facts, decision);

async function carryOut(deps: ReconcileDeps, facts: Facts, decision: Decision): Promise<JobMemory> {
  const { now } = facts;
  let { job, memory } = facts;
  if (isWritten(facts, decision)) {
    job = await writeStatus(deps.kube, job, decision.status);
    memory = { ...memory, statusWrittenAt: now };
  }
  return await apply(deps, job, decision.actions, memory, now);
}

function aboutOf({ job }: Facts) {
  const { apiVersion, kind, metadata } = job;
  const { namespace = '', name, uid = '' } = metadata;
  return { apiVersion, kind, namespace, name, uid };
}
