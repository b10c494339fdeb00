/** The ConfigMap with the job: its JobManager reads it live, a changed script needs no restart. */
import type { V1ConfigMap } from '@kubernetes/client-node';
import { stringify } from 'yaml';
import type { DeployedJob } from './deployed-job.ts';
import { API_VERSION, configName, KIND, metadataOf, PATHS, type Typed } from './names.ts';

const isFields = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** `savepoint`: where this deployment begins, in place of the one that the spec names. */
export function jobConfig(job: DeployedJob, savepoint: string | null): Typed<V1ConfigMap> {
  const { name, namespace, written } = job;
  const restore = isFields(written.restore) ? written.restore : {};
  const spec = savepoint === null ? written : { ...written, restore: { ...restore, savepoint } };
  const document = { apiVersion: API_VERSION, kind: KIND, metadata: { name, namespace }, spec };
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: metadataOf(job, configName(job)),
    data: { [PATHS.jobFile]: stringify(document, { lineWidth: 0, aliasDuplicateObjects: false }) },
  };
}
