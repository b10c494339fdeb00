import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryBackend } from './memory-backend.ts';
import type { UserRow } from './rows.ts';
import { WriteBuffer } from './write-buffer.ts';

class FailingBackend extends MemoryBackend {
  fails = false;
  writes = 0;
  override write(ops: readonly UserRow[]): void {
    if (this.fails) throw new Error('no space left');
    this.writes++;
    super.write(ops);
  }
}

const [KEY, OTHER] = [Buffer.from('key'), Buffer.from('other')];
const row = (key: Buffer, value: string | null): UserRow => ({
  key,
  value: value === null ? null : Buffer.from(value),
});

test('rows of a write that throws are written by the next one, before those after them', () => {
  const backend = new FailingBackend();
  const buffer = new WriteBuffer(backend);
  buffer.put('u', row(KEY, 'old'));
  buffer.put('u', row(OTHER, 'kept'));
  backend.fails = true;
  assert.throws(() => buffer.flush(), /no space/);
  assert.throws(() => buffer.getMany([KEY], ['u']), /no space/);
  backend.fails = false;
  buffer.put('u', row(KEY, 'new'));
  assert.deepEqual(buffer.getMany([KEY, OTHER], ['u']).map(String), ['new', 'kept']);
});

test('a peek sees the newest row, written or waiting, and writes none', () => {
  const backend = new FailingBackend();
  const buffer = new WriteBuffer(backend);
  const seen = () => [KEY, OTHER].map((key) => buffer.peek(key)?.toString());
  buffer.put('u', row(KEY, 'one'));
  buffer.put('u', row(KEY, 'two'));
  assert.deepEqual(seen(), ['two', undefined]);
  assert.equal(backend.writes, 0);
  buffer.flush();
  assert.deepEqual(seen(), ['two', undefined]);
  buffer.put('u', row(KEY, null));
  buffer.put('u', row(OTHER, 'three'));
  assert.deepEqual(seen(), [undefined, 'three']);
  assert.equal(backend.writes, 1);
});
