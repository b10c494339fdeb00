import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TriggerJobStatus } from '../../../worker/src/plan/status-schema.ts';
import type { KubeApi } from '../kube/port.ts';
import type { TriggerJobObject } from '../watched-kinds.ts';
import { writeStatus } from './status.ts';

const JOB = {
  apiVersion: 'triggerjob.io/v1alpha1',
  kind: 'TriggerJob',
  metadata: { name: 'a', namespace: 'n', uid: 'u', resourceVersion: '1' },
  spec: {},
} as unknown as TriggerJobObject;

/** An API server whose CRD knows these fields of the status only. */
function serverOf(known: readonly string[]): Pick<KubeApi, 'patch'> {
  const patch = async (_ref: unknown, { status }: { status: Record<string, unknown> }) => {
    const kept = Object.entries(status).filter(([key]) => known.includes(key));
    return { ...JOB, status: Object.fromEntries(kept) };
  };
  return { patch } as unknown as Pick<KubeApi, 'patch'>;
}

const STATUS: TriggerJobStatus = { run: 2, resumeFrom: { mode: 'savepoint' } };

describe('the status', () => {
  it('is what the API server says it has written', async () => {
    const written = await writeStatus(serverOf(['run', 'resumeFrom']), JOB, STATUS);
    assert.deepEqual(written.status, STATUS);
  });

  it('is refused by name when an older CRD drops a field of it', async () => {
    const written = writeStatus(serverOf(['run']), JOB, STATUS);
    await assert.rejects(written, /status\.resumeFrom was dropped: the CRD is older/);
  });
});
