/** `triggerjob run FILE`: where the checkpoints and the local state go, then a local run. */
import type { JobPlan } from '../plan/job-plan.ts';
import { directoryUri, locationUri, parseLocation } from '../plan/locations.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { EXIT } from './exit-codes.ts';
import { runLocally, withStateDir } from './local-run.ts';
import { StateDir } from './state-dir.ts';
import type { Terminal } from './terminal.ts';
import { checkFile, faultLines } from './validate.ts';

export interface RunOptions {
  env: Env;
  terminal: Terminal;
  file: string;
  stateDir: string | null;
  /** Checkpoint directory in place of the file's and of the one in the state directory. */
  store: string | null;
  /** null: the newest checkpoint, if there is one. */
  from: string | null;
  /** Savepoint to begin with, in place of the file's. */
  fromSavepoint: string | null;
  restPort: number | null;
  taskManagers: number;
}

export async function runFile(options: RunOptions): Promise<number> {
  const { env, terminal, file, stateDir, from, restPort, taskManagers } = options;
  const store = options.store === null ? null : storeUri(options.store);
  const first = await checkFile(file, stateDir ?? undefined);
  if (first.plan === null) {
    for (const line of faultLines(first.faults)) terminal.error(line);
    return EXIT.failed;
  }
  const dir = new StateDir(stateDir ?? `.triggerjob/${first.plan.name}`);
  // Again, now that the name has given the directory in which the defaults lie.
  const resolved = (await checkFile(file, dir.root)).plan ?? first.plan;
  const placed = withStore(resolved, store ?? localStore(resolved, dir, stateDir !== null));
  const { fromSavepoint } = options;
  const plan: JobPlan = {
    ...placed,
    restoreSavepoint:
      fromSavepoint === null ? placed.restoreSavepoint : savepointUri(fromSavepoint),
    // In a cluster only, as the schema says: a laptop must not fill a cluster's directory.
    periodicSavepoints: { ...placed.periodicSavepoints, everyMs: null },
  };
  const storeUrl = plan.checkpointing.directory;
  terminal.print(`${plan.namespace}/${plan.name}: checkpoints in ${storeUrl}`);
  const { directory } = resolved.checkpointing;
  if (store === null && directory.startsWith('s3:')) {
    terminal.print(`not in ${directory} as the file says: a local run does that with --store`);
  }
  return withStateDir(dir, env, () =>
    runLocally({
      env,
      terminal,
      planFile: file,
      plan,
      dir,
      storeUrl,
      from,
      restPort,
      taskManagers,
    }),
  );
}

function savepointUri(text: string): string {
  const location = parseLocation(text);
  if ('problem' in location) {
    throw new TriggerJobError('USAGE', `--from-savepoint: ${location.problem}`);
  }
  return locationUri(text, process.cwd()) ?? text;
}

function storeUri(text: string): string {
  const location = parseLocation(text);
  if ('problem' in location) throw new TriggerJobError('USAGE', `--store: ${location.problem}`);
  return directoryUri(text, process.cwd()) ?? text;
}

/**
 * A file for a cluster runs on a laptop as it is, and must not get into the cluster's checkpoints
 * by that: its S3 is used only when it is asked for.
 */
function localStore(plan: JobPlan, dir: StateDir, chosen: boolean): string {
  const { directory } = plan.checkpointing;
  return chosen || directory.startsWith('s3:') ? `${dir.storeUrl}/` : directory;
}

/** The plan with its checkpoints there; savepoints go along unless the file says where. */
function withStore(plan: JobPlan, directory: string): JobPlan {
  const { checkpointing, savepointDirectory } = plan;
  const isDefault = savepointDirectory === `${checkpointing.directory}_savepoints/`;
  return {
    ...plan,
    checkpointing: { ...checkpointing, directory },
    savepointDirectory: isDefault ? `${directory}_savepoints/` : savepointDirectory,
  };
}
