/**
 * What the store says, read by the simulation itself: the job's log and the manifests it names.
 */
import type { StoredObjects } from '../checkpoint/memory-store.ts';
import type { LogRecord, Manifest } from '../checkpoint/snapshot.ts';

export function recordOf(objects: StoredObjects, name: string): LogRecord {
  return JSON.parse(objects.get(name)!.content.toString()) as LogRecord;
}

export function manifestAt(objects: StoredObjects, name: string): Manifest | null {
  const found = objects.get(name);
  return found === undefined ? null : (JSON.parse(found.content.toString()) as Manifest);
}

/** What the newest leader's sign of life says. */
export function leaderGaveUp(objects: StoredObjects): boolean {
  const epochs = [...objects.keys()].flatMap((name) => /^leader\/(\d+)$/.exec(name)?.[1] ?? []);
  const newest = epochs.toSorted((a, b) => Number(b) - Number(a))[0];
  const content = objects.get(`leader/${newest}`)?.content.toString();
  if (content === undefined) return false;
  const { released, end } = JSON.parse(content) as { released: boolean; end: object | null };
  return released || end !== null;
}

/** Checkpoints that count, oldest first; a `restore` record cuts off what came after it. */
export function readLine(objects: StoredObjects): Manifest[] {
  let line: { id: number; name: string }[] = [];
  const names = [...objects.keys()].filter((name) => name.startsWith('log/')).sort();
  for (const name of names) {
    const record = recordOf(objects, name);
    if (record.kind === 'checkpoint') {
      line.push({ id: record.checkpointId, name: record.manifest.name });
    } else if (record.kind === 'restore') {
      line = line.slice(0, line.findIndex(({ id }) => id === record.checkpointId) + 1);
    }
  }
  return line.map(({ name }) => manifestAt(objects, name)).filter((manifest) => manifest !== null);
}
