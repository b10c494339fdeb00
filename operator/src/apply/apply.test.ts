import assert from 'node:assert/strict';
import { it } from 'node:test';
import { ModelKube } from '../model/model-kube.ts';
import { NO_MEMORY } from '../observe/facts.ts';
import type { JobManagerApi } from '../observe/jobmanager-api.ts';
import type { TriggerJobObject } from '../watched-kinds.ts';
import { apply } from './apply.ts';

it('a Secret that was there already is remembered, one that is made is not', async () => {
  const job = { metadata: { name: 'a', namespace: 'n', uid: 'u' } } as TriggerJobObject;
  const object = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's', namespace: 'n' } };
  const deps = { kube: new ModelKube(), jobManager: {} as JobManagerApi };
  const made = await apply(deps, job, [{ do: 'create', object }], NO_MEMORY, 5);
  assert.deepEqual([made.secretTriedAt, made.secretFoundAt], [5, 0]);
  const found = await apply(deps, job, [{ do: 'create', object }], made, 7);
  assert.deepEqual([found.secretTriedAt, found.secretFoundAt], [7, 7]);
});
