/** `triggerjob run FILE`: where the checkpoints and the local state go, then a local run. */
import type { JobPlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
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
  /** null: the newest checkpoint, if there is one. */
  from: string | null;
  restPort: number | null;
  taskManagers: number;
}

/** A local run has no S3 of its own: its checkpoints then stay in the state directory. */
function storeUrlOf(plan: JobPlan, dir: StateDir, chosen: boolean): string {
  const { directory } = plan.checkpointing;
  return chosen || directory.startsWith('s3:') ? dir.storeUrl : directory;
}

export async function runFile(options: RunOptions): Promise<number> {
  const { env, terminal, file, stateDir, from, restPort, taskManagers } = options;
  const first = await checkFile(file, stateDir ?? undefined);
  if (first.plan === null) {
    for (const line of faultLines(first.faults)) terminal.error(line);
    return EXIT.failed;
  }
  const dir = new StateDir(stateDir ?? `.triggerjob/${first.plan.name}`);
  // Again, now that the name has given the directory in which the defaults lie.
  const plan = (await checkFile(file, dir.root)).plan ?? first.plan;
  const storeUrl = storeUrlOf(plan, dir, stateDir !== null);
  terminal.print(`${plan.namespace}/${plan.name}: checkpoints in ${storeUrl}`);
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
