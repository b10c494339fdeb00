/** From the job's `checkpointing.directory` to a store. */
import { fileURLToPath } from 'node:url';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { openDirectoryStore } from './directory-store.ts';
import type { ObjectStore } from './object-store.ts';

/**
 * `url`: `file:///dir` or a plain path. Throws STORE_UNSUPPORTED for a scheme that has no store.
 */
export async function openStore(url: string, env: Pick<Env, 'now' | 'id'>): Promise<ObjectStore> {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1]?.toLowerCase();
  if (scheme === undefined) {
    if (url !== '') return openDirectoryStore(url, env);
    throw unsupported('an empty directory', 'give a path, e.g. file:///var/triggerjob/checkpoints');
  }
  switch (scheme) {
    case 'file':
      return openDirectoryStore(filePath(url), env);
    case 's3':
    case 's3a':
    case 's3p':
      throw unsupported(url, 'S3 comes with the cluster; use file:// or a plain path here');
    case 'hdfs':
      throw unsupported(url, 'hdfs:// is not supported; use s3:// or a file:// mount');
    default:
      throw unsupported(url, `no store for ${scheme}://; use file:// or a plain path`);
  }
}

function filePath(url: string): string {
  try {
    return fileURLToPath(url);
  } catch {
    throw unsupported(url, 'a file URL has an empty host and an absolute path: file:///dir');
  }
}

function unsupported(what: string, fix: string): TriggerJobError {
  return new TriggerJobError('STORE_UNSUPPORTED', `checkpoint directory ${what}: ${fix}`);
}
