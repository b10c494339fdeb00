/** Runs one test of a job: its steps on one virtual timeline, its expectations on the way. */
import type { JobPlan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf } from '../runtime/errors.ts';
import type { JsonObject, JsonValue } from '../runtime/json.ts';
import { type Difference, differences, type Happened } from './expectation.ts';
import type { Receipt } from './honest-repeats.ts';
import { type Defect, RehearsedJob } from './rehearsed-job.ts';
import type { JobTest, TestStep } from './test-file.ts';
import { EPOCH_MS } from './virtual-time.ts';

export interface TestFailure {
  /** Of the test file. */
  line: number;
  /** What is wrong beside differences: a broken invariant, a job that failed. '' = nothing. */
  message: string;
  differences: readonly Difference[];
}

export interface TestOutcome {
  name: string;
  line: number;
  passed: boolean;
  failures: readonly TestFailure[];
  /** Virtual time the test took, ms. */
  virtualMs: number;
  deliveries: number;
  repeats: number;
}

/** Never rejects: what the job throws is a failure of the test. */
export async function runTest(
  plan: JobPlan,
  test: JobTest,
  real: Env,
  defect?: Defect,
): Promise<TestOutcome> {
  const job = new RehearsedJob(plan, real, defect);
  const failures: TestFailure[] = [];
  let { line } = test;
  let repeats = 0;
  try {
    await job.start();
    for (const step of test.steps) {
      line = step.line;
      const found = await runStep(job, step);
      if (found.length > 0) failures.push({ line, message: '', differences: found });
    }
    line = test.line;
    repeats = job.repeats();
  } catch (thrown) {
    failures.push({ line, message: messageOf(thrown), differences: [] });
  } finally {
    job.close();
  }
  return {
    name: test.name,
    line: test.line,
    passed: failures.length === 0,
    failures,
    virtualMs: job.time.nowMs - EPOCH_MS,
    deliveries: deliveriesOf(job).length,
    repeats,
  };
}

async function runStep(job: RehearsedJob, step: TestStep): Promise<Difference[]> {
  switch (step.do) {
    case 'event':
      job.append(step.value);
      await job.settle();
      return [];
    case 'wait':
      await job.advance(step.ms);
      return [];
    case 'profiles':
      for (const [user, setting] of step.profiles) job.outside.profiles.set(user, setting);
      return [];
    case 'webhook':
      job.outside.webhook = step.setting;
      return [];
    case 'checkpoint':
      await job.checkpoint();
      return [];
    case 'crash':
      await job.crash();
      await job.settle();
      return [];
    case 'expect':
      await job.settle();
      return differences(step.expected, await happened(job));
  }
}

async function happened(job: RehearsedJob): Promise<Happened> {
  const users = await job.users();
  const state = new Map<string, JsonObject>();
  for (const [id, { profileText, visitText, history }] of users) {
    state.set(id, {
      profile: parsed(profileText),
      visit: parsed(visitText),
      history: history.map(parsed),
    });
  }
  return {
    deliveries: deliveriesOf(job),
    deadLetters: firstOf(job, 'deadLetter').map(({ userId, stage, body }) => ({
      userId,
      stage,
      record: parsed(body),
    })),
    state,
    repeats: job.repeats(),
  };
}

function deliveriesOf(job: RehearsedJob): JsonObject[] {
  return firstOf(job, 'webhook').map(({ userId, body }) => ({
    userId,
    ...(parsed(body) as JsonObject),
  }));
}

/** First arrivals: what comes again with its id is a repeat. */
function firstOf(job: RehearsedJob, to: Receipt['to']): Receipt[] {
  const seen = new Set<string>();
  return job.outside.receipts.filter((receipt) => {
    if (receipt.to !== to || seen.has(receipt.id)) return false;
    seen.add(receipt.id);
    return true;
  });
}

/** The text itself where it is no JSON: a poison record. */
function parsed(text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return text;
  }
}
