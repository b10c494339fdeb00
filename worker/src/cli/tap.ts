/**
 * `triggerjob tap`: the JobManager's stream of records (Server-Sent Events), connected again while
 * the leader changes or the job restarts.
 */
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonObject } from '../runtime/json.ts';
import { reasonIn, restToken } from './rest-client.ts';
import { jobId } from './savepoint.ts';
import type { OutputFormat } from './shared-options.ts';
import type { Terminal } from './terminal.ts';

const RECONNECT_MS = 1_000;
/** The server's comments come every 10 s: a connection that is silent for longer is dead. */
const SILENCE_MS = 35_000;
/** A line of the stream; an event of a record may be as long as that. */
const MAX_LINE_CHARACTERS = 32 * 1024 * 1024;

export interface TapOptions {
  env: Env;
  terminal: Terminal;
  rest: string;
  stage: string;
  /** null: all users. */
  user: string | null;
  /** null: until Ctrl-C. */
  limit: number | null;
  output: OutputFormat;
}

/** Throws what asking again does not change: a wrong option, no token, no job at all. */
export async function tap(options: TapOptions): Promise<void> {
  const { env, terminal, limit } = options;
  let seen = 0;
  let connected = false;
  while (limit === null || seen < limit) {
    try {
      for await (const { event, data } of eventsOf(options, seen)) {
        connected = true;
        if (event === 'record') seen++;
        show(options, event, data);
        if (limit !== null && seen >= limit) return;
      }
    } catch (error) {
      const final = error instanceof TriggerJobError && error.code === 'REST_REFUSED';
      // The first connection tells whether the address is right.
      if (final || !connected) throw error;
      terminal.error(`tap: ${messageOf(error)}; connecting again`);
    }
    await sleep(env, RECONNECT_MS);
  }
}

interface StreamEvent {
  event: string;
  data: JsonObject;
}

async function* eventsOf(options: TapOptions, seen: number): AsyncGenerator<StreamEvent> {
  const { env, rest, stage, user, limit } = options;
  const query = new URLSearchParams({ stage });
  if (user !== null) query.set('user', user);
  if (limit !== null) query.set('limit', String(limit - seen));
  const url = `${rest}/api/v1/jobs/${await jobId({ env, rest })}/tap?${query}`;
  const abort = new AbortController();
  const silent = () => abort.abort(new Error(`nothing came for ${SILENCE_MS / 1_000} s`));
  let timer = env.timer(SILENCE_MS, silent);
  const token = restToken();
  try {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(url, { signal: abort.signal, headers });
    if (!response.ok || response.body === null) throw await refusal(url, response);
    const decoder = new TextDecoder();
    const parser = new EventParser();
    for await (const chunk of response.body) {
      timer.cancel();
      timer = env.timer(SILENCE_MS, silent);
      yield* parser.feed(decoder.decode(chunk, { stream: true }));
    }
  } finally {
    timer.cancel();
    abort.abort();
  }
}

async function refusal(url: string, response: Response): Promise<TriggerJobError> {
  const text = `${url}: ${response.status} ${reasonIn(await response.text())}`;
  // A leader that is not there yet, a job between two attempts: it may come.
  return new TriggerJobError(response.status >= 500 ? 'REST_BUSY' : 'REST_REFUSED', text);
}

/** Lines of a stream as events; comments and fields that nobody asked for are passed over. */
export class EventParser {
  #rest = '';
  #event = '';
  #data = '';

  *feed(text: string): Generator<StreamEvent> {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > MAX_LINE_CHARACTERS) {
      throw new TriggerJobError('REST_REFUSED', `a line of more than ${MAX_LINE_CHARACTERS}`);
    }
    for (const line of lines) {
      if (line.trimEnd() === '') yield* this.#end();
      else if (line.startsWith('event:')) this.#event = line.slice(6).trim();
      else if (line.startsWith('data:')) this.#data += line.slice(5).trim();
    }
  }

  *#end(): Generator<StreamEvent> {
    const [event, text] = [this.#event, this.#data];
    this.#event = '';
    this.#data = '';
    if (text === '') return;
    const data: unknown = JSON.parse(text);
    if (isJsonObject(data)) yield { event, data };
  }
}

const VERDICT_COLORS: Readonly<Record<string, 'green' | 'yellow' | 'red'>> = {
  match: 'green',
  'no-match': 'yellow',
  error: 'red',
};

function show({ terminal, output }: TapOptions, event: string, data: JsonObject): void {
  if (event === 'skipped') {
    terminal.error(`... ${String(data['count'])} records left out`);
  } else if (event === 'end') terminal.error(`the tap ended: ${String(data['reason'])}`);
  else if (event !== 'record') return;
  else if (output === 'json') terminal.print(JSON.stringify(data));
  else {
    const { at, stage, userId, topic, partition, offset, verdict, reason } = data;
    const time = new Date(Number(at)).toISOString().slice(11, 23);
    const said = typeof verdict === 'string' ? ` ${verdict}` : '';
    const color = VERDICT_COLORS[String(verdict)];
    const why = typeof reason === 'string' ? ` (${reason})` : '';
    const place = terminal.paint('dim', `${topic}/${partition}@${offset}`);
    const word = color === undefined ? said : terminal.paint(color, said);
    const who = terminal.paint('bold', String(userId ?? '-'));
    const text = JSON.stringify(data['event'] ?? null);
    terminal.print(`${time} ${stage}${word}${why} ${who} ${place} ${text}`);
  }
}
