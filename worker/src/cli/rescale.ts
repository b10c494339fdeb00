/** `triggerjob rescale`: asks a running job for another parallelism. */
import { TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonObject } from '../runtime/json.ts';
import { callRest } from './rest-client.ts';
import { jobId, type SavepointOptions } from './savepoint.ts';

/**
 * Resolves when the wish is stored; says with how many the job runs until then. Throws REST_REFUSED
 * with the reason for what can't be.
 */
export async function rescaleJob(
  { env, terminal, rest, json }: SavepointOptions,
  parallelism: number,
): Promise<void> {
  const url = `${rest}/jobs/${await jobId({ env, rest })}/resource-requirements`;
  const vertices = Object.keys(await callRest(env, url));
  const wanted: JsonObject = { parallelism: { lowerBound: 1, upperBound: parallelism } };
  const body = Object.fromEntries(vertices.map((vertex) => [vertex, wanted]));
  await callRest(env, url, { method: 'PUT', body });
  const status = await callRest(env, `${rest}/api/v1/details`);
  const { parallelism: running, taskManagers } = status;
  if (typeof running !== 'number') {
    throw new TriggerJobError('REST_REFUSED', `${rest}: the status says no parallelism`);
  }
  const all = Array.isArray(taskManagers) ? taskManagers.filter(isJsonObject) : [];
  const slots = all.reduce((sum, one) => sum + Number(one['slots']), 0);
  if (json === true) {
    terminal.print(JSON.stringify({ asked: parallelism, parallelism: running, slots }));
    return;
  }
  terminal.print(`asked for ${parallelism} subtasks; the job has ${running}, and ${slots} slots`);
  if (slots < parallelism) terminal.print('the rest comes with the slots that are missing');
}
