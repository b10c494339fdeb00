/**
 * The manifest's bytes: JSON, format 1, every field checked when it is read and before it is
 * written. A later release may add fields within format 1 only if an older one may ignore them;
 * else it raises the format, which is refused here by name (I6: never restore what was not
 * understood).
 */
import { createHash } from 'node:crypto';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { JsonValue } from '../runtime/json.ts';
import { planChain } from './chain.ts';
import { checkObjectRef, Field, FieldFault } from './fields.ts';
import type { Manifest, ObjectRef } from './snapshot.ts';

const MANIFEST_FORMAT = 1;
const MAX_KEY_GROUPS = 32_768;

export interface EncodedManifest {
  content: Buffer;
  bytes: number;
  /** Of `content`, hex. */
  sha256: string;
}

/**
 * Throws MANIFEST_CORRUPT for a manifest that could not be read back: nothing half-made is
 * published.
 */
export function encodeManifest(manifest: Manifest): EncodedManifest {
  // The value, not its text parsed again: what passes these checks reads back as it is, and with
  // 200 subtasks the parse is a third of the work between the last ack and the log record.
  const root = Field.root(manifest as unknown as JsonValue);
  named(`of checkpoint ${manifest.checkpointId}, about to be written,`, () => checkManifest(root));
  const content = Buffer.from(JSON.stringify(manifest));
  const sha256 = createHash('sha256').update(content).digest('hex');
  return { content, bytes: content.length, sha256 };
}

/**
 * Throws MANIFEST_VERSION for a newer format and MANIFEST_CORRUPT, which name `object` and the
 * field.
 */
export function decodeManifest(content: Buffer, object: string): Manifest {
  return named(object, () => {
    const parsed = JSON.parse(content.toString()) as JsonValue;
    const root = Field.root(parsed);
    const format = root.get('format').integer(1);
    if (format !== MANIFEST_FORMAT) {
      throw new TriggerJobError(
        'MANIFEST_VERSION',
        `manifest ${object} has format ${format}; this build reads format ${MANIFEST_FORMAT}. ` +
          'Restore it with the release that wrote it, or a newer one.',
      );
    }
    checkManifest(root);
    return parsed as unknown as Manifest;
  });
}

function named<Result>(object: string, work: () => Result): Result {
  try {
    return work();
  } catch (fault) {
    if (!(fault instanceof FieldFault || fault instanceof SyntaxError)) throw fault;
    throw new TriggerJobError(
      'MANIFEST_CORRUPT',
      `manifest ${object} is damaged: ${messageOf(fault)}`,
    );
  }
}

/**
 * Throws CHAIN_GAP if the chain of some key group could not be restored (P12): such a manifest is
 * not published.
 */
export function checkChains(manifest: Manifest): void {
  const { checkpointId } = manifest;
  for (const { range, bases, deltas } of manifest.subtasks) {
    for (let keyGroup = range.first; keyGroup <= range.last; keyGroup++) {
      planChain({ bases, deltas, checkpointId }, keyGroup);
    }
  }
}

/** Every object that a restore of `manifest` reads, each name once. */
export function objectsOf(manifest: Manifest): ObjectRef[] {
  const objects = new Map<string, ObjectRef>();
  const add = (ref: ObjectRef | null) => {
    if (ref !== null) objects.set(ref.name, ref);
  };
  for (const { bases, deltas, volatile } of manifest.subtasks) {
    for (const { object } of bases) add(object);
    for (const { object } of deltas) add(object);
    add(volatile);
  }
  return [...objects.values()];
}

/** The manifest with every object reference replaced: those that `objectsOf` finds. */
export function mapObjects(manifest: Manifest, change: (ref: ObjectRef) => ObjectRef): Manifest {
  return {
    ...manifest,
    subtasks: manifest.subtasks.map((subtask) => ({
      ...subtask,
      bases: subtask.bases.map((base) => ({ ...base, object: change(base.object) })),
      deltas: subtask.deltas.map((delta) => ({
        ...delta,
        object: delta.object === null ? null : change(delta.object),
      })),
      volatile: subtask.volatile === null ? null : change(subtask.volatile),
    })),
  };
}

function checkManifest(root: Field): void {
  root.get('checkpointId').integer(1);
  root.get('leaderEpoch').integer(0);
  const kind = root.get('kind').oneOf(['checkpoint', 'savepoint', 'initial']);
  root.get('lineage').text(/./);
  root.get('job').get('namespace').text();
  root.get('job').get('name').text(/./);
  if (!root.get('keyBy').isAbsent) root.get('keyBy').text(/./);
  const maxParallelism = root.get('maxParallelism').integer(1, MAX_KEY_GROUPS);
  const parallelism = root.get('parallelism').integer(1, maxParallelism);
  root.get('attempt').integer(0);
  root.get('triggeredAt').amount();
  root.get('completedAt').amount();
  root.get('splits').items().forEach(checkPosition);
  if (!root.get('script').isNull) checkScript(root.get('script'));
  const subtasks = root.get('subtasks').items();
  for (const subtask of subtasks) checkSubtask(subtask, maxParallelism);
  if (kind === 'initial' && subtasks.length === 0) return;
  if (subtasks.length !== parallelism) root.get('subtasks').fail(`of ${parallelism} subtasks`);
  checkCover(root.get('subtasks'), maxParallelism);
}

/** A key group without an owner would be restored as empty (I6). */
function checkCover(subtasks: Field, maxParallelism: number): void {
  const ranges = subtasks
    .items()
    .map((subtask) => subtask.get('range'))
    .map((range) => ({ first: range.get('first').integer(0), last: range.get('last').integer(0) }))
    .sort((a, b) => a.first - b.first);
  let next = 0;
  for (const { first, last } of ranges) {
    if (first !== next) subtasks.fail(`a list that owns key group ${Math.min(first, next)} once`);
    next = last + 1;
  }
  if (next !== maxParallelism) subtasks.fail(`a list that owns key group ${next}`);
}

function checkSubtask(subtask: Field, maxParallelism: number): void {
  subtask.get('subtask').integer(0);
  subtask.get('attempt').integer(0);
  checkRange(subtask.get('range'), maxParallelism);
  for (const base of subtask.get('bases').items()) {
    for (const group of base.get('groups').items()) group.integer(0, maxParallelism - 1);
    base.get('epoch').integer(0);
    checkObjectRef(base.get('object'));
  }
  for (const delta of subtask.get('deltas').items()) {
    checkRange(delta.get('range'), maxParallelism);
    const from = delta.get('from').integer(0);
    delta.get('to').integer(from + 1);
    delta.get('run').integer(0);
    if (!delta.get('object').isNull) checkObjectRef(delta.get('object'));
  }
  if (!subtask.get('volatile').isNull) checkObjectRef(subtask.get('volatile'));
  subtask.get('splits').items().forEach(checkPosition);
  checkScript(subtask.get('script'));
  for (const name of LEDGER) subtask.get('ledger').get(name).integer(0);
  for (const name of FIGURES) subtask.get('figures').get(name).amount();
}

const LEDGER = ['accepted', 'noMatch', 'delivered', 'deadLettered', 'parked', 'inOutbox'];
const FIGURES = [
  'alignmentMs',
  'syncMs',
  'asyncMs',
  'startDelayMs',
  'uploadedBytes',
  'stateBytes',
  'users',
];

function checkRange(range: Field, maxParallelism: number): void {
  const first = range.get('first').integer(0, maxParallelism - 1);
  range.get('last').integer(first, maxParallelism - 1);
}

function checkScript(script: Field): void {
  script.get('version').text(/./);
  script.get('text').text();
  script.get('language').oneOf(['aviator', 'filtrex']);
}

function checkPosition(position: Field): void {
  const split = position.get('split');
  split.get('index').integer(0);
  split.get('id').text(/./);
  split.get('sourceId').text();
  split.get('partition').integer(0);
  position.get('offset').integer(0);
  position.get('clock').integer(-1);
  if (!position.get('held').isAbsent) position.get('held').flag();
}
