/** What counts as drift, and what is only the server's way of writing the same. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { holds, mustReplace } from './drift.ts';

describe('drift', () => {
  it('is not what the server adds or writes otherwise', () => {
    assert.ok(holds({ a: 1 }, { a: 1, b: 2 }));
    assert.ok(holds({ cpu: '1000m', memory: '1024Mi' }, { cpu: '1', memory: '1Gi' }));
    assert.ok(holds({ annotations: {}, list: [] }, {}));
    assert.ok(holds([{ name: 'a' }], [{ name: 'a', protocol: 'TCP' }]));
  });

  it('is what is missing, otherwise, or one more in a list', () => {
    assert.ok(!holds({ a: 1 }, {}));
    assert.ok(!holds({ a: { b: 'x' } }, { a: { b: 'y' } }));
    assert.ok(!holds({ cpu: '1500m' }, { cpu: '1' }));
    assert.ok(!holds([{ name: 'a' }], [{ name: 'a' }, { name: 'b' }]));
    assert.ok(!holds({ replicas: 0 }, { replicas: 2 }));
    assert.ok(!holds({ on: true }, {}));
  });

  it('of what can never be changed asks for a new object', () => {
    const set = (hash?: string) => ({
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: {
        name: 'x',
        annotations: hash === undefined ? {} : { 'triggerjob.io/immutable-hash': hash },
      },
    });
    assert.ok(mustReplace(set('a'), set('b')));
    assert.ok(!mustReplace(set('a'), set('a')));
    assert.ok(!mustReplace(set('a'), set()));
  });
});
