/** `triggerjob echo FILE`: the job with every default filled in, credentials left out. */
import { stringify } from 'yaml';
import { formatDuration } from '../plan/duration.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';
import { redacted } from '../runtime/redaction.ts';
import { EXIT } from './exit-codes.ts';
import type { Terminal } from './terminal.ts';
import { checkFile, faultLines } from './validate.ts';

const MAX_COLUMNS = 100;

export async function echoFile(
  terminal: Terminal,
  file: string,
  output: 'yaml' | 'json',
): Promise<number> {
  const checked = await checkFile(file);
  if (checked.plan === null) {
    for (const line of faultLines(checked.faults)) terminal.error(line);
    return EXIT.failed;
  }
  const complete = JSON.parse(JSON.stringify(checked.job)) as JsonObject;
  const job = redacted(withDerived(complete, checked.plan));
  const text =
    output === 'json'
      ? JSON.stringify(job, null, 2)
      : stringify(job, { lineWidth: MAX_COLUMNS }).trimEnd();
  terminal.print(text);
  return EXIT.ok;
}

/** Defaults that follow from other fields: the plan knows them, the schema does not. */
function withDerived(job: JsonObject, plan: JobPlan): JsonObject {
  const derived: [path: string[], value: JsonValue][] = [
    [['parallelism'], plan.parallelism],
    [['taskManager', 'replicas'], plan.taskManagers],
    [['checkpointing', 'minPause'], formatDuration(plan.checkpointing.minPauseMs)],
  ];
  const spec = job['spec'];
  if (!isJsonObject(spec)) return job;
  dropOtherStrategies(spec['restartStrategy']);
  for (const [path, value] of derived) {
    const name = path.at(-1)!;
    let block = spec;
    for (const step of path.slice(0, -1)) {
      const below = block[step];
      block = isJsonObject(below) ? below : {};
    }
    block[name] ??= value;
  }
  return job;
}

/** Settings of strategies that are not chosen have defaults, too, but may not be written. */
function dropOtherStrategies(strategy: JsonValue | undefined): void {
  if (strategy === undefined || !isJsonObject(strategy)) return;
  const chosen = String(strategy['type']).replaceAll(/-[a-z]/g, (text) => text[1]!.toUpperCase());
  for (const [name, value] of Object.entries(strategy)) {
    if (isJsonObject(value) && name !== chosen) delete strategy[name];
  }
}
