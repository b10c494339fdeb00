import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { TriggerJobError } from '../runtime/errors.ts';
import { checkChains, decodeManifest, encodeManifest, mapObjects, objectsOf } from './manifest.ts';

const GOLDEN = readFileSync(new URL('./testdata/manifest-v1.json', import.meta.url));

test('the golden manifest of format 1 stays readable, and what is written is read back', () => {
  const manifest = decodeManifest(GOLDEN, 'golden');
  assert.equal(manifest.subtasks[1]?.deltas[1]?.object?.name, 'segments/3/9-1-delta-0-cc');
  checkChains(manifest);
  const { content, bytes, sha256 } = encodeManifest(manifest);
  assert.equal(bytes, content.length);
  assert.equal(sha256, createHash('sha256').update(content).digest('hex'));
  assert.deepEqual(decodeManifest(content, 'again'), manifest);
});

test('objects are named once each, and all are replaced', () => {
  const manifest = decodeManifest(GOLDEN, 'golden');
  const names = objectsOf(manifest).map((object) => object.name);
  assert.deepEqual(names, [
    'segments/3/7-0-base-0-aa',
    'segments/1/5-0-delta-0-bb',
    'segments/3/9-0-delta-0-cc',
    'segments/3/9-0-volatile-0-dd',
    'segments/3/7-1-base-0-aa',
    'segments/3/9-1-delta-0-cc',
  ]);
  const moved = mapObjects(manifest, (ref) => ({ ...ref, name: `x/${ref.name}` }));
  assert.deepEqual(
    objectsOf(moved).map((object) => object.name),
    names.map((name) => `x/${name}`),
  );
  assert.equal(moved.subtasks[0]?.deltas[2]?.object, null);
});

/** Every leaf and branch of a document, as a path. */
function paths(value: unknown, path: (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [path];
  const keys = Array.isArray(value) ? value.map((_, i) => i) : Object.keys(value);
  const below = keys.flatMap((name) =>
    paths((value as Record<string, unknown>)[name as string], [...path, name]),
  );
  return path.length === 0 ? below : [path, ...below];
}

test('every field is checked: of another kind, or absent, it is refused by its path', () => {
  let refused = 0;
  // Wrong in kind whatever the field: a list is never right where something else is expected.
  for (const path of paths(JSON.parse(String(GOLDEN)))) {
    for (const how of ['wrong', 'absent'] as const) {
      const document = JSON.parse(String(GOLDEN)) as Record<string, unknown>;
      let parent = document;
      for (const name of path.slice(0, -1)) parent = parent[name as string] as typeof parent;
      const last = path.at(-1) as string;
      if (how === 'absent') {
        if (Array.isArray(parent) || last === 'held') continue;
        delete parent[last];
      } else {
        parent[last] = Array.isArray(parent[last]) ? {} : [-1];
      }
      const name = path.join('.');
      try {
        decodeManifest(Buffer.from(JSON.stringify(document)), 'm');
        assert.fail(`${how} ${name} was not noticed`);
      } catch (fault) {
        assert.ok(fault instanceof TriggerJobError, `${how} ${name}: ${fault}`);
        assert.equal(fault.code, 'MANIFEST_CORRUPT', name);
        const shown = name.replace(/\.(\d+)/g, '[$1]');
        assert.ok(fault.message.includes(`manifest m is damaged: ${shown}`), fault.message);
        refused++;
      }
    }
  }
  console.log(`refused ${refused}`);
});

test('a newer format, an unowned key group, half a file and a chain gap are refused', () => {
  const change = (fields: object) =>
    Buffer.from(JSON.stringify({ ...JSON.parse(String(GOLDEN)), ...fields }));
  const code = (content: Buffer) => {
    try {
      decodeManifest(content, 'm');
    } catch (fault) {
      return (fault as TriggerJobError).code;
    }
    return 'no error';
  };
  assert.equal(code(change({ format: 2, subtasks: 'new' })), 'MANIFEST_VERSION');
  assert.equal(code(change({ maxParallelism: 9 })), 'MANIFEST_CORRUPT');
  assert.equal(code(change({ parallelism: 3 })), 'MANIFEST_CORRUPT');
  assert.equal(code(change({ subtasks: [] })), 'MANIFEST_CORRUPT');
  assert.equal(code(change({ subtasks: [], kind: 'initial' })), 'no error');
  assert.equal(code(GOLDEN.subarray(0, 500)), 'MANIFEST_CORRUPT');
  assert.equal(code(Buffer.from('null')), 'MANIFEST_CORRUPT');
  const manifest = decodeManifest(GOLDEN, 'golden');
  const [first, second] = manifest.subtasks;
  const holed = { ...second!, deltas: second!.deltas.slice(0, 1) };
  const broken = { ...manifest, subtasks: [first!, holed] };
  assert.throws(() => checkChains(broken), { code: 'CHAIN_GAP', message: /key group 4/ });
});
