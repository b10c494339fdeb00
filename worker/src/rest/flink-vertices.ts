/**
 * The four vertices that REST and metrics show. A slot runs one subtask of each, chained in its
 * thread, so they have one parallelism, and the thread's busy time is the busy time of all four.
 */
import { createHash } from 'node:crypto';
import type { CounterName, Counters } from '../jobmanager/job-totals.ts';
import type { JsonObject } from '../runtime/json.ts';
import { RestError } from './rest-error.ts';

export interface Vertex {
  id: string;
  name: string;
  /** Counters of a subtask that are its records in and out. */
  reads: CounterName;
  writes: CounterName;
  /** Bytes in and out, where they are counted. */
  bytes: CounterName | null;
}

const STAGES: readonly Omit<Vertex, 'id'>[] = [
  { name: 'Source', reads: 'recordsRead', writes: 'recordsRead', bytes: 'bytesRead' },
  // What the subtask took of its input, not what its source sent to others.
  { name: 'UserStateManager', reads: 'recordsProcessed', writes: 'recordsProcessed', bytes: null },
  { name: 'EventFilter', reads: 'recordsProcessed', writes: 'matched', bytes: null },
  { name: 'ActionExecutor', reads: 'matched', writes: 'delivered', bytes: null },
];

/** Ids: 32 hex digits, the same for every job. */
export const VERTICES: readonly Vertex[] = STAGES.map((stage) => ({
  ...stage,
  id: idOf(stage.name),
}));

export const SLOT_SHARING_GROUP = idOf('slot');

function idOf(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 32);
}

export const VERTEX_IDS: readonly string[] = VERTICES.map(({ id }) => id);

/** The one that the path names. Throws RestError 404. */
export function vertexOf(params: Readonly<Record<string, string>>): Vertex {
  const asked = params['vertexid'];
  const vertex = VERTICES.find(({ id }) => id === asked);
  if (vertex === undefined) throw new RestError(404, `Could not find vertex with id ${asked}`);
  return vertex;
}

/** `counters`: of the job or of a subtask; null = it has told none yet. */
export function ioMetrics({ reads, writes, bytes }: Vertex, counters: Counters | null): JsonObject {
  const count = (name: CounterName | null) => (name === null ? 0 : (counters?.[name] ?? 0));
  const complete = counters !== null;
  return {
    'read-bytes': count(bytes),
    'read-bytes-complete': complete,
    'write-bytes': count(bytes),
    'write-bytes-complete': complete,
    'read-records': count(reads),
    'read-records-complete': complete,
    'write-records': count(writes),
    'write-records-complete': complete,
    'accumulated-backpressured-time': Math.round(count('backPressuredMs')),
    'accumulated-idle-time': Math.round(count('idleMs')),
    'accumulated-busy-time': Math.round(count('busyMs')),
  };
}
