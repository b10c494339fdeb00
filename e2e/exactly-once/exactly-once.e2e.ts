/**
 * The promise: through any crash, state is the fold of each user's events, once each; nothing is
 * lost; a repeat is honest (I1-I4, I9). And the checker that says so is no yes-man: with barrier
 * alignment off, or offsets taken before the snapshot, the very same run goes red.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type KafkaBroker, startKafka } from '../testbed/kafka.ts';
import { PHASES } from './history.ts';
import { Killer, type KillPlan } from './killer.ts';
import { printRun, violationLines } from './report.ts';
import { type CheckedRun, runChecked } from './run.ts';
import { DATA_RULES, judge } from './verdict.ts';

const SEED = Number(process.env['TRIGGERJOB_CHECK_SEED'] ?? 20_260_901);
const RUN_MS = 140_000;
const MUTANT_RUN_MS = 32_000;

/** Five users of about 20 KB per slot, of fifty: nearly every event meets an evicted user. */
const smallCache = () => ({ taskManager: { memory: { slotCache: '25Ki' } } });

/** The last kills need something left to read. */
const KILLING_SHARE = 0.95;

function killing(plan: Omit<KillPlan, 'seed'>): CheckedRun['nemesis'] {
  const durationMs = plan.durationMs * KILLING_SHARE;
  return async ({ pipeline, kills }) =>
    await new Killer(pipeline, { ...plan, durationMs, seed: SEED }, kills).run();
}

describe('exactly once through SIGKILL', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('state is the fold, nothing is lost, repeats are honest, four slots work', async () => {
    const result = await runChecked(broker, {
      name: 'exactly-once',
      seed: SEED,
      users: 200,
      eventsPerUser: 500,
      durationMs: RUN_MS,
      need: { kills: 10, phases: PHASES },
      nemesis: killing({ randomKills: 12, phases: PHASES, durationMs: RUN_MS }),
      job: smallCache,
      env: { TRIGGERJOB_PHASE_EVENTS: '1' },
    });
    const verdict = judge(result.history);
    printRun(result, verdict);
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.notEqual(result.history.meta.dump, null);
    // Else the run says nothing about eviction and reading back.
    assert.ok(verdict.figures.maxUsersCached <= 60, 'the cache held more than 60 of 200 users');
  });

  for (const mutant of ['alignment-off', 'offsets-before-snapshot']) {
    it(`goes red with ${mutant}`, async () => {
      const result = await runChecked(broker, {
        name: `mutant-${mutant}`,
        seed: SEED + 1,
        users: 100,
        eventsPerUser: 250,
        durationMs: MUTANT_RUN_MS,
        need: { kills: 2, phases: [] },
        nemesis: killing({ randomKills: 4, phases: [], durationMs: MUTANT_RUN_MS }),
        job: smallCache,
        env: { TRIGGERJOB_TEST_MUTANT: mutant },
      });
      const verdict = judge(result.history);
      printRun(result, verdict);
      assert.notEqual(result.history.meta.dump, null, 'the run broke down: nothing to judge');
      const red = verdict.violations.filter((one) => DATA_RULES.has(one.rule));
      assert.ok(red.length > 0, `the checker is blind to ${mutant}`);
    });
  }
});
