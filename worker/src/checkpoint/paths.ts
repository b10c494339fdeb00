/** Every object name of a job's folder, and of a savepoint's folder, is built and read here. */
import type { SegmentKind } from './segment-format.ts';

/** Index digits: 100 million records, three years of one a second. */
const INDEX_DIGITS = 8;
export const MAX_LOG_INDEX = 10 ** INDEX_DIGITS - 1;
export const MANIFESTS = 'manifests/';
export const SEGMENTS = 'segments/';
export const LEADERS = 'leader/';

/**
 * A savepoint's folder holds this, written last (P49), and its objects under `SAVEPOINT_OBJECTS`.
 */
export const SAVEPOINT_METADATA = '_metadata.json';
export const SAVEPOINT_OBJECTS = 'objects/';

/** URL of a job's own folder in a checkpoint directory. */
export function jobFolder(directory: string, job: { namespace: string; name: string }): string {
  return `${directory.replace(/\/+$/, '')}/${job.namespace}/${job.name}`;
}

export function logPath(logIndex: number): string {
  return `log/${String(logIndex).padStart(INDEX_DIGITS, '0')}`;
}

/** The sign of life of the leader of one epoch; the only object that is ever replaced. */
export function leaderPath(leaderEpoch: number): string {
  return `${LEADERS}${String(leaderEpoch).padStart(INDEX_DIGITS, '0')}`;
}

/** Unique (P40): an orphan manifest must not block its number. */
export function manifestPath(checkpointId: number, leaderEpoch: number, nonce: string): string {
  return `${MANIFESTS}${checkpointId}-${leaderEpoch}-${nonce}.json`;
}

export interface SegmentName {
  attempt: number;
  checkpointId: number;
  subtask: number;
  kind: SegmentKind;
  /** Number of the upload within (attempt, checkpointId, subtask, kind). */
  n: number;
  nonce: string;
}

/** Unique per upload (P46): the content is no identity. */
export function segmentPath(name: SegmentName): string {
  const { attempt, checkpointId, subtask, kind, n, nonce } = name;
  return `${SEGMENTS}${attempt}/${checkpointId}-${subtask}-${kind}-${n}-${nonce}`;
}

/**
 * Name of a segment copied into the job's folder from a savepoint (P49): it belongs to attempt 0.
 */
export function importedPath(n: number, nonce: string): string {
  return `${SEGMENTS}0/imported-${n}-${nonce}`;
}

/** Folders of a lineage's savepoints begin so. */
export function savepointPrefix(lineage: string): string {
  return `savepoint-${lineage.slice(0, 6)}-`;
}

export function savepointObjectPath(n: number, nonce: string): string {
  return `${SAVEPOINT_OBJECTS}${n}-${nonce}`;
}

/**
 * Of a name below a directory of savepoints: the savepoint's folder ('' = the directory itself) and
 * the object's name in it. null for what belongs to no savepoint.
 */
export function parseSavepointPath(name: string): { folder: string; object: string } | null {
  const match = /^(?:(.+)\/)?(_metadata\.json|objects\/\d+-[^/]+)$/.exec(name);
  return match === null ? null : { folder: match[1] ?? '', object: match[2] ?? '' };
}

/**
 * Who uploaded a segment; null for a name that is none of ours. An imported one has no subtask:
 * -1.
 */
export function parseSegmentPath(name: string): { attempt: number; subtask: number } | null {
  const match = /^segments\/(\d+)\/(?:\d+-(\d+)-[a-z]+-\d+|imported-\d+)-[^/]+$/.exec(name);
  if (match === null) return null;
  return { attempt: Number(match[1]), subtask: Number(match[2] ?? -1) };
}

/** null for a name that is no manifest. */
export function parseManifestPath(
  name: string,
): { checkpointId: number; leaderEpoch: number } | null {
  const match = /^manifests\/(\d+)-(\d+)-[^/]+\.json$/.exec(name);
  return match === null ? null : { checkpointId: Number(match[1]), leaderEpoch: Number(match[2]) };
}
