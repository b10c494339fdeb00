/** `triggerjob top`: asks a running job again and again, and redraws. */
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { JsonObject } from '../runtime/json.ts';
import { fetchHotKeys, hotKeyRows } from './hot-keys.ts';
import { callRest } from './rest-client.ts';
import { jobId } from './savepoint.ts';
import type { OutputFormat } from './shared-options.ts';
import { tableLines } from './table.ts';
import type { Terminal } from './terminal.ts';
import { type Sample, topLines, topView } from './top-view.ts';

const SHOWN_KEYS = 5;

export interface TopOptions {
  env: Env;
  terminal: Terminal;
  rest: string;
  intervalMs: number;
  subtasks: boolean;
  keys: boolean;
  output: OutputFormat;
}

/** Ends after one table without a terminal or as JSON; else with Ctrl-C. */
export async function top(options: TopOptions): Promise<void> {
  const { env, terminal, intervalMs, output } = options;
  let before = await sample(options);
  for (;;) {
    await sleep(env, intervalMs);
    const redraws = terminal.redraws && output === 'text';
    try {
      const now = await sample(options);
      await show(options, before, now);
      before = now;
    } catch (error) {
      // While the leader changes nobody answers: the table comes back with the next one.
      const waits = error instanceof TriggerJobError && error.code === 'REST_UNREACHABLE';
      if (!redraws || !waits) throw error;
      terminal.live([`no answer: ${messageOf(error)}`]);
    }
    if (!redraws) return;
  }
}

async function sample({ env, rest }: TopOptions): Promise<Sample> {
  const details = await callRest(env, `${rest}/api/v1/details`);
  return { at: env.monotonic(), details };
}

async function show(options: TopOptions, before: Sample, now: Sample): Promise<void> {
  const { env, terminal, subtasks, output } = options;
  const view = topView(before, now, subtasks ? 'subtask' : 'taskManager');
  const job = await jobId(options);
  const hot = options.keys
    ? await fetchHotKeys(env, options.rest, job, 'events', SHOWN_KEYS)
    : null;
  const why = await diagnosis(options, job);
  if (output === 'json') {
    const more = { diagnosis: why, hotKeys: hot?.['keys'] ?? null };
    terminal.print(JSON.stringify({ at: env.now(), ...view, ...more }, null, 2));
    return;
  }
  const lines = topLines(view, subtasks ? 'SUBTASK' : 'TASKMANAGER', env.now());
  const sentence = why?.['sentence'];
  if (typeof sentence === 'string') lines.splice(1, 0, sentence);
  if (hot !== null) lines.push('', ...tableLines(hotKeyRows(hot)));
  if (terminal.redraws) terminal.live(lines);
  else terminal.print(lines.join('\n'));
}

/** null: a JobManager of an older release has none. */
async function diagnosis({ env, rest }: TopOptions, job: string): Promise<JsonObject | null> {
  try {
    return await callRest(env, `${rest}/api/v1/jobs/${job}/diagnosis`);
  } catch (error) {
    if (error instanceof TriggerJobError && error.code === 'REST_REFUSED') return null;
    throw error;
  }
}
