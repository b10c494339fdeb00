/** `triggerjob state dump`: which checkpoint of which job, and where the lines go. */
import { open } from 'node:fs/promises';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { formatCount } from './amounts.ts';
import { Progress } from './progress.ts';
import { StateDir } from './state-dir.ts';
import { dumpState } from './state-dump.ts';
import { findJob, manifestOf } from './stored-job.ts';
import type { Terminal } from './terminal.ts';

export interface DumpOptions {
  stateDir?: string;
  store?: string;
  s3Endpoint?: string;
  job?: string;
  checkpoint?: number;
  out?: string;
}

export async function dumpCommand(
  env: Env,
  terminal: Terminal,
  options: DumpOptions,
): Promise<void> {
  const url =
    options.store ??
    (options.stateDir === undefined ? null : new StateDir(options.stateDir).storeUrl);
  if (url === null) {
    throw new TriggerJobError('USAGE', 'state dump needs --state-dir DIR or --store URL');
  }
  const endpoint = options.s3Endpoint ?? null;
  // A dump has no job file to ask: region and credentials come from the environment.
  const s3 = { endpoint, region: null, pathStyle: null, credentials: null };
  const store = await findJob(url, options.job ?? null, env, s3);
  const manifest = await manifestOf(store, env, options.checkpoint ?? null);
  const out = options.out === undefined ? null : await open(options.out, 'w');
  try {
    const { maxParallelism } = manifest;
    const progress = new Progress({ env, terminal: terminal.forErrors(), what: 'dumping' });
    const users = await dumpState(
      store,
      manifest,
      async (line) => {
        if (out === null) await writeOut(line);
        else await out.write(line);
      },
      (groups) => progress.update(groups / maxParallelism, `${groups} key groups read`),
    ).finally(() => progress.end());
    await out?.sync();
    // On standard error: standard output may be the dump itself.
    terminal.error(`checkpoint ${manifest.checkpointId}: ${formatCount(users)} users`);
  } finally {
    await out?.close();
  }
}

/** Waits for the reader of a pipe, so that a dump of any size stays out of memory. */
function writeOut(line: Buffer): Promise<void> {
  return new Promise((done, fail) => {
    process.stdout.write(line, (error) => (error ? fail(error) : done()));
  });
}
