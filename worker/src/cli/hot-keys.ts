/** `triggerjob users hot`, and the keys of `triggerjob top`. */
import type { Env } from '../runtime/env.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';
import { formatAge, formatBytes, formatCount } from './amounts.ts';
import { callRest } from './rest-client.ts';
import { jobId } from './savepoint.ts';
import type { OutputFormat } from './shared-options.ts';
import { printTable } from './table.ts';
import type { Terminal } from './terminal.ts';

export function fetchHotKeys(
  env: Env,
  rest: string,
  job: string,
  by: string,
  limit: number,
): Promise<JsonObject> {
  return callRest(env, `${rest}/api/v1/jobs/${job}/hot-keys?by=${by}&top=${limit}`);
}

export function hotKeyRows({ keys }: JsonObject): string[][] {
  const all = Array.isArray(keys) ? keys.filter(isJsonObject) : [];
  const count = (value: JsonValue | undefined) =>
    typeof value === 'number' ? formatCount(value) : '-';
  const size = (value: JsonValue | undefined) =>
    typeof value === 'number' ? formatBytes(value) : '-';
  return [
    ['USER', 'EVENTS', 'BYTES', 'STATE', 'SHARE', 'SUBTASK', 'KEY GROUP'],
    ...all.map(({ userId, events, bytes, stateBytes, share, subtask, keyGroup }) => [
      String(userId),
      count(events),
      size(bytes),
      size(stateBytes),
      `${(Number(share ?? 0) * 100).toFixed(1)}%`,
      String(subtask ?? '-'),
      String(keyGroup ?? '-'),
    ]),
  ];
}

export async function hotUsers(options: {
  env: Env;
  terminal: Terminal;
  rest: string;
  by: string;
  limit: number;
  output: OutputFormat;
}): Promise<void> {
  const { env, terminal, rest, by, limit, output } = options;
  const answer = await fetchHotKeys(env, rest, await jobId({ env, rest }), by, limit);
  if (output === 'json') {
    terminal.print(JSON.stringify(answer, null, 2));
    return;
  }
  printTable(terminal, hotKeyRows(answer));
  const { since, events } = answer;
  const age = formatAge(env.now() - Number(since ?? env.now()));
  terminal.print(`of ${formatCount(Number(events ?? 0))} events in the last ${age}; estimates`);
}
