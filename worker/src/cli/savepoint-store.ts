/**
 * `triggerjob savepoint list|inspect|verify|dispose`: savepoints as they lie in a store, with no
 * job and no cluster. Opened to be read only: a look makes nothing, not even a directory.
 */
import { pathToFileURL } from 'node:url';
import { objectsOf } from '../checkpoint/manifest.ts';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import { openStore, removeEmptyStore } from '../checkpoint/open-store.ts';
import { readSavepoint } from '../checkpoint/savepoint.ts';
import {
  disposeSavepoint,
  listSavepoints,
  type SavepointEntry,
} from '../checkpoint/savepoint-folder.ts';
import type { Manifest } from '../checkpoint/snapshot.ts';
import { verifyManifest } from '../checkpoint/verify-objects.ts';
import type { Env } from '../runtime/env.ts';
import type { JsonObject } from '../runtime/json.ts';
import { formatAge, formatBytes, formatCount } from './amounts.ts';
import { EXIT } from './exit-codes.ts';
import { Progress } from './progress.ts';
import { printTable } from './table.ts';
import type { Terminal } from './terminal.ts';

export interface StoreReading {
  env: Env;
  terminal: Terminal;
  s3Endpoint?: string;
  json?: true;
}

function open({ env, s3Endpoint }: StoreReading, location: string): Promise<ObjectStore> {
  const s3 = { endpoint: s3Endpoint ?? null, region: null, pathStyle: null, credentials: null };
  return openStore(location, env, { s3, readOnly: true });
}

/** `s3://bucket/dir` without a slash at its end; a path as a file URL. */
export function storeUrlOf(location: string): string {
  const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(location) ? location : pathToFileURL(location).href;
  return url.replace(/\/+$/, '');
}

export async function listDirectory(reading: StoreReading, directory: string): Promise<void> {
  const { env, terminal } = reading;
  const parent = storeUrlOf(directory);
  const below = (folder: string) => (folder === '' ? parent : `${parent}/${folder}`);
  const store = await open(reading, parent);
  const entries = await listSavepoints(store, (folder) => open(reading, below(folder)));
  if (reading.json === true) {
    terminal.print(JSON.stringify(entries.map((entry) => entryJson(entry, below(entry.folder)))));
    return;
  }
  if (entries.length === 0) {
    terminal.print(`no savepoints in ${parent}`);
    return;
  }
  const head = [
    'STATE',
    'TAKEN',
    'AGE',
    'ID',
    'SIZE',
    'USERS',
    'PAR',
    'LINEAGE',
    'JOB',
    'LOCATION',
  ];
  const rows = entries.map((entry) => entryRow(entry, below(entry.folder), env.now()));
  printTable(terminal, [head, ...rows]);
  for (const { content, folder } of entries) {
    if (content.state !== 'damaged') continue;
    terminal.print(`${terminal.paint('red', 'damaged')} ${below(folder)}: ${content.fault}`);
  }
}

function entryRow(entry: SavepointEntry, location: string, now: number): string[] {
  const { content, bytes, modifiedAt } = entry;
  const size = formatBytes(bytes);
  if (content.state !== 'complete') {
    const at = new Date(modifiedAt).toISOString().slice(0, 19);
    return [
      content.state,
      at,
      formatAge(now - modifiedAt),
      '-',
      size,
      '-',
      '-',
      '-',
      '-',
      location,
    ];
  }
  const { manifest } = content;
  const { checkpointId, completedAt, parallelism, lineage, job } = manifest;
  return [
    ...['complete', new Date(completedAt).toISOString().slice(0, 19)],
    ...[formatAge(now - completedAt), String(checkpointId), size],
    ...[formatCount(usersOf(manifest)), String(parallelism), lineage.slice(0, 8)],
    ...[`${job.namespace}/${job.name}`, location],
  ];
}

function entryJson({ content, bytes, modifiedAt }: SavepointEntry, location: string): JsonObject {
  const base = { location, state: content.state, bytes, modifiedAt };
  if (content.state === 'damaged') return { ...base, fault: content.fault };
  if (content.state === 'unfinished') return base;
  const { trigger = null } = content.origin ?? {};
  return { ...base, trigger, ...manifestJson(content.manifest) };
}

function usersOf({ subtasks }: Manifest): number {
  return subtasks.reduce((sum, { figures }) => sum + figures.users, 0);
}

/** What a manifest says, without its object names. */
function manifestJson(manifest: Manifest): JsonObject {
  const { subtasks, script } = manifest;
  const objects = objectsOf(manifest);
  return {
    format: manifest.format,
    kind: manifest.kind,
    checkpointId: manifest.checkpointId,
    job: `${manifest.job.namespace}/${manifest.job.name}`,
    lineage: manifest.lineage,
    completedAt: manifest.completedAt,
    keyBy: manifest.keyBy ?? null,
    maxParallelism: manifest.maxParallelism,
    parallelism: manifest.parallelism,
    objects: objects.length,
    objectBytes: objects.reduce((sum, { bytes }) => sum + bytes, 0),
    users: usersOf(manifest),
    parked: subtasks.reduce((sum, { ledger }) => sum + ledger.parked, 0),
    outbox: subtasks.reduce((sum, { ledger }) => sum + ledger.inOutbox, 0),
    script: script === null ? null : { version: script.version, language: script.language },
    splits: manifest.splits.map(({ split, offset, clock, held = false }) => ({
      id: split.id,
      sourceId: split.sourceId,
      offset,
      clock,
      held,
    })),
    keyGroups: subtasks.map((subtask) => ({
      subtask: subtask.subtask,
      first: subtask.range.first,
      last: subtask.range.last,
      bases: subtask.bases.length,
      deltas: subtask.deltas.length,
      users: subtask.figures.users,
    })),
  };
}

export async function inspectLocation(reading: StoreReading, location: string): Promise<void> {
  const { env, terminal } = reading;
  const store = await open(reading, location);
  const manifest = await readSavepoint(store);
  const facts = manifestJson(manifest);
  if (reading.json === true) {
    terminal.print(JSON.stringify({ location: store.url, ...facts }, null, 2));
    return;
  }
  const { script, completedAt, lineage } = manifest;
  const age = formatAge(env.now() - completedAt);
  const taken = `${new Date(completedAt).toISOString()} (${age} ago)`;
  printTable(terminal, [
    ['savepoint', store.url],
    ['taken', taken],
    ['job', `${facts['job']}, lineage ${lineage}`],
    ['checkpoint', `${manifest.checkpointId}, format ${manifest.format}`],
    ['key groups', `${manifest.maxParallelism} by ${manifest.keyBy ?? 'a field it does not name'}`],
    ['parallelism', String(manifest.parallelism)],
    ['objects', `${facts['objects']}, ${formatBytes(Number(facts['objectBytes']))}`],
    ['users', formatCount(usersOf(manifest))],
    ['parked events', formatCount(Number(facts['parked']))],
    ['outbox', formatCount(Number(facts['outbox']))],
    ['script', script === null ? '-' : `version ${script.version}, ${script.language}`],
  ]);
  terminal.print('');
  printTable(terminal, [
    ['SPLIT', 'NEXT OFFSET', 'SOURCE'],
    ...manifest.splits.map(({ split, offset, held }) => [
      split.id,
      `${offset}${held === true ? ' (held)' : ''}`,
      split.sourceId,
    ]),
  ]);
  terminal.print('');
  printTable(terminal, [
    ['SUBTASK', 'KEY GROUPS', 'BASES', 'DELTAS', 'USERS'],
    ...manifest.subtasks.map(({ subtask, range, bases, deltas, figures }) =>
      [subtask, `${range.first}-${range.last}`, bases.length, deltas.length, figures.users].map(
        String,
      ),
    ),
  ]);
}

export async function verifyLocation(reading: StoreReading, location: string): Promise<number> {
  const store = await open(reading, location);
  const manifest = await readSavepoint(store);
  return verifyAndReport(reading, store, manifest, `savepoint ${store.url}`);
}

/** The exit code. `what` names what is verified. */
export async function verifyAndReport(
  { env, terminal, json }: StoreReading,
  store: ObjectStore,
  manifest: Manifest,
  what: string,
): Promise<number> {
  const total = objectsOf(manifest).reduce((sum, { bytes }) => sum + bytes, 0);
  let read = 0;
  const progress = new Progress({ env, terminal, what: 'verifying' });
  const report = await verifyManifest(store, manifest, (bytes) => {
    read += bytes;
    const share = total === 0 ? null : read / total;
    progress.update(share, `${formatBytes(read)} of ${formatBytes(total)}`);
  }).finally(() => progress.end());
  if (json === true) {
    terminal.print(JSON.stringify({ what, whole: report.damaged.length === 0, ...report }));
    return report.damaged.length === 0 ? EXIT.ok : EXIT.failed;
  }
  const size = `${formatCount(report.objects)} objects, ${formatBytes(report.bytes)}`;
  if (report.damaged.length === 0) {
    terminal.print(`${what} is whole: ${size}, ${formatCount(report.rows)} rows`);
    return EXIT.ok;
  }
  for (const { object, fault } of report.damaged) {
    terminal.print(`${terminal.paint('red', 'damaged')} ${object ?? 'chain'}: ${fault}`);
  }
  terminal.error(`${what} is damaged: ${report.damaged.length} faults in ${size}`);
  return EXIT.failed;
}

export async function disposeLocation(reading: StoreReading, location: string): Promise<void> {
  const { env, terminal } = reading;
  const store = await open(reading, location);
  const { deleted, bytes, foreign } = await disposeSavepoint(store, env.now());
  await removeEmptyStore(store.url);
  if (reading.json === true) {
    terminal.print(JSON.stringify({ location: store.url, deleted, bytes, foreign }));
    return;
  }
  if (deleted === 0) {
    terminal.print(`nothing is in ${store.url}: it was disposed of before, or never was`);
    return;
  }
  terminal.print(`disposed of ${store.url}: ${deleted} objects, ${formatBytes(bytes)}`);
  if (foreign.length > 0) terminal.print(`left alone there: ${foreign.join(', ')}`);
}
