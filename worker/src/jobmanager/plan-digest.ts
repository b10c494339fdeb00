/**
 * What makes two plans the same deployment (P45): a new leader adopts tasks only if they run what
 * it would deploy. The script is left out, it changes with a barrier (P34); ports and processes of
 * the JobManagers are each one's own.
 */
import { createHash } from 'node:crypto';
import type { JobPlan } from '../plan/job-plan.ts';

export function planDigest(plan: JobPlan): string {
  const { rest: _rest, rpc: _rpc, jobManagers: _count, leaderElection: _lease, ...tasks } = plan;
  const { script: _script, origin: _origin, ...filter } = tasks.filter;
  const text = JSON.stringify(sorted({ ...tasks, filter, restoreSavepoint: null }));
  return createHash('sha256').update(text).digest('hex');
}

/** Keys in order: two processes may have built the same plan in another one. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, one]) => [key, sorted(one)]));
}
