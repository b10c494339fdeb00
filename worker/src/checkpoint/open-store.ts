/** From the job's `checkpointing.directory` to a store. */
import { fileURLToPath } from 'node:url';
import type { S3Plan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { openDirectoryStore, readDirectoryStore, removeEmptyFolders } from './directory-store.ts';
import type { ObjectStore } from './object-store.ts';

export interface OpenOptions {
  /** How s3:// is reached. Left out: by the environment alone. */
  s3?: S3Plan;
  /**
   * false: the caller never uses `create`, or who does has asked. An S3 is then not probed (P44),
   * so that it may be one that can only be read. A directory always is: it costs next to nothing.
   */
  creates?: boolean;
  /** The caller only reads or deletes: nothing is made, a directory may be read-only or absent. */
  readOnly?: boolean;
}

const FROM_ENVIRONMENT: S3Plan = {
  endpoint: null,
  region: null,
  pathStyle: null,
  credentials: null,
};

/**
 * `url`: `s3://bucket/dir`, `file:///dir` or a plain path. Throws STORE_UNSUPPORTED for a scheme
 * that has no store, and what opening the store throws.
 */
export async function openStore(
  url: string,
  env: Env,
  options: OpenOptions = {},
): Promise<ObjectStore> {
  const { readOnly = false } = options;
  const openDirectory = (dir: string) =>
    readOnly ? readDirectoryStore(dir, env) : openDirectoryStore(dir, env);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1]?.toLowerCase();
  if (scheme === undefined) {
    if (url !== '') return openDirectory(url);
    throw unsupported('an empty directory', 'give a path, e.g. file:///var/triggerjob/checkpoints');
  }
  switch (scheme) {
    case 'file':
      return openDirectory(filePath(url));
    case 's3': {
      // Loading the SDK takes longer than opening a directory.
      const { openS3Store } = await import('./s3-store.ts');
      const { s3 = FROM_ENVIRONMENT, creates = !readOnly } = options;
      return openS3Store(url, env, { s3, creates });
    }
    case 's3a':
    case 's3n':
    case 's3p':
      throw unsupported(url, `${scheme}:// is a name of Hadoop and Flink plugins; write s3://`);
    case 'hdfs':
      throw unsupported(url, 'hdfs:// is not supported; use s3:// or a file:// mount');
    default:
      throw unsupported(url, `no store for ${scheme}://; use s3://, file:// or a plain path`);
  }
}

/** After all objects of a store were deleted: a directory loses the folders they lay in. */
export async function removeEmptyStore(url: string): Promise<void> {
  if (url.startsWith('file:')) await removeEmptyFolders(filePath(url));
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
