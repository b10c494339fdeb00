/** Where a job runs, as far as paths depend on it. */
import { resolvePath } from './locations.ts';

/** Null fields: a cluster, where a relative path means nothing. */
export interface Site {
  /** Where relative paths of the file start. */
  baseDir: string | null;
  /** What is not given a directory goes below this one. */
  stateDir: string | null;
}

const SECRETS_MOUNT = '/etc/triggerjob/secrets';
const CONFIG_MOUNT = '/etc/triggerjob/config';

/** Where the operator mounts a key of a Secret. */
export function secretPath(name: string, key: string): string {
  return `${SECRETS_MOUNT}/${name}/${key}`;
}

/** Where the operator mounts a key of a ConfigMap. */
export function configPath(name: string, key: string): string {
  return `${CONFIG_MOUNT}/${name}/${key}`;
}

/** A file of the job: absolute, else a key of the named Secret, else relative to the job file. */
export function filePath(path: string, secretName: string | undefined, site: Site): string | null {
  const relative = resolvePath(path, null) === null;
  if (relative && secretName !== undefined) return secretPath(secretName, path);
  return resolvePath(path, site.baseDir);
}
