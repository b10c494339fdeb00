/**
 * POST .../explain: what the filter would say of an event, and why. Of a user's state as it is now,
 * of one that is given, or of the one with parts of the other.
 */
import { MAX_SCRIPT_CHARS, STEPS_EXCEEDED } from '../filter/aviator/limits.ts';
import { compileFilter } from '../filter/compile.ts';
import { type Explanation, explainFilter } from '../filter/explain.ts';
import { type FilterScope, plainScope } from '../filter/filter.ts';
import type { Inspection } from '../jobmanager/job-inspection.ts';
import type { FilterPlan, JobPlan } from '../plan/job-plan.ts';
import type { FoundUser } from '../rpc/inspection.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { isJsonObject, type JsonValue } from '../runtime/json.ts';
import { RestError } from './rest-error.ts';

/** Of the live state that one explanation may look at. */
const MAX_STATE_BYTES = 4 * 1024 * 1024;
/**
 * It runs on the leader's only thread, which has a lease to renew: some 100 ms. A fifth of
 * a job's default budget.
 */
const MAX_STEPS = 20_000;

type Body = Readonly<Record<string, unknown>>;

const FIELDS = ['userId', 'user', 'visit', 'history', 'event', 'script', 'language'];

export async function explain(
  inspection: Inspection,
  plan: JobPlan,
  body: Body,
): Promise<Explanation> {
  for (const name of Object.keys(body)) {
    if (!FIELDS.includes(name)) {
      throw new RestError(400, `${name} is unknown; known are ${FIELDS.join(', ')}`);
    }
  }
  const { event, userId } = body;
  if (!isJsonObject(event)) throw new RestError(400, 'event must be a JSON object');
  const filter = filterOf(inspection, plan, body);
  const reads = readsOf(filter);
  const live =
    userId === undefined ? null : await liveState(inspection, userId, reads.has('history'));
  const history = body['history'] ?? live?.history ?? [];
  if (!Array.isArray(history)) throw new RestError(400, 'history must be a list of events');
  const scope = plainScope({
    event,
    user: (body['user'] ?? live?.user ?? {}) as JsonValue,
    visit: (body['visit'] ?? live?.visit ?? {}) as JsonValue,
    history: history as JsonValue[],
  });
  return inspection.look(async () => {
    // Others have their turn before it, however many ask.
    await new Promise<void>((resolve) => setImmediate(resolve));
    return explainShortly(filter, scope);
  });
}

function explainShortly(filter: FilterPlan, scope: FilterScope): Explanation {
  const stepBudget = Math.min(filter.stepBudget, MAX_STEPS);
  const text =
    `the script needs more than ${MAX_STEPS} steps for this event; ` +
    'give fewer events as history, or run it elsewhere: triggerjob eval';
  let explained: Explanation;
  try {
    explained = explainFilter({ ...filter, stepBudget }, scope);
  } catch (error) {
    // With its own budget it compiled.
    throw error instanceof TriggerJobError ? new RestError(413, text) : error;
  }
  if (stepBudget < filter.stepBudget && explained.error === STEPS_EXCEEDED) {
    throw new RestError(413, text);
  }
  return explained;
}

/** The script that runs, unless another one is given. */
function filterOf({ script: running }: Inspection, plan: JobPlan, body: Body): FilterPlan {
  const { script = null, language = null } = body;
  if (language !== null && language !== 'aviator' && language !== 'filtrex') {
    throw new RestError(400, 'language must be aviator or filtrex');
  }
  if (script === null) {
    if (language !== null && language !== running.language) {
      throw new RestError(400, `language ${language} without a script: the job's is not`);
    }
    return { ...plan.filter, script: running.text, language: running.language };
  }
  if (typeof script !== 'string' || script.length > MAX_SCRIPT_CHARS) {
    throw new RestError(400, `script must be a string of at most ${MAX_SCRIPT_CHARS} characters`);
  }
  return { ...plan.filter, script, language: language ?? running.language, origin: 'script' };
}

function readsOf(filter: FilterPlan): ReadonlySet<string> {
  try {
    return compileFilter(filter).reads;
  } catch (error) {
    if (!(error instanceof TriggerJobError)) throw error;
    throw new RestError(400, error.message);
  }
}

/** The whole of what the script reads, or a refusal: of a part it could say something else. */
async function liveState(
  inspection: Inspection,
  userId: unknown,
  readsHistory: boolean,
): Promise<{ user: JsonValue; visit: JsonValue; history: JsonValue[] }> {
  if (typeof userId !== 'string' || userId === '') {
    throw new RestError(400, 'userId must be a non-empty string');
  }
  const historyLimit = readsHistory ? Number.MAX_SAFE_INTEGER : 0;
  const { found } = await inspection.user(userId, { historyLimit, maxBytes: MAX_STATE_BYTES });
  if (found === null) throw new RestError(404, `User ${userId} is not in state`);
  if (!fits(found, readsHistory)) {
    const text = `the state of ${userId} is over ${MAX_STATE_BYTES} bytes`;
    throw new RestError(413, `${text}: give user, visit and history in the request`);
  }
  const parse = (text: string | null) => JSON.parse(text ?? 'null') as JsonValue;
  const { profile, visit, history } = found;
  return { user: parse(profile), visit: parse(visit), history: parse(history) as JsonValue[] };
}

function fits({ profile, historyShown, historyEvents }: FoundUser, readsHistory: boolean): boolean {
  return profile !== null && (!readsHistory || historyShown === historyEvents);
}
